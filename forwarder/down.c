/* fwd-down: reads frames from the network and sends them to the guest, directly
 * from the receive buffer.
 *
 * It borrows each generation once and reads it to its end, even if fwd-up has
 * already reported a failure. So data that a daemon wrote before it died isn't
 * lost. link_fail() wakes fwd-down by shutting the descriptor down.
 *
 * If the guest has no room, fwd-down waits for at most `stall` in any second
 * (stall.h). Then it drops frames without waiting, until the guest takes one.
 * So a guest that reads nothing is waited for only in the first second. */
#include "forwarder/copy.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/wait.h"
#include "forwarder/stall.h"

/* Maximum bytes per recv(): BUFFER_BYTES for long frames, more than a Unix
 * socket holds by default; READ_BYTES for others, which stay in the processor's
 * cache until they are sent to the guest. */
#define BUFFER_BYTES (256 * 1024)
#define READ_BYTES (128 * 1024)
#define LONG_FRAME_BYTES (16 * 1024)

/* The other direction is calm if at most CALM_FRAMES frames went up between two
 * recv() calls, CALM_ENOUGH times in a row. */
#define CALM_FRAMES 4
#define CALM_ENOUGH 8

/* After ENOBUFS (macOS) poll() doesn't report when there is room. Try again
 * this many times, each after a pause, then drop. */
#define NO_BUFFERS_TRIES 10
#define NO_BUFFERS_PAUSE_MS 1

struct down {
	struct copy *copy;
	struct settings_copy settings;
	struct batch batch; /* parcels in the deframer's buffer */
	struct deframer deframer;
	size_t read_bytes;   /* maximum size of the next recv() */
	uint64_t frames_up;  /* sent by fwd-up until the last recv() */
	unsigned calm;       /* recv() calls in a row with few frames up */
	struct stall stall;  /* time spent waiting for the guest */
	bool slow;           /* the guest is slow: drop without waiting */
	unsigned no_buffers; /* GUEST_NO_BUFFERS in a row */
};

/* Counts frames that were sent to the guest. */
static void
count_sent(struct down *down, size_t from, size_t count)
{
	size_t bytes = copy_bytes(down->batch.parcels + from, count);

	counter_add(&down->copy->down.frames, count);
	counter_add(&down->copy->down.bytes, bytes);
	down->read_bytes =
	    bytes > count * LONG_FRAME_BYTES ? BUFFER_BYTES : READ_BYTES;
	down->slow = false;
	down->no_buffers = 0;
}

/* Waits until the guest has room, or for a moment after GUEST_NO_BUFFERS. Returns
 * false if the frames must be dropped instead. */
static bool
wait_for_room(struct down *down, enum guest_refusal refusal)
{
	int64_t limit_us = down->settings.config.guest.stall_ms * 1000;
	int64_t began_us = clock_now_us(), ended_us, left_ms;
	bool room = true;

	left_ms = stall_left_us(&down->stall, limit_us, began_us) / 1000;
	if (down->slow || left_ms == 0)
		return false;
	pulse_enter(&down->copy->down_pulse, PULSE_WAITING);
	if (refusal == GUEST_FULL)
		room = guest_await_room(
		    down->copy->guest, began_us / 1000 + left_ms);
	else if (down->no_buffers++ < NO_BUFFERS_TRIES)
		wait_pause(NO_BUFFERS_PAUSE_MS);
	else
		room = false;
	pulse_enter(&down->copy->down_pulse, PULSE_RUNNING);
	ended_us = clock_now_us();
	stall_spend(&down->stall, ended_us - began_us, ended_us);
	return room;
}

/* Handles a refusal of the first of `left` frames: waits for room, or drops frames
 * and counts them. Returns how many were dropped; 0: try again. */
static size_t
handle_refusal(struct down *down, enum guest_refusal refusal, size_t left)
{
	struct down_counters *counters = &down->copy->down;

	switch (refusal) {
	case GUEST_FULL:
	case GUEST_NO_BUFFERS:
		if (wait_for_room(down, refusal))
			return 0;
		down->slow = true;
		counter_add(&counters->guest_slow, left);
		return left;
	case GUEST_TOO_LARGE:
		counter_add(&counters->oversize, 1);
		return 1;
	case GUEST_REFUSED:
		counter_add(&counters->guest_absent, 1);
		return 1;
	case GUEST_GONE:
		copy_guest_gone(down->copy);
		break;
	case GUEST_ABSENT:
		break;
	}
	counter_add(&counters->guest_absent, left);
	return left;
}

/* Sends the batch. Each frame is sent or counted as dropped. */
static void
send_batch(struct down *down)
{
	struct batch *batch = &down->batch;
	enum guest_refusal refusal;
	size_t done = 0;

	copy_tap(down->copy, CAPTURE_DOWN, batch);
	while (done < batch->count) {
		size_t sent =
		    guest_send(down->copy->guest, batch, done, &refusal);

		if (sent > 0)
			count_sent(down, done, sent);
		else
			sent =
			    handle_refusal(down, refusal, batch->count - done);
		done += sent;
	}
	batch->count = 0;
}

/* An answer to a PING may block, like any write. */
static bool
consumes(struct copy *copy, const struct loan *loan, const struct iovec *parcel)
{
	bool result;

	pulse_enter(&copy->down_pulse, PULSE_WAITING);
	result = monitor_consumes(copy->monitor, loan, parcel);
	pulse_enter(&copy->down_pulse, PULSE_RUNNING);
	return result;
}

/* Sends every whole frame in the buffer to the guest. Returns false, with the
 * reason, if the stream can't be used any more. */
static bool
pass_on(
    struct down *down, const struct loan *loan, char reason[LINK_REASON_BYTES])
{
	struct copy *copy = down->copy;
	struct deframer *deframer = &down->deframer;
	uint32_t max_frame = down->settings.config.network.max_frame;
	enum deframer_result result;

	do {
		struct iovec *parcel = &down->batch.parcels[down->batch.count];

		result = deframer_next(deframer, parcel, max_frame);
		if (result == DEFRAMER_FRAME && monitor_is_notable(parcel) &&
		    consumes(copy, loan, parcel))
			continue;
		if (result == DEFRAMER_FRAME &&
		    ++down->batch.count < BATCH_FRAMES)
			continue;
		if (result == DEFRAMER_PROTOCOL) {
			counter_add(&copy->down.oversize, 1);
			snprintf(reason, LINK_REASON_BYTES,
			    "a frame of %u bytes, more than max_frame %u",
			    (unsigned)parcel_length(parcel),
			    (unsigned)max_frame);
		}
		send_batch(down);
	} while (result == DEFRAMER_FRAME);
	atomic_store_explicit(
	    &copy->down.runt, deframer->runt, memory_order_relaxed);
	atomic_store_explicit(
	    &copy->down.empty, deframer->empty, memory_order_relaxed);
	return result != DEFRAMER_PROTOCOL;
}

/* Waits for data and returns what recv() returns.
 *
 * A recv() that sleeps on a Unix stream is also woken each time the peer reads
 * data of the other direction: the kernel wakes readers and writers alike
 * (net/unix/af_unix.c, unix_write_space). poll() is woken by data only. While
 * many frames go up, that saves more than its two additional calls cost. While
 * few do, the peer usually answers the frame that it has just read, and the
 * early wakeup saves time. */
static ssize_t
receive(struct down *down, int fd, uint8_t *room, size_t bytes)
{
	int flags = down->calm < CALM_ENOUGH ? MSG_DONTWAIT : 0;

	for (;;) {
		ssize_t n = recv(fd, room, bytes, flags);

		if (n >= 0 || (errno != EAGAIN && errno != EINTR))
			return n;
		wait_readable(fd, -1, INT64_MAX);
	}
}

/* Counts the recv() calls in a row with few frames up between them. */
static void
count_calm(struct down *down)
{
	uint64_t frames_up = counter_read(&down->copy->up.frames);

	if (frames_up - down->frames_up > CALM_FRAMES)
		down->calm = 0;
	else if (down->calm < CALM_ENOUGH)
		down->calm++;
	down->frames_up = frames_up;
}

/* Reads one generation to its end, and sets the reason of the end. Returns true if
 * recv() reported the end, false after a frame that is too long. */
static bool
read_generation(
    struct down *down, const struct loan *loan, char reason[LINK_REASON_BYTES])
{
	struct monitor *monitor = down->copy->monitor;
	bool proven = false;

	for (;;) {
		uint8_t *room;
		size_t bytes =
		    deframer_room(&down->deframer, &room, FRAME_LIMIT_BYTES);
		ssize_t n;

		monitor_reading(monitor);
		if (bytes > down->read_bytes)
			bytes = down->read_bytes;
		pulse_enter(&down->copy->down_pulse, PULSE_RESTING);
		n = receive(down, loan->fd, room, bytes);
		pulse_enter(&down->copy->down_pulse, PULSE_RUNNING);
		if (n <= 0) {
			snprintf(reason, LINK_REASON_BYTES, "%s",
			    n < 0 ? strerror(errno) : "peer closed");
			return true;
		}
		monitor_heard(monitor);
		count_calm(down);
		if (!proven)
			link_prove(down->copy->link, loan->generation);
		proven = true;
		deframer_filled(&down->deframer, (size_t)n);
		settings_refresh(down->copy->settings, &down->settings);
		if (!pass_on(down, loan, reason))
			return false;
	}
}

static void
run_generations(struct down *down)
{
	struct link *link = down->copy->link;
	char reason[LINK_REASON_BYTES];
	struct loan loan;
	bool ended;

	for (;;) {
		/* RESTING: it waits for an event, the next generation */
		pulse_enter(&down->copy->down_pulse, PULSE_RESTING);
		if (link_borrow_next(link, &loan) != LINK_READY)
			break;
		ended = read_generation(down, &loan, reason);
		link_fail(link, loan.generation, reason);
		link_return(&loan);
		if (deframer_reset(&down->deframer) && ended)
			counter_add(&down->copy->down.truncated, 1);
	}
	pulse_enter(&down->copy->down_pulse, PULSE_WAITING);
}

struct down *
down_create(struct copy *copy)
{
	struct down *down = calloc(1, sizeof(*down));
	uint8_t *buffer = malloc(BUFFER_BYTES);

	if (!down || !buffer || batch_create(&down->batch) < 0) {
		free(buffer);
		free(down);
		return NULL;
	}
	down->copy = copy;
	down->read_bytes = READ_BYTES;
	down->deframer.buffer = buffer;
	down->deframer.capacity = BUFFER_BYTES;
	return down;
}

void
copy_down(struct copy *copy)
{
	struct down *down = copy->fwd_down;

	run_generations(down);
	batch_destroy(&down->batch);
	free(down->deframer.buffer);
	free(down);
}
