/* What a person reads about the connection: fwd-link reports everything that
 * happens, this decides what is a line and of which level.
 *
 *   state       UP            SETTLED      LOST unproven   LOST proven
 *   STEADY      info          -            warn, FLAPPING  warn
 *   FLAPPING    debug         info, -> UP  debug           -
 *   FLAPPING_UP -             -            info, FLAPPING  warn, -> STEADY
 *
 * FLAPPING: a generation of this outage ended without proof of life, so the next
 * one is logged as up only once it has settled.
 * Owned by fwd-link's thread. */
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
	unsigned logged;      /* what is logged once, and was (LINK_LOG_...) */
	struct link_event up; /* the last one */
	int error;            /* errno of the last failure, or 0 */
};

/* New settings: what is logged once may be logged again. */
void link_log_configure(struct link_log *log, const struct endpoint *endpoint);

void link_log_event(struct link_log *log, const struct link_event *event);

#endif
