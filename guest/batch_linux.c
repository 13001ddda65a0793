/* recvmmsg() and sendmmsg(). */
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
		    (struct iovec){ batch_frame(batch, i), FRAME_LIMIT_BYTES };
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

/* Only the first message carries its sender: a name costs a copy, and between
 * two senders the socket is silent. */
int
batch_receive(struct batch *batch, int fd, size_t limit)
{
	struct mmsghdr *in = batch->system->in;
	int count;

	batch->count = 0;
	in[0].msg_hdr.msg_namelen = sizeof(batch->sender);
	count = recvmmsg(fd, in, (unsigned)limit, MSG_WAITFORONE, NULL);
	if (count < 0)
		return -1;
	for (int i = 0; i < count; i++) {
		batch->length[i] = in[i].msg_len;
		batch->cut[i] = in[i].msg_hdr.msg_flags & MSG_TRUNC;
	}
	batch->count = (size_t)count;
	batch_set_sender_length(batch, in[0].msg_hdr.msg_namelen);
	return 0;
}

int
batch_send(
    struct batch *batch, int fd, const struct frame *frames, size_t count)
{
	struct batch_system *system = batch->system;

	if (count > BATCH_FRAMES)
		count = BATCH_FRAMES;
	for (size_t i = 0; i < count; i++)
		system->out_part[i] =
		    (struct iovec){ (void *)(uintptr_t)frames[i].bytes,
			    frames[i].length };
	return sendmmsg(
	    fd, system->out, (unsigned)count, MSG_DONTWAIT | MSG_NOSIGNAL);
}
