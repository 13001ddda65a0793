/* Monotonic time for intervals, and the time of day for display. */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

/* Return the time since a fixed point. The clock stops while the host is
 * suspended. */
int64_t clock_now_us(void);

static inline int64_t
clock_now_ms(void)
{
	return clock_now_us() / 1000;
}

/* Returns how long the host has been suspended in all, from a fixed point on.
 * The error is about a millisecond. */
int64_t clock_suspended_ms(void);

/* Opens a descriptor that becomes readable when the host wakes up from a suspend,
 * and when the time of day is set. Returns -1 if the system has nothing of this
 * kind. Call clock_resume_answer() to make it unreadable again. */
int clock_resume_open(void);
void clock_resume_answer(int fd);

/* Returns the time of day: milliseconds since 1970, UTC. It jumps, forward or
 * back, when the clock is set. */
static inline int64_t
clock_utc_ms(void)
{
	struct timespec now = { 0 };

	clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

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
