/* fork(), because posix_spawn() can't set the parent-death signal. Between fork()
 * and exec the child makes async-signal-safe calls only: other threads may have
 * held any lock. It sends the errno of a failure through a pipe, which exec
 * closes. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/child.h"

#define REPORT_FD (CHILD_FD + 1)

/* Linux before 5.9 has no close_range(). */
void
child_close_from(int first)
{
	long limit = sysconf(_SC_OPEN_MAX);

	if (syscall(SYS_close_range, first, UINT_MAX, 0) == 0)
		return;
	for (int fd = first; fd < limit; fd++)
		close(fd);
}

/* Puts a copy of fd at `number`. The copy stays open across exec. */
static bool
place(int fd, int number)
{
	return fd >= 0 && dup2(fd, number) == number;
}

/* Arranges the descriptors. First moves both out of the way of the numbers that
 * they will get. */
static bool
arrange(int fd, int report)
{
	int kept = fd < 0 ? -1 : fcntl(fd, F_DUPFD, REPORT_FD + 1);
	int moved = fcntl(report, F_DUPFD, REPORT_FD + 1);

	if ((fd >= 0 && kept < 0) || !place(moved, REPORT_FD) ||
	    fcntl(REPORT_FD, F_SETFD, FD_CLOEXEC) < 0 ||
	    !place(open("/dev/null", O_RDWR), STDIN_FILENO) ||
	    !place(STDERR_FILENO, STDOUT_FILENO))
		return false;
	close(CHILD_FD);
	if (fd >= 0 && !place(kept, CHILD_FD))
		return false;
	child_close_from(REPORT_FD + 1);
	return true;
}

static void
reset_signals(void)
{
	sigset_t none;

	for (int number = 1; number < NSIG; number++)
		signal(number, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* In the child. The parent may have ended before prctl(): then no signal comes,
 * and the child has another parent. */
static _Noreturn void
become(char *const argv[], int fd, int report, pid_t parent)
{
	int error;

	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	if (arrange(fd, report)) {
		report = REPORT_FD;
		reset_signals();
		execvp(argv[0], argv);
	}
	error = errno;
	(void)!write(report, &error, sizeof(error));
	_exit(127);
}

/* Waits until the child has executed the program or has failed. Returns the errno
 * of the failure, or 0. */
static int
read_report(int report)
{
	int error = 0;
	ssize_t n;

	do
		n = read(report, &error, sizeof(error));
	while (n < 0 && errno == EINTR);
	return n == (ssize_t)sizeof(error) ? error : 0;
}

/* No handler of ours may run in the child, so all signals are blocked until it
 * has reset them. */
static pid_t
fork_child(char *const argv[], int fd, int report)
{
	pid_t parent = getpid(), pid;
	sigset_t all, before;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pid = fork();
	if (pid == 0)
		become(argv, fd, report, parent);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return pid;
}

int
child_start(struct child *child, char *const argv[], int fd)
{
	int report[2], end_fd = -1, error;
	pid_t pid;

	if (pipe2(report, O_CLOEXEC) < 0)
		return -1;
	pid = fork_child(argv, fd, report[1]);
	error = pid < 0 ? errno : 0;
	close(report[1]);
	if (pid > 0)
		error = read_report(report[0]);
	close(report[0]);
	if (error == 0) {
		end_fd = (int)syscall(SYS_pidfd_open, pid, 0); /* CLOEXEC */
		error = end_fd < 0 ? errno : 0;
	}
	if (error == 0) {
		*child = (struct child){ .pid = pid, .end_fd = end_fd };
		return 0;
	}
	if (pid > 0) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
	errno = error;
	return -1;
}
