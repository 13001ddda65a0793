#include "base/socket.h"

#include <errno.h>
#include <unistd.h>

int
socket_give_up(int fd)
{
	int error = errno;

	close(fd);
	errno = error;
	return -1;
}
