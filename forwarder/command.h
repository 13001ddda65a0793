/* The command after `--`: it is given one end of a socket pair, and its exit
 * status becomes ours. */
#ifndef FORWARDER_COMMAND_H
#define FORWARDER_COMMAND_H

#include <stdbool.h>
#include <sys/types.h>

struct command {
	pid_t pid; /* 0: none */
};

/* Makes the pair: ends[0] is ours and not passed on, ends[1] the command's.
 * Returns 0, or -1 with errno. */
int command_pair(int ends[2]);

/* The exit status for an errno of command_start(), as env(1) has it: 127 if
 * there is no such program, 126 if it can't be run, EX_OSERR if the system is
 * out of memory or processes. */
int command_failure_status(int error);

/* Starts argv after writing guest_fd, which is closed here, over each {fd} in
 * it. Returns 0, or -1 with errno (ENOENT: no such program). */
int command_start(struct command *command, char **argv, int guest_fd);

void command_signal(const struct command *command, int number);

/* True once it has ended; *status is then what the shell would say: its own
 * exit status, or 128 and the signal's number. */
bool command_ended(struct command *command, int *status);

#endif
