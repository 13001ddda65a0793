/* Replaces getaddrinfo() in the program that includes this: a name server that
 * never answers, and one that answers on demand.
 *
 *      hangs.test     no answer until lookups_answer(); then 127.0.0.1
 *      missing.test   no such host
 *      two.test       127.0.0.2 and then 127.0.0.1
 *      anything else  the system's answer */
#ifndef TESTS_SUPPORT_HANGING_LOOKUP_H
#define TESTS_SUPPORT_HANGING_LOOKUP_H

#include <dlfcn.h>
#include <netdb.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

static struct {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	atomic_uint asked; /* lookups of hangs.test in all */
	atomic_uint kept;  /* answers that were not given to freeaddrinfo() */
	bool answer;
} lookups = { .lock = PTHREAD_MUTEX_INITIALIZER,
	.changed = PTHREAD_COND_INITIALIZER };

static inline void
lookups_await_question(unsigned asked)
{
	pthread_mutex_lock(&lookups.lock);
	while (lookups.asked < asked)
		pthread_cond_wait(&lookups.changed, &lookups.lock);
	pthread_mutex_unlock(&lookups.lock);
}

static inline void
lookups_answer(void)
{
	pthread_mutex_lock(&lookups.lock);
	lookups.answer = true;
	pthread_cond_broadcast(&lookups.changed);
	pthread_mutex_unlock(&lookups.lock);
}

static inline void
lookups_hang(void)
{
	pthread_mutex_lock(&lookups.lock);
	lookups.asked++;
	pthread_cond_broadcast(&lookups.changed);
	while (!lookups.answer)
		pthread_cond_wait(&lookups.changed, &lookups.lock);
	pthread_mutex_unlock(&lookups.lock);
}

static inline int
lookups_find(const char *host, const char *port, const struct addrinfo *hints,
    struct addrinfo **found)
{
	int (*real)(const char *, const char *, const struct addrinfo *,
	    struct addrinfo **) = dlsym(RTLD_NEXT, "getaddrinfo");
	bool numeric = hints && (hints->ai_flags & AI_NUMERICHOST);

	if (!numeric && !strcmp(host, "missing.test"))
		return EAI_NONAME;
	if (!numeric && !strcmp(host, "two.test"))
		return real("127.0.0.2", port, hints, found) ||
		       real("127.0.0.1", port, hints, &(*found)->ai_next);
	if (numeric || strcmp(host, "hangs.test") != 0)
		return real(host, port, hints, found);
	lookups_hang();
	return real("127.0.0.1", port, hints, found);
}

int
getaddrinfo(const char *restrict host, const char *restrict port,
    const struct addrinfo *restrict hints, struct addrinfo **restrict found)
{
	int problem = lookups_find(host, port, hints, found);

	lookups.kept += problem == 0;
	return problem;
}

void
freeaddrinfo(struct addrinfo *found)
{
	void (*real)(struct addrinfo *) = dlsym(RTLD_NEXT, "freeaddrinfo");

	real(found);
	lookups.kept--;
}

#endif
