/* Theory of operation
 *
 * Silence is divided into ticks, one an interval, counted from the last byte.
 * The first `count` of them send a probe, the next one passes sentence:
 *
 *	last byte                                     interval 5 s, count 5
 *	|     probe    probe    probe    probe    probe   sentence
 *	0 ----- 5 ----- 10 ----- 15 ----- 20 ----- 25 ----- 30 ---> seconds
 *	^                                                   |
 *	|  any byte, at any time                            |
 *	+---------------------------------------------------+
 *
 * The sentence depends on what is known:
 *
 *	unarmed was said, still so    a probe if the last is a minute ago
 *	the tick came late            one more probe
 *	fewer than count probes sent  one more probe
 *	nobody waits to read          none yet
 *	no answer on this generation  unarmed, said once
 *	otherwise                     dead
 *
 * and but for death the next tick is an interval on.
 *
 * Late is more than a quarter of an interval after the tick was due. A tick
 * that is a little late doesn't move the next one, so that death comes at
 * interval * (count + 1) sharp however many small delays add up. A late one
 * does: the next tick is a whole interval after it, so that every probe leaves
 * the peer at least three quarters of an interval to answer while we are awake
 * to hear it. However many ticks were slept through, they count as one. A host
 * that sleeps at 12 s and wakes at 112 s sends its third probe at 112, the
 * fourth at 117, the fifth at 122, and gives up at 127.
 *
 * There is nothing to keep of an older generation: a start overwrites it all,
 * an answer counts only under the number it arrived on, and a byte only if it
 * is younger than the start. */
#include "keepalive/keepalive.h"

/* A tick is late by more than interval / LATE_FRACTION. Timers are milliseconds
 * late, the shortest interval is 100 ms; a probe is left three quarters. */
#define LATE_FRACTION 4

void
keepalive_init(struct keepalive *ka, int64_t interval_ms, unsigned count)
{
	*ka = (struct keepalive){
		.interval_ms = interval_ms,
		.count = count,
		.due_ms = KEEPALIVE_NEVER,
	};
}

void
keepalive_start(struct keepalive *ka, uint64_t generation, int64_t now_ms)
{
	keepalive_init(ka, ka->interval_ms, ka->count);
	ka->generation = generation;
	ka->quiet_since_ms = ka->probed_ms = now_ms;
	if (ka->interval_ms > 0)
		ka->due_ms = now_ms + ka->interval_ms;
}

void
keepalive_stop(struct keepalive *ka)
{
	ka->due_ms = KEEPALIVE_NEVER;
}

int64_t
keepalive_due(const struct keepalive *ka)
{
	return ka->due_ms;
}

/* A byte whose time was stored late can be older than the last probe; the next
 * one waits an interval all the same. */
static void
hear(struct keepalive *ka, int64_t byte_ms)
{
	int64_t from_ms = byte_ms > ka->probed_ms ? byte_ms : ka->probed_ms;

	ka->quiet_since_ms = byte_ms;
	ka->unanswered = 0;
	ka->due_ms = from_ms + ka->interval_ms;
}

/* The next tick comes an interval after this one was due, or after now.
 * Returns true if this one came late. */
static bool
tick(struct keepalive *ka, int64_t now_ms)
{
	int64_t tolerated_ms = ka->interval_ms / LATE_FRACTION;
	bool late = now_ms - ka->due_ms > tolerated_ms;

	ka->due_ms = (late ? now_ms : ka->due_ms) + ka->interval_ms;
	return late;
}

/* Ticks are a little early or late, so a minute needn't be whole. */
static bool
minute_is_over(const struct keepalive *ka, int64_t now_ms)
{
	return now_ms - ka->probed_ms >=
	       KEEPALIVE_UNARMED_PACE_MS - ka->interval_ms / LATE_FRACTION;
}

/* Enough probes had their time and no byte came. */
static enum keepalive_verdict
sentence(struct keepalive *ka, bool armed)
{
	if (armed)
		ka->due_ms = KEEPALIVE_NEVER;
	else
		ka->told = true;
	return armed ? KEEPALIVE_DEAD : KEEPALIVE_UNARMED;
}

enum keepalive_verdict
keepalive_check(
    struct keepalive *ka, int64_t now_ms, const struct keepalive_seen *seen)
{
	bool armed = seen->answered_generation == ka->generation;
	bool late;

	if (ka->due_ms == KEEPALIVE_NEVER)
		return KEEPALIVE_WAIT;
	if (seen->last_byte_ms > ka->quiet_since_ms)
		hear(ka, seen->last_byte_ms);
	if (now_ms < ka->due_ms)
		return KEEPALIVE_WAIT;
	late = tick(ka, now_ms);
	if (ka->told && !armed)
		return minute_is_over(ka, now_ms) ? KEEPALIVE_PROBE
						  : KEEPALIVE_WAIT;
	if (late || ka->unanswered < ka->count)
		return KEEPALIVE_PROBE;
	return seen->reader_waiting ? sentence(ka, armed) : KEEPALIVE_WAIT;
}

void
keepalive_sent(struct keepalive *ka, int64_t now_ms)
{
	ka->unanswered++;
	ka->probed_ms = now_ms;
}
