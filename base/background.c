#include "base/background.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/child.h"
#include "base/log.h"

#define READY_FD (BACKGROUND_FD + 1)

/* In the copy. */
static bool is_copy, keeps_stderr;

/* Tells background_start() in the other process that this one is ready (0), or its
 * error. Every errno fits into a byte. */
static void
report(int fd, int error)
{
	unsigned char byte = (unsigned char)error;

	(void)!write(fd, &byte, 1);
}

/* Puts /dev/null in the place of the descriptor. */
static void
mute(int fd)
{
	int null = open("/dev/null", O_RDWR);

	if (null < 0)
		return;
	dup2(null, fd);
	close(null);
}

static bool
stderr_may_stay(void)
{
	struct stat file;

	return log_is_journal() ||
	       (fstat(STDERR_FILENO, &file) == 0 && S_ISREG(file.st_mode));
}

/* Gives the copy its descriptors. Both are first moved out of the way of the
 * numbers that they will get. */
static bool
arrange(int fd, int ready)
{
	int high_fd = fcntl(fd, F_DUPFD, READY_FD + 1);
	int high_ready = fcntl(ready, F_DUPFD, READY_FD + 1);

	if (high_fd < 0 || high_ready < 0 || dup2(high_fd, BACKGROUND_FD) < 0 ||
	    dup2(high_ready, READY_FD) < 0)
		return false;
	child_close_from(READY_FD + 1);
	fcntl(BACKGROUND_FD, F_SETFD, FD_CLOEXEC);
	fcntl(READY_FD, F_SETFD, FD_CLOEXEC);
	mute(STDIN_FILENO);
	mute(STDOUT_FILENO);
	return true;
}

/* Returns 0 in the copy, and in the caller a positive number, or -1 with errno.
 * The process between them ends at once, so that init inherits the copy. */
static pid_t
fork_twice(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		setsid();
		pid = fork();
		if (pid != 0)
			_exit(pid < 0 ? errno : 0);
	} else if (pid > 0) {
		int status = 0;

		waitpid(pid, &status, 0);
		errno = WIFEXITED(status) ? WEXITSTATUS(status) : EINTR;
		if (errno != 0)
			return -1;
	}
	return pid;
}

enum background
background_start(int fd, bool *logs)
{
	int ready[2];
	unsigned char error;
	pid_t pid;
	ssize_t n;

	if (pipe(ready) < 0)
		return BACKGROUND_FAILED;
	pid = fork_twice();
	if (pid == 0) {
		is_copy = true;
		*logs = keeps_stderr = stderr_may_stay();
		if (arrange(fd, ready[1]))
			return BACKGROUND_COPY;
		report(ready[1], errno);
		_exit(1);
	}
	close(ready[1]);
	do
		n = pid < 0 ? -1 : read(ready[0], &error, 1);
	while (n < 0 && pid > 0 && errno == EINTR);
	close(ready[0]);
	if (n >= 0)
		errno = n == 1 ? error : 0;
	return n == 1 && error == 0 ? BACKGROUND_STARTED : BACKGROUND_FAILED;
}

void
background_ready(void)
{
	if (!is_copy)
		return;
	if (!keeps_stderr)
		mute(STDERR_FILENO);
	report(READY_FD, 0);
	close(READY_FD);
	is_copy = false;
}
