#include "status/control_dial.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include "base/socket.h"

/* Connects a socket to the path. Returns it; or -1 with errno, and fd closed. */
static int
connect_to(int fd, const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	errno = ENAMETOOLONG;
	if (strlen(path) >= sizeof(address.sun_path))
		return socket_give_up(fd);
	strcpy(address.sun_path, path);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
		return fd;
	return socket_give_up(fd);
}

int
control_dial(const char *path)
{
	struct timeval limit = { .tv_sec = CONTROL_REPLY_SECONDS };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	fd = connect_to(fd, path);
	if (fd < 0 && errno == EAGAIN)
		errno = ETIMEDOUT;
	return fd;
}

int
control_dial_now(const char *path)
{
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	if (fd < 0)
		return -1;
	fcntl(fd, F_SETFL, O_NONBLOCK);
	return connect_to(fd, path);
}

static const char *
advice(int error)
{
	if (error == EPROTO)
		return "restart the forwarder after an update, or give the "
		       "path of its [control] socket";
	if (error == EMFILE || error == ENFILE)
		return "allow more open files: ulimit -n";
	if (error == EACCES)
		return "ask as the user it runs as, or as root";
	if (error == ETIMEDOUT)
		return "it is stopped or stuck: check its process and log";
	if (error == ENOENT || error == ECONNREFUSED)
		return "start one with [control] socket set to this path; a "
		       "service has it at /run/forwarder/NAME/control.sock";
	return "check that this is its [control] socket";
}

const char *
control_reason(int why)
{
	return why == EPROTO ? "the reply is not a forwarder's" : strerror(why);
}

int
control_no_answer(struct error *error, const char *path, int why)
{
	return error_set(error, "no forwarder answers at %s: %s (%s)", path,
	    control_reason(why), advice(why));
}
