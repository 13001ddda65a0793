#include "forwarder/wire.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/wait.h"

int
wire_input_create(struct wire_input *input, const struct up_counters *up,
    struct down_counters *down)
{
	uint8_t *buffer = malloc(WIRE_BUFFER_BYTES);

	*input = (struct wire_input){ .read_bytes = WIRE_READ_BYTES,
		.frames_up = { .frames = &up->frames },
		.drops = down };
	input->deframer.buffer = buffer;
	input->deframer.capacity = WIRE_BUFFER_BYTES;
	if (buffer && batch_create(&input->batch) == 0)
		return 0;
	free(buffer);
	return -1;
}

void
wire_input_destroy(struct wire_input *input)
{
	batch_destroy(&input->batch);
	free(input->deframer.buffer);
}

bool
wire_input_reset(struct wire_input *input)
{
	return deframer_reset(&input->deframer);
}

/* ---- stream ---- */

static size_t
stream_write_batch(
    int fd, struct batch *batch, size_t from, const struct config *config)
{
	return stream_write(fd, batch->parcels + from, batch->count - from,
	    config_write_bytes(config));
}

/* If only part of the frame is accepted and the rest can't be sent, no other
 * frame may follow. */
static int
stream_send(int fd, const uint8_t *frame, enum wire_rest rest)
{
	int rest_flags = rest == WIRE_REST_WAITS ? 0 : MSG_DONTWAIT;
	uint8_t message[FRAME_HEADER_BYTES + PROBE_BYTES];
	ssize_t sent, left;

	frame_put_header(message, PROBE_BYTES);
	memcpy(message + FRAME_HEADER_BYTES, frame, PROBE_BYTES);
	sent = send(fd, message, sizeof(message), MSG_DONTWAIT | MSG_NOSIGNAL);
	left = (ssize_t)sizeof(message) - sent;
	if (sent > 0 && left > 0 &&
	    send(fd, message + sent, (size_t)left, rest_flags | MSG_NOSIGNAL) !=
		left)
		shutdown(fd, rest == WIRE_REST_WAITS ? SHUT_RDWR : SHUT_WR);
	return sent > 0;
}

static int
stream_receive(struct wire_input *input, const struct loan *loan)
{
	uint8_t *room;
	size_t bytes =
	    deframer_room(&input->deframer, &room, FRAME_LIMIT_BYTES);
	ssize_t n;

	if (bytes > input->read_bytes)
		bytes = input->read_bytes;
	do
		n = stream_read(loan->fd, room, bytes, &input->frames_up);
	while (n < 0 && errno == EINTR);
	if (n <= 0)
		return (int)n;
	deframer_filled(&input->deframer, (size_t)n);
	return 1;
}

/* Moves what the deframer has counted to the counter. */
static void
take_count(counter *total, uint64_t *count)
{
	counter_add(total, *count);
	*count = 0;
}

static enum deframer_result
stream_take(struct wire_input *input, uint32_t max_frame)
{
	struct deframer *deframer = &input->deframer;
	enum deframer_result result;

	input->batch.count = 0;
	result =
	    batch_deframe(&input->batch, deframer, max_frame, BATCH_FRAMES);
	take_count(&input->drops->runt, &deframer->runt);
	take_count(&input->drops->empty, &deframer->empty);
	if (result == DEFRAMER_PROTOCOL)
		counter_add(&input->drops->oversize, 1);
	return result;
}

const struct wire wire_stream = {
	.write = stream_write_batch,
	.send = stream_send,
	.receive = stream_receive,
	.take = stream_take,
};

/* ---- datagrams ---- */

/* A write that waits for room. */
struct write_wait {
	int fd;
	int64_t stall_ms;    /* 0: no limit */
	int64_t deadline_ms; /* 0: none since the last progress */
	unsigned no_buffers; /* in a row */
};

/* Waits until it makes sense to send again after an error. Returns false if it
 * doesn't; errno is then that of write(). */
static bool
wait_for_room(struct write_wait *wait)
{
	switch (errno) {
	case EINTR:
		return true;
	case EAGAIN:
		if (wait->deadline_ms == 0)
			wait->deadline_ms =
			    wait->stall_ms > 0 ? clock_now_ms() + wait->stall_ms
					       : INT64_MAX;
		if (wait_writable(wait->fd, -1, wait->deadline_ms) == 0)
			return true;
		errno = EAGAIN;
		return false;
	case ENOBUFS:
	case ENOMEM:
		if (wait->no_buffers++ == WAIT_BUFFERS_TRIES)
			return false;
		wait_pause(WAIT_BUFFERS_MS);
		return true;
	default:
		return false;
	}
}

/* Waits in poll(), not in the call: a call that waits for room in the queue of a
 * peer that isn't connected to us is not woken by shutdown() (net/unix/af_unix.c,
 * unix_wait_for_peer), and one that has sent some frames before its timeout does
 * not report that. */
static size_t
datagrams_write(
    int fd, struct batch *batch, size_t from, const struct config *config)
{
	const struct write_wait fresh = { .fd = fd,
		.stall_ms = config->network.write_stall_ms };
	struct write_wait wait = fresh;
	size_t done = from;

	while (done < batch->count) {
		int sent = batch_send(batch, fd, done);

		if (sent > 0) {
			done += (size_t)sent;
			wait = fresh;
		} else if (!wait_for_room(&wait)) {
			break;
		}
	}
	return done - from;
}

static int
datagrams_send(int fd, const uint8_t *frame, enum wire_rest rest)
{
	(void)rest;
	if (send(fd, frame, PROBE_BYTES, MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
		return 1;
	return errno == ECONNREFUSED || errno == ENOTCONN || errno == EPIPE ? -1
									    : 0;
}

/* Unlike stream_read(), the call itself may wait: a datagram socket wakes it for
 * datagrams only (net/core/datagram.c, receiver_wake_function). */
static int
receive_batch(struct batch *batch, const struct loan *loan)
{
	int result;

	do
		result = batch_receive(batch, loan->fd, batch_limit(batch));
	while (result < 0 && errno == EINTR);
	return result;
}

static bool
may_be_end(const struct batch *batch, const struct loan *loan)
{
	return batch->count == 1 && parcel_length(batch->parcels) == 0 &&
	       atomic_load(&loan->connection->shut);
}

/* After shutdown() the socket receives 0 bytes, once all that was queued has been
 * received, and from then on: so a second call tells the end from an empty
 * datagram. */
static int
datagrams_receive(struct wire_input *input, const struct loan *loan)
{
	struct batch *batch = &input->batch;

	if (receive_batch(batch, loan) < 0)
		return -1;
	if (may_be_end(batch, loan)) {
		if (receive_batch(batch, loan) < 0)
			return -1;
		if (may_be_end(batch, loan)) {
			batch_clear(batch);
			return 0;
		}
		counter_add(&input->drops->empty, 1);
	}
	batch_expect(batch);
	return 1;
}

struct judge {
	struct down_counters *drops;
	uint32_t max_frame;
};

static bool
is_good(void *context, const struct iovec *parcel)
{
	const struct judge *judge = context;

	switch (frame_judge(parcel_length(parcel), judge->max_frame)) {
	case FRAME_OVERSIZE:
		counter_add(&judge->drops->oversize, 1);
		return false;
	case FRAME_EMPTY:
		counter_add(&judge->drops->empty, 1);
		return false;
	case FRAME_RUNT:
		counter_add(&judge->drops->runt, 1);
		return false;
	default:
		return true;
	}
}

static enum deframer_result
datagrams_take(struct wire_input *input, uint32_t max_frame)
{
	struct judge judge = { input->drops, max_frame };

	batch_filter(&input->batch, is_good, &judge);
	return DEFRAMER_MORE;
}

const struct wire wire_datagrams = {
	.write = datagrams_write,
	.send = datagrams_send,
	.receive = datagrams_receive,
	.take = datagrams_take,
};
