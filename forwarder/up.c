/* fwd-up: takes frames from the guest, writes them to the network.
 *
 *      guest_receive() --> keep_good() --> link_borrow() --> wire.write()
 *           ^                                  |   ^              |
 *           |                outage older than |   | failed:      |
 *           |                `hold`: keep them |   | send the rest|
 *           +----------------------------------+   +--------------+
 *
 * It borrows the connection only while it writes. In an outage it waits with its
 * batch: the guest's frames queue in the kernel, and then the guest's sends
 * block. Nothing is dropped until the outage has lasted `hold`. After that, the
 * newest frames are kept (keep.h), and the others dropped:
 *
 *      kept frames   fwd-up waits for     then
 *      none          the guest            it writes the batch
 *      some          the guest, the link  it adds the batch to the kept frames,
 *                                         and writes these
 *
 * So a TCP connection of the guest goes on when the link is up, and not only when
 * its next retransmission is due. */
#include "forwarder/copy.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "forwarder/keep.h"
#include "forwarder/wire.h"

/* A batch from the guest is at most so many full writes. */
#define BATCH_WRITES 4

/* The same while frames are kept, to use less memory: a slot takes a page. */
#define KEEPING_FRAMES 64

struct up {
	struct copy *copy;
	struct settings_copy settings;
	struct batch batch;
	struct keep keep;
};

_Static_assert(KEEP_FRAMES <= BATCH_FRAMES, "kept frames fit into a batch");

/* How many frames to receive at once. */
static size_t
receive_limit(const struct up *up)
{
	size_t parcel = up->batch.frame_bytes + FRAME_HEADER_BYTES;
	size_t write = config_write_bytes(&up->settings.config) / parcel;
	size_t writes = (write > 0 ? write : 1) * BATCH_WRITES;
	size_t limit = batch_limit(&up->batch);

	if (up->keep.count > 0 && limit > KEEPING_FRAMES)
		limit = KEEPING_FRAMES;
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
		reason = LINK_PEER_CLOSED;
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

/* Counts kept frames that were dropped. */
static void
count_kept(struct up *up, size_t dropped)
{
	counter_add(&up->copy->up.outage, dropped);
	atomic_store_explicit(
	    &up->copy->up.kept, up->keep.count, memory_order_relaxed);
}

/* Keeps the frames of the batch from number `from` on. Drops what is too old or
 * too much by now. */
static void
keep_rest(struct up *up, size_t from)
{
	int64_t now_ms = clock_now_ms();
	size_t dropped;

	settings_refresh(up->copy->settings, &up->settings);
	dropped = keep_limit(&up->keep, up->settings.config.network.keep);
	dropped += keep_expire(&up->keep, now_ms);
	for (size_t i = from; i < up->batch.count; i++)
		dropped += keep_add(&up->keep, &up->batch.parcels[i], now_ms);
	count_kept(up, dropped);
}

/* Writes the batch to the network, on several generations if necessary. What is
 * left after `hold` is kept. If frames are kept already, the batch joins them and
 * they are written. Returns false if the link was stopped. */
static bool
deliver(struct up *up)
{
	enum link_answer answer = LINK_READY;
	bool kept = up->keep.count > 0;
	struct loan loan;
	size_t done = 0;

	if (kept) {
		keep_rest(up, 0);
		up->batch.count = keep_parcels(&up->keep, up->batch.parcels);
	}
	while (done < up->batch.count && answer == LINK_READY) {
		answer = link_borrow(up->copy->link, &loan, LINK_WHILE_HELD);
		if (answer == LINK_READY)
			done += write_some(up, &loan, done);
	}
	if (kept) {
		keep_remove(&up->keep, done);
		count_kept(up, 0);
	} else if (answer != LINK_READY) {
		keep_rest(up, done);
		if (up->keep.count > 0)
			batch_release(&up->batch);
	}
	return answer != LINK_ENDED;
}

/* While frames are kept: waits for the guest, or until the kept frames must be
 * looked at, because of the link or new settings. Returns whether it is the
 * guest. Looks at the settings only after link_watch(), to miss no reload. */
static bool
await_guest(struct up *up)
{
	struct copy *copy = up->copy;
	int link_fd = link_watch(copy->link);

	return link_fd >= 0 &&
	       !settings_refresh(copy->settings, &up->settings) &&
	       guest_await(copy->guest, link_fd);
}

/* Receives frames of the guest. While frames are kept, the batch may be empty.
 * Returns as guest_receive(). */
static int
receive(struct up *up)
{
	if (up->keep.count == 0 || await_guest(up))
		return guest_receive(
		    up->copy->guest, &up->batch, receive_limit(up));
	batch_clear(&up->batch);
	return 0;
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

	if (!up || batch_create(&up->batch) < 0 || keep_create(&up->keep) < 0)
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
		if (receive(up) < 0) {
			count_skipped(up);
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
	count_kept(up, keep_limit(&up->keep, 0));
	keep_destroy(&up->keep);
	batch_destroy(&up->batch);
	free(up);
}
