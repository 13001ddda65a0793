/* What keeps dials apart:
 *
 *      after              the next dial is at least REDIAL_SPACING_MS later
 *      a connection       always
 *      a failed dial      unless the path appears meanwhile
 *      an appearance      always: whoever changes the path over and over
 *                         gets no more dials than a daemon that accepts and dies
 *
 * The exception is what recovery within a millisecond lives on: the dial
 * before the daemon came says nothing about the daemon. */
#include "reconnect/redial.h"

#include "base/clock.h"

void
redial_init(struct redial *redial, int64_t now_ms, int64_t min_ms,
    int64_t max_ms, unsigned jitter_percent)
{
	*redial = (struct redial){ .due_ms = now_ms,
		.connected_ms = now_ms - REDIAL_SPACING_MS,
		.hurried_ms = now_ms - REDIAL_SPACING_MS };
	backoff_init(&redial->backoff, min_ms, max_ms, jitter_percent);
}

int64_t
redial_spaced_ms(const struct redial *redial)
{
	return redial->connected_ms + REDIAL_SPACING_MS;
}

static void
make_due(struct redial *redial, int64_t now_ms)
{
	redial->due_ms = later(now_ms, redial_spaced_ms(redial));
}

void
redial_failed(struct redial *redial, int64_t now_ms, uint32_t random)
{
	int64_t delay_ms = backoff_next(&redial->backoff, random);

	make_due(redial, now_ms + later(delay_ms, REDIAL_SPACING_MS));
}

void
redial_connected(struct redial *redial, int64_t now_ms)
{
	redial->connected_ms = now_ms;
}

void
redial_lost(struct redial *redial, int64_t now_ms, bool proven, uint32_t random)
{
	if (!proven) {
		redial_failed(redial, now_ms, random);
		return;
	}
	backoff_reset(&redial->backoff);
	make_due(redial, now_ms);
}

void
redial_appeared(struct redial *redial, int64_t now_ms)
{
	int64_t earliest_ms = later(
	    redial_spaced_ms(redial), redial->hurried_ms + REDIAL_SPACING_MS);

	if (redial->due_ms > later(now_ms, earliest_ms))
		redial->hurried_ms = redial->due_ms =
		    later(now_ms, earliest_ms);
}

void
redial_resumed(struct redial *redial, int64_t now_ms)
{
	backoff_reset(&redial->backoff);
	redial_appeared(redial, now_ms);
}
