/* Looks a host name up without ever holding the caller: getaddrinfo() can't
 * be interrupted, so it runs in a thread that may be left behind. */
#ifndef RECONNECT_RESOLVE_H
#define RECONNECT_RESOLVE_H

#include <netdb.h>
#include <stdint.h>

struct lookup;

/* A lookup under way, if any. Start with { NULL }. */
struct resolver {
	struct lookup *pending;
};

/* Resolves host and port for a stream socket. A descriptor that becomes
 * readable (interrupt_fd) or the deadline ends the wait; the lookup then goes
 * on, and the next call for the same name takes it up again, so lookups that
 * hang don't pile up.
 * Returns 0 with *found (freeaddrinfo() it), or -1 with *why, a static
 * sentence, and errno: EINTR, ETIMEDOUT or another. */
int resolve(struct resolver *resolver, const char *host, const char *port,
    int interrupt_fd, int64_t deadline_ms, struct addrinfo **found,
    const char **why);

/* Leaves a pending lookup behind. */
void resolver_abandon(struct resolver *resolver);

#endif
