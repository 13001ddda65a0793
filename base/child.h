/* A program that runs as a child of this process, and ends with it.
 *
 *   what the program gets
 *   descriptors       0: /dev/null; 1 and 2: our standard error; CHILD_FD: the
 *                     one that it is given, if any. No other
 *   signals           default actions, an empty mask
 *   process group     its own, which child_signal() addresses
 *   all else          ours: user, environment, current folder, limits
 *
 * On Linux the kernel kills it with SIGKILL when the thread that has started it
 * ends, however that happens (PR_SET_PDEATHSIG). This does not reach processes that
 * the program has started itself, nor a program that has changed its user or
 * capabilities; macOS has nothing like it. What survives sees the end of its
 * socket. */
#ifndef BASE_CHILD_H
#define BASE_CHILD_H

#include <stdbool.h>
#include <sys/types.h>

/* The number under which the program finds its descriptor. */
#define CHILD_FD 3

struct child {
	pid_t pid;  /* also its process group; 0: none */
	int end_fd; /* readable once the process has exited */
};

/* Starts the program argv[0], searched in PATH, and gives it `fd`, or none if
 * that is -1; the caller closes its own. Returns once the program runs: 0, or -1
 * with errno (ENOENT: there is no such program) and no child. */
int child_start(struct child *child, char *const argv[], int fd);

/* Sends a signal to the process group, and to the process if it has left it.
 * Returns 0, or -1 with errno: EPERM if it has become another user (sudo). */
int child_signal(const struct child *child, int number);

/* Returns whether the process has exited; once that is so, there is no child any
 * more. Kills what is left of its process group, and sets *status as waitpid()
 * does. */
bool child_reap(struct child *child, int *status);

/* Closes every descriptor from `first` on. Async-signal-safe. */
void child_close_from(int first);

/* Writes "status 1" or "signal 9" into buffer, and returns it. */
#define CHILD_END_BYTES 24
const char *child_end(char buffer[CHILD_END_BYTES], int status);

#endif
