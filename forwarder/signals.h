/* Signals as descriptions in a pipe, for a poll() loop. One per process. */
#ifndef FORWARDER_SIGNALS_H
#define FORWARDER_SIGNALS_H

#include <signal.h>
#include <stdbool.h>

struct signal_note {
	int number;
	bool typed; /* by the terminal: its whole foreground group has it */
};

/* Catches TERM, INT, HUP, USR1, USR2 and CHLD, to pass it on to a command QUIT
 * too, ignores PIPE, and blocks them in the calling thread and those it will
 * start. HUP, INT and QUIT stay ignored if they were.
 * Returns the descriptor to poll for POLLIN, or -1 with errno. */
int signals_open(bool for_command);

/* Whether the signal was typed at the terminal, not sent by a process. */
bool signals_is_typed(int number, const siginfo_t *info);

/* Lets them through in the calling thread. */
void signals_admit(void);

/* Takes one that came. False: none is left. */
bool signals_next(struct signal_note *note);

#endif
