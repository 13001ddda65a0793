/* One dial: bounded, interruptible, over a Unix path or TCP. */
#ifndef RECONNECT_DIAL_H
#define RECONNECT_DIAL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "reconnect/endpoint.h"
#include "reconnect/resolve.h"

#define DIAL_WHY_BYTES 128

/* A TCP host that says nothing, a resolver that says nothing. */
#define DIAL_LIMIT_MS 5000

struct dial {
	struct endpoint endpoint;
	int interrupt_fd;    /* readable: give up with EINTR */
	int64_t patience_ms; /* a refused Unix path is tried again this long */
	uid_t user;          /* dial_trusts() this one as well */
	char why[DIAL_WHY_BYTES]; /* of a failure, for a person */
	bool distrusted;          /* dial_trusts() was why */
};

/* Returns a connected, blocking descriptor, closed on exec, or -1 with errno
 * and dial->why. Takes DIAL_LIMIT_MS at most; a Unix path patience_ms and no
 * time at all beyond that: a frozen daemon's full backlog is an error. */
int dial(struct dial *dial, struct resolver *resolver);

/* Whether the daemon that answered at a Unix path may be spoken to: its user is
 * one that trust_owner() believes, or `also`. False with the reason in `why`. */
bool dial_trusts(
    const char *path, int fd, uid_t also, char why[DIAL_WHY_BYTES]);

#endif
