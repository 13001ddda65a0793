#include "base/stream.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

/* POSIX promises 16, Linux and macOS take 1024. */
#define PARCELS_MAX 1024

/* How many of the parcels go into one call, and their *bytes. */
static size_t
fitting(const struct iovec *parcels, size_t count, size_t limit_bytes,
    size_t *bytes)
{
	size_t n = 1;

	*bytes = parcels[0].iov_len;
	while (n < count && n < PARCELS_MAX &&
	       *bytes + parcels[n].iov_len <= limit_bytes)
		*bytes += parcels[n++].iov_len;
	return n;
}

/* Of *bytes that were written, takes off those of whole parcels; returns how
 * many parcels that are. */
static size_t
completed(const struct iovec *parcels, size_t *bytes)
{
	size_t n = 0;

	while (*bytes > 0 && *bytes >= parcels[n].iov_len)
		*bytes -= parcels[n++].iov_len;
	return n;
}

/* A call that took less than it was offered waited until SO_SNDTIMEO expired:
 * tolerate one, fail on the second in a row. */
static bool
is_retryable(bool *waited)
{
	bool again = errno == EINTR || (errno == EAGAIN && !*waited);

	*waited |= errno == EAGAIN;
	return again;
}

/* Writes what is left of a parcel behind its first `from` bytes, which took
 * one wait. Returns 0, or -1 with errno. */
static int
finish(int fd, const struct iovec *parcel, size_t from)
{
	bool waited = true;

	while (from < parcel->iov_len) {
		ssize_t n = send(fd, (const uint8_t *)parcel->iov_base + from,
		    parcel->iov_len - from, MSG_NOSIGNAL);

		if (n < 0 && !is_retryable(&waited))
			return -1;
		if (n > 0)
			from += (size_t)n;
	}
	return 0;
}

size_t
stream_write(int fd, struct iovec *parcels, size_t count, size_t limit_bytes)
{
	bool waited = false;
	size_t done = 0;

	while (done < count) {
		struct msghdr call = { .msg_iov = parcels + done };
		size_t offered, written;
		ssize_t n;

		call.msg_iovlen = fitting(
		    parcels + done, count - done, limit_bytes, &offered);
		n = sendmsg(fd, &call, MSG_NOSIGNAL);
		if (n < 0 && is_retryable(&waited))
			continue;
		if (n < 0)
			break;
		written = (size_t)n;
		waited = written < offered;
		if (!waited) {
			done += call.msg_iovlen;
			continue;
		}
		done += completed(parcels + done, &written);
		if (written > 0 && finish(fd, &parcels[done++], written) < 0)
			return done - 1;
	}
	return done;
}
