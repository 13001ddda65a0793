/* Logs the events of the network connection: decides which ones are logged, and at
 * which level. Used by fwd-link only.
 *
 *   state        event          level   next state
 *   STEADY       UP             info
 *   STEADY       LOST unproven  warn    FLAPPING
 *   FLAPPING     UP             debug
 *   FLAPPING     SETTLED        info    FLAPPING_UP
 *   FLAPPING     LOST unproven  debug
 *   FLAPPING_UP  LOST unproven  info    FLAPPING
 *   any          LOST proven    warn    STEADY
 *
 * LOST is unproven if the peer had sent nothing. After such a loss (FLAPPING) the
 * next connection is logged as up only once it has settled (FLAPPING_UP). */
#ifndef FORWARDER_LINK_LOG_H
#define FORWARDER_LINK_LOG_H

#include "reconnect/fwd_link.h"

enum link_log_state {
	LINK_LOG_STEADY,
	LINK_LOG_FLAPPING,
	LINK_LOG_FLAPPING_UP,
};

struct link_log {
	enum link_log_state state;
	struct endpoint endpoint;
	unsigned logged_once; /* flags of link_log.c: already logged */
	struct link_event up; /* the last UP */
	int error;            /* errno of the last failure, or 0 */
};

/* Sets the endpoint. Call it with new settings: events that are logged once may
 * then be logged again. */
void link_log_configure(struct link_log *log, const struct endpoint *endpoint);

void link_log_event(struct link_log *log, const struct link_event *event);

#endif
