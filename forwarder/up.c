/* fwd-up: takes frames from the guest, writes them to the network.
 *
 *      guest_receive() --> keep_good() --> link_borrow() --> wire.write()
 *           ^                                  |   ^              |
 *           |                outage older than |   | failed:      |
 *           |                `hold`: drop      |   | send the rest|
 *           +----------------------------------+   +--------------+
 *
 * It borrows the connection only while it writes. In an outage it waits with its
 * batch: the guest's frames queue in the kernel, and then the guest's sends
 * block. Nothing is dropped until the outage has lasted `hold`. */
#include "forwarder/copy.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "forwarder/wire.h"

/* A batch from the guest is at most so many full writes. */
#define BATCH_WRITES 4

struct up {
	struct copy *copy;
	struct settings_copy settings;
	struct batch batch;
};

/* How many frames to receive at once. */
static size_t
receive_limit(const struct up *up)
{
	size_t parcel = up->batch.frame_bytes + FRAME_HEADER_BYTES;
	size_t write = up->settings.config.network.write_batch / parcel;
	size_t writes = (write > 0 ? write : 1) * BATCH_WRITES;
	size_t limit = batch_limit(&up->batch);

	return limit < writes ? limit : writes;
}

static bool
is_hello(const struct iovec *parcel)
{
	return parcel_length(parcel) == 4 &&
	       memcmp(parcel_frame(parcel), "VFKT", 4) == 0;
}

/* Returns whether the frame can be forwarded, and counts it if not. */
static bool
is_good(void *context, const struct iovec *parcel)
{
	struct up *up = context;
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

static void
count_skipped(struct up *up)
{
	struct up_counters *counters = &up->copy->up;
	const struct batch *batch = &up->batch;

	counter_add(&counters->oversize, batch->skipped.oversize);
	counter_add(&counters->runt, batch->skipped.runt);
	counter_add(&counters->empty, batch->skipped.empty);
	counter_add(&counters->truncated, batch->skipped.truncated);
}

/* Removes from the batch the frames that can't be forwarded, and learns
 * addresses from the others. */
static void
keep_good(struct up *up)
{
	struct copy *copy = up->copy;
	struct batch *batch = &up->batch;

	count_skipped(up);
	if (batch->count == 0)
		return;
	batch_expect(batch);
	batch_filter(batch, is_good, up);
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

	/* the last two: a datagram socket, and the peer's was closed */
	if (error == EPIPE || error == ECONNREFUSED || error == ENOTCONN)
		reason = "peer closed";
	if (error == EAGAIN) {
		counter_add(&copy->monitor->write_stalls, 1);
		reason = "a write made no progress for write_stall";
	}
	link_fail(copy->link, generation, reason);
}

/* Handles the errno of a write. Returns how many frames were dropped; 0: the
 * rest is for the next generation. */
static size_t
handle_error(struct copy *copy, uint64_t generation, int error)
{
	switch (error) {
	case EMSGSIZE:
		counter_add(&copy->up.oversize, 1);
		return 1;
	case ENOBUFS:
	case ENOMEM:
		counter_add(&copy->up.outage, 1);
		return 1;
	default:
		report_break(copy, generation, error);
		return 0;
	}
}

/* Writes the frames of the batch, starting with number `from`, to the borrowed
 * connection and returns the loan. Returns how many frames were written or
 * dropped; the others are to be written again. */
static size_t
write_some(struct up *up, struct loan *loan, size_t from)
{
	const struct wire *wire = wire_of(loan->datagrams);
	struct batch *batch = &up->batch;
	size_t done;
	int error;

	mutex_lock(&loan->connection->writing);
	done = wire->write(loan->fd, batch, from, &up->settings.config);
	error = errno;
	mutex_unlock(&loan->connection->writing);

	counter_add(&up->copy->up.frames, done);
	counter_add(
	    &up->copy->up.bytes, copy_bytes(batch->parcels + from, done));
	if (from + done < batch->count)
		done += handle_error(up->copy, loan->generation, error);
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
	return up;
}

void
copy_up(struct copy *copy)
{
	struct up *up = copy->fwd_up;

	do {
		pulse_enter(&copy->up_pulse, PULSE_RESTING);
		if (guest_receive(copy->guest, &up->batch, receive_limit(up)) <
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
