/* Keeps a socket of ours reachable: notices when its file is removed or replaced
 * (by a cleaner of /tmp), and has it bound again. main() only.
 *
 *	KEPT     the file's inode is watched, and the file was ours at the last
 *	         look. If it isn't any more: LOST
 *	LOST     SOCKET_PAUSE_MS later it is bound again: KEPT, or REFUSED
 *	REFUSED  it is tried again every SOCKET_RETRY_MS, until it works: KEPT
 *
 * Looking is cheap, so each wake of main() looks. If the file's folder was moved,
 * only that finds it: the inode doesn't change. */
#ifndef FORWARDER_SOCKET_KEEPER_H
#define FORWARDER_SOCKET_KEEPER_H

#include <stdint.h>

#include "base/error.h"
#include "base/file_watch.h"
#include "base/log.h"
#include "base/unix_bind.h"

/* A socket bound sooner could make an rm -r of its folder fail. */
#define SOCKET_PAUSE_MS 100
/* Also how often to look where the system grants no watch. */
#define SOCKET_RETRY_MS 1000

enum socket_state { SOCKET_KEPT, SOCKET_LOST, SOCKET_REFUSED };

struct socket_keeper {
	const struct unix_file *file; /* its path is empty: there is no file */
	enum log_subsystem subsystem;
	enum socket_state state;
	int64_t due_ms; /* when to look if nothing happens; INT64_MAX: never */
	struct file_watch watch;
};

/* What happens to the file rings the bell. */
void socket_keeper_start(struct socket_keeper *keeper, struct doorbell *bell);

/* The file may be another one: the next look is due at once. */
void socket_keeper_check(struct socket_keeper *keeper);

/* Call it at each wake of the thread, and when it is due. True: make another
 * socket at the same path, set *file to it, and say how that went. */
bool socket_keeper_look(struct socket_keeper *keeper, int64_t now_ms);

/* NULL: it is bound again. Otherwise why it isn't, and nothing has changed. */
void socket_keeper_bound(
    struct socket_keeper *keeper, const struct error *why, int64_t now_ms);

#endif
