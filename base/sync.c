#include "base/sync.h"

#include <assert.h>

/* These fail only when the caller broke a promise: a lock locked twice by its
 * owner, a lock that was never made. */
static void
must(int error)
{
	assert(error == 0);
	(void)error;
}

void
mutex_init(struct mutex *mutex)
{
	must(pthread_mutex_init(&mutex->pthread, NULL));
}

void
mutex_destroy(struct mutex *mutex)
{
	must(pthread_mutex_destroy(&mutex->pthread));
}

void
mutex_lock(struct mutex *mutex) THREAD_SAFETY(no_thread_safety_analysis)
{
	must(pthread_mutex_lock(&mutex->pthread));
}

bool
mutex_try(struct mutex *mutex) THREAD_SAFETY(no_thread_safety_analysis)
{
	return pthread_mutex_trylock(&mutex->pthread) == 0;
}

void
mutex_unlock(struct mutex *mutex) THREAD_SAFETY(no_thread_safety_analysis)
{
	must(pthread_mutex_unlock(&mutex->pthread));
}

void
condition_destroy(struct condition *condition)
{
	must(pthread_cond_destroy(&condition->pthread));
}

void
condition_wake_all(struct condition *condition)
{
	must(pthread_cond_broadcast(&condition->pthread));
}
