/* Turns signals into messages in a pipe, so that a poll() loop can handle them.
 * One per process. */
#ifndef FORWARDER_SIGNALS_H
#define FORWARDER_SIGNALS_H

#include <signal.h>
#include <stdbool.h>

struct signal_note {
	int number;
	bool typed; /* at the terminal: sent to the foreground group */
};

/* Catches TERM, INT, HUP, USR1, USR2 and CHLD, and with for_command also QUIT.
 * Ignores PIPE, and XFSZ: a write beyond RLIMIT_FSIZE fails with EFBIG. The
 * caught signals are blocked in the calling thread and in threads it creates
 * later. HUP, INT and QUIT remain ignored if they were ignored at start.
 * Returns the descriptor to poll for POLLIN, or -1 with errno. */
int signals_open(bool for_command);

/* Returns whether the signal was typed at the terminal, not sent by a process. */
bool signals_is_typed(int number, const siginfo_t *info);

/* Unblocks the caught signals in the calling thread. */
void signals_unblock(void);

/* Reads the next signal. Returns false if there is none. */
bool signals_next(struct signal_note *note);

#endif
