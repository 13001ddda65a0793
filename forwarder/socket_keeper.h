/* Keeps a socket of ours reachable: notices when its file is removed or replaced
 * (by a cleaner of /tmp), and has it bound again. main() only. */
#ifndef FORWARDER_SOCKET_KEEPER_H
#define FORWARDER_SOCKET_KEEPER_H

#include <stdint.h>

#include "base/file_watch.h"
#include "base/log.h"
#include "base/unix_bind.h"

enum socket_keeper_state {
	SOCKET_KEPT,    /* its file stood there when looked at last */
	SOCKET_LOST,    /* it doesn't: it will be bound again in a moment */
	SOCKET_MISSING, /* it can't be bound again yet, which was logged */
};

struct socket_keeper {
	const struct unix_file *file; /* its path is empty: there is no file */
	enum log_subsystem subsystem;
	/* Makes another socket at the same path and sets *file to that one.
	 * Returns 0, or -1 with the reason in `why`: nothing has changed. */
	int (*bind_again)(void *context, char *why, size_t why_size);
	void *context;

	enum socket_keeper_state state;
	int64_t look_ms; /* when to look without being told */
	struct file_watch watch;
};

/* The watch tells through the bell. The first look is due at once. */
void socket_keeper_start(struct socket_keeper *keeper, struct doorbell *bell);

/* The file may be another one, or may have to be bound again: look at once. */
void socket_keeper_stir(struct socket_keeper *keeper);

/* Call it at each wake of the thread; cheap if there is nothing to do. Returns
 * when to call it again without being told; INT64_MAX: never. */
int64_t socket_keeper_look(struct socket_keeper *keeper, int64_t now_ms);

#endif
