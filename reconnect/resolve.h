/* Looks up a host name without blocking the caller for longer than it wants:
 * getaddrinfo() can't be interrupted, so it runs in a thread of its own, which
 * may be left behind. */
#ifndef RECONNECT_RESOLVE_H
#define RECONNECT_RESOLVE_H

#include <netdb.h>
#include <stdint.h>

#include "base/error.h"

struct lookup;

/* The lookup under way, if any. Start with { NULL }. */
struct resolver {
	struct lookup *pending;
};

/* Resolves host and port for a stream socket. The wait ends when interrupt_fd
 * becomes readable or at the deadline; the lookup then goes on, and the next
 * call for the same name takes it up again, so lookups that hang don't pile up.
 * Returns 0 with *found, for freeaddrinfo(), or -1 with the reason and errno:
 * EINTR, ETIMEDOUT or another. */
int resolve(struct resolver *resolver, const char *host, const char *port,
    int interrupt_fd, int64_t deadline_ms, struct addrinfo **found,
    struct error *error);

/* Leaves a pending lookup behind. */
void resolver_abandon(struct resolver *resolver);

#endif
