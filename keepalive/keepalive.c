#include "keepalive/keepalive.h"

/* A delay of more than interval / LATE_FRACTION makes a tick late. The shortest
 * interval is 100 ms, and timers are a few milliseconds late. */
#define LATE_FRACTION 4

void
keepalive_init(struct keepalive *ka, int64_t interval_ms, unsigned count)
{
	*ka = (struct keepalive){ .interval_ms = interval_ms, .count = count };
}

void
keepalive_start(struct keepalive *ka, uint64_t generation, int64_t now_ms)
{
	keepalive_init(ka, ka->interval_ms, ka->count);
	if (ka->interval_ms > 0)
		ka->state = KEEPALIVE_UNARMED;
	ka->generation = generation;
	ka->quiet_since_ms = ka->probed_ms = now_ms;
	ka->tick_ms = now_ms + ka->interval_ms;
}

void
keepalive_stop(struct keepalive *ka)
{
	ka->state = KEEPALIVE_IDLE;
}

static bool
is_watching(const struct keepalive *ka)
{
	return ka->state != KEEPALIVE_IDLE && ka->state != KEEPALIVE_DEAD;
}

int64_t
keepalive_due(const struct keepalive *ka)
{
	return is_watching(ka) ? ka->tick_ms : KEEPALIVE_NEVER;
}

/* Restarts the ticks. The time of a byte may become known only after a later
 * probe; the next probe then follows an interval after that probe. */
static void
take_byte(struct keepalive *ka, int64_t byte_ms)
{
	int64_t from_ms = byte_ms > ka->probed_ms ? byte_ms : ka->probed_ms;

	if (ka->state == KEEPALIVE_RESUMED)
		ka->state = KEEPALIVE_ARMED;
	ka->quiet_since_ms = byte_ms;
	ka->unanswered = 0;
	ka->tick_ms = from_ms + ka->interval_ms;
}

/* The ticks start over, the first at once. */
static void
resume(struct keepalive *ka, int64_t now_ms)
{
	if (ka->state == KEEPALIVE_ARMED)
		ka->state = KEEPALIVE_RESUMED;
	if (ka->state == KEEPALIVE_MUTE)
		ka->probed_ms = now_ms - KEEPALIVE_MUTE_PACE_MS;
	/* a byte in this millisecond may follow the probe */
	ka->quiet_since_ms = now_ms - 1;
	ka->unanswered = 0;
	ka->tick_ms = now_ms;
}

/* Sets the time of the next tick. Returns whether this one came late. */
static bool
tick(struct keepalive *ka, int64_t now_ms)
{
	int64_t pace_ms = ka->state == KEEPALIVE_RESUMED ? KEEPALIVE_RESUME_MS
							 : ka->interval_ms;
	bool late = now_ms - ka->tick_ms > pace_ms / LATE_FRACTION;

	ka->tick_ms = (late ? now_ms : ka->tick_ms) + pace_ms;
	return late;
}

/* Allows for ticks that are a little early or late. */
static bool
is_minute_over(const struct keepalive *ka, int64_t now_ms)
{
	return now_ms - ka->probed_ms >=
	       KEEPALIVE_MUTE_PACE_MS - ka->interval_ms / LATE_FRACTION;
}

/* Called when no byte has followed any of the probes in time. */
static enum keepalive_verdict
decide(struct keepalive *ka)
{
	enum keepalive_state before = ka->state;

	ka->state =
	    before == KEEPALIVE_UNARMED ? KEEPALIVE_MUTE : KEEPALIVE_DEAD;
	if (before == KEEPALIVE_UNARMED)
		return KEEPALIVE_NO_ANSWER;
	return before == KEEPALIVE_RESUMED ? KEEPALIVE_NOT_BACK
					   : KEEPALIVE_DEATH;
}

enum keepalive_verdict
keepalive_check(
    struct keepalive *ka, int64_t now_ms, const struct keepalive_seen *seen)
{
	unsigned count;
	bool late;

	if (!is_watching(ka))
		return KEEPALIVE_WAIT;
	if (seen->answered_generation == ka->generation &&
	    ka->state != KEEPALIVE_RESUMED)
		ka->state = KEEPALIVE_ARMED;
	if (seen->last_byte_ms > ka->quiet_since_ms)
		take_byte(ka, seen->last_byte_ms);
	if (seen->resumed)
		resume(ka, now_ms);
	if (now_ms < ka->tick_ms)
		return KEEPALIVE_WAIT;
	late = tick(ka, now_ms);
	if (ka->state == KEEPALIVE_MUTE)
		return is_minute_over(ka, now_ms) ? KEEPALIVE_PROBE
						  : KEEPALIVE_WAIT;
	count = ka->state == KEEPALIVE_RESUMED ? 1 : ka->count;
	if (late || ka->unanswered < count)
		return KEEPALIVE_PROBE;
	return seen->reader_waiting ? decide(ka) : KEEPALIVE_WAIT;
}

void
keepalive_sent(struct keepalive *ka, int64_t now_ms)
{
	ka->unanswered++;
	ka->probed_ms = now_ms;
}
