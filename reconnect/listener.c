#include "reconnect/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <unistd.h>

#include "base/socket.h"

#define BACKLOG 64 /* as for a path, in unix_bind.c */

static int
listen_address(const struct addrinfo *address)
{
	int fd = socket(address->ai_family, SOCK_STREAM, 0);
	int yes = 1;

	if (fd < 0)
		return -1;
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	/* Bind in spite of old connections in TIME_WAIT. */
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
	if (bind(fd, address->ai_addr, address->ai_addrlen) == 0 &&
	    listen(fd, BACKLOG) == 0)
		return fd;
	return socket_give_up(fd);
}

static int
listen_tcp(const struct endpoint *endpoint, struct error *error)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM,
		.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV };
	struct addrinfo *found;
	int problem =
	    getaddrinfo(endpoint->host, endpoint->port, &hints, &found);
	int fd, saved;

	if (problem)
		return error_set(error, "%s:%s: %s", endpoint->host,
		    endpoint->port, gai_strerror(problem));
	fd = listen_address(found);
	saved = errno;
	freeaddrinfo(found);
	errno = saved;
	return fd >= 0 ? fd
		       : error_set(error, "%s:%s: %s%s", endpoint->host,
			     endpoint->port, strerror(saved),
			     saved == EAFNOSUPPORT ? " (as a service, use "
						     "forwarder-tcp@.service)"
						   : "");
}

int
listener_open(const struct endpoint *endpoint, struct unix_file *file,
    struct error *error)
{
	int fd;

	*file = (struct unix_file){ 0 };
	if (endpoint->kind == ENDPOINT_UNIX)
		fd = unix_bind(file, SOCK_STREAM, endpoint->path, 0600, error);
	else
		fd = listen_tcp(endpoint, error);
	if (fd >= 0)
		fcntl(fd, F_SETFL, O_NONBLOCK);
	return fd;
}

int
listener_release(struct listener *listener)
{
	listener->state = LISTENER_OPEN;
	return listener->candidate_fd;
}

void
listener_drop(struct listener *listener)
{
	if (listener->state == LISTENER_JUDGING)
		close(listener_release(listener));
}

void
listener_replace(struct listener *listener, int fd)
{
	listener_drop(listener);
	if (listener->state == LISTENER_OPEN)
		close(listener->fd);
	listener->fd = fd;
	listener->state = fd >= 0 ? LISTENER_OPEN : LISTENER_CLOSED;
}

bool
listener_accepts(const struct listener *listener, int64_t now_ms)
{
	return listener->state == LISTENER_OPEN && now_ms >= listener->due_ms;
}

int64_t
listener_wake_ms(const struct listener *listener, int64_t now_ms)
{
	return listener->state == LISTENER_CLOSED ||
		       listener_accepts(listener, now_ms)
		   ? INT64_MAX
		   : listener->due_ms;
}

void
listener_pause(struct listener *listener, int64_t now_ms, int pause_ms)
{
	listener->due_ms = now_ms + pause_ms;
}

int
listener_accept(
    struct listener *listener, struct sockaddr_storage *client, int64_t now_ms)
{
	socklen_t length = sizeof(*client);
	int fd, yes = 1;

	*client = (struct sockaddr_storage){ 0 };
	fd = accept(listener->fd, (struct sockaddr *)client, &length);
	if (fd < 0 && (errno == EINTR || errno == ECONNABORTED))
		errno = EAGAIN;
	if (fd < 0 && errno != EAGAIN)
		listener_pause(listener, now_ms, LISTENER_PAUSE_MS);
	if (fd < 0)
		return -1;
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	fcntl(fd, F_SETFL, 0); /* on BSDs it inherits O_NONBLOCK */
	if (client->ss_family != AF_UNIX)
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
	return fd;
}

void
listener_hold(struct listener *listener, int fd,
    const struct sockaddr_storage *client, int64_t now_ms)
{
	listener->state = LISTENER_JUDGING;
	listener->candidate_fd = fd;
	listener->candidate = *client;
	listener->since_ms = now_ms;
	listener->due_ms = now_ms + LISTENER_TICK_MS;
	listener->probes = 1;
}

enum listener_verdict
listener_judge(struct listener *listener, int64_t now_ms, bool alive)
{
	bool late = now_ms - listener->due_ms >= LISTENER_TICK_MS;

	if (now_ms < listener->due_ms)
		return LISTENER_WAIT;
	if (alive)
		return LISTENER_REFUSE;
	if (listener->probes == LISTENER_PROBES && !late)
		return LISTENER_ADMIT;
	if (!late)
		listener->probes++;
	listener->due_ms = now_ms + LISTENER_TICK_MS;
	return LISTENER_PROBE;
}
