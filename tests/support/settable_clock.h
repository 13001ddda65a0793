/* Replaces the clock in the program that includes this. Time passes as usual unless
 * a test stops it, skips a part of it, or simulates a suspend. */
#ifndef TESTS_SUPPORT_SETTABLE_CLOCK_H
#define TESTS_SUPPORT_SETTABLE_CLOCK_H

#include <stdatomic.h>
#include <stdint.h>
#include <time.h>

#include "base/clock.h"

static _Atomic int64_t clock_stopped_ms; /* 0: it runs */
static _Atomic int64_t clock_skipped_ms;
static _Atomic int64_t clock_slept_ms;

int64_t
clock_now_us(void)
{
	int64_t stopped_ms = atomic_load(&clock_stopped_ms);
	struct timespec now;

	if (stopped_ms)
		return stopped_ms * 1000;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000 +
	       atomic_load(&clock_skipped_ms) * 1000;
}

int64_t
clock_suspended_ms(void)
{
	return atomic_load(&clock_slept_ms);
}

static inline void
clock_stop(int64_t at_ms)
{
	atomic_store(&clock_stopped_ms, at_ms);
}

static inline void
clock_skip(int64_t ms)
{
	atomic_fetch_add(&clock_skipped_ms, ms);
}

static inline void
clock_sleep(int64_t ms)
{
	atomic_fetch_add(&clock_slept_ms, ms);
}

#endif
