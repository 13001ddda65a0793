/* One datagram per call, for systems without recvmmsg() and sendmmsg(). */
#include "guest/batch.h"

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

int
batch_receive(struct batch *batch, int fd, size_t limit)
{
	socklen_t room = sizeof(batch->sender);
	ssize_t length;

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
	if (length == 0)
		return 0;
	while (batch->count < limit) {
		length = recv(fd, batch_slot(batch, batch->count), BATCH_ROOM,
		    MSG_DONTWAIT);
		if (length < 0)
			break;
		batch_add(batch, (size_t)length);
	}
	return 0;
}

int
batch_send(struct batch *batch, int fd, size_t from)
{
	size_t i = from;

	for (; i < batch->count; i++)
		if (send(fd, parcel_frame(&batch->parcels[i]),
			parcel_length(&batch->parcels[i]), MSG_DONTWAIT) < 0)
			break;
	return i > from ? (int)(i - from) : -1;
}
