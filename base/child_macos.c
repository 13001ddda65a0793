/* posix_spawn() with Apple's flags: only the named descriptors are inherited, and
 * the process is suspended until its end is watched, because a kqueue refuses to
 * watch a process that has exited. There is no parent-death signal. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/event.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/child.h"

extern char **environ;

void
child_close_from(int first)
{
	int limit = getdtablesize();

	for (int fd = first; fd < limit; fd++)
		close(fd);
}

static int
spawn(pid_t *pid, char *const argv[], int fd)
{
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attributes;
	sigset_t all, none;
	int error;

	sigfillset(&all);
	sigemptyset(&none);
	posix_spawn_file_actions_init(&files);
	posix_spawn_file_actions_addopen(
	    &files, STDIN_FILENO, "/dev/null", O_RDWR, 0);
	posix_spawn_file_actions_adddup2(&files, STDERR_FILENO, STDOUT_FILENO);
	posix_spawn_file_actions_addinherit_np(&files, STDERR_FILENO);
	if (fd == CHILD_FD)
		posix_spawn_file_actions_addinherit_np(&files, fd);
	else if (fd >= 0)
		posix_spawn_file_actions_adddup2(&files, fd, CHILD_FD);
	posix_spawnattr_init(&attributes);
	posix_spawnattr_setsigdefault(&attributes, &all);
	posix_spawnattr_setsigmask(&attributes, &none);
	posix_spawnattr_setpgroup(&attributes, 0);
	posix_spawnattr_setflags(&attributes,
	    POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK |
		POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_CLOEXEC_DEFAULT |
		POSIX_SPAWN_START_SUSPENDED);
	error = posix_spawnp(pid, argv[0], &files, &attributes, argv, environ);
	posix_spawnattr_destroy(&attributes);
	posix_spawn_file_actions_destroy(&files);
	return error;
}

/* Returns a kqueue that is readable once the process has exited, or -1. */
static int
watch_end(pid_t pid)
{
	int queue = kqueue(), error;
	struct kevent end;

	if (queue < 0)
		return -1;
	fcntl(queue, F_SETFD, FD_CLOEXEC);
	EV_SET(&end, pid, EVFILT_PROC, EV_ADD, NOTE_EXIT, 0, NULL);
	if (kevent(queue, &end, 1, NULL, 0, NULL) == 0)
		return queue;
	error = errno;
	close(queue);
	errno = error;
	return -1;
}

int
child_start(struct child *child, char *const argv[], int fd)
{
	pid_t pid;
	int error = spawn(&pid, argv, fd), end_fd;

	if (error != 0) {
		errno = error;
		return -1;
	}
	end_fd = watch_end(pid);
	if (end_fd < 0) {
		error = errno;
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		errno = error;
		return -1;
	}
	*child = (struct child){ .pid = pid, .end_fd = end_fd };
	kill(pid, SIGCONT);
	return 0;
}
