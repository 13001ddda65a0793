/* A lookup has two holders, the caller and the thread; the last one frees it.
 * The caller reads the answer only after the thread has written it and rung the
 * bell. */
#include "reconnect/resolve.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/wait.h"

struct lookup {
	atomic_uint holders;
	struct doorbell bell;
	int problem; /* of getaddrinfo() */
	struct addrinfo *found;
	char host[256];
	char port[6];
};

static void
release(struct lookup *lookup)
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

	lookup->problem =
	    look_up(lookup->host, lookup->port, 0, &lookup->found);
	doorbell_ring(&lookup->bell);
	release(lookup);
	return NULL;
}

static struct lookup *
start(const char *host, const char *port)
{
	struct lookup *lookup = calloc(1, sizeof(*lookup));
	pthread_t thread;

	if (!lookup)
		return NULL;
	atomic_init(&lookup->holders, 2);
	snprintf(lookup->host, sizeof(lookup->host), "%s", host);
	snprintf(lookup->port, sizeof(lookup->port), "%s", port);
	if (doorbell_init(&lookup->bell) == 0) {
		errno = pthread_create(&thread, NULL, run, lookup);
		if (errno == 0) {
			pthread_detach(thread);
			return lookup;
		}
		doorbell_destroy(&lookup->bell);
	}
	free(lookup);
	return NULL;
}

void
resolver_abandon(struct resolver *resolver)
{
	if (resolver->pending)
		release(resolver->pending);
	resolver->pending = NULL;
}

/* Takes the answer of a lookup that has ended. */
static int
collect(struct resolver *resolver, struct addrinfo **found, struct error *error)
{
	struct lookup *lookup = resolver->pending;
	int problem;

	doorbell_answer(&lookup->bell);
	problem = lookup->problem;
	*found = lookup->found;
	lookup->found = NULL;
	resolver_abandon(resolver);
	errno = EHOSTUNREACH;
	return problem ? error_set(error, "%s", gai_strerror(problem)) : 0;
}

int
resolve(struct resolver *resolver, const char *host, const char *port,
    int interrupt_fd, int64_t deadline_ms, struct addrinfo **found,
    struct error *error)
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
	if (!resolver->pending)
		return error_set(error,
		    "cannot start a thread for the name lookup: %s",
		    strerror(errno));
	if (wait_readable(
		resolver->pending->bell.fds[0], interrupt_fd, deadline_ms) < 0)
		return error_set(error, "the name was not resolved in time");
	return collect(resolver, found, error);
}
