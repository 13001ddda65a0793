#include "reconnect/clock.h"

#include <time.h>

/* On macOS CLOCK_UPTIME_RAW stands still during a suspend and
 * CLOCK_MONOTONIC_RAW runs on (clock_gettime(3)). */
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

int64_t
clock_suspended_ms(void)
{
	return (int64_t)((clock_gettime_nsec_np(CLOCK_MONOTONIC_RAW) -
			     clock_gettime_nsec_np(CLOCK_UPTIME_RAW)) /
			 1000000);
}
