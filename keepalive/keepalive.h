/* Decides when a quiet peer is sent a probe and when it is dead.
 * No clock, no socket, no thread, no log: the caller brings those.
 *
 * One thread owns the machine and drives it:
 *
 *	keepalive_start(&ka, generation, now);          a new connection
 *	for (;;) {
 *		sleep until keepalive_due(&ka);
 *		switch (keepalive_check(&ka, now, &seen)) {
 *		case KEEPALIVE_PROBE:   if it could be sent, keepalive_sent()
 *		case KEEPALIVE_UNARMED: one info line
 *		case KEEPALIVE_DEAD:    report ka.generation as lost
 *		case KEEPALIVE_WAIT:    nothing
 *		}
 *	}
 *	keepalive_stop(&ka);                            the connection ended
 *
 * What other threads know comes in as a snapshot, struct keepalive_seen,
 * instead of as calls: the thread that receives only stores two numbers, when
 * its last recv() returned and on which generation it last recognised an
 * answer, and nothing wakes or locks for it. A count of bytes in place of the
 * time would save it one clock read a batch, but then a death could come up to
 * an interval late, which rule 2 forbids. */
#ifndef KEEPALIVE_KEEPALIVE_H
#define KEEPALIVE_KEEPALIVE_H

#include <stdbool.h>
#include <stdint.h>

#define KEEPALIVE_NEVER INT64_MAX
/* A peer that has never answered is asked this rarely: it costs nothing, and
 * a gateway that starts to answer is noticed. */
#define KEEPALIVE_UNARMED_PACE_MS 60000

/* What may be sent to a quiet peer. AUTO is one of the others, chosen by what
 * is known of the network. */
enum keepalive_mode {
	KEEPALIVE_OFF,
	KEEPALIVE_PASSIVE,
	KEEPALIVE_ARP,
	KEEPALIVE_PEER,
	KEEPALIVE_AUTO,
};

enum keepalive_verdict {
	KEEPALIVE_WAIT,
	KEEPALIVE_PROBE,   /* send one; keepalive_sent() if that worked */
	KEEPALIVE_UNARMED, /* the peer never answers: said once a generation */
	KEEPALIVE_DEAD,    /* said once a generation; nothing follows it */
};

/* What the receiving thread left behind. Load the fields in this order, with
 * acquire: loaded the other way round, bytes that arrive in between could be
 * taken for silence. The receiver stores last_byte_ms before it looks at the
 * bytes, so an answer is never seen without its byte. */
struct keepalive_seen {
	/* A thread waits inside recv() and nothing is readable. False when
	 * nobody knows. */
	bool reader_waiting;
	/* The generation on which a probe was last answered; 0: none. */
	uint64_t answered_generation;
	/* When the last byte was received, by the same clock as now_ms; half a
	 * frame counts. A time before the generation's start says nothing. */
	int64_t last_byte_ms;
};

/* Times are milliseconds of a clock that never steps back; better one that
 * runs on while the host is suspended (CLOCK_BOOTTIME), so that an answer that
 * came to a sleeping host isn't held against the peer. */
struct keepalive {
	int64_t interval_ms; /* 0: never probe */
	unsigned count;
	uint64_t generation;    /* the one being watched; from 1 */
	int64_t quiet_since_ms; /* its last byte, or its start */
	int64_t probed_ms;      /* its last probe, or its start */
	int64_t due_ms;         /* the next tick */
	unsigned unanswered;    /* probes sent since quiet_since_ms */
	bool told;              /* KEEPALIVE_UNARMED was said */
};

/* `interval_ms` is 0 or more, `count` at least 1. Nothing is watched yet.
 * A changed setting is another init and start with the same generation. */
void keepalive_init(struct keepalive *ka, int64_t interval_ms, unsigned count);

/* Watches a new connection from now on, and forgets the one before. */
void keepalive_start(struct keepalive *ka, uint64_t generation, int64_t now_ms);

/* Watches nothing: keepalive_due() is KEEPALIVE_NEVER. */
void keepalive_stop(struct keepalive *ka);

/* When to check next: after a check always later than that check's now_ms.
 * An earlier check does no harm. KEEPALIVE_NEVER: sleep as long as you like. */
int64_t keepalive_due(const struct keepalive *ka);

/* What to do now. A second check at the same time says KEEPALIVE_WAIT. */
enum keepalive_verdict keepalive_check(
    struct keepalive *ka, int64_t now_ms, const struct keepalive_seen *seen);

/* The probe that keepalive_check() asked for was handed to the kernel whole.
 * Without this call it doesn't count, and is due again an interval later. */
void keepalive_sent(struct keepalive *ka, int64_t now_ms);

#endif
