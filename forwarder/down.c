/* fwd-down: receives frames from the network (wire.h) and sends them to the guest,
 * directly from the receive buffer.
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
#include "forwarder/wire.h"

#define LONG_FRAME_BYTES (16 * 1024)

struct down {
	struct copy *copy;
	struct settings_copy settings;
	struct loan loan; /* the generation that is read */
	const struct wire *wire;
	struct wire_input input;
	struct stall stall;  /* time spent waiting for the guest */
	bool slow;           /* the guest is slow: drop without waiting */
	unsigned no_buffers; /* GUEST_NO_BUFFERS in a row */
};

/* Counts frames that were sent to the guest. */
static void
count_sent(struct down *down, size_t from, size_t count)
{
	size_t bytes = copy_bytes(down->input.batch.parcels + from, count);

	counter_add(&down->copy->down.frames, count);
	counter_add(&down->copy->down.bytes, bytes);
	down->input.read_bytes = bytes > count * LONG_FRAME_BYTES
				     ? WIRE_BUFFER_BYTES
				     : WIRE_READ_BYTES;
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
	else if (down->no_buffers++ < WAIT_BUFFERS_TRIES)
		wait_pause(WAIT_BUFFERS_MS);
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
	struct batch *batch = &down->input.batch;
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
consumes(struct down *down, const struct iovec *parcel)
{
	struct copy *copy = down->copy;
	bool result;

	pulse_enter(&copy->down_pulse, PULSE_WAITING);
	result = monitor_consumes(copy->monitor, &down->loan, parcel);
	pulse_enter(&copy->down_pulse, PULSE_RUNNING);
	return result;
}

/* Whether the frame is for the guest. */
static bool
is_for_guest(void *context, const struct iovec *parcel)
{
	struct down *down = context;

	return !monitor_is_notable(parcel) || !consumes(down, parcel);
}

/* Sends every whole frame that has been received to the guest. Returns false,
 * with the reason, if the stream can't be used any more. */
static bool
pass_on(struct down *down, char reason[LINK_REASON_BYTES])
{
	struct batch *batch = &down->input.batch;
	uint32_t max_frame = down->settings.config.network.max_frame;
	enum deframer_result result;

	do {
		result = down->wire->take(&down->input, max_frame);
		if (result == DEFRAMER_PROTOCOL)
			snprintf(reason, LINK_REASON_BYTES,
			    "a frame of %u bytes, more than max_frame %u",
			    (unsigned)parcel_length(
				&batch->parcels[batch->count]),
			    (unsigned)max_frame);
		batch_filter(batch, is_for_guest, down);
		send_batch(down);
	} while (result == DEFRAMER_FRAME);
	return result != DEFRAMER_PROTOCOL;
}

/* Reads one generation to its end, and sets the reason of the end. Returns true if
 * the peer has ended it, false after a frame that is too long. */
static bool
read_generation(struct down *down, char reason[LINK_REASON_BYTES])
{
	struct copy *copy = down->copy;
	bool proven = false;

	for (;;) {
		int received;

		monitor_reading(copy->monitor);
		pulse_enter(&copy->down_pulse, PULSE_RESTING);
		received = down->wire->receive(&down->input, &down->loan);
		pulse_enter(&copy->down_pulse, PULSE_RUNNING);
		if (received <= 0) {
			snprintf(reason, LINK_REASON_BYTES, "%s",
			    received < 0 ? strerror(errno) : LINK_PEER_CLOSED);
			return true;
		}
		monitor_heard(copy->monitor);
		if (!proven)
			link_prove(copy->link, down->loan.generation);
		proven = true;
		settings_refresh(copy->settings, &down->settings);
		if (!pass_on(down, reason))
			return false;
	}
}

static void
run_generations(struct down *down)
{
	struct link *link = down->copy->link;
	char reason[LINK_REASON_BYTES];
	bool ended;

	for (;;) {
		/* RESTING: it waits for an event, the next generation */
		pulse_enter(&down->copy->down_pulse, PULSE_RESTING);
		if (link_borrow_next(link, &down->loan) != LINK_READY)
			break;
		down->wire = wire_of(down->loan.datagrams);
		ended = read_generation(down, reason);
		link_fail(link, down->loan.generation, reason);
		link_return(&down->loan);
		if (wire_input_reset(&down->input) && ended)
			counter_add(&down->copy->down.truncated, 1);
	}
	pulse_enter(&down->copy->down_pulse, PULSE_WAITING);
}

struct down *
down_create(struct copy *copy)
{
	struct down *down = calloc(1, sizeof(*down));

	if (!down ||
	    wire_input_create(&down->input, &copy->up, &copy->down) < 0) {
		free(down);
		return NULL;
	}
	down->copy = copy;
	return down;
}

void
copy_down(struct copy *copy)
{
	struct down *down = copy->fwd_down;

	run_generations(down);
	wire_input_destroy(&down->input);
	free(down);
}
