/* Signals as descriptions in a pipe, for a poll() loop. One per process. */
#ifndef FORWARDER_SIGNALS_H
#define FORWARDER_SIGNALS_H

#include <signal.h>
#include <stdbool.h>

struct signal_note {
	int number;
	bool typed; /* at the terminal: the foreground group got it as well */
};

/* Catches TERM, INT, HUP, USR1, USR2 and CHLD, and QUIT if there is a command to
 * pass it on to; ignores PIPE. All but PIPE are blocked in the calling thread
 * and those it will start. HUP, INT and QUIT stay ignored if they were.
 * Returns the descriptor to poll for POLLIN, or -1 with errno. */
int signals_open(bool for_command);

/* Whether the signal was typed at the terminal, not sent by a process. */
bool signals_is_typed(int number, const siginfo_t *info);

/* Unblocks them in the calling thread. */
void signals_unblock(void);

/* Takes the next one. False: there is none. */
bool signals_next(struct signal_note *note);

#endif
