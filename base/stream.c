#include "base/stream.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/wait.h"

/* The other direction is calm once at most CALM_FRAMES frames have gone there before
 * each of CALM_ENOUGH reads in a row. */
#define CALM_FRAMES 4
#define CALM_ENOUGH 8

/* IOV_MAX: at least 16 by POSIX, 1024 on Linux and macOS. */
#define PIECES_MAX 1024

/* Puts as many parcels as fit into limit_bytes, but at least one, into `pieces`
 * without the first skip_bytes bytes. Parcels that follow each other in memory, as
 * those of a stream do, become one piece: frames of 1514 bytes between two streams
 * then cost 0.80 of the processor time (bench/run --only pairs). Returns the
 * number of pieces; *bytes is their total size. */
static size_t
gather(struct iovec *pieces, const struct iovec *parcels, size_t count,
    size_t skip_bytes, size_t limit_bytes, size_t *bytes)
{
	size_t n = 1;

	pieces[0].iov_base = (uint8_t *)parcels[0].iov_base + skip_bytes;
	pieces[0].iov_len = *bytes = parcels[0].iov_len - skip_bytes;
	for (size_t i = 1; i < count && n < PIECES_MAX &&
			   *bytes + parcels[i].iov_len <= limit_bytes;
	     i++) {
		struct iovec *last = &pieces[n - 1];

		*bytes += parcels[i].iov_len;
		if ((uint8_t *)last->iov_base + last->iov_len ==
		    (uint8_t *)parcels[i].iov_base)
			last->iov_len += parcels[i].iov_len;
		else
			pieces[n++] = parcels[i];
	}
	return n;
}

/* Makes one sendmsg() call, skipping the first `skip_bytes` bytes. Returns the
 * bytes written, or -1; *offered is the number of bytes passed to it. */
static ssize_t
write_some(int fd, const struct iovec *parcels, size_t count, size_t skip_bytes,
    size_t limit_bytes, int flags, size_t *offered)
{
	struct iovec pieces[PIECES_MAX];
	struct msghdr call = { .msg_iov = pieces };

	call.msg_iovlen =
	    gather(pieces, parcels, count, skip_bytes, limit_bytes, offered);
	return sendmsg(fd, &call, MSG_NOSIGNAL | flags);
}

size_t
stream_write(
    int fd, const struct iovec *parcels, size_t count, size_t limit_bytes)
{
	size_t done = 0, from = 0, offered;
	bool waited = false; /* SO_SNDTIMEO expired in the last call */

	while (done < count) {
		ssize_t n = write_some(fd, parcels + done, count - done, from,
		    limit_bytes, 0, &offered);

		if (n >= 0) {
			waited = (size_t)n < offered;
			from += (size_t)n;
		} else if (errno == EAGAIN && !waited) {
			waited = true;
		} else if (errno != EINTR) {
			break;
		}
		while (done < count && from >= parcels[done].iov_len)
			from -= parcels[done++].iov_len;
	}
	return done;
}

int
stream_try_write(int fd, const struct iovec *parcels, size_t count,
    size_t limit_bytes, size_t *left)
{
	size_t offered, taken = 0;
	ssize_t n = write_some(
	    fd, parcels, count, 0, limit_bytes, MSG_DONTWAIT, &offered);
	int begun = 0;

	if (n < 0)
		return -1;
	while (taken < (size_t)n)
		taken += parcels[begun++].iov_len;
	*left = taken - (size_t)n;
	return begun;
}

static void
count_calm(struct stream_traffic *traffic)
{
	uint64_t frames =
	    atomic_load_explicit(traffic->frames, memory_order_relaxed);

	if (frames - traffic->before > CALM_FRAMES)
		traffic->calm_reads = 0;
	else if (traffic->calm_reads < CALM_ENOUGH)
		traffic->calm_reads++;
	traffic->before = frames;
}

/* Returns 0, or -1 with errno EINTR after a signal, or after an error of poll(),
 * which may persist (wait.h). */
static int
await_data(int fd)
{
	struct pollfd readable = { .fd = fd, .events = POLLIN };

	if (poll(&readable, 1, -1) >= 0)
		return 0;
	if (errno != EINTR)
		wait_pause(WAIT_ERROR_MS);
	errno = EINTR;
	return -1;
}

ssize_t
stream_read(int fd, uint8_t *room, size_t bytes, struct stream_traffic *traffic)
{
	int flags = traffic->calm_reads < CALM_ENOUGH ? MSG_DONTWAIT : 0;
	ssize_t n;

	do
		n = recv(fd, room, bytes, flags);
	while (n < 0 && errno == EAGAIN && await_data(fd) == 0);
	if (n > 0)
		count_calm(traffic);
	return n;
}
