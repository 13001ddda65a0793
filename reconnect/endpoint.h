/* Parses the address of the network. Resolves no name and opens nothing. */
#ifndef RECONNECT_ENDPOINT_H
#define RECONNECT_ENDPOINT_H

#include <stdbool.h>
#include <sys/un.h>

#include "base/error.h"

#define ENDPOINT_PATH_BYTES sizeof(((struct sockaddr_un *)0)->sun_path)
#define ENDPOINT_HOST_BYTES 256

#define ENDPOINT_COMMAND_BYTES 256

enum endpoint_kind {
	ENDPOINT_UNIX,
	ENDPOINT_TCP,
	ENDPOINT_UNIXGRAM,
	ENDPOINT_EXEC
};

/* In a command: the number of the daemon's descriptor, the path it listens on. */
#define ENDPOINT_FD "{fd}"
#define ENDPOINT_SOCKET "{socket}"

struct endpoint {
	char text[ENDPOINT_HOST_BYTES + 20]; /* as configured */
	enum endpoint_kind kind;
	bool datagrams; /* one frame each; otherwise a stream */
	bool listens;   /* accepts one client at a time instead of dialling */
	bool loopback;  /* listens on a loopback address */
	char path[ENDPOINT_PATH_BYTES];
	char host[ENDPOINT_HOST_BYTES]; /* an IPv6 address without brackets */
	char port[6];                   /* decimal, 1 to 65535 */
	char command[ENDPOINT_COMMAND_BYTES]; /* as configured */
	bool has_path; /* the command has {socket}, not {fd} */
};

/* Parses unix:PATH, unixgram:PATH, tcp:HOST:PORT, listen-unix:PATH,
 * listen-tcp:ADDR:PORT, exec:COMMAND or exec-dgram:COMMAND. An IPv6 address is in
 * brackets. ADDR is an address, or localhost for 127.0.0.1. COMMAND contains either
 * {fd} or {socket}, and its quotes are closed (base/words.h). Returns 0, or -1 with
 * the error set. */
int endpoint_parse(
    struct endpoint *endpoint, const char *text, struct error *error);

bool endpoint_equals(const struct endpoint *a, const struct endpoint *b);

/* Copies the path of a Unix socket. Returns 0, or -1 with the error set if it
 * is missing or longer than a socket allows. */
int endpoint_parse_path(
    char path[ENDPOINT_PATH_BYTES], const char *text, struct error *error);

#endif
