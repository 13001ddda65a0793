/* Decides when a daemon that the forwarder has started is ended, and how. A state
 * machine without I/O or a clock. daemon.c owns the process and carries out the
 * actions; fwd-link runs both.
 *
 *   state        the daemon
 *   NONE         does not run
 *   STARTING     runs, but has no connection yet
 *   SERVING      serves a generation
 *   LEAVING      has lost its generation, and may exit by itself
 *   TERMINATING  was sent SIGTERM
 *   KILLING      was sent SIGKILL
 *
 *   state                         event            next         action
 *   NONE                          STARTED          STARTING
 *   STARTING                      CONNECTED        SERVING
 *   STARTING                      TICK, 10 s old   TERMINATING  TERMINATE
 *   SERVING                       LOST             LEAVING
 *   LEAVING                       TICK, 100 ms on  TERMINATING  TERMINATE
 *   STARTING, SERVING, LEAVING    DISMISSED        TERMINATING  TERMINATE
 *   TERMINATING                   TICK, 2 s on     KILLING      KILL
 *   all but NONE                  EXITED           NONE
 *
 * Anything else changes nothing.
 *
 * A daemon serves one generation. Whatever ends the generation, the daemon is
 * ended too, and the next dial starts another one: many daemons serve only their
 * first client (vmnet-helper, gvproxy), and a frozen one serves none.
 *
 * The machine of reconnect.h decides when to start. While a daemon is ending
 * (supervisor_is_ending()), fwd-link does not step that machine's TICK, and steps
 * LOST only once the process has been reaped. So no two daemons run at once, and
 * the loss is reported with the daemon's exit status. After the loss of a proven
 * generation the next start is due at once; the end of a daemon that has sent
 * nothing is a failed dial and backs off. */
#ifndef RECONNECT_SUPERVISOR_H
#define RECONNECT_SUPERVISOR_H

#include <stdbool.h>
#include <stdint.h>

/* Longer than any daemon takes to listen on its socket. */
#define SUPERVISOR_START_MS 10000

/* A process that exits closes its sockets a moment before it can be reaped; one
 * that cleans up first may take longer. A signal now would change its exit
 * status. */
#define SUPERVISOR_LEAVE_MS 100

/* For a daemon that cleans up after SIGTERM. */
#define SUPERVISOR_TERMINATE_MS 2000

enum supervisor_state {
	SUPERVISOR_NONE,
	SUPERVISOR_STARTING,
	SUPERVISOR_SERVING,
	SUPERVISOR_LEAVING,
	SUPERVISOR_TERMINATING,
	SUPERVISOR_KILLING,
};

enum supervisor_event {
	SUPERVISOR_TICK, /* time has passed */
	SUPERVISOR_STARTED,
	SUPERVISOR_CONNECTED,
	SUPERVISOR_LOST,      /* its generation has ended */
	SUPERVISOR_DISMISSED, /* it is not needed any more */
	SUPERVISOR_EXITED,    /* and was reaped */
};

/* What the caller has to do. */
enum supervisor_action {
	SUPERVISOR_NOTHING,
	SUPERVISOR_TERMINATE, /* send SIGTERM, and SIGCONT for one that is stopped */
	SUPERVISOR_KILL,      /* send SIGKILL */
};

/* Initialise to zero: NONE. */
struct supervisor {
	enum supervisor_state state;
	int64_t since_ms; /* when the state was entered */
};

/* Times are those of clock_now_ms(). */
enum supervisor_action supervisor_step(
    struct supervisor *supervisor, enum supervisor_event event, int64_t now_ms);

/* When the next TICK will return an action; INT64_MAX: never. */
int64_t supervisor_wake_ms(const struct supervisor *supervisor);

static inline bool
supervisor_is_ending(const struct supervisor *supervisor)
{
	return supervisor->state >= SUPERVISOR_LEAVING;
}

#endif
