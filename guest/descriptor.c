/* The guest as a connected datagram socket: descriptor N that the caller passed on,
 * or one that the service manager kept over a restart. When its other end is closed,
 * no other guest can connect. (If it is a stream socket: stream.c.) */
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>

#include "base/socket.h"
#include "base/wait.h"
#include "guest/guest.h"

/* Returns what is wrong with the descriptor, or NULL. */
static const char *
find_fault(int fd)
{
	struct sockaddr_storage peer;
	socklen_t length = sizeof(peer);
	int type = 0;
	socklen_t type_length = sizeof(type);

	if (fcntl(fd, F_GETFD) < 0)
		return "no such open descriptor (was it passed on?)";
	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_length) < 0)
		return "not a socket";
	if (type != SOCK_DGRAM)
		return "a socket, but not a datagram socket";
	if (getpeername(fd, (struct sockaddr *)&peer, &length) < 0)
		return "a datagram socket that is not connected";
	return NULL;
}

static int
descriptor_open(struct guest *guest, mode_t mode, struct error *error)
{
	int fd = guest->inherited >= 0 ? guest->inherited : guest->endpoint.fd;
	const char *fault = find_fault(fd);

	(void)mode;
	if (fault)
		return error_set(error, "fd:%d: %s", fd, fault);
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
	socket_datagram_buffers(fd);
	guest->fd = fd;
	guest->present = 1;
	return 0;
}

/* Another process that shares the socket may make it non-blocking, set a
 * receive timeout, or shut it down. After a shutdown each recv() returns 0
 * bytes; a guest can send an empty frame, too, so peer_is_shut() is called. */
static int
descriptor_receive(struct guest *guest, struct batch *batch, size_t limit)
{
	int result = batch_receive(batch, guest->fd, limit);

	if (result < 0 && errno != EAGAIN)
		return -1;
	if (result < 0)
		wait_readable(guest->fd, -1, INT64_MAX);
	else if (parcel_length(&batch->parcels[batch->count - 1]) > 0)
		return 0;
	if (peer_is_shut(guest->fd))
		errno = ESHUTDOWN;
	else if (result < 0)
		errno = EAGAIN;
	else
		return 0;
	return -1;
}

static const char *
descriptor_fault(const struct guest *guest, int fd)
{
	(void)guest;
	return find_fault(fd);
}

const struct guest_ops guest_descriptor = {
	.name = "fd",
	.fault = descriptor_fault,
	.open = descriptor_open,
	.receive = descriptor_receive,
	.send = guest_send_datagrams,
};
