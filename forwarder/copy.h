/* The two copy threads (up.c, down.c), and the data they share. */
#ifndef FORWARDER_COPY_H
#define FORWARDER_COPY_H

#include "base/wait.h"
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
	/* rung once, when the guest is gone for good */
	_Alignas(CACHE_LINE_BYTES) struct doorbell *ended;
	atomic_bool guest_gone;
	struct up *fwd_up; /* used by one thread each */
	struct down *fwd_down;
};

/* Starts both threads detached, because a thread may be blocked on an idle guest
 * until the process exits. Returns 0, or -1 with errno. */
int copy_start(struct copy *copy);

/* The parts of copy_start(). copy_open() allocates all memory of the threads.
 * copy_up() and copy_down() are run by the threads. They free their memory and
 * return after the link has stopped, copy_up() not before it has a frame to
 * send. copy_up() also returns when the guest is gone. */
int copy_open(struct copy *copy);
void copy_up(struct copy *copy);   /* fwd-up: guest to network */
void copy_down(struct copy *copy); /* fwd-down: network to guest */

/* Called by copy_open(). Return NULL with errno if out of memory. The process
 * then exits, so no function frees what the other call has allocated. */
struct up *up_create(struct copy *copy);
struct down *down_create(struct copy *copy);

/* Returns the sum of the frames' lengths. */
static inline size_t
copy_bytes(const struct iovec *parcels, size_t count)
{
	size_t bytes = 0;

	for (size_t i = 0; i < count; i++)
		bytes += parcel_length(&parcels[i]);
	return bytes;
}

/* Reports to main() that the guest is gone for good. Any thread. */
static inline void
copy_guest_gone(struct copy *copy)
{
	if (!atomic_exchange(&copy->guest_gone, true))
		doorbell_ring(copy->ended);
}

#endif
