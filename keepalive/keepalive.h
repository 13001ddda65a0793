/* Decides when a quiet peer is sent a probe, and when it is dead. Has no clock,
 * socket, thread or log; the caller brings those, sleeps until keepalive_due(),
 * and does what keepalive_check() says. One thread owns it.
 *
 * Silence is divided into ticks, one each interval, counted from the last byte.
 * The first `count` ticks send a probe; the next one decides. With an interval
 * of 5 s and a count of 5:
 *
 *	last byte   probe   probe   probe   probe   probe   decision
 *	    0 ------- 5 ----- 10 ---- 15 ---- 20 ---- 25 ---- 30 s
 *
 *	state           event                              next     verdict
 *	any             start, interval > 0                UNARMED
 *	any             stop; start with interval 0        IDLE
 *	UNARMED, MUTE   a probe was answered               ARMED
 *	UNARMED, ARMED  tick                                        PROBE
 *	UNARMED         decision, the reader is waiting    MUTE     NO_ANSWER
 *	ARMED           decision, the reader is waiting    DEAD     DEATH
 *	MUTE            tick, a minute after the last probe         PROBE
 *
 * Any byte starts the ticks again and leaves the state as it is. While the
 * reader isn't waiting, the decision is put off to the next tick.
 *
 * A tick that is a little late doesn't move the next one, so small delays don't
 * add up: death comes at interval * (count + 1). A tick that is later than a
 * quarter of the interval sends a probe instead of deciding, and the next tick
 * is a whole interval after it. The ticks that a suspended host slept through
 * therefore count as one, and every probe leaves the peer at least three
 * quarters of an interval to answer. A host that sleeps from 12 s to 112 s
 * sends its third probe at 112, the fifth at 122, and gives up at 127. */
#ifndef KEEPALIVE_KEEPALIVE_H
#define KEEPALIVE_KEEPALIVE_H

#include <stdbool.h>
#include <stdint.h>

#define KEEPALIVE_NEVER INT64_MAX
/* A peer that has never answered is asked this rarely: that costs nothing, and
 * a gateway that starts to answer is noticed. */
#define KEEPALIVE_MUTE_PACE_MS 60000

/* What may be sent to a quiet peer. AUTO stands for one of the others, chosen
 * by what is known of the network. */
enum keepalive_mode {
	KEEPALIVE_OFF,
	KEEPALIVE_PASSIVE,
	KEEPALIVE_ARP,
	KEEPALIVE_PEER,
	KEEPALIVE_AUTO,
};

enum keepalive_state {
	KEEPALIVE_IDLE,    /* nothing to watch */
	KEEPALIVE_UNARMED, /* the peer has answered no probe so far */
	KEEPALIVE_MUTE,  /* nor any of `count` in a row: asked once a minute */
	KEEPALIVE_ARMED, /* it has answered: its silence means something */
	KEEPALIVE_DEAD,  /* nothing follows until the next start */
};

enum keepalive_verdict {
	KEEPALIVE_WAIT,
	KEEPALIVE_PROBE,     /* send one; keepalive_sent() if that worked */
	KEEPALIVE_NO_ANSWER, /* once a generation: the peer became MUTE */
	KEEPALIVE_DEATH,     /* once a generation: the connection is lost */
};

/* What the receiving thread knows. It stores the time of a byte before it looks
 * at the byte; load answered_generation first, so that no answer is seen
 * without its byte. */
struct keepalive_seen {
	/* The reader waits inside recv(), and nothing is readable. */
	bool reader_waiting;
	/* The generation on which a probe was last answered; 0: none. */
	uint64_t answered_generation;
	/* When the last byte came, half a frame included, by now_ms's clock. A
	 * time before the generation's start is ignored. */
	int64_t last_byte_ms;
};

/* Times are milliseconds of a clock that never steps back, and that runs on
 * while the host is suspended (CLOCK_BOOTTIME). */
struct keepalive {
	enum keepalive_state state;
	int64_t interval_ms; /* 0: never probe */
	unsigned count;
	uint64_t generation;    /* the one being watched; from 1 */
	int64_t quiet_since_ms; /* its last byte, or its start */
	int64_t probed_ms;      /* its last probe, or its start */
	int64_t tick_ms;        /* the next one */
	unsigned unanswered;    /* probes sent since quiet_since_ms */
};

/* `interval_ms` is 0 or more, `count` at least 1. Watches nothing yet. After a
 * change of settings, init and start again with the same generation. */
void keepalive_init(struct keepalive *ka, int64_t interval_ms, unsigned count);

/* Watches a new connection; nothing is kept of the one before. */
void keepalive_start(struct keepalive *ka, uint64_t generation, int64_t now_ms);

void keepalive_stop(struct keepalive *ka);

/* How long a peer may be silent. */
static inline int64_t
keepalive_limit_ms(const struct keepalive *ka)
{
	return ka->interval_ms * (ka->count + 1);
}

/* When to check next; after a check, later than that check's now_ms. Checking
 * earlier does no harm. KEEPALIVE_NEVER: there is nothing to wait for. */
int64_t keepalive_due(const struct keepalive *ka);

/* What to do now. A second check at the same time returns KEEPALIVE_WAIT. */
enum keepalive_verdict keepalive_check(
    struct keepalive *ka, int64_t now_ms, const struct keepalive_seen *seen);

/* The probe that keepalive_check() asked for was sent. Without this call it
 * isn't counted. */
void keepalive_sent(struct keepalive *ka, int64_t now_ms);

#endif
