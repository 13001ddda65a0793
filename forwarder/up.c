/* fwd-up: takes frames from the guest, writes them to the network.
 *
 *      guest_receive() --> keep good --> borrow the link --> stream_write()
 *           ^                              |   ^                |
 *           |            outage older than |   | broke off:     |
 *           |            `hold`: drop      |   | the rest again |
 *           +------------------------------+   +----------------+
 *
 * It holds a loan only while it writes. In an outage it waits with its batch in
 * hand, so the guest's frames queue in the kernel and then the guest is held
 * back; nothing is lost until `hold` is over. */
#include "forwarder/copy.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/stream.h"
#include "base/wait.h"
#include "guest/batch.h"

/* How much is taken from the guest at once: a few full writes' worth, so that
 * system calls are few, and few enough to stay in the processor's cache. */
#define APPETITE_WRITES 4
#define APPETITE_BYTES (128 * 1024)

/* Between two tries to receive while the kernel is out of memory. */
#define SHORTAGE_PAUSE_MS 10

struct up {
	struct copy *copy;
	struct settings_copy settings;
	struct batch batch;
	size_t bytes;   /* of the frames to deliver */
	size_t typical; /* bytes of a frame lately, leaning to the large */
};

static size_t
clamp(size_t n, size_t low, size_t high)
{
	return n < low ? low : n > high ? high : n;
}

/* How many slots to offer: with long frames few, so that the same memory is
 * used again while it is in the cache. */
static size_t
appetite(const struct up *up)
{
	size_t parcel = up->typical + FRAME_HEADER_BYTES;
	size_t write = clamp(
	    up->settings.config.network.write_batch / parcel, 1, BATCH_FRAMES);

	return clamp(clamp(APPETITE_BYTES / parcel, 1, BATCH_FRAMES), 1,
	    write * APPETITE_WRITES);
}

/* Follows growing frames at once and shrinking ones slowly. */
static void
adapt(struct up *up, size_t count, size_t bytes)
{
	size_t mean = (bytes + count - 1) / count;
	size_t faded = up->typical - up->typical / 8;

	up->typical = mean > faded ? mean : faded;
}

static bool
is_hello(const struct iovec *parcel)
{
	return parcel_length(parcel) == 4 &&
	       memcmp(parcel_frame(parcel), "VFKT", 4) == 0;
}

/* Counts a frame that can't be forwarded; true if it can. */
static bool
is_good(struct up *up, const struct iovec *parcel, uint32_t max_frame)
{
	struct up_counters *counters = &up->copy->up;

	switch (frame_judge(parcel_length(parcel), max_frame)) {
	case FRAME_OVERSIZE:
		counter_add(&counters->oversize, 1);
		return false;
	case FRAME_EMPTY:
		counter_add(&counters->empty, 1);
		return false;
	case FRAME_RUNT:
		if (!is_hello(parcel)) /* vfkit and krunkit say it once */
			counter_add(&counters->runt, 1);
		return false;
	default:
		return true;
	}
}

/* Leaves the good frames in the batch, and learns from them. */
static void
keep_good(struct up *up)
{
	struct copy *copy = up->copy;
	struct batch *batch = &up->batch;
	uint32_t max_frame = up->settings.config.network.max_frame;
	size_t received = batch->count, bytes = 0;

	batch->count = up->bytes = 0;
	for (size_t i = 0; i < received; i++) {
		const struct iovec parcel = batch->parcels[i];

		bytes += parcel_length(&parcel);
		if (!is_good(up, &parcel, max_frame))
			continue;
		batch->parcels[batch->count++] = parcel;
		up->bytes += parcel_length(&parcel);
	}
	if (batch->count > 0)
		guest_learn_mac(copy->guest, parcel_frame(batch->parcels));
	if (atomic_load_explicit(&copy->monitor->wants, memory_order_relaxed))
		monitor_from_guest(copy->monitor, batch->parcels, batch->count);
	if (received > 0)
		adapt(up, received, bytes);
}

static void
count_written(struct up *up, size_t from, size_t count)
{
	size_t bytes = count == up->batch.count ? up->bytes : 0;

	for (size_t i = from; i < from + count && count < up->batch.count; i++)
		bytes += parcel_length(&up->batch.parcels[i]);
	counter_add(&up->copy->up.frames, count);
	counter_add(&up->copy->up.bytes, bytes);
}

/* The generation broke under a write. */
static void
report(struct copy *copy, uint64_t generation, int error)
{
	const char *reason = strerror(error);

	if (error == EPIPE)
		reason = "peer closed";
	if (error == EAGAIN) { /* SO_SNDTIMEO passed, no byte went */
		counter_add(&copy->monitor->write_stalls, 1);
		reason = "a write made no progress for write_stall";
	}
	link_fail(copy->link, generation, reason);
}

/* Writes what is left of the batch to the present generation; a break is
 * reported and leaves the rest for the next one. Returns how many went. */
static size_t
write_some(struct up *up, struct loan *loan, size_t from)
{
	struct copy *copy = up->copy;
	size_t left = up->batch.count - from, done;
	int error;

	mutex_lock(&loan->connection->writing);
	done = stream_write(loan->fd, up->batch.parcels + from, left,
	    up->settings.config.network.write_batch);
	error = errno;
	mutex_unlock(&loan->connection->writing);

	count_written(up, from, done);
	if (done < left)
		report(copy, loan->generation, error);
	link_return(loan);
	return done;
}

/* Gets the batch to the network, over as many generations as it takes.
 * False: the link was stopped. */
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

/* What a socket that was shut down goes on to say; a guest may say it, too. */
static bool
is_empty(const struct batch *batch)
{
	return batch->count > 0 &&
	       parcel_length(&batch->parcels[batch->count - 1]) == 0;
}

/* Waits until receiving may succeed again. False: it never will. */
static bool
survive(const struct guest *guest, int error)
{
	switch (error) {
	case EINTR:
	case ECONNRESET: /* the guest connected to somebody else, said once */
		return true;
	case EAGAIN: /* whoever shares the descriptor made it so */
		if (wait_readable(guest->fd, -1, INT64_MAX) == 0)
			return !guest_is_shut(guest);
		break;
	case ENOBUFS:
	case ENOMEM:
		break;
	default:
		log_line(LOG_LEVEL_ERROR, LOG_GUEST,
		    "can't receive error=\"%s\"", strerror(error));
		return false;
	}
	wait_pause(SHORTAGE_PAUSE_MS);
	return true;
}

/* False: the guest's side broke, for good. */
static bool
take(struct up *up)
{
	struct guest *guest = up->copy->guest;

	if (guest_receive(guest, &up->batch, appetite(up)) < 0)
		return survive(guest, errno);
	if (is_empty(&up->batch) && guest_is_shut(guest))
		return false;
	guest_heard(guest, &up->batch.sender, up->batch.sender_length);
	return true;
}

struct up *
up_create(struct copy *copy)
{
	struct up *up = calloc(1, sizeof(*up));

	if (!up)
		return NULL;
	up->copy = copy;
	settings_refresh(copy->settings, &up->settings);
	up->typical = 1514;
	if (batch_create(&up->batch) == 0)
		return up;
	free(up);
	return NULL;
}

void
up_destroy(struct up *up)
{
	batch_destroy(&up->batch);
	free(up);
}

void
copy_up(struct copy *copy)
{
	struct up *up = copy->fwd_up;

	for (;;) {
		if (!take(up)) {
			copy_guest_gone(copy);
			break;
		}
		settings_refresh(copy->settings, &up->settings);
		keep_good(up);
		if (!deliver(up))
			break;
	}
	up_destroy(up);
}
