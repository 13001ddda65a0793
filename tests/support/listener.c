#include "tests/support/listener.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int
unix_socket(int type, const char *path,
    int (*use)(int, const struct sockaddr *, socklen_t))
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, type, 0);

	ck_assert_int_ge(fd, 0);
	ck_assert_uint_lt(strlen(path), sizeof(address.sun_path));
	strcpy(address.sun_path, path);
	ck_assert_int_eq(
	    use(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

int
bound_unix(const char *path)
{
	return unix_socket(SOCK_STREAM, path, bind);
}

int
bound_datagrams(const char *path)
{
	return unix_socket(SOCK_DGRAM, path, bind);
}

int
connected_unix(int type, const char *path)
{
	return unix_socket(type, path, connect);
}

int
listening_unix(const char *path, int backlog)
{
	int fd = bound_unix(path);

	ck_assert_int_eq(listen(fd, backlog), 0);
	return fd;
}

static socklen_t
loopback(int family, struct sockaddr_storage *address)
{
	struct sockaddr_in *four = (struct sockaddr_in *)address;
	struct sockaddr_in6 *six = (struct sockaddr_in6 *)address;

	memset(address, 0, sizeof(*address));
	address->ss_family = (sa_family_t)family;
	if (family == AF_INET6) {
		six->sin6_addr = in6addr_loopback;
		return sizeof(*six);
	}
	four->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return sizeof(*four);
}

/* sin_port and sin6_port are at the same place. */
static void
say_port(int fd, char port[static 6])
{
	struct sockaddr_storage address;
	socklen_t length = sizeof(address);

	ck_assert_int_eq(
	    getsockname(fd, (struct sockaddr *)&address, &length), 0);
	snprintf(port, 6, "%u",
	    (unsigned)ntohs(((struct sockaddr_in *)&address)->sin_port));
}

static int
bound_tcp(int family)
{
	struct sockaddr_storage address;
	socklen_t length = loopback(family, &address);
	int fd = socket(family, SOCK_STREAM, 0);

	if (fd >= 0 && bind(fd, (struct sockaddr *)&address, length) == 0)
		return fd;
	if (fd >= 0)
		close(fd);
	return -1;
}

int
listening_tcp(int family, int backlog, char port[static 6])
{
	int fd = bound_tcp(family);

	if (fd < 0)
		return -1;
	ck_assert_int_eq(listen(fd, backlog), 0);
	say_port(fd, port);
	return fd;
}

void
free_port(char port[static 6])
{
	int fd = bound_tcp(AF_INET);

	ck_assert_int_ge(fd, 0);
	say_port(fd, port);
	close(fd);
}

/* On one host a TCP connection is made or refused within this time; one that is
 * still open then waits for room in the backlog. */
#define LOOPBACK_MS 200

size_t
fill_backlog(int listener, int *fds, size_t most)
{
	struct sockaddr_storage address;
	socklen_t length = sizeof(address);

	ck_assert_int_eq(
	    getsockname(listener, (struct sockaddr *)&address, &length), 0);
	for (size_t count = 0; count < most; count++) {
		int fd = socket(address.ss_family, SOCK_STREAM, 0);
		struct pollfd made = { .fd = fd, .events = POLLOUT };

		ck_assert_int_ge(fd, 0);
		fcntl(fd, F_SETFL, O_NONBLOCK);
		fds[count] = fd;
		if (connect(fd, (struct sockaddr *)&address, length) == 0)
			continue;
		ck_assert(errno == EAGAIN || errno == EINPROGRESS);
		if (errno == EAGAIN || poll(&made, 1, LOOPBACK_MS) == 0)
			return count + 1;
	}
	ck_abort_msg("the backlog never became full");
	return most;
}

void
close_all(const int *fds, size_t count)
{
	for (size_t i = 0; i < count; i++)
		close(fds[i]);
}
