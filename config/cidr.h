/* Networks such as 192.168.0.0/16 and fd00::/8, and who belongs to them.
 * Pure: no socket, no name is resolved. */
#ifndef CONFIG_CIDR_H
#define CONFIG_CIDR_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

/* More than the text of one key can hold. */
#define CIDR_LIST_MAX 64

struct cidr {
	int family; /* AF_INET or AF_INET6 */
	uint8_t address[16];
	unsigned bits; /* that count */
};

struct cidr_list {
	struct cidr networks[CIDR_LIST_MAX];
	size_t count;
};

/* 127.0.0.0/8 and ::1. */
extern const struct cidr_list cidr_loopback;

/* Reads networks with commas between them; an address without /BITS is a
 * network of one. Empty text is an empty list.
 * Returns 0, or -1 with *why a static sentence. */
int cidr_list_parse(struct cidr_list *list, const char *text, const char **why);

/* Whether one of the networks holds this address. IPv4 in IPv6's clothes
 * (::ffff:10.0.0.1, as a socket for both tells it) counts as IPv4. */
bool cidr_list_holds(const struct cidr_list *list, const struct sockaddr *who);

/* The same for an address as text; a name is in no network. */
bool cidr_list_holds_text(const struct cidr_list *list, const char *address);

#endif
