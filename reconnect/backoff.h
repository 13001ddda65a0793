/* How long to wait before the next dial. Pure: the caller brings randomness
 * and does the waiting. */
#ifndef RECONNECT_BACKOFF_H
#define RECONNECT_BACKOFF_H

#include <stdint.h>

struct backoff {
	int64_t min_ms, max_ms;  /* 1 <= min <= max */
	unsigned jitter_percent; /* 0 to 50, taken off the delay */
	int64_t next_ms;         /* the next delay, before jitter */
};

void backoff_init(struct backoff *backoff, int64_t min_ms, int64_t max_ms,
    unsigned jitter_percent);

/* The next delay in ms: min, doubling to max, shortened by up to
 * jitter_percent as `random` says. Never lengthened, so that max holds. */
int64_t backoff_next(struct backoff *backoff, uint32_t random);

/* Starts over from min. */
void backoff_reset(struct backoff *backoff);

#endif
