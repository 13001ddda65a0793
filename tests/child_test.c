/* The program is its own child: with "tell" as its first argument it writes how it
 * was started to a file. */
#include "base/child.h"

#include <limits.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "tests/support/inherited.h"

static char own_path[PATH_MAX];
static struct child child;
static int ends[2]; /* ours, the child's */
static unsigned descriptors_before;

static struct told {
	struct inherited has;
	bool leads_group, output_is_error, input_is_null;
	int parent_death_signal;
} told;

static bool
is_same_file(int fd, const char *path, int other)
{
	struct stat a, b;

	return fstat(fd, &a) == 0 &&
	       (path ? stat(path, &b) : fstat(other, &b)) == 0 &&
	       a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

static int
write_told(const char *to)
{
	told.has = inherited_look();
	told.leads_group = getpgrp() == getpid();
	told.output_is_error = is_same_file(1, NULL, 2);
	told.input_is_null = is_same_file(0, "/dev/null", -1);
	prctl(PR_GET_PDEATHSIG, &told.parent_death_signal);
	return inherited_tell(to, &told, sizeof(told));
}

/* Joins the group of the process that has started this one. */
static int
leave_group(void)
{
	if (setpgid(0, getpgid(getppid())) < 0 || write(CHILD_FD, "", 1) != 1)
		return 1;
	for (;;)
		pause();
}

static void
set_up(void)
{
	scratch_enter();
	descriptors_before = open_descriptors();
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
	for (int i = 0; i < 2; i++)
		fcntl(ends[i], F_SETFD, FD_CLOEXEC);
	child = (struct child){ .end_fd = -1 };
}

/* Nothing is left: no process and no descriptor. */
static void
tear_down(void)
{
	close(ends[0]);
	close(ends[1]);
	ck_assert_int_eq(child.pid, 0);
	ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1);
	ck_assert_uint_eq(open_descriptors(), descriptors_before);
	scratch_leave();
}

static void
start(char **words, int fd)
{
	ck_assert_int_eq(child_start(&child, words, fd), 0);
	ck_assert_int_gt(child.pid, 0);
}

static void
start_shell(const char *script)
{
	char text[256];

	snprintf(text, sizeof(text), "%s", script);
	start((char *[]){ (char[]){ "sh" }, (char[]){ "-c" }, text, NULL },
	    ends[1]);
}

static int
await_end(void)
{
	struct pollfd end = { .fd = child.end_fd, .events = POLLIN };
	int status;

	ck_assert_int_eq(poll(&end, 1, -1), 1);
	ck_assert(child_reap(&child, &status));
	return status;
}

static void
read_told(int fd)
{
	start((char *[]){ own_path, (char[]){ "tell" }, (char[]){ "told" },
		  NULL },
	    fd);
	ck_assert_int_eq(await_end(), 0);
	inherited_read("told", &told, sizeof(told));
}

FIXTURE(set_up, tear_down)

/* Whatever number the descriptor has here. The last: none. */
static const int numbers[] = { CHILD_FD, CHILD_FD + 1, 40, -1 };

TEST(it_inherits_its_descriptor_and_no_other, .count = LENGTH(numbers))
{
	int fd = numbers[_i], inherited = dup(ends[0]);
	int before = fcntl(fd, F_DUPFD_CLOEXEC, 50); /* of that number */

	if (fd >= 0 && fd != ends[1])
		ck_assert_int_eq(dup3(ends[1], fd, O_CLOEXEC), fd);
	read_told(fd);
	for (int i = 0; i < DESCRIPTORS; i++)
		ck_assert_msg(
		    told.has.open[i] == (i < 3 || (i == CHILD_FD && fd >= 0)),
		    "descriptor %d", i);
	ck_assert(told.input_is_null);
	ck_assert(told.output_is_error);
	if (before >= 0)
		dup3(before, fd, O_CLOEXEC);
	else if (fd >= 0)
		close(fd);
	close(before);
	close(inherited);
}

/* As the forwarder is: it ignores some signals, and its threads block others. */
TEST(it_starts_with_default_signals_in_a_group_of_its_own)
{
	sigset_t all, before;

	signal(SIGPIPE, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &before);
	read_told(ends[1]);
	for (int i = 1; i < SIGNALS; i++)
		ck_assert_msg(!told.has.blocked[i] && !told.has.ignored[i],
		    "signal %d", i);
	ck_assert(told.leads_group);
	ck_assert_int_eq(told.parent_death_signal, SIGKILL);
	pthread_sigmask(SIG_BLOCK, NULL, &all);
	ck_assert_int_eq(sigismember(&all, SIGUSR2), 1);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}

TEST(a_program_that_cannot_start_is_reported_and_leaves_nothing, .count = 2)
{
	char program[] = "./letter";

	if (_i == 1)
		close(open(program, O_CREAT | O_WRONLY, 0644));
	ck_assert_int_eq(
	    child_start(&child, (char *[]){ program, NULL }, ends[1]), -1);
	ck_assert_int_eq(errno, _i == 0 ? ENOENT : EACCES);
}

TEST(its_end_is_reported_once_with_its_status, .count = 2)
{
	char text[CHILD_END_BYTES];
	int status;

	start_shell("read line <&3; exit 7");
	ck_assert(!child_reap(&child, &status));
	if (_i == 0)
		ck_assert_int_eq(write(ends[0], "\n", 1), 1);
	else
		child_signal(&child, SIGTERM);
	ck_assert_str_eq(
	    child_end(text, await_end()), _i == 0 ? "status 7" : "signal 15");
	ck_assert_int_eq(child.end_fd, -1);
}

/* Its children hold the socket. They are killed with it, or by a signal. */
TEST(its_process_group_ends_with_it, .count = 2)
{
	char byte;

	start_shell(
	    _i == 0 ? "sleep 1000 & exit 0" : "sleep 1000 & echo >&3; wait");
	close(ends[1]);
	if (_i == 1) {
		ck_assert_int_eq(read(ends[0], &byte, 1), 1);
		child_signal(&child, SIGTERM);
	}
	await_end();
	ck_assert_int_eq(read(ends[0], &byte, 1), 0);
	ends[1] = dup(ends[0]);
}

TEST(it_gets_a_signal_after_it_has_left_its_group)
{
	char byte;

	start((char *[]){ own_path, (char[]){ "leave" }, NULL }, ends[1]);
	ck_assert_int_eq(read(ends[0], &byte, 1), 1);
	child_signal(&child, SIGTERM);
	ck_assert_int_eq(WTERMSIG(await_end()), SIGTERM);
}

/* A process that starts it, and is killed once it runs. */
TEST(it_is_killed_with_the_process_that_has_started_it)
{
	pid_t starter = fork();
	char byte;

	if (starter == 0) {
		start_shell("trap '' TERM HUP; echo >&3; exec sleep 1000");
		for (;;)
			pause();
	}
	close(ends[1]);
	ck_assert_int_eq(read(ends[0], &byte, 1), 1);
	kill(starter, SIGKILL);
	ck_assert_int_eq(waitpid(starter, NULL, 0), starter);
	ck_assert_int_eq(read(ends[0], &byte, 1), 0);
	ends[1] = dup(ends[0]);
}

int
suite_program(int count, char **arguments)
{
	if (count == 3 && strcmp(arguments[1], "tell") == 0)
		return write_told(arguments[2]);
	if (count == 2 && strcmp(arguments[1], "leave") == 0)
		return leave_group();
	return realpath(arguments[0], own_path) ? -1 : 1;
}
