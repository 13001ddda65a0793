/* One datagram per call, for systems without recvmmsg() and sendmmsg(). */
#include "guest/batch_x.h"

static const struct batch_x none;

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
	return batch_x_receive(batch, &none, fd, limit);
}

int
batch_send(struct batch *batch, int fd, size_t from)
{
	return batch_x_send(batch, &none, fd, from);
}
