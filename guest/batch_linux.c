/* Sends and receives many datagrams per call: recvmmsg() and sendmmsg(). */
#include "guest/batch.h"

#include <stdlib.h>

struct batch_system {
	struct mmsghdr in[BATCH_FRAMES], out[BATCH_FRAMES];
	struct iovec in_part[BATCH_FRAMES], out_part[BATCH_FRAMES];
};

int
batch_system_create(struct batch *batch)
{
	struct batch_system *system = calloc(1, sizeof(*system));

	if (!system)
		return -1;
	for (size_t i = 0; i < BATCH_FRAMES; i++) {
		system->in_part[i] =
		    (struct iovec){ batch_slot(batch, i), BATCH_ROOM };
		system->in[i].msg_hdr.msg_iov = &system->in_part[i];
		system->in[i].msg_hdr.msg_iovlen = 1;
		system->out[i].msg_hdr.msg_iov = &system->out_part[i];
		system->out[i].msg_hdr.msg_iovlen = 1;
	}
	system->in[0].msg_hdr.msg_name = &batch->sender;
	batch->system = system;
	return 0;
}

void
batch_system_destroy(struct batch *batch)
{
	free(batch->system);
}

/* The sender is requested for the first message only, to save copies: a
 * connected socket receives from the guest only, and another sender is examined
 * when it begins a batch. If a path fills sun_path, the length that Linux
 * returns includes a final zero that has no room there. */
int
batch_receive(struct batch *batch, int fd, size_t limit)
{
	struct mmsghdr *in = batch->system->in;
	socklen_t room = sizeof(batch->sender);
	int count;

	batch_clear(batch);
	in[0].msg_hdr.msg_namelen = room;
	count = recvmmsg(fd, in, (unsigned)limit, MSG_WAITFORONE, NULL);
	for (int i = 0; i < count; i++)
		batch_add(batch, in[i].msg_len);
	if (count < 0)
		return -1;
	batch->sender_length = in[0].msg_hdr.msg_namelen;
	if (batch->sender_length > room)
		batch->sender_length = room;
	return 0;
}

int
batch_send(struct batch *batch, int fd, size_t from)
{
	struct batch_system *system = batch->system;
	const struct iovec *parcels = batch->parcels + from;
	size_t count = batch->count - from;

	for (size_t i = 0; i < count; i++)
		system->out_part[i] = (struct iovec){ parcel_frame(&parcels[i]),
			parcel_length(&parcels[i]) };
	return sendmmsg(
	    fd, system->out, (unsigned)count, MSG_DONTWAIT | MSG_NOSIGNAL);
}
