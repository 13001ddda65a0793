#include "reconnect/dial.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/socket.h"
#include "base/trust.h"
#include "base/wait.h"

/* Between two tries of a path whose listen() is still to come: no event tells of
 * it. Goal: the first frame through within 1 ms of it. A try costs 5 us. */
#define RETRY_US 250

static int
fail(struct dial *dial, int error, const char *why)
{
	snprintf(
	    dial->why, sizeof(dial->why), "%s", why ? why : strerror(error));
	errno = error;
	return -1;
}

/* fd's connect() is under way: waits for how it ends, and makes it blocking. */
static int
finish(struct dial *dial, int fd, int64_t deadline_ms)
{
	int error = 0;
	socklen_t length = sizeof(error);

	if (wait_writable(fd, dial->interrupt_fd, deadline_ms) < 0)
		return -1;
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) < 0)
		return -1;
	errno = error;
	return error ? -1 : 0;
}

/* Returns a connected blocking descriptor, or -1 with errno. */
static int
connect_to(struct dial *dial, const struct sockaddr *address, socklen_t length,
    int64_t deadline_ms)
{
	int fd = socket_stream(address->sa_family);

	if (fd < 0)
		return -1;
	fcntl(fd, F_SETFL, O_NONBLOCK);
	if (connect(fd, address, length) == 0 ||
	    (errno == EINPROGRESS && finish(dial, fd, deadline_ms) == 0)) {
		fcntl(fd, F_SETFL, 0);
		return fd;
	}
	return socket_give_up(fd);
}

/* What a daemon that is just starting says: its path exists from bind() on, is
 * refused until listen(), and may be opened to others by a chmod() after it. */
static bool
may_pass(int error)
{
	return error == ECONNREFUSED || error == ENOENT || error == EACCES;
}

bool
dial_trusts(const char *path, int fd, uid_t also, char why[DIAL_WHY_BYTES])
{
	uid_t user;

	if (peer_user(fd, &user) < 0) {
		snprintf(why, DIAL_WHY_BYTES, "%s", strerror(errno));
		return false;
	}
	if (trust_owner(path, user, also))
		return true;
	snprintf(why, DIAL_WHY_BYTES,
	    "the daemon runs as user %lu, which network.user does not allow",
	    (unsigned long)user);
	return false;
}

/* Connected, and not a byte was sent. */
static int
check_daemon(struct dial *dial, int fd)
{
	if (dial_trusts(dial->endpoint.path, fd, dial->user, dial->why))
		return fd;
	close(fd);
	dial->distrusted = true;
	errno = EPERM;
	return -1;
}

static int
dial_unix(struct dial *dial)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int64_t end_ms = clock_now_ms() + dial->patience_ms;

	memcpy(address.sun_path, dial->endpoint.path, sizeof(address.sun_path));
	for (;;) {
		int64_t now_ms = clock_now_ms();
		int fd = connect_to(dial, (struct sockaddr *)&address,
		    sizeof(address), now_ms + DIAL_LIMIT_MS);

		if (fd >= 0)
			return check_daemon(dial, fd);
		if (errno == EAGAIN) /* Linux; elsewhere it is refused */
			return fail(dial, errno,
			    "the backlog is full (is the daemon frozen?)");
		if (!may_pass(errno) || now_ms >= end_ms)
			return fail(dial, errno, NULL);
		if (wait_moment(dial->interrupt_fd, RETRY_US) < 0)
			return fail(dial, EINTR, NULL);
	}
}

/* A dial to a port of this host that nobody listens on can be given that port
 * as its own, and be connected to itself (RFC 9293, simultaneous open). */
static bool
is_own_echo(int fd)
{
	struct sockaddr_storage near = { 0 }, far = { 0 };
	socklen_t near_length = sizeof(near), far_length = sizeof(far);

	return getsockname(fd, (struct sockaddr *)&near, &near_length) == 0 &&
	       getpeername(fd, (struct sockaddr *)&far, &far_length) == 0 &&
	       near_length == far_length &&
	       memcmp(&near, &far, near_length) == 0;
}

static int
dial_address(
    struct dial *dial, const struct addrinfo *address, int64_t deadline_ms)
{
	int fd = connect_to(
	    dial, address->ai_addr, address->ai_addrlen, deadline_ms);
	int yes = 1;

	if (fd < 0)
		return fail(dial, errno, NULL);
	if (is_own_echo(fd)) {
		close(fd);
		return fail(dial, ECONNREFUSED, NULL);
	}
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
	return fd;
}

/* Each address gets an even share of what time is left. */
static int
dial_tcp(struct dial *dial, struct resolver *resolver)
{
	int64_t end_ms = clock_now_ms() + DIAL_LIMIT_MS;
	struct addrinfo *found, *at;
	const char *why;
	int fd = -1, left = 0;

	if (resolve(resolver, dial->endpoint.host, dial->endpoint.port,
		dial->interrupt_fd, end_ms, &found, &why) < 0)
		return fail(dial, errno, why);
	for (at = found; at; at = at->ai_next)
		left++;
	for (at = found; at && fd < 0; at = at->ai_next, left--) {
		int64_t now_ms = clock_now_ms();

		fd = dial_address(dial, at, now_ms + (end_ms - now_ms) / left);
		if (fd < 0 && errno == EINTR)
			break;
	}
	int error = errno;
	freeaddrinfo(found);
	errno = error;
	return fd;
}

int
dial(struct dial *dial, struct resolver *resolver)
{
	return dial->endpoint.kind == ENDPOINT_UNIX ? dial_unix(dial)
						    : dial_tcp(dial, resolver);
}
