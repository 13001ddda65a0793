/* Time for intervals: never the wall clock. */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>

/* Milliseconds, microseconds since some fixed point; stands still while the host sleeps. */
int64_t clock_now_ms(void);
int64_t clock_now_us(void);

/* Milliseconds the host has spent suspended since some fixed point. It only
 * grows, and grows only across a suspend. */
int64_t clock_suspended_ms(void);

#endif
