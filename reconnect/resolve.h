/* Looks up a host name with a deadline and an interrupt. getaddrinfo() has
 * neither, so it runs in a thread of its own, which may be abandoned. */
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

/* Resolves host and port for a stream socket. Returns 0 with *found, for
 * freeaddrinfo(), or -1 with the reason and errno: EINTR when interrupt_fd
 * became readable, ETIMEDOUT at the deadline, or another. After EINTR and
 * ETIMEDOUT the lookup goes on, and the next call for the same name waits for
 * it instead of starting another. */
int resolve(struct resolver *resolver, const char *host, const char *port,
    int interrupt_fd, int64_t deadline_ms, struct addrinfo **found,
    struct error *error);

/* Abandons a pending lookup, which then frees itself when it ends. */
void resolver_abandon(struct resolver *resolver);

#endif
