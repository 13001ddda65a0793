/* Decides when to dial. A state machine that is handed the time and does
 * nothing itself: fwd_link.c tells it what happened and does what it asks for.
 *
 *   state      the link is
 *   WAITING    down until the next dial is due
 *   DIALLING   down while dial() runs
 *   LISTENING  down until a client connects
 *   FRESH      up for less than RECONNECT_SETTLE_MS, without proof of life
 *   UNPROVEN   up for longer, still without proof of life
 *   PROVEN     up, and the peer has shown that it lives
 *
 *   state                event            next      and
 *   WAITING              TICK, dial due   DIALLING  DIAL
 *   WAITING, LISTENING   TICK, 10 s down  same      LONG_OUTAGE, once
 *   WAITING              APPEARED         same      the dial is due at once
 *   DIALLING, LISTENING  DIAL_FAILED      WAITING   backs off
 *   DIALLING             INTERRUPTED      WAITING   the dial is still due
 *   DIALLING, LISTENING  CONNECTED        FRESH
 *   FRESH                TICK, settled    UNPROVEN  SETTLED
 *   FRESH                PROOF            PROVEN    SETTLED
 *   UNPROVEN             PROOF            PROVEN
 *   FRESH, UNPROVEN      TICK, max old    same      PROVE, so that PROOF follows
 *   FRESH, UNPROVEN      APPEARED         same      if lost, is dialled at once
 *   FRESH, UNPROVEN      LOST             WAITING   backs off: a failed dial
 *   PROVEN               LOST             WAITING   a new outage, due at once
 *   any                  RESUMED, RELOADED, MOVED   backoff starts over, and
 *                                                   a dial is due at once
 *
 * Where clients connect to us, LISTENING takes the place of WAITING.
 *
 * The path of a daemon is watched in every state but PROVEN: a dying daemon
 * closes its connection before its listener, so a dial may end in a backlog that
 * dies a moment later, while the next daemon's socket appears.
 *
 * A path exists from bind() on and is refused until listen(). When a daemon may
 * be just starting (at the start, after APPEARED, MOVED and the loss of a proven
 * generation), the next dial retries a refusal for RECONNECT_WINDOW_MS.
 *
 * "At once" keeps connections RECONNECT_SPACING_MS apart, and so dials that
 * APPEARED asked for: neither a daemon that sends a byte and dies nor a path
 * that comes and goes makes us spin. A failed dial does not put off the first
 * dial after the path appears; recovery within a millisecond depends on it. */
#ifndef RECONNECT_RECONNECT_H
#define RECONNECT_RECONNECT_H

#include <stdbool.h>
#include <stdint.h>

#include "reconnect/backoff.h"

#define RECONNECT_SPACING_MS 10

#define RECONNECT_WINDOW_MS 50

/* A backlog that dies with its daemon does so within moments. */
#define RECONNECT_SETTLE_MS 100

/* Longer than a daemon takes to restart. */
#define RECONNECT_LONG_OUTAGE_MS 10000

#define RECONNECT_NEVER INT64_MAX

enum reconnect_state {
	RECONNECT_WAITING,
	RECONNECT_DIALLING,
	RECONNECT_LISTENING,
	RECONNECT_FRESH,
	RECONNECT_UNPROVEN,
	RECONNECT_PROVEN,
};

enum reconnect_event {
	RECONNECT_TICK, /* time has passed */
	RECONNECT_DIAL_FAILED,
	RECONNECT_INTERRUPTED, /* the dial, by a reload or a stop */
	RECONNECT_CONNECTED,   /* to a daemon, or by a client */
	RECONNECT_PROOF,       /* of life */
	RECONNECT_LOST,        /* after PROOF if there was any */
	RECONNECT_APPEARED,    /* the daemon's path */
	RECONNECT_RESUMED,     /* the host, from a suspend */
	RECONNECT_RELOADED,    /* the settings */
	RECONNECT_MOVED,       /* the same, with another endpoint */
};

/* What the caller has to do. */
enum reconnect_action {
	RECONNECT_NOTHING,
	RECONNECT_DIAL,  /* and say how it ended */
	RECONNECT_PROVE, /* by its age: link_prove(); PROOF follows */
	RECONNECT_REPORT_SETTLED,
	RECONNECT_REPORT_LONG_OUTAGE,
};

struct reconnect_settings {
	int64_t min_ms, max_ms; /* of the backoff; older than max is proven */
	unsigned jitter_percent;
	bool listens; /* clients connect to us; nothing is dialled */
};

struct reconnect {
	enum reconnect_state state;
	/* The caller's: change them, then step RELOADED or MOVED. */
	struct reconnect_settings settings;
	struct backoff backoff;
	uint32_t random;         /* not 0; differs between processes */
	unsigned dials;          /* in this outage, or clients that came */
	int64_t due_ms;          /* the next dial */
	int64_t earliest_ms;     /* no connection is made before */
	int64_t connected_ms;    /* when the last one was made */
	int64_t long_outage_ms;  /* when to report it, or NEVER */
	int64_t retry_window_ms; /* how long the next dial retries refusals */
};

/* Starts down, with a dial due at once. */
void reconnect_init(struct reconnect *machine,
    const struct reconnect_settings *settings, uint32_t random, int64_t now_ms);

/* Returns what to do. Times are clock_now_ms() milliseconds. A TICK that returns
 * something to do may be followed by another one at once. */
enum reconnect_action reconnect_step(
    struct reconnect *machine, enum reconnect_event event, int64_t now_ms);

/* When the next TICK will do something, or NEVER. */
int64_t reconnect_wake_ms(const struct reconnect *machine);

static inline bool
reconnect_is_up(const struct reconnect *machine)
{
	return machine->state >= RECONNECT_FRESH;
}

#endif
