#include "base/shared_memory.h"

#include <string.h>
#include <sys/socket.h>

/* Room for one descriptor, aligned as unix(7) asks. */
union control {
	struct cmsghdr header;
	char bytes[CMSG_SPACE(sizeof(int))];
};

int
shared_memory_send(int socket, int memory, void *message, size_t n)
{
	union control control = { .bytes = { 0 } };
	struct iovec iov = { message, n };
	struct msghdr m = { .msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes) };
	struct cmsghdr *rights = CMSG_FIRSTHDR(&m);

	rights->cmsg_level = SOL_SOCKET;
	rights->cmsg_type = SCM_RIGHTS;
	rights->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(rights), &memory, sizeof(int));
	return sendmsg(socket, &m, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -1 : 0;
}

ssize_t
shared_memory_receive(int socket, int *memory, void *message, size_t n)
{
	union control control;
	struct iovec iov = { message, n };
	struct msghdr m = { .msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes) };
	ssize_t received = recvmsg(socket, &m, 0);
	struct cmsghdr *rights = received > 0 ? CMSG_FIRSTHDR(&m) : NULL;

	*memory = -1;
	if (rights && rights->cmsg_level == SOL_SOCKET &&
	    rights->cmsg_type == SCM_RIGHTS &&
	    rights->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(memory, CMSG_DATA(rights), sizeof(int));
	return received;
}
