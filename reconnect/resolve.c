/* A lookup has two holders, the caller and the thread; the last one to let go
 * frees it. The thread writes the answer before it sets `done`; the caller reads
 * it after it saw that. Nothing else is shared. */
#include "reconnect/resolve.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/wait.h"

struct lookup {
	atomic_uint holders;
	atomic_bool done;
	struct doorbell bell;
	int error; /* of getaddrinfo() */
	struct addrinfo *found;
	char host[256];
	char port[6];
};

static void
let_go(struct lookup *lookup)
{
	if (atomic_fetch_sub(&lookup->holders, 1) > 1)
		return;
	if (lookup->found)
		freeaddrinfo(lookup->found);
	doorbell_destroy(&lookup->bell);
	free(lookup);
}

static int
look_up(const char *host, const char *port, int flags, struct addrinfo **found)
{
	struct addrinfo hints = { .ai_family = AF_UNSPEC,
		.ai_socktype = SOCK_STREAM,
		.ai_flags = flags | AI_NUMERICSERV };

	*found = NULL;
	return getaddrinfo(host, port, &hints, found);
}

static void *
run(void *argument)
{
	struct lookup *lookup = argument;

	lookup->error = look_up(lookup->host, lookup->port, 0, &lookup->found);
	atomic_store(&lookup->done, true);
	doorbell_ring(&lookup->bell);
	let_go(lookup);
	return NULL;
}

static struct lookup *
start(const char *host, const char *port)
{
	struct lookup *lookup = calloc(1, sizeof(*lookup));
	pthread_attr_t attributes;
	pthread_t thread;
	int error;

	if (!lookup)
		return NULL;
	atomic_init(&lookup->holders, 2);
	snprintf(lookup->host, sizeof(lookup->host), "%s", host);
	snprintf(lookup->port, sizeof(lookup->port), "%s", port);
	if (doorbell_init(&lookup->bell) < 0)
		goto no_bell;
	pthread_attr_init(&attributes);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	error = pthread_create(&thread, &attributes, run, lookup);
	pthread_attr_destroy(&attributes);
	if (error == 0)
		return lookup;
	errno = error;
	doorbell_destroy(&lookup->bell);
no_bell:
	free(lookup);
	return NULL;
}

void
resolver_abandon(struct resolver *resolver)
{
	if (resolver->pending)
		let_go(resolver->pending);
	resolver->pending = NULL;
}

/* Takes the finished lookup's answer over. */
static int
collect(struct resolver *resolver, struct addrinfo **found, const char **why)
{
	struct lookup *lookup = resolver->pending;
	int error = lookup->error;

	*found = lookup->found;
	lookup->found = NULL;
	*why = error ? gai_strerror(error) : NULL;
	resolver_abandon(resolver);
	errno = EHOSTUNREACH;
	return error ? -1 : 0;
}

int
resolve(struct resolver *resolver, const char *host, const char *port,
    int interrupt_fd, int64_t deadline_ms, struct addrinfo **found,
    const char **why)
{
	struct lookup *lookup = resolver->pending;

	/* A numeric address needs no thread. */
	if (look_up(host, port, AI_NUMERICHOST, found) == 0)
		return 0;
	if (lookup &&
	    (strcmp(lookup->host, host) || strcmp(lookup->port, port)))
		resolver_abandon(resolver);
	if (!resolver->pending)
		resolver->pending = start(host, port);
	lookup = resolver->pending;
	if (!lookup) {
		*why = "no thread to look the name up";
		return -1;
	}
	while (!atomic_load(&lookup->done)) {
		if (wait_readable(
			lookup->bell.fds[0], interrupt_fd, deadline_ms) < 0) {
			*why = "the name was not resolved in time";
			return -1;
		}
	}
	return collect(resolver, found, why);
}
