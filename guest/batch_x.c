#include "guest/batch_x.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* Messages per call. They are on the stack. */
#define CALL_MESSAGES 64
/* The smallest SO_SNDBUF of a guest's socket is macOS's default
 * (net.local.dgram.maxdgram). */
#define SHORT_FRAME_BYTES 2048
/* socket_datagram_buffers() sets SO_SNDBUF to more. */
#define CALL_BYTES (64 * 1024)

struct call {
	struct message_x messages[CALL_MESSAGES];
	struct iovec parts[CALL_MESSAGES];
	unsigned count;
};

static void
call_add(struct call *call, void *bytes, size_t length)
{
	unsigned i = call->count++;

	call->parts[i] = (struct iovec){ bytes, length };
	call->messages[i] =
	    (struct message_x){ .parts = &call->parts[i], .part_count = 1 };
}

/* ---- receiving ---- */

/* Returns whether more datagrams may be queued. */
static bool
receive_one(struct batch *batch, int fd)
{
	ssize_t length =
	    recv(fd, batch_slot(batch, batch->count), BATCH_ROOM, MSG_DONTWAIT);

	if (length < 0)
		return false;
	batch_add(batch, (size_t)length);
	return true;
}

static bool
receive_many(struct batch *batch, message_x_call *receive, int fd, size_t limit)
{
	struct call call;
	ssize_t count;

	call.count = 0;
	while (call.count < CALL_MESSAGES && batch->count + call.count < limit)
		call_add(&call, batch_slot(batch, batch->count + call.count),
		    BATCH_ROOM);
	count = receive(fd, call.messages, call.count, MSG_DONTWAIT);
	for (ssize_t i = 0; i < count; i++)
		batch_add(batch, call.messages[i].length);
	return count == (ssize_t)call.count;
}

int
batch_x_receive(
    struct batch *batch, const struct batch_x *calls, int fd, size_t limit)
{
	socklen_t room = sizeof(batch->sender);
	ssize_t length;
	bool more;

	batch_clear(batch);
	length = recvfrom(fd, batch_slot(batch, 0), BATCH_ROOM, 0,
	    (struct sockaddr *)&batch->sender, &room);
	if (length < 0)
		return -1;
	batch->sender_length =
	    room < sizeof(batch->sender) ? room : sizeof(batch->sender);
	batch_add(batch, (size_t)length);
	/* Length 0 may mean that the socket was shut down and replaced. The
	 * next datagram could be its successor's, with another sender. */
	more = length > 0;
	while (more && batch->count < limit)
		more = calls->receive
			   ? receive_many(batch, calls->receive, fd, limit)
			   : receive_one(batch, fd);
	return 0;
}

/* ---- sending ---- */

/* The frames from `from` on that may go in one call: none or several. */
static void
collect(struct call *call, const struct batch *batch, size_t from)
{
	size_t bytes = 0;

	call->count = 0;
	for (size_t i = from; i < batch->count; i++) {
		const struct iovec *parcel = &batch->parcels[i];

		bytes += parcel_length(parcel);
		if (parcel_length(parcel) > SHORT_FRAME_BYTES ||
		    bytes > CALL_BYTES || call->count == CALL_MESSAGES)
			break;
		call_add(call, parcel_frame(parcel), parcel_length(parcel));
	}
}

/* Returns how many frames were sent, or -1 with errno. If many can't be sent, the
 * error is that of sending one. */
static ssize_t
send_some(
    const struct batch *batch, message_x_call *send_x, int fd, size_t from)
{
	const struct iovec *parcel = &batch->parcels[from];
	struct call call;
	ssize_t sent = 0;

	call.count = 0;
	if (send_x)
		collect(&call, batch, from);
	if (call.count > 1)
		sent = send_x(fd, call.messages, call.count, MSG_DONTWAIT);
	if (sent > 0)
		return sent;
	sent =
	    send(fd, parcel_frame(parcel), parcel_length(parcel), MSG_DONTWAIT);
	return sent < 0 ? -1 : 1;
}

int
batch_x_send(
    struct batch *batch, const struct batch_x *calls, int fd, size_t from)
{
	size_t i = from;

	while (i < batch->count) {
		ssize_t sent = send_some(batch, calls->send, fd, i);

		if (sent < 0)
			break;
		i += (size_t)sent;
	}
	return i > from ? (int)(i - from) : -1;
}

/* ---- the trial ---- */

#define TRIAL_BYTES 512
/* More of them than fit into the pair. */
#define TRIAL_BUFFER_BYTES 4096

static ssize_t
trial_send(message_x_call *send_x, int fd)
{
	uint8_t bytes[CALL_MESSAGES][TRIAL_BYTES];
	struct call call = { .count = 0 };

	for (int i = 0; i < CALL_MESSAGES; i++) {
		memset(bytes[i], i, TRIAL_BYTES);
		call_add(&call, bytes[i], TRIAL_BYTES);
	}
	return send_x(fd, call.messages, call.count, MSG_DONTWAIT);
}

/* Returns whether exactly `count` whole messages arrive, in order. */
static bool
trial_receive(message_x_call *receive, int fd, ssize_t count)
{
	uint8_t bytes[CALL_MESSAGES][TRIAL_BYTES + 1];
	uint8_t expected[TRIAL_BYTES];
	struct call call = { .count = 0 };

	for (int i = 0; i < CALL_MESSAGES; i++)
		call_add(&call, bytes[i], TRIAL_BYTES + 1);
	if (receive(fd, call.messages, call.count, MSG_DONTWAIT) != count)
		return false;
	for (int i = 0; i < count; i++) {
		memset(expected, i, TRIAL_BYTES);
		if (call.messages[i].length != TRIAL_BYTES ||
		    memcmp(bytes[i], expected, TRIAL_BYTES) != 0)
			return false;
	}
	return receive(fd, call.messages, call.count, MSG_DONTWAIT) < 0;
}

bool
batch_x_works(const struct batch_x *calls)
{
	int ends[2], room = TRIAL_BUFFER_BYTES;
	ssize_t sent;
	bool works;

	if (!calls->send || !calls->receive ||
	    socketpair(AF_UNIX, SOCK_DGRAM, 0, ends) < 0)
		return false;
	setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
	setsockopt(ends[1], SOL_SOCKET, SO_RCVBUF, &room, sizeof(room));
	sent = trial_send(calls->send, ends[0]);
	works = sent > 1 && sent < CALL_MESSAGES &&
		trial_receive(calls->receive, ends[1], sent);
	close(ends[0]);
	close(ends[1]);
	return works;
}
