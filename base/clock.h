/* Time for intervals: never the wall clock. */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>

/* Since some fixed point; stands still while the host is suspended. */
int64_t clock_now_us(void);

static inline int64_t
clock_now_ms(void)
{
	return clock_now_us() / 1000;
}

/* How long the host has been suspended since some fixed point. It grows only
 * across a suspend, but may waver by a millisecond. */
int64_t clock_suspended_ms(void);

static inline int64_t
earlier(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static inline int64_t
later(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

#endif
