/* The network side's address as a person writes it. Parses text; resolves
 * no name and opens nothing. */
#ifndef RECONNECT_ENDPOINT_H
#define RECONNECT_ENDPOINT_H

#include <stdbool.h>
#include <sys/un.h>

enum endpoint_kind { ENDPOINT_UNIX, ENDPOINT_TCP };

struct endpoint {
	enum endpoint_kind kind;
	bool listens; /* accept one client at a time instead of dialling */
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
	char host[256]; /* without the brackets of an IPv6 address */
	char port[6];   /* decimal, 1 to 65535 */
};

/* Understands unix:PATH, tcp:HOST:PORT, listen-unix:PATH and
 * listen-tcp:ADDR:PORT; an IPv6 address stands in brackets. ADDR is no name,
 * but for localhost, which is taken as 127.0.0.1.
 * Returns 0, or -1 with *why set to a static sentence for the user. */
int endpoint_parse(
    struct endpoint *endpoint, const char *text, const char **why);

#endif
