/* What the two copy threads do (up.c, down.c), and what they share. */
#ifndef FORWARDER_COPY_H
#define FORWARDER_COPY_H

#include "base/doorbell.h"
#include "forwarder/monitor.h"
#include "forwarder/settings.h"
#include "guest/guest.h"
#include "reconnect/link.h"
#include "status/counters.h"

struct copy {
	struct guest *guest;
	struct link *link;
	struct settings *settings;
	struct monitor *monitor;
	_Alignas(CACHE_LINE_BYTES) struct up_counters up;
	_Alignas(CACHE_LINE_BYTES) struct down_counters down;
	_Alignas(CACHE_LINE_BYTES) struct doorbell
	    *ended; /* rings when the guest is gone for good */
	atomic_bool guest_gone;
	struct up *fwd_up; /* what each thread works with */
	struct down *fwd_down;
};

/* Takes all the memory that the two threads will ever need. Returns 0, or -1
 * with errno. */
int copy_open(struct copy *copy);

/* Does that and starts the threads. They are detached: blocked on a guest that
 * sends nothing, they end with the process. Returns 0, or -1 with errno. */
int copy_start(struct copy *copy);

/* For copy_open(): NULL with errno if there is no memory. */
struct up *up_create(struct copy *copy);
void up_destroy(struct up *up);
struct down *down_create(struct copy *copy);

/* Each is run by its thread until the link stops, and gives back its memory.
 * fwd-up: guest to network; fwd-down: network to guest. */
void copy_up(struct copy *copy);
void copy_down(struct copy *copy);

/* The guest is gone for good: tells main(). Any thread. */
static inline void
copy_guest_gone(struct copy *copy)
{
	if (!atomic_exchange(&copy->guest_gone, true))
		doorbell_ring(copy->ended);
}

#endif
