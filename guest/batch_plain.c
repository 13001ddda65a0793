/* One datagram a call, for systems without recvmmsg() and sendmmsg(). */
#include "guest/batch.h"

#include <errno.h>

int
batch_system_create(struct batch *batch)
{
	batch->system = NULL;
	return 0;
}

void
batch_system_destroy(struct batch *batch)
{
	(void)batch;
}

static int
receive_one(struct batch *batch, int fd, int flags)
{
	size_t i = batch->count;
	struct iovec part = { batch_frame(batch, i), FRAME_LIMIT_BYTES };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };
	ssize_t length;

	if (i == 0) {
		message.msg_name = &batch->sender;
		message.msg_namelen = sizeof(batch->sender);
	}
	length = recvmsg(fd, &message, flags);
	if (length < 0)
		return -1;
	if (i == 0)
		batch_set_sender_length(batch, message.msg_namelen);
	batch->length[i] = (uint32_t)length;
	batch->cut[i] = message.msg_flags & MSG_TRUNC;
	batch->count++;
	return 0;
}

int
batch_receive(struct batch *batch, int fd, size_t limit)
{
	batch->count = 0;
	if (receive_one(batch, fd, 0) < 0)
		return -1;
	/* Perhaps the end of a socket, and what follows is another one's. */
	if (batch->length[0] == 0)
		return 0;
	while (
	    batch->count < limit && receive_one(batch, fd, MSG_DONTWAIT) == 0)
		;
	return 0;
}

int
batch_send(
    struct batch *batch, int fd, const struct frame *frames, size_t count)
{
	(void)batch;
	for (size_t i = 0; i < count; i++)
		if (send(fd, frames[i].bytes, frames[i].length, MSG_DONTWAIT) <
		    0)
			return i > 0 ? (int)i : -1;
	return (int)count;
}
