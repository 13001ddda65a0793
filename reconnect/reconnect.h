/* Decides when to dial. A state machine without I/O or a clock: fwd_link.c
 * passes in the events and the time, and carries out the actions.
 *
 *   state      the link is
 *   WAITING    down, the next dial is not yet due
 *   DIALLING   down, dial() is running
 *   LISTENING  down, no client has connected yet
 *   FRESH      up for less than RECONNECT_SETTLE_MS, without proof of life
 *   UNPROVEN   up for longer, still without proof of life
 *   PROVEN     up, with proof of life: a byte has arrived, or age >= max
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
 *   FRESH, UNPROVEN      TICK, age >= max same      PROVE, PROOF follows
 *   FRESH, UNPROVEN      APPEARED, MOVED  same      on LOST, a dial is due at once
 *   FRESH, UNPROVEN      LOST             WAITING   backs off: a failed dial
 *   PROVEN               LOST             WAITING   a new outage, due at once
 *   any                  RESUMED, RELOADED, MOVED   backoff starts over; if down,
 *                                                   a dial is due at once
 *
 * Where clients connect to us, LISTENING takes the place of WAITING.
 *
 * The path of a daemon is watched in every state except PROVEN. An exiting daemon
 * closes its connection before its listening socket. A dial in between connects
 * to a socket that is closed a moment later, and the path of the next daemon may
 * appear meanwhile.
 *
 * The path exists after bind(), but connections are refused until listen().
 * When a daemon may be starting (when we start, and after APPEARED, MOVED or
 * the loss of a proven generation), the next dial keeps trying for
 * RECONNECT_WINDOW_MS.
 *
 * A dial that is due "at once" still waits until RECONNECT_SPACING_MS have passed
 * since the last connection, and since the last dial that an event made due. This
 * limits the rate when a daemon sends a byte and exits, or a path comes and goes.
 * A failed dial does not delay the first dial after APPEARED: recovery has to take
 * less than a millisecond. */
#ifndef RECONNECT_RECONNECT_H
#define RECONNECT_RECONNECT_H

#include <stdbool.h>
#include <stdint.h>

#define RECONNECT_SPACING_MS 10

#define RECONNECT_WINDOW_MS 50

/* If a daemon dies before it accepts our connection, the kernel closes it
 * sooner than this. */
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
	RECONNECT_TICK,        /* time has passed */
	RECONNECT_DIAL_FAILED, /* or an accepted client was not installed */
	RECONNECT_INTERRUPTED, /* a reload or a stop interrupted the dial */
	RECONNECT_CONNECTED,   /* to a daemon, or a client to us */
	RECONNECT_PROOF,       /* the generation is proven */
	/* the generation ended; if it was proven, step PROOF first */
	RECONNECT_LOST,
	RECONNECT_APPEARED, /* the daemon's path exists now */
	RECONNECT_RESUMED,  /* the host woke up from a suspend */
	RECONNECT_RELOADED, /* the settings have changed */
	RECONNECT_MOVED,    /* the endpoint is among them */
};

/* What the caller has to do. */
enum reconnect_action {
	RECONNECT_NOTHING,
	RECONNECT_DIAL,  /* dial, and pass in the result */
	RECONNECT_PROVE, /* old enough: call link_prove(); PROOF follows */
	RECONNECT_REPORT_SETTLED,
	RECONNECT_REPORT_LONG_OUTAGE,
};

struct reconnect_settings {
	int64_t min_ms, max_ms;  /* backoff: 1 <= min <= max */
	unsigned jitter_percent; /* 0 to 50: how much a delay may be cut */
	bool listens;            /* clients connect to us; nothing is dialled */
};

struct reconnect {
	enum reconnect_state state;
	/* The caller changes them, and then steps RELOADED or MOVED. */
	struct reconnect_settings settings;
	int64_t delay_ms;       /* the next delay of the backoff */
	uint32_t random;        /* not 0; differs between processes */
	unsigned dials;         /* dials, or clients accepted, in this outage */
	int64_t due_ms;         /* time of the next dial */
	int64_t earliest_ms;    /* due_ms is not set to an earlier time */
	int64_t connected_ms;   /* time of the last connection */
	int64_t long_outage_ms; /* when to report the outage, or NEVER */
	int64_t retry_window_ms; /* how long the next dial retries refusals */
};

/* Starts down, with a dial due at once. */
void reconnect_init(struct reconnect *machine,
    const struct reconnect_settings *settings, uint32_t random, int64_t now_ms);

/* Times are those of clock_now_ms(). After a TICK that returned an action, step
 * another one: there may be more to do. */
enum reconnect_action reconnect_step(
    struct reconnect *machine, enum reconnect_event event, int64_t now_ms);

/* When the next TICK will return an action, or NEVER. */
int64_t reconnect_wake_ms(const struct reconnect *machine);

static inline bool
reconnect_is_up(const struct reconnect *machine)
{
	return machine->state >= RECONNECT_FRESH;
}

#endif
