/* fwd-down: reads the network's stream, sends its frames to the guest.
 *
 * One loan lasts as long as its generation: the thread waits for bytes nearly
 * all of that time, and link_fail() shuts the descriptor down to wake it. It
 * gets every generation and reads it to its end, so what a daemon writes before
 * it dies is not lost because fwd-up found it dead first.
 * Frames go to the guest right from the receive buffer.
 *
 * A guest that has no room may hold it back, but for no more than `stall` in any
 * one second (stall.h); then frames are dropped without waiting until one goes
 * through. So of a guest that reads nothing only the first second has a wait.
 *
 * A frame that the guest refuses for another reason is sent once more if
 * somebody answers at the guest's path; then it is dropped. */
#include "forwarder/copy.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/wait.h"
#include "forwarder/stall.h"
#include "framing/framing.h"
#include "guest/batch.h"

/* What one recv() may bring. With long frames as much as a Unix socket holds by
 * default; with others half of that, which stays in the processor's cache until
 * the guest has it. */
#define BUFFER_BYTES (256 * 1024)
#define READ_BYTES (128 * 1024)
#define LONG_FRAME_BYTES (16 * 1024)

/* So few frames out between two receptions, so often in a row. */
#define CALM_FRAMES 4
#define CALM_ENOUGH 8

/* ENOBUFS (macOS): poll() doesn't tell when there is room, so wait a moment,
 * this often, then drop. */
#define NO_BUFFERS_TRIES 10
#define NO_BUFFERS_PAUSE_MS 1

struct down {
	struct copy *copy;
	struct settings_copy settings;
	struct batch batch; /* parcels in the deframer's buffer */
	struct deframer deframer;
	size_t reading;      /* bytes a recv() */
	uint64_t out;        /* frames of the other direction so far */
	unsigned calm;       /* receptions in a row between few of those */
	struct stall stall;  /* how long the guest held it back */
	bool slow;           /* the guest is: don't wait for it */
	bool retried;        /* the present frame, refused before */
	unsigned no_buffers; /* ENOBUFS in a row */
};

static void
count_sent(struct down *down, const struct iovec *parcels, size_t count)
{
	size_t bytes = 0;

	for (size_t i = 0; i < count; i++)
		bytes += parcel_length(&parcels[i]);
	counter_add(&down->copy->down.frames, count);
	counter_add(&down->copy->down.bytes, bytes);
	down->reading =
	    bytes > count * LONG_FRAME_BYTES ? BUFFER_BYTES : READ_BYTES;
}

/* Holds the network back until the guest has room, or for a moment where nothing
 * tells of room. False: it has held it back for `stall` in this second. */
static bool
wait_for_room(struct down *down, int error)
{
	struct copy *copy = down->copy;
	int64_t began_us = clock_now_us(), ended_us;
	int64_t left_ms =
	    stall_left_us(&down->stall,
		down->settings.config.guest.stall_ms * 1000, began_us) /
	    1000;
	bool room = true;

	if (left_ms == 0)
		return false;
	if (error == EAGAIN)
		room = wait_writable(
			   copy->guest->fd, -1, began_us / 1000 + left_ms) == 0;
	else
		wait_pause(NO_BUFFERS_PAUSE_MS);
	ended_us = clock_now_us();
	stall_spend(&down->stall, ended_us - began_us, ended_us);
	return room;
}

/* ALL: this frame and those behind it. */
enum refusal {
	TRY_AGAIN,
	DROP_LARGE,
	DROP_REFUSED,
	DROP_ALL_SLOW,
	DROP_ALL_ABSENT
};

/* What to do about the frame that the socket of guest `which` refused with
 * `error`. */
static enum refusal
judge_refusal(struct down *down, uint64_t which, int error)
{
	switch (error) {
	case EINTR:
		return TRY_AGAIN;
	case ENOBUFS:
	case ENOMEM:
		if (down->no_buffers++ >= NO_BUFFERS_TRIES)
			return DROP_ALL_SLOW;
		/* fall through */
	case EAGAIN:
		return !down->slow && wait_for_room(down, error)
			   ? TRY_AGAIN
			   : DROP_ALL_SLOW;
	case EMSGSIZE: /* larger than our socket's buffer */
		return DROP_LARGE;
	default: /* ECONNREFUSED, ENOTCONN, ...: nobody is there */
		if (down->retried) /* or it is, and takes nothing */
			return DROP_REFUSED;
		down->retried = guest_gone(down->copy->guest, which, error);
		return down->retried ? TRY_AGAIN : DROP_ALL_ABSENT;
	}
}

static void
guest_is_absent(struct down *down, size_t lost)
{
	struct copy *copy = down->copy;

	counter_add(&copy->down.guest_absent, lost);
	if (copy->guest->endpoint.kind != GUEST_UNIXGRAM &&
	    !atomic_load(&copy->guest->present))
		copy_guest_gone(copy);
}

/* Drops what must be of `left` frames; returns how many. */
static size_t
drop(struct down *down, enum refusal refusal, size_t left)
{
	struct down_counters *counters = &down->copy->down;

	if (refusal == TRY_AGAIN)
		return 0;
	down->retried = false;
	switch (refusal) {
	case DROP_LARGE:
		counter_add(&counters->oversize, 1);
		return 1;
	case DROP_REFUSED:
		counter_add(&counters->guest_absent, 1);
		return 1;
	case DROP_ALL_SLOW:
		down->slow = true;
		counter_add(&counters->guest_slow, left);
		return left;
	default:
		guest_is_absent(down, left);
		return left;
	}
}

/* The guest took some of the collected frames. */
static void
note_sent(struct down *down, const struct iovec *parcels, size_t count)
{
	count_sent(down, parcels, count);
	down->slow = down->retried = false;
	down->no_buffers = 0;
}

/* Sends the collected frames; each is taken by the guest or counted. */
static void
send_frames(struct down *down)
{
	struct guest *guest = down->copy->guest;
	size_t done = 0;

	while (done < down->batch.count) {
		size_t left = down->batch.count - done;
		uint64_t which =
		    atomic_load_explicit(&guest->present, memory_order_acquire);
		int sent = 0;

		if (which != 0)
			sent = guest_send(guest, &down->batch, done);
		if (sent > 0) {
			note_sent(
			    down, down->batch.parcels + done, (size_t)sent);
			done += (size_t)sent;
		} else {
			done += drop(down,
			    which == 0 ? DROP_ALL_ABSENT
				       : judge_refusal(down, which, errno),
			    left);
		}
	}
	down->batch.count = 0;
}

/* Hands on every whole frame of the buffer. False: the stream is lost, with
 * the reason for people. */
static bool
hand_on(
    struct down *down, const struct loan *loan, char reason[LINK_REASON_BYTES])
{
	struct deframer *deframer = &down->deframer;
	uint32_t max_frame = down->settings.config.network.max_frame;
	enum deframer_result result;

	do {
		struct iovec *parcel = &down->batch.parcels[down->batch.count];

		result = deframer_next(deframer, parcel, max_frame);
		if (result == DEFRAMER_FRAME && monitor_may_consume(parcel) &&
		    monitor_consumes(down->copy->monitor, loan, parcel))
			continue;
		if (result == DEFRAMER_FRAME &&
		    ++down->batch.count < BATCH_FRAMES)
			continue;
		if (result == DEFRAMER_PROTOCOL) {
			counter_add(&down->copy->down.oversize, 1);
			snprintf(reason, LINK_REASON_BYTES,
			    "a frame of %u bytes, more than max_frame %u",
			    (unsigned)parcel_length(parcel),
			    (unsigned)max_frame);
		}
		send_frames(down);
	} while (result == DEFRAMER_FRAME);
	atomic_store_explicit(
	    &down->copy->down.runt, deframer->runt, memory_order_relaxed);
	atomic_store_explicit(
	    &down->copy->down.empty, deframer->empty, memory_order_relaxed);
	return result != DEFRAMER_PROTOCOL;
}

/* What recv() returns, once there is something.
 *
 * A recv() that sleeps on a Unix stream is woken whenever the peer takes a frame
 * of the other direction: the kernel wakes all who wait there, for bytes or for
 * room (net/unix/af_unix.c, unix_write_space). poll() is woken for bytes alone,
 * which is worth its two more calls while many frames go out. While few do, one
 * at a time, an answer is about to come and the early wakeup saves time. */
static ssize_t
receive(struct down *down, int fd, uint8_t *room, size_t bytes)
{
	int flags = down->calm < CALM_ENOUGH ? MSG_DONTWAIT : 0;

	for (;;) {
		ssize_t n = recv(fd, room, bytes, flags);

		if (n >= 0 || (errno != EAGAIN && errno != EINTR))
			return n;
		if (errno == EAGAIN)
			wait_readable(fd, -1, INT64_MAX);
	}
}

/* How many frames went out since the last time says what to sleep in. */
static void
judge_pace(struct down *down)
{
	uint64_t out = counter_read(&down->copy->up.frames);

	if (out - down->out > CALM_FRAMES)
		down->calm = 0;
	else if (down->calm < CALM_ENOUGH)
		down->calm++;
	down->out = out;
}

/* Reads one generation to its end; `reason` says what ended it. True: the peer
 * ended it, maybe inside a frame. */
static bool
read_generation(
    struct down *down, const struct loan *loan, char reason[LINK_REASON_BYTES])
{
	struct monitor *monitor = down->copy->monitor;
	bool heard = false;

	for (;;) {
		uint8_t *room;
		size_t bytes =
		    deframer_room(&down->deframer, &room, FRAME_LIMIT_BYTES);
		ssize_t n;

		monitor_reads(monitor);
		if (bytes > down->reading)
			bytes = down->reading;
		n = receive(down, loan->fd, room, bytes);
		if (n <= 0) {
			snprintf(reason, LINK_REASON_BYTES, "%s",
			    n < 0 ? strerror(errno) : "peer closed");
			return true;
		}
		monitor_heard(monitor);
		judge_pace(down);
		if (!heard)
			link_heard(down->copy->link, loan->generation);
		heard = true;
		deframer_filled(&down->deframer, (size_t)n);
		settings_refresh(down->copy->settings, &down->settings);
		if (!hand_on(down, loan, reason))
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

	while (link_borrow_next(link, &loan) == LINK_READY) {
		ended = read_generation(down, &loan, reason);
		link_fail(link, loan.generation, reason);
		link_return(&loan);
		if (deframer_reset(&down->deframer) && ended)
			counter_add(&down->copy->down.truncated, 1);
	}
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
	down->reading = READ_BYTES;
	deframer_init(&down->deframer, buffer, BUFFER_BYTES);
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
