#include "config/cidr.h"

#include <arpa/inet.h>
#include <string.h>

const struct cidr_list cidr_loopback = {
	.networks = { { .family = AF_INET, .address = { 127 }, .bits = 8 },
	    { .family = AF_INET6, .address = { [15] = 1 }, .bits = 128 } },
	.count = 2
};

static int
fail(const char **why, const char *sentence)
{
	*why = sentence;
	return -1;
}

static unsigned
address_bits(int family)
{
	return family == AF_INET ? 32 : 128;
}

/* Takes the text of an address of either family. */
static bool
read_address(struct cidr *address, const char *text)
{
	*address = (struct cidr){ .family = AF_INET };
	if (inet_pton(AF_INET, text, address->address) != 1) {
		address->family = AF_INET6;
		if (inet_pton(AF_INET6, text, address->address) != 1)
			return false;
	}
	address->bits = address_bits(address->family);
	return true;
}

/* Narrows the network to the bits that `text` says. */
static bool
read_bits(struct cidr *network, const char *text)
{
	unsigned bits = 0;
	size_t length = strlen(text);

	if (length == 0 || length > 3 || strspn(text, "0123456789") != length)
		return false;
	for (; *text != '\0'; text++)
		bits = bits * 10 + (unsigned)(*text - '0');
	if (bits > network->bits)
		return false;
	network->bits = bits;
	return true;
}

static int
parse_network(struct cidr *network, char *text, const char **why)
{
	char *slash = strchr(text, '/');

	if (slash != NULL)
		*slash = '\0';
	if (!read_address(network, text))
		return fail(why, "a network is written 192.168.0.0/16 or "
				 "fd00::/8, with commas between them");
	if (slash != NULL && !read_bits(network, slash + 1))
		return fail(why, "after the slash stand the bits that count, "
				 "0 to 32 (IPv6: 128)");
	return 0;
}

int
cidr_list_parse(struct cidr_list *list, const char *text, const char **why)
{
	char item[INET6_ADDRSTRLEN + sizeof("/128")];
	const char *blanks = " \t";

	list->count = 0;
	text += strspn(text, blanks);
	while (*text != '\0') {
		size_t length = strcspn(text, ", \t");

		if (length >= sizeof(item))
			return fail(why, "one of its networks is too long");
		if (list->count == CIDR_LIST_MAX)
			return fail(why, "it lists more than 64 networks");
		memcpy(item, text, length);
		item[length] = '\0';
		if (parse_network(&list->networks[list->count++], item, why))
			return -1;
		text += length + strspn(text + length, blanks);
		if (*text == ',') {
			text += 1 + strspn(text + 1, blanks);
			if (*text == '\0')
				return fail(why, "it ends with a comma");
		} else if (*text != '\0') {
			return fail(why, "a comma is missing in it");
		}
	}
	return 0;
}

static bool
holds(const struct cidr *network, const struct cidr *address)
{
	unsigned bytes = network->bits / 8, rest = network->bits % 8;
	uint8_t mask = (uint8_t)(0xff00 >> rest);

	if (network->family != address->family)
		return false;
	if (memcmp(network->address, address->address, bytes) != 0)
		return false;
	return rest == 0 ||
	       ((network->address[bytes] ^ address->address[bytes]) & mask) ==
		   0;
}

static bool
list_holds(const struct cidr_list *list, const struct cidr *address)
{
	for (size_t i = 0; i < list->count; i++)
		if (holds(&list->networks[i], address))
			return true;
	return false;
}

static struct cidr
from_ipv6(const struct in6_addr *in6)
{
	struct cidr address = { .family = AF_INET6 };

	if (IN6_IS_ADDR_V4MAPPED(in6)) {
		address.family = AF_INET;
		memcpy(address.address, in6->s6_addr + 12, 4);
	} else {
		memcpy(address.address, in6->s6_addr, 16);
	}
	return address;
}

bool
cidr_list_holds(const struct cidr_list *list, const struct sockaddr *who)
{
	struct cidr address = { .family = AF_INET };
	struct sockaddr_in in;
	struct sockaddr_in6 in6;

	if (who->sa_family == AF_INET) {
		memcpy(&in, who, sizeof(in));
		memcpy(address.address, &in.sin_addr, 4);
	} else if (who->sa_family == AF_INET6) {
		memcpy(&in6, who, sizeof(in6));
		address = from_ipv6(&in6.sin6_addr);
	} else {
		return false;
	}
	return list_holds(list, &address);
}

bool
cidr_list_holds_text(const struct cidr_list *list, const char *text)
{
	struct cidr address;

	return read_address(&address, text) && list_holds(list, &address);
}
