/* Makes one connection attempt to a Unix path or a TCP port, with a time limit. It
 * can be interrupted. */
#ifndef RECONNECT_DIAL_H
#define RECONNECT_DIAL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "reconnect/dgram.h"
#include "reconnect/endpoint.h"
#include "reconnect/resolve.h"

/* For a TCP host or a name server that does not answer. */
#define DIAL_LIMIT_MS 5000

struct dial {
	const struct endpoint *endpoint;
	int interrupt_fd;        /* when readable, the dial ends with EINTR */
	int64_t retry_window_ms; /* how long to retry a refused Unix path */
	uid_t user;              /* see dial_trusts() */

	/* For unixgram only, see dgram_dial(): */
	struct dgram *dgram;
	struct private_folder *folder;
	bool vfkit;
};

/* Returns a connected, blocking descriptor, closed on exec, or -1 with errno
 * and the reason. EPERM on a Unix path means that the daemon is not trusted.
 * TCP takes at most DIAL_LIMIT_MS, a Unix path at most retry_window_ms: the
 * full backlog of a frozen daemon is an error at once. */
int dial(
    const struct dial *dial, struct resolver *resolver, struct error *error);

/* Returns whether the daemon connected at a Unix path is trusted: its user is
 * `also`, or one that trust_owner() accepts. If not, sets the reason. */
bool dial_trusts(const char *path, int fd, uid_t also, struct error *error);

#endif
