#include "reconnect/listen.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>

#include "base/socket.h"

#define BACKLOG 64 /* as for a path, in unix_bind.c */

static int
refuse(
    char *why, size_t why_size, const struct endpoint *at, const char *reason)
{
	snprintf(why, why_size, "%.200s:%s: %s", at->host, at->port, reason);
	return -1;
}

/* The address can be bound again while old connections of it fade away. */
static int
listen_address(const struct addrinfo *address)
{
	int fd = socket(address->ai_family, SOCK_STREAM, 0);
	int yes = 1;

	if (fd < 0)
		return -1;
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
	if (bind(fd, address->ai_addr, address->ai_addrlen) == 0 &&
	    listen(fd, BACKLOG) == 0)
		return fd;
	return socket_give_up(fd);
}

static int
listen_tcp(const struct endpoint *endpoint, char *why, size_t why_size)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM,
		.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV };
	struct addrinfo *found;
	int error = getaddrinfo(endpoint->host, endpoint->port, &hints, &found);
	int fd;

	if (error)
		return refuse(why, why_size, endpoint, gai_strerror(error));
	fd = listen_address(found);
	error = errno;
	if (fd < 0)
		refuse(why, why_size, endpoint, strerror(error));
	freeaddrinfo(found);
	errno = error;
	return fd;
}

int
listen_open(const struct endpoint *endpoint, struct unix_file *file, char *why,
    size_t why_size)
{
	struct error error;
	int fd;

	*file = (struct unix_file){ 0 };
	if (endpoint->kind == ENDPOINT_UNIX) {
		fd = unix_bind(file, SOCK_STREAM, endpoint->path, 0600, &error);
		if (fd < 0)
			snprintf(why, why_size, "%s", error.text);
	} else {
		fd = listen_tcp(endpoint, why, why_size);
	}
	if (fd >= 0)
		fcntl(fd, F_SETFL, O_NONBLOCK);
	return fd;
}

int
listen_accept(int fd, struct sockaddr_storage *client)
{
	socklen_t length = sizeof(*client);
	int taken, yes = 1;

	*client = (struct sockaddr_storage){ 0 };
	taken = accept(fd, (struct sockaddr *)client, &length);
	if (taken < 0)
		return -1;
	fcntl(taken, F_SETFD, FD_CLOEXEC);
	fcntl(taken, F_SETFL, 0); /* BSDs hand O_NONBLOCK down */
	if (client->ss_family != AF_UNIX)
		setsockopt(taken, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
	return taken;
}
