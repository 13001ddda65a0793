/* Networks such as 192.168.0.0/16 and fd00::/8, and which addresses are in
 * them. Opens no socket and resolves no name. */
#ifndef CONFIG_CIDR_H
#define CONFIG_CIDR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/error.h"

/* A longer text is refused. The shortest network is "::" and a comma. */
#define CIDR_TEXT_BYTES 192
#define CIDR_LIST_MAX (CIDR_TEXT_BYTES / 3)

struct cidr {
	int family; /* AF_INET or AF_INET6 */
	uint8_t address[16];
	unsigned bits; /* of the prefix */
};

struct cidr_list {
	struct cidr networks[CIDR_LIST_MAX];
	size_t count;
};

/* 127.0.0.0/8 and ::1. */
extern const struct cidr_list cidr_loopback;

/* Reads networks separated by commas; an address without /BITS is a network of
 * one. Empty text is an empty list. Returns 0, or -1 with the error set. */
int cidr_list_parse(
    struct cidr_list *list, const char *text, struct error *error);

/* Whether one of the networks holds this address. An IPv4-mapped IPv6 address
 * (::ffff:10.0.0.1) counts as IPv4. */
bool cidr_list_holds(
    const struct cidr_list *list, const struct sockaddr *address);

#endif
