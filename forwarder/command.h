/* Runs the command after `--`, which is given one end of a socket pair. The
 * forwarder exits with the command's exit status. */
#ifndef FORWARDER_COMMAND_H
#define FORWARDER_COMMAND_H

#include <stdbool.h>
#include <sys/types.h>

struct command {
	pid_t pid; /* 0: none */
};

/* Creates a pair of sockets of this type: ends[0] is the forwarder's end and closed
 * on exec, ends[1] is the command's. Returns 0, or -1 with errno. */
int command_pair(int ends[2], int type);

/* Returns the exit status for an errno of command_start(), as env(1) does: 127
 * if there is no such program, 126 if it can't be run. EX_OSERR if the system
 * is out of memory or processes. */
int command_failure_status(int error);

/* Replaces each {fd} in argv (in place) by the number guest_fd, starts the
 * command, and closes guest_fd in this process. Returns 0, or -1 with errno
 * (ENOENT: no such program). */
int command_start(struct command *command, char **argv, int guest_fd);

void command_signal(const struct command *command, int number);

/* Returns true once the command has exited, with its exit status in *status, or
 * 128 plus the number of the signal that killed it. */
bool command_ended(struct command *command, int *status);

#endif
