/* The program is its own command: started with "tell" as first argument it
 * writes down how it was started. */
#include "forwarder/command.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/suite.h"

#define DESCRIPTORS 64

static char own_path[PATH_MAX];
static struct command command;
static int ends[2]; /* the forwarder's, the command's */
static char *argv[16];

/* Of the started process: what it was given. */
struct told {
	bool inherited[DESCRIPTORS];
	bool blocked[32], ignored[32];
};

static void
look_around(struct told *told)
{
	sigset_t mask;
	struct sigaction action;

	sigprocmask(SIG_BLOCK, NULL, &mask);
	for (int i = 0; i < DESCRIPTORS; i++)
		told->inherited[i] = is_open(i);
	for (int i = 1; i < 32; i++) {
		told->blocked[i] = sigismember(&mask, i) == 1;
		told->ignored[i] = sigaction(i, NULL, &action) == 0 &&
				   action.sa_handler == SIG_IGN;
	}
}

static int
tell(const char *to)
{
	struct told told = { 0 };
	FILE *file;

	look_around(&told);
	file = fopen(to, "w");
	return file && fwrite(&told, sizeof(told), 1, file) == 1 &&
		       fclose(file) == 0
		   ? 0
		   : 1;
}

static void
set_up(void)
{
	scratch_enter();
	command = (struct command){ .pid = 0 };
	ck_assert_int_eq(command_pair(ends), 0);
}

static void
tear_down(void)
{
	close(ends[0]);
	scratch_leave();
}

/* Whoever starts the tests in the background may ignore SIGINT, or with nohup
 * SIGHUP, and a program that is started keeps ignoring them. */
static void
run(void)
{
	signal(SIGINT, SIG_DFL);
	signal(SIGHUP, SIG_DFL);
	ck_assert_int_eq(command_start(&command, argv, ends[1]), 0);
	ck_assert_int_gt(command.pid, 0);
}

static void
run_shell(const char *script)
{
	static char copy[256];

	snprintf(copy, sizeof(copy), "%s", script);
	argv[0] = strdup("sh");
	argv[1] = strdup("-c");
	argv[2] = copy;
	run();
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

TEST(the_number_stands_wherever_the_place_was)
{
	char lines[1024] = "", expected[1024];
	int fd = ends[1];
	FILE *file;

	argv[0] = strdup("sh");
	argv[1] = strdup("-c");
	argv[2] = strdup("printf '%s\\n' \"$@\" {fd} >out");
	argv[3] = strdup("sh");
	argv[4] = strdup("{fd}");
	argv[5] = strdup("dgram,local.str={fd},x={fd}");
	argv[6] = strdup("{fd}{fd}{fd}");
	argv[7] = strdup("{{fd}}");
	argv[8] = strdup("{fd {f} fd} { }");
	argv[9] = strdup("");
	run();
	ck_assert_int_eq(status(), 0);
	snprintf(expected, sizeof(expected),
	    "%d\ndgram,local.str=%d,x=%d\n%d%d%d\n{%d}\n{fd {f} fd} { "
	    "}\n\n%d\n",
	    fd, fd, fd, fd, fd, fd, fd, fd);
	file = fopen("out", "r");
	ck_assert_ptr_nonnull(file);
	ck_assert_uint_gt(fread(lines, 1, sizeof(lines) - 1, file), 0);
	fclose(file);
	ck_assert_str_eq(lines, expected);
	/* The caller's own are as they were. */
	ck_assert_str_eq(argv[4], "{fd}");
}

static const int statuses[] = { 0, 1, 7, 69, 255 };

TEST(its_exit_status_is_handed_on, .count = LENGTH(statuses))
{
	char script[32];

	snprintf(script, sizeof(script), "exit %d", statuses[_i]);
	run_shell(script);
	ck_assert_int_eq(status(), statuses[_i]);
}

static const int killers[] = { SIGTERM, SIGKILL, SIGINT, SIGHUP };

TEST(a_signal_that_ended_it_is_128_and_the_signal, .count = LENGTH(killers))
{
	ck_assert_int_eq(mkfifo("fifo", 0600), 0);
	run_shell("read -r never <fifo");
	command_signal(&command, killers[_i]);
	ck_assert_int_eq(status(), 128 + killers[_i]);
}

TEST(it_hasnt_ended_before_it_has)
{
	int answer = -1;

	ck_assert_int_eq(mkfifo("fifo", 0600), 0);
	run_shell("read -r line <fifo; exit 3");
	ck_assert(!command_ended(&command, &answer));
	ck_assert_int_eq(answer, -1);
	close(open("fifo", O_WRONLY));
	ck_assert_int_eq(status(), 3);
	ck_assert(!command_ended(&command, &answer));
}

TEST(without_a_command_nothing_ends_and_nothing_is_signalled)
{
	int answer;

	command_signal(&command, SIGKILL); /* pid 0: this whole group */
	ck_assert(!command_ended(&command, &answer));
	close(ends[1]);
}

TEST(a_program_that_isnt_there_is_told)
{
	argv[0] = strdup("no-such-program-anywhere");
	ck_assert_int_eq(command_start(&command, argv, ends[1]), -1);
	ck_assert_int_eq(errno, ENOENT);
	ck_assert_int_eq(command.pid, 0);
	ck_assert(!is_open(ends[1]));
	ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1);
}

TEST(a_file_that_cant_be_run_is_told)
{
	close(open("letter", O_CREAT | O_WRONLY, 0644));
	argv[0] = strdup("./letter");
	ck_assert_int_eq(command_start(&command, argv, ends[1]), -1);
	ck_assert_int_eq(errno, EACCES);
	ck_assert(!is_open(ends[1]));
}

static void
run_teller(struct told *told)
{
	FILE *file;

	argv[0] = own_path;
	argv[1] = strdup("tell");
	argv[2] = strdup("told");
	run();
	ck_assert_int_eq(status(), 0);
	file = fopen("told", "r");
	ck_assert_ptr_nonnull(file);
	ck_assert_uint_eq(fread(told, sizeof(*told), 1, file), 1);
	fclose(file);
}

/* As the forwarder is: it ignores SIGPIPE and keeps signals from its threads.
 */
TEST(it_starts_with_signals_as_from_a_shell)
{
	struct told told;
	sigset_t all;

	signal(SIGPIPE, SIG_IGN);
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);
	run_teller(&told);
	ck_assert(!told.ignored[SIGPIPE]);
	for (int i = 1; i < 32; i++)
		ck_assert_msg(!told.blocked[i], "signal %d is blocked", i);
	sigemptyset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
}

/* What others have left open here (the test's own runner) it gets too. */
TEST(of_the_pair_it_inherits_its_own_end_only)
{
	struct told told;
	int fd = ends[1];
	bool expected[DESCRIPTORS];

	for (int i = 0; i < DESCRIPTORS; i++)
		expected[i] = is_open(i) && !(fcntl(i, F_GETFD) & FD_CLOEXEC);
	ck_assert(!expected[ends[0]]);
	ck_assert(expected[fd]);
	run_teller(&told);
	for (int i = 0; i < DESCRIPTORS; i++)
		ck_assert_msg(
		    told.inherited[i] == expected[i], "descriptor %d", i);
	ck_assert(!is_open(fd));
}

/* Only the command holds the other end: its end shows. */
TEST(the_pair_is_datagrams_and_breaks_with_the_command)
{
	int type = 0;
	socklen_t length = sizeof(type);

	ck_assert_int_eq(
	    getsockopt(ends[0], SOL_SOCKET, SO_TYPE, &type, &length), 0);
	ck_assert_int_eq(type, SOCK_DGRAM);
	run_shell("exit 0");
	ck_assert_int_eq(status(), 0);
	ck_assert_int_eq(send(ends[0], "x", 1, 0), -1);
	ck_assert_int_eq(errno, ECONNREFUSED);
}

int
suite_program(int count, char **arguments)
{
	if (count == 3 && strcmp(arguments[1], "tell") == 0)
		return tell(arguments[2]);
	return realpath(arguments[0], own_path) ? -1 : 1;
}
