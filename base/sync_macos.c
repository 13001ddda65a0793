#include "base/sync.h"

#include <assert.h>

#include "base/clock.h"

void
condition_init(struct condition *condition)
{
	int error = pthread_cond_init(&condition->pthread, NULL);

	assert(error == 0);
	(void)error;
}

/* macOS has no monotonic condition variables, but waits for a span. */
void
condition_wait(
    struct condition *condition, struct mutex *mutex, int64_t deadline_ms)
{
	int64_t left_ms;

	if (deadline_ms == CONDITION_NO_DEADLINE) {
		pthread_cond_wait(&condition->pthread, &mutex->pthread);
		return;
	}
	left_ms = deadline_ms - clock_now_ms();
	if (left_ms < 0)
		left_ms = 0;
	struct timespec span = { .tv_sec = (time_t)(left_ms / 1000),
		.tv_nsec = (long)(left_ms % 1000) * 1000000 };
	pthread_cond_timedwait_relative_np(
	    &condition->pthread, &mutex->pthread, &span);
}
