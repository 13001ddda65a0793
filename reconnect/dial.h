/* Makes one connection attempt, with a time limit. It can be interrupted. A table in
 * dial.c holds what differs between the kinds of endpoint. */
#ifndef RECONNECT_DIAL_H
#define RECONNECT_DIAL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "base/private_folder.h"
#include "reconnect/endpoint.h"
#include "reconnect/resolve.h"

/* For a TCP host or a name server that does not answer. */
#define DIAL_LIMIT_MS 5000

struct daemon;
struct dgram;

struct dial {
	const struct endpoint *endpoint; /* does not listen */
	int interrupt_fd;          /* when readable, the dial ends with EINTR */
	int64_t retry_window_ms;   /* how long to retry a refused Unix path */
	uid_t user;                /* see dial_trusts() */
	struct resolver *resolver; /* of a TCP host */
	struct daemon *daemon;     /* see daemon_dial() */

	/* See dgram_dial(): */
	struct dgram *dgram;
	struct private_folder *folder;
	bool vfkit, watch;
};

/* Returns a connected, blocking descriptor, closed on exec, or -1 with errno and
 * the reason. EPERM on a Unix path means that the daemon is not trusted. TCP takes
 * at most DIAL_LIMIT_MS, a Unix path at most retry_window_ms: the full backlog of a
 * frozen daemon is an error at once. For exec: see daemon_dial(). */
int dial(const struct dial *dial, struct error *error);

/* Returns whether the daemon at the other end of fd is trusted. On a Unix path its
 * user must be dial->user, or one that trust_owner() accepts; for datagrams, the
 * owner of its file, if that still exists. If not, sets the reason. */
bool dial_trusts(const struct dial *dial, int fd, struct error *error);

#endif
