/* Decides when to send a probe to a silent peer, and when to treat the
 * connection as lost. Does no I/O and reads no clock: the caller sleeps until
 * keepalive_due(), calls keepalive_check() and acts on its verdict. One thread
 * uses it.
 *
 * A tick comes one interval after the last received byte, and each interval
 * from then on. The first `count` ticks send a probe; the next one decides.
 * With an interval of 5 s and a count of 5:
 *
 * 	last byte   probe   probe   probe   probe   probe   decision
 * 	    0 ------- 5 ----- 10 ---- 15 ---- 20 ---- 25 ---- 30 s
 *
 * 	state           event                              next     verdict
 * 	any             start, interval > 0                UNARMED
 * 	any             stop; start with interval 0        IDLE
 * 	UNARMED, MUTE   a probe was answered               ARMED
 * 	UNARMED, ARMED  tick                                        PROBE
 * 	UNARMED         decision, fwd-down is waiting      MUTE     NO_ANSWER
 * 	ARMED           decision, fwd-down is waiting      DEAD     DEATH
 * 	MUTE            tick, a minute since the last probe         PROBE
 * 	UNARMED, MUTE   resume                                      PROBE at once
 * 	ARMED           resume                             RESUMED  PROBE at once
 * 	RESUMED         a byte                             ARMED
 * 	RESUMED         a second later, fwd-down waiting   DEAD     NOT_BACK
 *
 * A received byte restarts the ticks and changes no other state. If fwd-down
 * is not waiting for data, the decision is postponed to the next tick.
 *
 * After a suspend of the host the connection may be lost without a notice: the
 * peer gave up, or a NAT on the way forgot it. A peer that was ARMED therefore
 * has one second to send a byte, counted from a probe that was sent; until it
 * can be sent it is tried once a second. A peer that has never answered a probe
 * is probed, too, but its silence proves nothing, as ever, and it is not cut.
 *
 * A slightly late tick does not delay the next one, so delays do not add up:
 * the decision is made after interval * (count + 1). A tick that is late by
 * more than a quarter of the interval sends a probe and makes no decision, and
 * the next tick follows a whole interval later. The peer therefore has at least
 * three quarters of an interval to answer each probe. If forwarder is stopped
 * from 12 s to 112 s, the third probe is sent at 112 s, the fifth at 122 s, and
 * the decision is made at 127 s. The time of a suspend does not count, because
 * clock_now_ms() stands still meanwhile. */
#ifndef KEEPALIVE_KEEPALIVE_H
#define KEEPALIVE_KEEPALIVE_H

#include <stdbool.h>
#include <stdint.h>

#define KEEPALIVE_NEVER INT64_MAX
/* Interval of probes to a peer that has never answered. A gateway that starts
 * to answer later is thus detected. */
#define KEEPALIVE_MUTE_PACE_MS 60000
/* How long an armed peer may be silent after the host woke up. */
#define KEEPALIVE_RESUME_MS 1000

/* What may be sent to a quiet peer. AUTO is replaced by another mode depending
 * on the endpoint (forwarder/monitor.c). */
enum keepalive_mode {
	KEEPALIVE_OFF,
	KEEPALIVE_PASSIVE,
	KEEPALIVE_ARP,
	KEEPALIVE_PEER,
	KEEPALIVE_AUTO,
};

enum keepalive_state {
	KEEPALIVE_IDLE,    /* no connection, or probes are off */
	KEEPALIVE_UNARMED, /* the peer has answered no probe so far */
	/* the peer has not answered `count` probes; one probe a minute */
	KEEPALIVE_MUTE,
	/* the peer has answered a probe: silence means that it has failed */
	KEEPALIVE_ARMED,
	KEEPALIVE_RESUMED, /* was ARMED when the host woke up */
	KEEPALIVE_DEAD,    /* the connection is lost; no probes until a start */
};

enum keepalive_verdict {
	KEEPALIVE_WAIT,
	/* send a probe; call keepalive_sent() on success */
	KEEPALIVE_PROBE,
	KEEPALIVE_NO_ANSWER, /* once a generation: the peer became MUTE */
	KEEPALIVE_DEATH,     /* once a generation: the connection is lost */
	KEEPALIVE_NOT_BACK,  /* the same, found after a suspend */
};

/* State of the receiving thread. That thread stores last_byte_ms before it
 * processes the data, so load answered_generation before last_byte_ms. */
struct keepalive_seen {
	/* The thread waits inside recv(), and nothing is readable. */
	bool reader_waiting;
	/* The host has woken up from a suspend since the last check. */
	bool resumed;
	/* The generation on which a probe was last answered; 0: none. */
	uint64_t answered_generation;
	/* When data was last received, even part of a frame; same clock as
	 * now_ms. A time before the generation's start is ignored. */
	int64_t last_byte_ms;
};

/* Times are clock_now_ms() milliseconds. */
struct keepalive {
	enum keepalive_state state;
	int64_t interval_ms; /* 0: never probe */
	unsigned count;
	/* generation being monitored; numbers start at 1 */
	uint64_t generation;
	/* time of the last received byte, of the start, or of a resume */
	int64_t quiet_since_ms;
	int64_t probed_ms;   /* time of the last probe, or of the start */
	int64_t tick_ms;     /* time of the next tick */
	unsigned unanswered; /* probes sent since quiet_since_ms */
};

/* `interval_ms` is 0 or more, `count` at least 1. The state becomes IDLE. After
 * a change of settings, call this and keepalive_start() again with the same
 * generation. */
void keepalive_init(struct keepalive *ka, int64_t interval_ms, unsigned count);

/* Starts monitoring a new connection. All earlier state is discarded. */
void keepalive_start(struct keepalive *ka, uint64_t generation, int64_t now_ms);

void keepalive_stop(struct keepalive *ka);

/* Returns how long a peer may be silent. */
static inline int64_t
keepalive_limit_ms(const struct keepalive *ka)
{
	return ka->interval_ms * (ka->count + 1);
}

/* Returns when to call keepalive_check() next. Right after a check this is
 * later than the now_ms passed to it; KEEPALIVE_NEVER if there is nothing to
 * wait for. Checking earlier does no harm. */
int64_t keepalive_due(const struct keepalive *ka);

/* Returns what to do now. A second check at the same time returns
 * KEEPALIVE_WAIT. */
enum keepalive_verdict keepalive_check(
    struct keepalive *ka, int64_t now_ms, const struct keepalive_seen *seen);

/* Call this after the requested probe was sent. A probe without this call does
 * not count as sent. */
void keepalive_sent(struct keepalive *ka, int64_t now_ms);

#endif
