/* Decides when to bind a listening socket again because its file was removed or
 * replaced, for example by a program that cleans /tmp. Used by main() only.
 *
 *	KEPT     the file is in place and watched. If it is found missing: LOST
 *	LOST     after SOCKET_PAUSE_MS the socket is bound again. On success
 *	         KEPT, else FAILED
 *	FAILED   binding is tried every SOCKET_RETRY_MS. On success KEPT
 *
 * The check is cheap and is made each time main() wakes. Only this check
 * detects that the folder was renamed, since a renamed folder causes no event
 * for the file. */
#ifndef FORWARDER_SOCKET_KEEPER_H
#define FORWARDER_SOCKET_KEEPER_H

#include <stdint.h>

#include "base/error.h"
#include "base/file_watch.h"
#include "base/log.h"
#include "base/unix_bind.h"

/* If the socket were bound sooner, an rm -r of its folder could fail. */
#define SOCKET_PAUSE_MS 100
/* Interval between tries, and between checks if the file cannot be watched. */
#define SOCKET_RETRY_MS 1000

enum socket_state { SOCKET_KEPT, SOCKET_LOST, SOCKET_FAILED };

struct socket_keeper {
	const struct unix_file *file; /* no file if its path is empty */
	enum log_subsystem subsystem;
	enum socket_state state;
	int64_t due_ms; /* latest time of the next look, or INT64_MAX */
	struct file_watch watch;
};

/* Starts the keeper. The bell is rung when the file changes. */
void socket_keeper_start(struct socket_keeper *keeper, struct doorbell *bell);

/* Makes the next socket_keeper_look() check the file. Call it after *file has
 * changed. */
void socket_keeper_recheck(struct socket_keeper *keeper);

/* Call it at each wakeup, and at due_ms. Returns true if the caller must bind a
 * new socket at the path, update *file, and report the result with
 * socket_keeper_report(). */
bool socket_keeper_look(struct socket_keeper *keeper, int64_t now_ms);

/* Reports the result of binding. `why` is NULL on success, else the error; then
 * *file is unchanged. */
void socket_keeper_report(
    struct socket_keeper *keeper, const struct error *why, int64_t now_ms);

#endif
