/* The program is its own command: with "tell" as its first argument it writes how
 * it was started to a file. */
#include "forwarder/command.h"

#include <limits.h>
#include <sys/wait.h>
#include <sysexits.h>

#include "tests/support/inherited.h"

static char own_path[PATH_MAX];
static struct command command;
static int ends[2]; /* the forwarder's, the command's */

static void
set_up(void)
{
	scratch_enter();
	command = (struct command){ .pid = 0 };
	ck_assert_int_eq(command_pair(ends, SOCK_DGRAM), 0);
}

static void
tear_down(void)
{
	close(ends[0]);
	scratch_leave();
}

/* Tests run in the background may inherit an ignored SIGINT, and under nohup an
 * ignored SIGHUP. */
static void
run(char **words)
{
	signal(SIGINT, SIG_DFL);
	signal(SIGHUP, SIG_DFL);
	ck_assert_int_eq(command_start(&command, words, ends[1]), 0);
	ck_assert_int_gt(command.pid, 0);
}

/* Waits for the end without taking it away. */
static int
status(void)
{
	siginfo_t info;
	int answer = -1;

	ck_assert_int_eq(
	    waitid(P_PID, (id_t)command.pid, &info, WEXITED | WNOWAIT), 0);
	ck_assert(command_ended(&command, &answer));
	ck_assert_int_eq(command.pid, 0);
	return answer;
}

FIXTURE(set_up, tear_down)

TEST(every_placeholder_is_replaced_by_the_number)
{
	char alone[] = "{fd}", many[] = "{fd}{fd},x={fd}", inner[] = "{{fd}}";
	char others[] = "{fd {f} fd} { }", expected[32];
	int fd = ends[1];

	run((char *[]){ (char[]){ "true" }, alone, many, inner, others,
	    (char[]){ "" }, NULL });
	ck_assert_int_eq(status(), 0);
	snprintf(expected, sizeof(expected), "%d", fd);
	ck_assert_str_eq(alone, expected);
	snprintf(expected, sizeof(expected), "%d%d,x=%d", fd, fd, fd);
	ck_assert_str_eq(many, expected);
	snprintf(expected, sizeof(expected), "{%d}", fd);
	ck_assert_str_eq(inner, expected);
	ck_assert_str_eq(others, "{fd {f} fd} { }");
}

TEST(its_end_is_reported_once_with_the_status_of_a_shell, .count = 2)
{
	char script[] = "read -r line <fifo; exit 3";
	int answer = -1;

	ck_assert_int_eq(mkfifo("fifo", 0600), 0);
	run((char *[]){ (char[]){ "sh" }, (char[]){ "-c" }, script, NULL });
	ck_assert(!command_ended(&command, &answer));
	ck_assert_int_eq(answer, -1);
	if (_i == 0)
		close(open("fifo", O_WRONLY));
	else
		command_signal(&command, SIGTERM);
	ck_assert_int_eq(status(), _i == 0 ? 3 : 128 + SIGTERM);
	ck_assert(!command_ended(&command, &answer));
	command_signal(&command, SIGKILL); /* pid 0 would be this whole group */
}

/* A program that does not exist, or is not executable. */
TEST(a_command_that_cannot_start_is_reported_and_leaves_nothing, .count = 2)
{
	char program[] = "./letter";

	if (_i == 1)
		close(open(program, O_CREAT | O_WRONLY, 0644));
	ck_assert_int_eq(
	    command_start(&command, (char *[]){ program, NULL }, ends[1]), -1);
	ck_assert_int_eq(errno, _i == 0 ? ENOENT : EACCES);
	ck_assert_int_eq(command_failure_status(errno), _i == 0 ? 127 : 126);
	ck_assert_int_eq(command_failure_status(EAGAIN), EX_OSERR);
	ck_assert_int_eq(
	    command_start(&command, (char *[]){ program, NULL }, 10000), -1);
	ck_assert_int_eq(errno, EMFILE);
	ck_assert_int_eq(command.pid, 0);
	ck_assert(!is_open(ends[1]));
	ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1);
}

static void
run_teller(struct inherited *told)
{
	run((char *[]){
	    own_path, (char[]){ "tell" }, (char[]){ "told" }, NULL });
	ck_assert_int_eq(status(), 0);
	inherited_read("told", told, sizeof(*told));
}

/* As the forwarder is: it ignores SIGPIPE and SIGXFSZ, and keeps signals from its
 * threads. */
TEST(it_starts_with_signals_as_from_a_shell)
{
	struct inherited told;
	sigset_t all;

	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);
	run_teller(&told);
	ck_assert(!told.ignored[SIGPIPE]);
	ck_assert(!told.ignored[SIGXFSZ]);
	for (int i = 1; i < SIGNALS; i++)
		ck_assert_msg(!told.blocked[i], "signal %d is blocked", i);
	sigemptyset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
}

/* It also inherits what the test's runner has left open. */
TEST(it_inherits_only_its_own_end_of_the_pair)
{
	struct inherited told;
	int fd = ends[1];
	bool expected[DESCRIPTORS];

	for (int i = 0; i < DESCRIPTORS; i++)
		expected[i] = is_open(i) && !(fcntl(i, F_GETFD) & FD_CLOEXEC);
	ck_assert(!expected[ends[0]]);
	ck_assert(expected[fd]);
	run_teller(&told);
	for (int i = 0; i < DESCRIPTORS; i++)
		ck_assert_msg(told.open[i] == expected[i], "descriptor %d", i);
	ck_assert(!is_open(fd));
}

int
suite_program(int count, char **arguments)
{
	struct inherited it = inherited_look();

	if (count == 3 && strcmp(arguments[1], "tell") == 0)
		return inherited_tell(arguments[2], &it, sizeof(it));
	return realpath(arguments[0], own_path) ? -1 : 1;
}
