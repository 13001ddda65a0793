#include "program/stream.h"

#include <errno.h>
#include <stdint.h>
#include <sys/socket.h>

/* POSIX promises 16, Linux and macOS take 1024. */
#define PARCELS_MAX 1024

/* How many of the parcels go into one call. */
static size_t
fitting(const struct iovec *parcels, size_t count, size_t limit_bytes)
{
	size_t bytes = 0, n = 0;

	while (n < count && n < PARCELS_MAX) {
		bytes += parcels[n].iov_len;
		if (n > 0 && bytes > limit_bytes)
			break;
		n++;
	}
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

/* Writes what is left of a parcel behind its first `from` bytes. Returns 0, or
 * -1 with errno. */
static int
finish(int fd, const struct iovec *parcel, size_t from)
{
	while (from < parcel->iov_len) {
		ssize_t n = send(fd, (const uint8_t *)parcel->iov_base + from,
		    parcel->iov_len - from, MSG_NOSIGNAL);

		if (n < 0 && errno != EINTR)
			return -1;
		if (n > 0)
			from += (size_t)n;
	}
	return 0;
}

size_t
stream_write(int fd, struct iovec *parcels, size_t count, size_t limit_bytes)
{
	size_t done = 0;

	while (done < count) {
		struct msghdr call = { .msg_iov = parcels + done };
		size_t written;
		ssize_t n;

		call.msg_iovlen =
		    fitting(parcels + done, count - done, limit_bytes);
		n = sendmsg(fd, &call, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			break;
		written = (size_t)n;
		done += completed(parcels + done, &written);
		if (written > 0 && finish(fd, &parcels[done++], written) < 0)
			return done - 1;
	}
	return done;
}
