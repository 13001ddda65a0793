#include "reconnect/dial.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/socket.h"
#include "base/trust.h"
#include "base/wait.h"
#include "reconnect/daemon.h"
#include "reconnect/dgram.h"

/* The pause before a path is tried again: no event reports listen(). The goal
 * is a first frame within 1 ms of listen(); a try costs 5 us. Once the path
 * exists, the pause is at least this part of the time that the daemon has taken
 * since then: a hundred forwarders that wait for one daemon must leave it a
 * processor to call listen() on. */
#define RETRY_MIN_US 250
#define RETRY_SHARE 8

static int
failed(struct error *error)
{
	return error_set(error, "%s", strerror(errno));
}

/* Waits for the connect() that is under way. */
static int
finish(const struct dial *dial, int fd, int64_t deadline_ms)
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

static int
connect_to(const struct dial *dial, const struct sockaddr *address,
    socklen_t length, int64_t deadline_ms)
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

/* Errors while a daemon is starting: before bind(), before listen(), and before
 * the chmod() that lets other users connect. */
static bool
is_retryable(int error)
{
	return error == ECONNREFUSED || error == ENOENT || error == EACCES;
}

static bool
trusts_user(const struct dial *dial, int fd, struct error *error)
{
	uid_t user;

	if (peer_user(fd, &user) < 0)
		failed(error);
	else if (trust_owner(dial->endpoint->path, user, dial->user))
		return true;
	else
		error_set(error,
		    "the daemon runs as user %lu, which network.user does not "
		    "allow",
		    (unsigned long)user);
	return false;
}

static long
retry_pause_us(int64_t tried_ms)
{
	long share_us = (long)tried_ms * 1000 / RETRY_SHARE;

	return share_us > RETRY_MIN_US ? share_us : RETRY_MIN_US;
}

static int
try_stream(const struct dial *dial, struct error *error)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd;

	memcpy(
	    address.sun_path, dial->endpoint->path, sizeof(address.sun_path));
	fd = connect_to(dial, (struct sockaddr *)&address, sizeof(address),
	    clock_now_ms() + DIAL_LIMIT_MS);
	if (fd < 0 && errno == EAGAIN) /* Linux; other systems refuse */
		return error_set(
		    error, "the backlog is full (is the daemon frozen?)");
	if (fd < 0)
		return failed(error);
	if (trusts_user(dial, fd, error))
		return fd;
	errno = EPERM;
	return socket_give_up(fd);
}

/* The kernel may choose the dialled port of this host as the local port. If
 * no process listens there, the socket connects to itself (RFC 9293, simultaneous
 * open). */
static bool
is_connected_to_itself(int fd)
{
	struct sockaddr_storage near = { 0 }, far = { 0 };
	socklen_t near_length = sizeof(near), far_length = sizeof(far);

	return getsockname(fd, (struct sockaddr *)&near, &near_length) == 0 &&
	       getpeername(fd, (struct sockaddr *)&far, &far_length) == 0 &&
	       near_length == far_length &&
	       memcmp(&near, &far, near_length) == 0;
}

static int
dial_address(const struct dial *dial, const struct addrinfo *address,
    int64_t deadline_ms)
{
	int fd = connect_to(
	    dial, address->ai_addr, address->ai_addrlen, deadline_ms);
	int yes = 1;

	if (fd < 0)
		return -1;
	if (is_connected_to_itself(fd)) {
		errno = ECONNREFUSED;
		return socket_give_up(fd);
	}
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
	return fd;
}

/* Each address gets an equal share of the remaining time. */
static int
dial_each(const struct dial *dial, const struct addrinfo *at, int64_t end_ms)
{
	int fd = -1, left = 0;

	for (const struct addrinfo *a = at; a; a = a->ai_next)
		left++;
	errno = EHOSTUNREACH;
	for (; at && fd < 0 && errno != EINTR; at = at->ai_next, left--) {
		int64_t now_ms = clock_now_ms();

		fd = dial_address(dial, at, now_ms + (end_ms - now_ms) / left);
	}
	return fd;
}

/* Returns whether TCP sockets are forbidden, for example in a service's
 * sandbox. Name lookups fail there, too. */
static bool
may_not_use_tcp(void)
{
	int fd = socket_stream(AF_INET);

	if (fd < 0)
		return errno == EAFNOSUPPORT;
	close(fd);
	return false;
}

static int
try_tcp(const struct dial *dial, struct error *error)
{
	int64_t end_ms = clock_now_ms() + DIAL_LIMIT_MS;
	struct addrinfo *found;
	int fd, saved;

	if (resolve(dial->resolver, dial->endpoint->host, dial->endpoint->port,
		dial->interrupt_fd, end_ms, &found, error) < 0) {
		saved = errno;
		if (may_not_use_tcp())
			return failed(error);
		errno = saved;
		return -1;
	}
	fd = dial_each(dial, found, end_ms);
	saved = errno;
	freeaddrinfo(found);
	errno = saved;
	return fd < 0 ? failed(error) : fd;
}

/* The kinds of endpoint. */
static const struct {
	int (*try)(const struct dial *dial, struct error *error);
	bool (*trusts)(const struct dial *dial, int fd, struct error *error);
	bool retries; /* a path at which a daemon may be starting */
} kinds[] = {
	[ENDPOINT_UNIX] = { try_stream, trusts_user, true },
	[ENDPOINT_UNIXGRAM] = { dgram_dial, dgram_trusts, true },
	[ENDPOINT_TCP] = { try_tcp, NULL, false },
	[ENDPOINT_EXEC] = { daemon_dial, NULL, false },
};

bool
dial_trusts(const struct dial *dial, int fd, struct error *error)
{
	enum endpoint_kind kind = dial->endpoint->kind;

	return !kinds[kind].trusts || kinds[kind].trusts(dial, fd, error);
}

int
dial(const struct dial *dial, struct error *error)
{
	enum endpoint_kind kind = dial->endpoint->kind;
	int64_t start_ms = clock_now_ms(), bound_ms = start_ms;

	for (;;) {
		int64_t now_ms = clock_now_ms();
		int fd = kinds[kind].try(dial, error);

		if (fd >= 0)
			return fd;
		if (errno == ENOENT)
			bound_ms = now_ms;
		if (!kinds[kind].retries || !is_retryable(errno) ||
		    now_ms >= start_ms + dial->retry_window_ms)
			return -1;
		if (wait_moment(dial->interrupt_fd,
			retry_pause_us(now_ms - bound_ms)) < 0)
			return failed(error);
	}
}
