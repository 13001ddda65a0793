#include "base/sync.h"

#include <assert.h>
#include <errno.h>
#include <time.h>

void
condition_init(struct condition *condition)
{
	pthread_condattr_t attributes;
	int error;

	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	error = pthread_cond_init(&condition->pthread, &attributes);
	assert(error == 0);
	(void)error;
	pthread_condattr_destroy(&attributes);
}

void
condition_wait(
    struct condition *condition, struct mutex *mutex, int64_t deadline_ms)
{
	struct timespec until = { .tv_sec = (time_t)(deadline_ms / 1000),
		.tv_nsec = (long)(deadline_ms % 1000) * 1000000 };

	if (deadline_ms == CONDITION_NO_DEADLINE)
		pthread_cond_wait(&condition->pthread, &mutex->pthread);
	else
		pthread_cond_timedwait(
		    &condition->pthread, &mutex->pthread, &until);
}
