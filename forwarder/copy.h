/* The two copy threads (up.c, down.c), and the data they share. */
#ifndef FORWARDER_COPY_H
#define FORWARDER_COPY_H

#include <pthread.h>

#include "base/pulse.h"
#include "base/wait.h"
#include "forwarder/monitor.h"
#include "forwarder/settings.h"
#include "guest/guest.h"
#include "reconnect/link.h"
#include "status/capture.h"
#include "status/counters.h"

struct copy {
	struct guest *guest;
	struct link *link;
	struct settings *settings;
	struct monitor *monitor;
	struct capture *capture;
	_Alignas(CACHE_LINE_BYTES) struct up_counters up;
	struct pulse up_pulse; /* RESTING: waits for the guest to send */
	_Alignas(CACHE_LINE_BYTES) struct down_counters down;
	struct pulse down_pulse; /* RESTING: waits for the network to send */
	/* rung once, when the guest is gone for good */
	_Alignas(CACHE_LINE_BYTES) struct doorbell *ended;
	atomic_bool guest_gone;
	atomic_bool stopping; /* fwd-up receives nothing more */
	struct up *fwd_up;    /* used by one thread each */
	struct down *fwd_down;
	pthread_t up_thread, down_thread;
	struct doorbell up_ended, down_ended; /* rung last of all */
};

/* Starts both threads. Returns 0, or -1 with errno. */
int copy_start(struct copy *copy);

/* The two halves of a stop. Call copy_stop_up() before link_stop(): fwd-up
 * writes the batch it has and receives no more; later frames stay queued in the
 * guest's socket, for the next forwarder. Call copy_stop_down() right after
 * link_stop(): fwd-down sends what it has read, and fwd-up ends if an outage had
 * prevented that. Each waits for at most COPY_STOP_MS; a thread that is still
 * blocked ends with the process. */
#define COPY_STOP_MS 100
void copy_stop_up(struct copy *copy);
void copy_stop_down(struct copy *copy);

/* The parts of copy_start(). copy_open() allocates all memory of the threads.
 * copy_up() and copy_down() are run by the threads. They free their memory and
 * return once the link is stopped; copy_up() notices that only when it has or
 * keeps a frame to write. copy_up() also returns when the guest is gone, and on
 * copy_stop_up(). */
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

/* Passes the frames of a batch, which have just arrived, to a capture, if there
 * is one. */
static inline void
copy_tap(const struct copy *copy, enum capture_direction direction,
    const struct batch *batch)
{
	if (capture_is_on(copy->capture) && batch->count > 0)
		capture_frames(copy->capture, direction, batch->parcels,
		    batch->count, FRAME_HEADER_BYTES);
}

/* Reports to main() that the guest is gone for good. Any thread. */
static inline void
copy_guest_gone(struct copy *copy)
{
	if (!atomic_exchange(&copy->guest_gone, true))
		doorbell_ring(copy->ended);
}

#endif
