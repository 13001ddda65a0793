/* Keeps a socket of ours reachable: notices when its file is removed or replaced
 * (by a cleaner of /tmp), and has it bound again. main() only.
 *
 *      KEPT  the file's inode is watched, and the file was still ours when
 *            looked at after that. At a later look it isn't: LOST
 *      LOST  after SOCKET_PAUSE_MS, then every SOCKET_RETRY_MS, it is bound
 *            again, until that works: KEPT
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

/* A folder that is being removed with all that is in it stays empty so long. */
#define SOCKET_PAUSE_MS 100
/* Also how often to look where the system grants no watch. */
#define SOCKET_RETRY_MS 1000

struct daemon;

enum socket_state { SOCKET_KEPT, SOCKET_LOST };

struct socket_keeper {
	const struct unix_file *file; /* its path is empty: there is no file */
	enum log_subsystem subsystem;
	/* Makes another socket at the same path and sets *file to it. Returns 0,
	 * or -1 with the error set and nothing changed. */
	int (*bind_again)(struct daemon *daemon, struct error *error);
	struct daemon *daemon;

	enum socket_state state;
	int64_t due_ms;  /* when to look even if nothing happens */
	bool complained; /* that it can't be bound, since it was lost */
	struct file_watch watch;
};

/* What happens to the file rings the bell. */
void socket_keeper_start(
    struct socket_keeper *keeper, struct daemon *daemon, struct doorbell *bell);

/* The file may be another one: the next look is due at once. */
void socket_keeper_check(struct socket_keeper *keeper);

/* Call it at each wake of the thread. Returns when to call it again even if
 * nothing happens; INT64_MAX: never. */
int64_t socket_keeper_look(struct socket_keeper *keeper, int64_t now_ms);

#endif
