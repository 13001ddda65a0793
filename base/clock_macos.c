#include "base/clock.h"

#include <mach/mach_time.h>
#include <time.h>

/* CLOCK_UPTIME_RAW is mach_absolute_time() in nanoseconds: it stands still
 * during a suspend (clock_gettime(3)). */
int64_t
clock_now_ms(void)
{
	return (int64_t)(clock_gettime_nsec_np(CLOCK_UPTIME_RAW) / 1000000);
}

int64_t
clock_now_us(void)
{
	return (int64_t)(clock_gettime_nsec_np(CLOCK_UPTIME_RAW) / 1000);
}

/* mach_continuous_time() runs on during a suspend. Signed, because the clocks
 * are read one after the other: without a suspend the difference is a little
 * below zero. */
int64_t
clock_suspended_ms(void)
{
	int64_t ticks =
	    (int64_t)mach_continuous_time() - (int64_t)mach_absolute_time();
	mach_timebase_info_data_t tick; /* numer / denom nanoseconds */

	mach_timebase_info(&tick);
	return ticks * tick.numer / tick.denom / 1000000;
}
