/* fwd-up: takes frames from the guest, writes them to the network.
 *
 *      guest_receive() --> keep_good() --> link_borrow() --> stream_write()
 *           ^                                  |   ^                |
 *           |                outage older than |   | write failed:  |
 *           |                `hold`: drop      |   | send the rest  |
 *           +----------------------------------+   +----------------+
 *
 * It borrows the connection only while it writes. In an outage it waits with its
 * batch: the guest's frames queue in the kernel, and then the guest's sends
 * block. Nothing is dropped until the outage has lasted `hold`. */
#include "forwarder/copy.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/stream.h"

/* Size of a batch from the guest: enough for several full writes, to save
 * system calls, but no more than stays in the processor's cache. */
#define BATCH_WRITES 4
#define BATCH_BYTES (128 * 1024)

struct up {
	struct copy *copy;
	struct settings_copy settings;
	struct batch batch;
	size_t frame_bytes; /* expected length of a frame */
};

static size_t
clamp(size_t n, size_t low, size_t high)
{
	return n < low ? low : n > high ? high : n;
}

/* How many frames to receive at once: the longer they are, the fewer, so that the
 * same memory is used again while it is in the cache. */
static size_t
batch_limit(const struct up *up)
{
	size_t parcel = up->frame_bytes + FRAME_HEADER_BYTES;
	size_t write = clamp(
	    up->settings.config.network.write_batch / parcel, 1, BATCH_FRAMES);

	return clamp(clamp(BATCH_BYTES / parcel, 1, BATCH_FRAMES), 1,
	    write * BATCH_WRITES);
}

static bool
is_hello(const struct iovec *parcel)
{
	return parcel_length(parcel) == 4 &&
	       memcmp(parcel_frame(parcel), "VFKT", 4) == 0;
}

/* Returns whether the frame can be forwarded, and counts it if not. */
static bool
is_good(struct up *up, const struct iovec *parcel)
{
	struct up_counters *counters = &up->copy->up;

	switch (frame_judge(
	    parcel_length(parcel), up->settings.config.network.max_frame)) {
	case FRAME_OVERSIZE:
		counter_add(&counters->oversize, 1);
		return false;
	case FRAME_EMPTY:
		counter_add(&counters->empty, 1);
		return false;
	case FRAME_RUNT:
		/* vfkit and krunkit send "VFKT" once at start */
		if (!is_hello(parcel))
			counter_add(&counters->runt, 1);
		return false;
	default:
		return true;
	}
}

/* Updates the expected length, which rises at once and falls slowly. */
static void
expect_length(struct up *up, size_t mean)
{
	up->frame_bytes -= up->frame_bytes / 8;
	if (mean > up->frame_bytes)
		up->frame_bytes = mean;
}

/* Removes from the batch the frames that can't be forwarded, and learns
 * addresses from the others. */
static void
keep_good(struct up *up)
{
	struct copy *copy = up->copy;
	struct batch *batch = &up->batch;
	size_t received = batch->count;

	if (received == 0)
		return;
	expect_length(up,
	    (copy_bytes(batch->parcels, received) + received - 1) / received);
	batch->count = 0;
	for (size_t i = 0; i < received; i++)
		if (is_good(up, &batch->parcels[i]))
			batch->parcels[batch->count++] = batch->parcels[i];
	if (batch->count > 0)
		guest_learn_mac(copy->guest, parcel_frame(batch->parcels));
	if (monitor_wants_guest(copy->monitor))
		monitor_learn(copy->monitor, batch->parcels, batch->count);
}

/* Reports a failed write to the link. */
static void
report_break(struct copy *copy, uint64_t generation, int error)
{
	const char *reason = strerror(error);

	if (error == EPIPE)
		reason = "peer closed";
	if (error == EAGAIN) { /* SO_SNDTIMEO expired */
		counter_add(&copy->monitor->write_stalls, 1);
		reason = "a write made no progress for write_stall";
	}
	link_fail(copy->link, generation, reason);
}

/* Writes the frames of the batch, starting with number `from`, to the borrowed
 * connection and returns the loan. Returns how many frames were written; if not
 * all, the failure has been reported and the rest is for the next
 * generation. */
static size_t
write_some(struct up *up, struct loan *loan, size_t from)
{
	struct iovec *parcels = up->batch.parcels + from;
	size_t left = up->batch.count - from, done;
	int error;

	mutex_lock(&loan->connection->writing);
	done = stream_write(
	    loan->fd, parcels, left, up->settings.config.network.write_batch);
	error = errno;
	mutex_unlock(&loan->connection->writing);

	counter_add(&up->copy->up.frames, done);
	counter_add(&up->copy->up.bytes, copy_bytes(parcels, done));
	if (done < left)
		report_break(up->copy, loan->generation, error);
	link_return(loan);
	return done;
}

/* Writes the batch to the network, on several generations if necessary, or drops
 * it after `hold`. Returns false if the link was stopped. */
static bool
deliver(struct up *up)
{
	struct copy *copy = up->copy;
	struct loan loan;
	size_t done = 0;

	while (done < up->batch.count) {
		switch (link_borrow(copy->link, &loan, LINK_WHILE_HELD)) {
		case LINK_READY:
			done += write_some(up, &loan, done);
			break;
		case LINK_WAITED:
			counter_add(&copy->up.outage, up->batch.count - done);
			return true;
		case LINK_ENDED:
			return false;
		}
	}
	return true;
}

static bool
is_stopping(struct copy *copy)
{
	return atomic_load_explicit(&copy->stopping, memory_order_relaxed);
}

struct up *
up_create(struct copy *copy)
{
	struct up *up = calloc(1, sizeof(*up));

	if (!up || batch_create(&up->batch) < 0)
		return NULL;
	up->copy = copy;
	settings_refresh(copy->settings, &up->settings);
	up->frame_bytes = 1514;
	return up;
}

void
copy_up(struct copy *copy)
{
	struct up *up = copy->fwd_up;

	do {
		pulse_enter(&copy->up_pulse, PULSE_RESTING);
		if (guest_receive(copy->guest, &up->batch, batch_limit(up)) <
		    0) {
			copy_guest_gone(copy);
			break;
		}
		pulse_enter(&copy->up_pulse, PULSE_RUNNING);
		settings_refresh(copy->settings, &up->settings);
		keep_good(up);
		copy_tap(copy, CAPTURE_UP, &up->batch);
		pulse_enter(&copy->up_pulse, PULSE_WAITING);
	} while (deliver(up) && !is_stopping(copy));
	pulse_enter(&copy->up_pulse, PULSE_WAITING);
	batch_destroy(&up->batch);
	free(up);
}
