/* The daemon of an exec: endpoint: starts it, carries out what the supervisor
 * decides, reaps it, and counts. Used by fwd-link; daemon_look() by any thread.
 *
 *   command with   the connection is
 *   {fd}           our end of a socket pair, up as soon as the daemon runs
 *   {socket}       made by dial() once the daemon listens at that path, in a
 *                  folder that no other user can enter */
#ifndef RECONNECT_DAEMON_H
#define RECONNECT_DAEMON_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/child.h"
#include "base/error.h"
#include "reconnect/dial.h"
#include "reconnect/endpoint.h"
#include "reconnect/supervisor.h"

/* At a stop: how long to wait after SIGTERM, and then after SIGKILL. Both fit into
 * the second in which forwarder itself must end. */
#define DAEMON_STOP_MS 150
#define DAEMON_KILL_MS 100

struct daemon {
	struct supervisor supervisor;
	struct child child;
	int64_t started_ms;
	int kill_error; /* errno of the last SUPERVISOR_KILL, or 0 */
	/* Where it listens; with {fd} of kind ENDPOINT_EXEC, without a path. */
	struct endpoint target;

	/* Written by fwd-link. */
	atomic_int pid;  /* 0: none runs */
	atomic_int exit; /* of the last one, as from waitpid(); -1: none */
	_Atomic uint64_t starts;
};

void daemon_init(struct daemon *daemon);

/* Starts the daemon of how->endpoint if none runs, and connects to it. dial() calls
 * this. Returns the connection, or -1 with errno and the error set. In
 * SUPERVISOR_NONE the daemon could not be started. In SUPERVISOR_STARTING it
 * doesn't listen yet: call this again when the path of the target appears, or after
 * a while. */
int daemon_dial(const struct dial *how, struct error *error);

/* Steps the supervisor, and sends the signal that it asks for. */
enum supervisor_action daemon_step(
    struct daemon *daemon, enum supervisor_event event);

/* Returns whether a daemon that was running has exited. If so, sets *end to a
 * sentence about it, and the supervisor is in SUPERVISOR_NONE. */
bool daemon_reap(struct daemon *daemon, struct error *end);

/* Ends the daemon, if one runs: waits until it has been reaped, for at most
 * DAEMON_STOP_MS and DAEMON_KILL_MS. */
void daemon_stop(struct daemon *daemon);

struct daemon_view {
	pid_t pid; /* 0: none runs */
	uint64_t starts;
	char last_exit[CHILD_END_BYTES]; /* as from child_end(), or empty */
};

void daemon_look(const struct daemon *daemon, struct daemon_view *view);

#endif
