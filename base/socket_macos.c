#include "base/socket.h"

#include <fcntl.h>
#include <sys/socket.h>

/* A Unix stream socket's buffer is 8 KiB there by default: less than a frame
 * can be (net.local.stream.sendspace). */
#define BUFFER_BYTES (256 * 1024)

int
socket_stream(int family)
{
	int fd = socket(family, SOCK_STREAM, 0);
	int yes = 1, bytes = BUFFER_BYTES;

	if (fd < 0)
		return -1;
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	setsockopt(fd, SOL_SOCKET, SO_NOSIGPIPE, &yes, sizeof(yes));
	if (family == AF_UNIX) {
		setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes));
	}
	return fd;
}
