#include "status/control_dial.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include "base/socket.h"

int
control_dial(const char *path)
{
	struct timeval limit = { .tv_sec = CONTROL_REPLY_SECONDS };
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd;

	if (strlen(path) >= sizeof(address.sun_path)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	strcpy(address.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
		return fd;
	if (errno == EAGAIN)
		errno = ETIMEDOUT;
	return socket_give_up(fd);
}

static const char *
advice(int error)
{
	if (error == EACCES)
		return "ask as the user it runs as, or as root";
	if (error == ETIMEDOUT)
		return "it is stopped or stuck: check its process and log";
	if (error == ENOENT || error == ECONNREFUSED)
		return "start one with [control] socket set to this path";
	return "check that this is its [control] socket";
}

int
control_no_answer(struct error *error, const char *path, int why)
{
	return error_set(error, "no forwarder answers at %s: %s (%s)", path,
	    strerror(why), advice(why));
}
