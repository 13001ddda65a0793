#include "program/stream.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>

/* POSIX promises 16, Linux and macOS take 1024. */
#define PARTS_MAX 1024

struct call {
	struct iovec parts[PARTS_MAX];
	size_t part_count;
	size_t parcels;
	size_t bytes;
};

static void
gather(struct call *call, const struct parcel *parcels, size_t count,
    size_t limit_bytes)
{
	call->part_count = call->parcels = call->bytes = 0;
	for (size_t i = 0; i < count; i++) {
		const struct parcel *parcel = &parcels[i];

		if (i > 0 && (call->bytes + parcel->bytes > limit_bytes ||
				 call->part_count + 2 > PARTS_MAX))
			break;
		call->parts[call->part_count++] = parcel->parts[0];
		if (parcel->part_count > 1)
			call->parts[call->part_count++] = parcel->parts[1];
		call->bytes += parcel->bytes;
		call->parcels++;
	}
}

/* Takes `bytes` that were sent off the front of the message. */
static void
advance(struct msghdr *message, size_t bytes)
{
	while (bytes > 0 && bytes >= message->msg_iov->iov_len) {
		bytes -= message->msg_iov->iov_len;
		message->msg_iov++;
		message->msg_iovlen--;
	}
	if (bytes > 0) {
		message->msg_iov->iov_base =
		    (char *)message->msg_iov->iov_base + bytes;
		message->msg_iov->iov_len -= bytes;
	}
}

/* Returns how many bytes went; fewer than call->bytes: broken, with errno. */
static size_t
send_all(int fd, struct call *call)
{
	struct msghdr message = { .msg_iov = call->parts };
	size_t sent = 0;

	message.msg_iovlen = call->part_count;
	while (sent < call->bytes) {
		ssize_t n = sendmsg(fd, &message, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			break;
		sent += (size_t)n;
		if (sent < call->bytes)
			advance(&message, (size_t)n);
	}
	return sent;
}

/* How many of the call's parcels lie within its first `sent` bytes. */
static size_t
completed(const struct parcel *parcels, size_t sent)
{
	size_t count = 0;

	while (sent >= parcels[count].bytes)
		sent -= parcels[count++].bytes;
	return count;
}

size_t
stream_write(
    int fd, const struct parcel *parcels, size_t count, size_t limit_bytes)
{
	struct call call;
	size_t done = 0, sent;

	while (done < count) {
		gather(&call, parcels + done, count - done, limit_bytes);
		sent = send_all(fd, &call);
		if (sent < call.bytes)
			return done + completed(parcels + done, sent);
		done += call.parcels;
	}
	return done;
}
