#include "reconnect/endpoint.h"

#include <arpa/inet.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/words.h"

int
endpoint_parse_path(
    char path[ENDPOINT_PATH_BYTES], const char *text, struct error *error)
{
	if (*text == '\0')
		return error_set(error, "the path is missing");
	if (strlen(text) >= ENDPOINT_PATH_BYTES)
		return error_set(error,
		    "the path is longer than a socket allows (%zu bytes)",
		    ENDPOINT_PATH_BYTES - 1);
	strcpy(path, text);
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

/* No name is resolved for listening, because main() opens the socket and must not
 * block. An IPv6 address may contain its interface: fe80::1%eth0. */
static int
check_address(struct endpoint *endpoint, struct error *error)
{
	char bare[ENDPOINT_HOST_BYTES];
	uint8_t in[4];
	struct in6_addr in6;

	if (strcmp(endpoint->host, "localhost") == 0)
		strcpy(endpoint->host, "127.0.0.1");
	strcpy(bare, endpoint->host);
	bare[strcspn(bare, "%")] = '\0';
	if (inet_pton(AF_INET, endpoint->host, in) == 1)
		endpoint->loopback = in[0] == 127;
	else if (inet_pton(AF_INET6, bare, &in6) == 1)
		endpoint->loopback = IN6_IS_ADDR_LOOPBACK(&in6);
	else
		return error_set(
		    error, "listen-tcp takes an address, not a name");
	return 0;
}

/* HOST:PORT or [HOST]:PORT. */
static int
parse_host(struct endpoint *endpoint, const char *text, struct error *error)
{
	const char *port, *end;

	if (*text == '[') {
		end = strchr(++text, ']');
		port = end && end[1] == ':' ? end + 2 : NULL;
	} else {
		end = strchr(text, ':');
		if (!end)
			return error_set(
			    error, "the port is missing (HOST:PORT)");
		port = strchr(end + 1, ':') ? NULL : end + 1;
	}
	if (!port)
		return error_set(error, "write an IPv6 address as [::1]:7000");
	size_t length = (size_t)(end - text);
	if (length == 0)
		return error_set(error, "the host is missing (HOST:PORT)");
	if (length >= sizeof(endpoint->host))
		return error_set(error, "the host name is too long");
	if (!is_port(port))
		return error_set(
		    error, "the port is not a number from 1 to 65535");
	memcpy(endpoint->host, text, length);
	strcpy(endpoint->port, port);
	return endpoint->listens ? check_address(endpoint, error) : 0;
}

static int
parse_path(struct endpoint *endpoint, const char *text, struct error *error)
{
	return endpoint_parse_path(endpoint->path, text, error);
}

static int
parse_command(struct endpoint *endpoint, const char *text, struct error *error)
{
	static const struct words_place none[] = { { NULL, NULL } };
	bool has_fd = strstr(text, ENDPOINT_FD) != NULL;
	bool has_socket = strstr(text, ENDPOINT_SOCKET) != NULL;
	struct words words;

	if (strlen(text) >= ENDPOINT_COMMAND_BYTES)
		return error_set(error, "the command is longer than %d bytes",
		    ENDPOINT_COMMAND_BYTES - 1);
	if (words_split(&words, text, none, error) < 0)
		return -1;
	if (words.count == 0)
		return error_set(error, "the command is missing");
	if (has_fd == has_socket)
		return error_set(error,
		    "the command needs %s for the number of its socket, or %s "
		    "for the path that it listens on%s",
		    ENDPOINT_FD, ENDPOINT_SOCKET, has_fd ? ", not both" : "");
	strcpy(endpoint->command, text);
	endpoint->has_path = has_socket;
	return 0;
}

static const struct {
	const char *prefix;
	enum endpoint_kind kind;
	bool listens, datagrams;
	int (*parse)(
	    struct endpoint *endpoint, const char *rest, struct error *error);
} kinds[] = {
	{ "unix:", ENDPOINT_UNIX, false, false, parse_path },
	{ "unixgram:", ENDPOINT_UNIXGRAM, false, true, parse_path },
	{ "tcp:", ENDPOINT_TCP, false, false, parse_host },
	{ "listen-unix:", ENDPOINT_UNIX, true, false, parse_path },
	{ "listen-tcp:", ENDPOINT_TCP, true, false, parse_host },
	{ "exec:", ENDPOINT_EXEC, false, false, parse_command },
	{ "exec-dgram:", ENDPOINT_EXEC, false, true, parse_command },
};

int
endpoint_parse(struct endpoint *endpoint, const char *text, struct error *error)
{
	for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
		size_t length = strlen(kinds[i].prefix);

		if (strncmp(text, kinds[i].prefix, length) != 0)
			continue;
		*endpoint = (struct endpoint){ .kind = kinds[i].kind,
			.listens = kinds[i].listens,
			.datagrams = kinds[i].datagrams };
		if (kinds[i].parse(endpoint, text + length, error) < 0)
			return -1;
		strcpy(endpoint->text, text);
		return 0;
	}
	return error_set(error, "it must begin with unix:, unixgram:, tcp:, "
				"listen-unix:, listen-tcp:, "
				"exec: or exec-dgram:");
}

bool
endpoint_equals(const struct endpoint *a, const struct endpoint *b)
{
	return a->kind == b->kind && a->listens == b->listens &&
	       a->datagrams == b->datagrams && strcmp(a->path, b->path) == 0 &&
	       strcmp(a->host, b->host) == 0 && strcmp(a->port, b->port) == 0 &&
	       strcmp(a->command, b->command) == 0;
}
