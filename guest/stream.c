#include "guest/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/socket.h"
#include "base/stream.h"
#include "guest/guest.h"

#define LOCKED NEEDS(guest->stream.lock)

/* Several of the longest frames. One read is smaller: it stays in the processor's
 * cache until it is written to the network. */
#define BUFFER_BYTES (256 * 1024)
#define READ_BYTES (128 * 1024)
#define REST_BYTES (FRAME_HEADER_BYTES + FRAME_LIMIT_BYTES)
/* The default of [network] write_batch, for the same reason: the data of one call
 * fit into one socket buffer, so a simple reader finds whole frames. */
#define WRITE_BYTES (32 * 1024)
/* The pause after accept() failed, for example without descriptors. The client
 * still waits, so without it poll() would return at once. */
#define ACCEPT_PAUSE_MS 1000
/* Of the name of a client, with its final zero. */
#define NAME_BYTES 32

/* A client that comes and goes can cause these messages. */
static struct log_limit changes = { .burst = 20 };
static struct log_limit warnings = { .burst = 5 };

static bool
is_given(const struct guest *guest)
{
	return guest->endpoint.kind == GUEST_FD;
}

/* Puts a copy of `fd` at guest.fd. dup2() clears FD_CLOEXEC. */
static void
put(struct guest *guest, int fd) LOCKED
{
	while (dup2(fd, guest->fd) < 0 && errno == EINTR)
		;
	fcntl(guest->fd, F_SETFD, FD_CLOEXEC);
}

/* Whether the connection is usable after this errno of a call. */
static bool
is_retryable(int error)
{
	return error == EAGAIN || error == EINTR || error == ENOBUFS ||
	       error == ENOMEM;
}

/* client: 0 if it is in another PID namespace. */
static void
name_client(pid_t client, char *text, size_t room)
{
	if (client > 0)
		snprintf(text, room, "pid:%d", (int)client);
	else
		snprintf(text, room, "client");
}

static void
drop_rest(struct stream *stream) NEEDS(stream->lock)
{
	stream->rest_start = stream->rest_end = 0;
}

/* ---- main(): clients ---- */

static void
attach(struct guest *guest, int fd, pid_t client) LOCKED
{
	struct stream *stream = &guest->stream;

	put(guest, fd);
	stream->client = client;
	atomic_store(&stream->state, STREAM_CLIENT);
	atomic_store(&guest->present, ++stream->clients);
	if (stream->clients > 1 && guest->on_replaced)
		guest->on_replaced(guest->context);
	doorbell_ring(&stream->arrived);
}

static void
accept_client(struct guest *guest)
{
	struct stream *stream = &guest->stream;
	int fd = accept(stream->listener, NULL, NULL);
	char name[NAME_BYTES];
	pid_t client;

	if (fd < 0 &&
	    (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED))
		return;
	if (fd < 0) {
		log_limited(&warnings, LOG_LEVEL_WARN, LOG_GUEST,
		    "can't accept a client error=\"%s\"", strerror(errno));
		stream->accept_ms = clock_now_ms() + ACCEPT_PAUSE_MS;
		return;
	}
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	socket_stream_options(fd, AF_UNIX);
	client = peer_process(fd);
	name_client(client, name, sizeof(name));
	log_limited(
	    &changes, LOG_LEVEL_INFO, LOG_GUEST, "connected peer=%s", name);
	mutex_lock(&guest->stream.lock);
	attach(guest, fd, client);
	mutex_unlock(&guest->stream.lock);
	close(fd);
}

/* ---- fwd-up: frames from the guest ---- */

static void
detach(struct guest *guest) LOCKED
{
	struct stream *stream = &guest->stream;

	atomic_store(&guest->present, 0);
	drop_rest(&guest->stream);
	shutdown(guest->fd, SHUT_RDWR);
	if (is_given(guest)) {
		atomic_store(&stream->state, STREAM_GONE);
		return;
	}
	put(guest, stream->arrived.fds[0]);
	atomic_store(&stream->state, STREAM_NO_CLIENT);
	doorbell_ring(&stream->bell);
}

/* Ends the connection. Returns 0, or -1 with errno ESHUTDOWN if there can't be
 * another one. */
static int
end_client(struct guest *guest, const char *reason)
{
	char name[NAME_BYTES];

	mutex_lock(&guest->stream.lock);
	name_client(guest->stream.client, name, sizeof(name));
	detach(guest);
	mutex_unlock(&guest->stream.lock);
	errno = ESHUTDOWN;
	if (is_given(guest))
		return -1;
	log_limited(&changes, LOG_LEVEL_INFO, LOG_GUEST,
	    "disconnected peer=%s reason=\"%s\"", name, reason);
	return 0;
}

/* Ends the connection of a guest whose stream can't be read any further. */
static int
end_hostile(struct guest *guest, struct batch *batch)
{
	unsigned length = parcel_length(&batch->parcels[0]);

	log_limited(&warnings, LOG_LEVEL_WARN, LOG_GUEST,
	    "not a stream of frames; closing the connection length=%u "
	    "max_frame=%u",
	    length, (unsigned)atomic_load(&guest->max_frame));
	deframer_reset(&guest->stream.deframer);
	guest->has_frames = false;
	batch->skipped.oversize = 1;
	return end_client(guest, "not a stream of frames");
}

/* Receives bytes into the deframer. Returns what recv() returns. */
static ssize_t
fill(struct guest *guest)
{
	struct stream *stream = &guest->stream;
	uint8_t *room;
	size_t bytes =
	    deframer_room(&stream->deframer, &room, FRAME_LIMIT_BYTES);
	ssize_t n;

	if (bytes > READ_BYTES)
		bytes = READ_BYTES;
	n = stream_read(guest->fd, room, bytes, &stream->traffic);
	if (n > 0)
		deframer_filled(&stream->deframer, (size_t)n);
	return n;
}

/* Takes frames out of the deframer, and counts those that it skips. */
static enum deframer_result
deframe(struct guest *guest, struct batch *batch, size_t limit)
{
	struct deframer *deframer = &guest->stream.deframer;
	enum deframer_result result = batch_deframe(
	    batch, deframer, atomic_load(&guest->max_frame), limit);

	batch->skipped.empty += deframer->empty;
	batch->skipped.runt += deframer->runt;
	deframer->empty = deframer->runt = 0;
	return result;
}

/* If a full batch was all there is, returns an empty one instead of waiting:
 * guest_await() has said that there is no need to wait. */
static int
receive_from_client(struct guest *guest, struct batch *batch, size_t limit)
{
	enum deframer_result result = deframe(guest, batch, limit);

	if (batch->count == 0 && result == DEFRAMER_MORE &&
	    !guest->has_frames) {
		ssize_t n = fill(guest);

		if (n < 0 && is_retryable(errno))
			return -1;
		if (n <= 0) {
			batch->skipped.truncated =
			    deframer_reset(&guest->stream.deframer);
			return end_client(
			    guest, n < 0 ? strerror(errno) : "closed");
		}
		result = deframe(guest, batch, limit);
	}
	if (batch->count == 0 && result == DEFRAMER_PROTOCOL)
		return end_hostile(guest, batch);
	guest->has_frames = result != DEFRAMER_MORE;
	return 0;
}

/* Waits for a signal or until main() has accepted a client. */
static int
await_client(struct stream *stream)
{
	struct pollfd arrived = { .fd = stream->arrived.fds[0],
		.events = POLLIN };

	if (poll(&arrived, 1, -1) < 0 && errno != EINTR)
		wait_pause(WAIT_ERROR_MS); /* may fail again (wait.h) */
	doorbell_answer(&stream->arrived);
	return 0;
}

static int
stream_receive(struct guest *guest, struct batch *batch, size_t limit)
{
	struct stream *stream = &guest->stream;

	batch_clear(batch);
	switch (atomic_load(&stream->state)) {
	case STREAM_CLIENT:
		return receive_from_client(guest, batch, limit);
	case STREAM_NO_CLIENT:
		return await_client(stream);
	default:
		errno = ESHUTDOWN;
		return -1;
	}
}

/* ---- fwd-down and main(): frames to the guest ---- */

/* Sends the rest of a frame. Returns 0, or -1 with errno. */
static int
send_rest(struct guest *guest) LOCKED
{
	struct stream *stream = &guest->stream;

	while (stream->rest_start < stream->rest_end) {
		ssize_t n = send(guest->fd, stream->rest + stream->rest_start,
		    stream->rest_end - stream->rest_start,
		    MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno != EINTR)
			return -1;
		if (n > 0)
			stream->rest_start += (size_t)n;
	}
	return 0;
}

/* Keeps the last `left` bytes of the parcel. main() polls for room from now
 * on. */
static void
keep_rest(struct stream *stream, const struct iovec *parcel, size_t left)
    NEEDS(stream->lock)
{
	const uint8_t *end =
	    (const uint8_t *)parcel->iov_base + parcel->iov_len;

	memcpy(stream->rest, end - left, left);
	stream->rest_start = 0;
	stream->rest_end = left;
	doorbell_ring(&stream->bell);
}

static int
send_parcels(struct guest *guest, struct batch *batch, size_t from) LOCKED
{
	size_t left;
	int count = stream_try_write(guest->fd, batch->parcels + from,
	    batch->count - from, WRITE_BYTES, &left);

	if (count > 0)
		counter_add(&guest->stream.sent, (uint64_t)count);
	if (count > 0 && left > 0)
		keep_rest(&guest->stream,
		    &batch->parcels[from + (size_t)count - 1], left);
	return count;
}

/* Handles the result of a send. An error ends this direction only: fwd-up still
 * receives what the guest has sent before. */
static void
check_send(struct guest *guest, int result) LOCKED
{
	if (result >= 0 || is_retryable(errno))
		return;
	atomic_store(&guest->present, 0);
	drop_rest(&guest->stream);
}

static int
stream_send_batch(struct guest *guest, struct batch *batch, size_t from)
{
	int result = -1, error;

	mutex_lock(&guest->stream.lock);
	errno = ENOTCONN;
	if (atomic_load(&guest->present) != 0) {
		result = send_rest(guest);
		if (result == 0)
			result = send_parcels(guest, batch, from);
		check_send(guest, result);
	}
	error = errno;
	mutex_unlock(&guest->stream.lock);
	errno = error;
	return result;
}

static enum guest_refusal
stream_refused(struct guest *guest, uint64_t which, int error)
{
	(void)which;
	(void)error;
	if (is_given(guest))
		return GUEST_GONE;
	return atomic_load(&guest->present) ? GUEST_REFUSED : GUEST_ABSENT;
}

/* ---- main() ---- */

enum { POLL_BELL, POLL_LISTENER, POLL_ROOM };

static int
stream_watch(struct guest *guest, struct pollfd *fds)
{
	struct stream *stream = &guest->stream;
	bool accepts = stream->listener >= 0 &&
		       atomic_load(&stream->state) == STREAM_NO_CLIENT;
	int64_t pause_ms = stream->accept_ms - clock_now_ms();

	fds[POLL_BELL].fd = stream->bell.fds[0];
	if (accepts && pause_ms <= 0)
		fds[POLL_LISTENER].fd = stream->listener;
	mutex_lock(&guest->stream.lock);
	if (stream->rest_start < stream->rest_end)
		fds[POLL_ROOM] =
		    (struct pollfd){ .fd = guest->fd, .events = POLLOUT };
	mutex_unlock(&guest->stream.lock);
	return accepts && pause_ms > 0 ? (int)pause_ms : -1;
}

static void
stream_serve(struct guest *guest, const struct pollfd *fds)
{
	doorbell_answer(&guest->stream.bell);
	if (fds[POLL_LISTENER].revents)
		accept_client(guest);
	if (!fds[POLL_ROOM].revents)
		return;
	mutex_lock(&guest->stream.lock);
	check_send(guest, send_rest(guest));
	mutex_unlock(&guest->stream.lock);
}

static void
stream_describe(struct guest *guest, char *text, size_t room)
{
	struct stream *stream = &guest->stream;

	mutex_lock(&guest->stream.lock);
	if (atomic_load(&stream->state) != STREAM_CLIENT)
		*text = '\0';
	else if (is_given(guest))
		snprintf(text, room, "fd");
	else
		name_client(stream->client, text, room);
	mutex_unlock(&guest->stream.lock);
}

/* A forwarder that was killed may have stopped inside a frame: nobody can go on
 * with its connection. */
static const char *
stream_fault(const struct guest *guest, int fd)
{
	struct sockaddr_un address = { .sun_family = AF_UNSPEC };
	socklen_t length = sizeof(address);
	int type = 0, listens = 0;
	socklen_t type_length = sizeof(type), listens_length = sizeof(listens);

	if (is_given(guest))
		return "the guest is a stream, which can't be inherited";
	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_length) < 0 ||
	    getsockname(fd, (struct sockaddr *)&address, &length) < 0)
		return "not a socket";
	if (address.sun_family != AF_UNIX || type != SOCK_STREAM)
		return "not a Unix stream socket";
	if (getsockopt(
		fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &listens_length) < 0 ||
	    !listens)
		return "not a listening socket";
	if (strncmp(address.sun_path, guest->endpoint.path,
		sizeof(address.sun_path)) != 0)
		return "not bound to the path of the guest endpoint";
	return NULL;
}

/* Binds the path, or takes the inherited socket. If the file at the path is not
 * that socket's, it is recorded as missing, so that it is created again. A file
 * that we may not connect to counts as ours (unixgram.c, inherit()). */
static int
open_listener(struct guest *guest, mode_t mode, struct error *error)
{
	struct stream *stream = &guest->stream;
	enum unix_socket there;

	stream->listener = guest->inherited_free;
	if (stream->listener < 0) {
		stream->listener = unix_bind(&guest->file, SOCK_STREAM,
		    guest->endpoint.path, mode, error);
	} else {
		there = unix_file_look(&guest->file, guest->endpoint.path);
		if (there != UNIX_STREAM_SOCKET &&
		    there != UNIX_FORBIDDEN_SOCKET)
			guest->file.inode = 0;
	}
	if (stream->listener < 0)
		return -1;
	fcntl(stream->listener, F_SETFL, O_NONBLOCK);
	guest->fd = fcntl(stream->arrived.fds[0], F_DUPFD_CLOEXEC, 0);
	return 0;
}

static int
open_given(struct guest *guest, struct error *error)
{
	struct sockaddr_storage peer;
	socklen_t length = sizeof(peer);
	int fd = guest->endpoint.fd;

	if (getpeername(fd, (struct sockaddr *)&peer, &length) < 0)
		return error_set(
		    error, "fd:%d: a stream socket that is not connected", fd);
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	socket_stream_options(fd, AF_UNIX);
	guest->fd = fd;
	atomic_store(&guest->stream.state, STREAM_CLIENT);
	atomic_store(&guest->present, 1);
	return 0;
}

static void
stream_close(struct guest *guest)
{
	struct stream *stream = &guest->stream;

	doorbell_destroy(&stream->arrived);
	doorbell_destroy(&stream->bell);
	if (stream->listener >= 0)
		close(stream->listener);
	free(stream->deframer.buffer);
	mutex_destroy(&stream->lock);
}

static int
stream_open(struct guest *guest, mode_t mode, struct error *error)
{
	struct stream *stream = &guest->stream;
	uint8_t *buffer = malloc(BUFFER_BYTES + REST_BYTES);

	*stream = (struct stream){
		.deframer = { .buffer = buffer, .capacity = BUFFER_BYTES },
		.rest = buffer + BUFFER_BYTES,
		.arrived = { { -1, -1 } },
		.bell = { { -1, -1 } },
		.listener = -1,
		.traffic = { .frames = &stream->sent },
	};
	mutex_init(&stream->lock);
	if (!buffer || doorbell_init(&stream->arrived) < 0 ||
	    doorbell_init(&stream->bell) < 0)
		error_set(
		    error, "%s: %s", guest->endpoint.text, strerror(errno));
	else if ((is_given(guest) ? open_given(guest, error)
				  : open_listener(guest, mode, error)) == 0)
		return 0;
	stream_close(guest);
	return -1;
}

static size_t
stream_duplicate(struct guest *guest, int fds[GUEST_KEPT])
{
	if (guest->stream.listener < 0)
		return 0;
	fds[0] = fcntl(guest->stream.listener, F_DUPFD_CLOEXEC, 0);
	return fds[0] >= 0 ? 1 : 0;
}

static int
stream_bind_again(struct guest *guest, struct error *error)
{
	struct unix_file file;
	int fd = unix_bind(
	    &file, SOCK_STREAM, guest->endpoint.path, guest->mode, error);

	if (fd < 0)
		return -1;
	fcntl(fd, F_SETFL, O_NONBLOCK);
	close(guest->stream.listener);
	guest->stream.listener = fd;
	guest->file = file;
	atomic_fetch_add(&guest->changes, 1);
	return 0;
}

const struct guest_ops guest_stream = {
	.open = stream_open,
	.close = stream_close,
	.receive = stream_receive,
	.send = stream_send_batch,
	.refused = stream_refused,
	.describe = stream_describe,
	.watch = stream_watch,
	.serve = stream_serve,
	.bind_again = stream_bind_again,
	.fault = stream_fault,
	.duplicate = stream_duplicate,
};
