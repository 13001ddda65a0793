/* One dial: bounded, interruptible, over a Unix path or TCP. */
#ifndef RECONNECT_DIAL_H
#define RECONNECT_DIAL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "reconnect/endpoint.h"
#include "reconnect/resolve.h"

/* For a TCP host or a name server that says nothing. */
#define DIAL_LIMIT_MS 5000

struct dial {
	const struct endpoint *endpoint;
	int interrupt_fd;        /* readable: give up with EINTR */
	int64_t retry_window_ms; /* a refused Unix path is retried so long */
	uid_t user;              /* see dial_trusts() */
};

/* Returns a connected, blocking descriptor, closed on exec, or -1 with errno and
 * the reason; EPERM on a Unix path: the daemon is not trusted. Takes
 * DIAL_LIMIT_MS at most; a Unix path no time beyond retry_window_ms, since a
 * frozen daemon's full backlog is an error. */
int dial(
    const struct dial *dial, struct resolver *resolver, struct error *error);

/* Whether the daemon that answered at a Unix path may be spoken to: its user is
 * one that trust_owner() believes, or `user`. False with the reason. */
bool dial_trusts(const char *path, int fd, uid_t user, struct error *error);

#endif
