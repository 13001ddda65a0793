/* One dial: bounded, interruptible, over a Unix path or TCP. */
#ifndef RECONNECT_DIAL_H
#define RECONNECT_DIAL_H

#include <stdint.h>

#include "reconnect/endpoint.h"
#include "reconnect/resolve.h"

#define DIAL_WHY_BYTES 128

/* A TCP host that says nothing, a resolver that says nothing. */
#define DIAL_LIMIT_MS 5000

struct dial {
	struct endpoint endpoint;
	int interrupt_fd;    /* readable: give up with EINTR */
	int64_t patience_ms; /* a refused Unix path is tried again this long */
	char why[DIAL_WHY_BYTES]; /* of a failure, for a person */
};

/* Returns a connected, blocking descriptor, closed on exec, or -1 with errno
 * and dial->why. Takes DIAL_LIMIT_MS at most; a Unix path patience_ms and no
 * time at all beyond that: a frozen daemon's full backlog is an error. */
int dial(struct dial *dial, struct resolver *resolver);

#endif
