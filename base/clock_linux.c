#include "base/clock.h"

#include <time.h>

static int64_t
read_ms(clockid_t id)
{
	struct timespec now;

	clock_gettime(id, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int64_t
clock_now_ms(void)
{
	return read_ms(CLOCK_MONOTONIC);
}

int64_t
clock_now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* CLOCK_BOOTTIME runs on during a suspend, CLOCK_MONOTONIC doesn't
 * (clock_gettime(2)). */
int64_t
clock_suspended_ms(void)
{
	return read_ms(CLOCK_BOOTTIME) - read_ms(CLOCK_MONOTONIC);
}
