#include "reconnect/endpoint.h"

#include <arpa/inet.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static const struct {
	const char *prefix;
	enum endpoint_kind kind;
	bool listens;
} kinds[] = {
	{ "unix:", ENDPOINT_UNIX, false },
	{ "tcp:", ENDPOINT_TCP, false },
	{ "listen-unix:", ENDPOINT_UNIX, true },
	{ "listen-tcp:", ENDPOINT_TCP, true },
};

static int
fail(const char **why, const char *sentence)
{
	*why = sentence;
	return -1;
}

static int
parse_path(struct endpoint *endpoint, const char *text, const char **why)
{
	if (*text == '\0')
		return fail(why, "the path is missing (unix:/run/daemon.sock)");
	if (strlen(text) >= sizeof(endpoint->path))
		return fail(why,
		    sizeof(endpoint->path) == 108
			? "the path is longer than a socket allows (107 bytes)"
			: "the path is longer than a socket allows (103 "
			  "bytes)");
	strcpy(endpoint->path, text);
	return 0;
}

static bool
is_port(const char *text)
{
	size_t length = strlen(text);

	if (length == 0 || length > 5 || strspn(text, "0123456789") != length)
		return false;
	long port = strtol(text, NULL, 10);
	return port >= 1 && port <= 65535;
}

/* An IPv6 address can name its interface: fe80::1%eth0. */
static bool
is_address(const char *host)
{
	char bare[sizeof(((struct endpoint *)0)->host)];
	struct in6_addr address; /* has room for either */

	strcpy(bare, host);
	bare[strcspn(bare, "%")] = '\0';
	return inet_pton(AF_INET, host, &address) == 1 ||
	       inet_pton(AF_INET6, bare, &address) == 1;
}

/* Listening asks no name server: main() opens the socket, and must not hang. */
static int
settle_host(struct endpoint *endpoint, const char **why)
{
	if (strcmp(endpoint->host, "localhost") == 0)
		strcpy(endpoint->host, "127.0.0.1");
	return is_address(endpoint->host)
		   ? 0
		   : fail(why, "listen-tcp takes an address, not a name");
}

/* HOST:PORT or [HOST]:PORT; text is the host's first character. */
static int
parse_host(struct endpoint *endpoint, const char *text, const char **why)
{
	const char *port, *end;

	if (*text == '[') {
		text++;
		end = strchr(text, ']');
		if (!end || end[1] != ':')
			return fail(
			    why, "an IPv6 address is written [::1]:7000");
		port = end + 2;
	} else {
		end = strchr(text, ':');
		if (!end)
			return fail(why, "the port is missing (HOST:PORT)");
		port = end + 1;
		if (strchr(port, ':'))
			return fail(
			    why, "an IPv6 address is written [::1]:7000");
	}
	size_t length = (size_t)(end - text);
	if (length == 0)
		return fail(why, "the host is missing (HOST:PORT)");
	if (length >= sizeof(endpoint->host))
		return fail(why, "the host is longer than a name can be");
	if (!is_port(port))
		return fail(why, "the port is not a number from 1 to 65535");
	memcpy(endpoint->host, text, length);
	endpoint->host[length] = '\0';
	strcpy(endpoint->port, port);
	return endpoint->listens ? settle_host(endpoint, why) : 0;
}

int
endpoint_parse(struct endpoint *endpoint, const char *text, const char **why)
{
	for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
		size_t length = strlen(kinds[i].prefix);

		if (strncmp(text, kinds[i].prefix, length) != 0)
			continue;
		*endpoint = (struct endpoint){ .kind = kinds[i].kind,
			.listens = kinds[i].listens };
		return kinds[i].kind == ENDPOINT_UNIX
			   ? parse_path(endpoint, text + length, why)
			   : parse_host(endpoint, text + length, why);
	}
	return fail(why, "it starts with none of unix: tcp: listen-unix: "
			 "listen-tcp:");
}
