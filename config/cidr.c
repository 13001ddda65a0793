#include "config/cidr.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

const struct cidr_list cidr_loopback = {
	.networks = { { .family = AF_INET, .address = { 127 }, .bits = 8 },
	    { .family = AF_INET6, .address = { [15] = 1 }, .bits = 128 } },
	.count = 2
};

/* Reads an address of either family as a network of one. */
static bool
parse_address(struct cidr *network, const char *text)
{
	*network = (struct cidr){ .family = AF_INET, .bits = 32 };
	if (inet_pton(AF_INET, text, network->address) == 1)
		return true;
	*network = (struct cidr){ .family = AF_INET6, .bits = 128 };
	return inet_pton(AF_INET6, text, network->address) == 1;
}

/* Narrows the network to the number of bits in `text`. */
static bool
parse_bits(struct cidr *network, const char *text)
{
	size_t length = strlen(text);
	unsigned long bits = strtoul(text, NULL, 10);

	if (length == 0 || length > 3 || strspn(text, "0123456789") != length ||
	    bits > network->bits)
		return false;
	network->bits = (unsigned)bits;
	return true;
}

static int
parse_network(struct cidr *network, char *text, struct error *error)
{
	char *slash = strchr(text, '/');

	if (slash != NULL)
		*slash = '\0';
	if (!parse_address(network, text))
		return error_set(error,
		    "write networks as 192.168.0.0/16 or fd00::/8, separated "
		    "by commas");
	if (slash != NULL && !parse_bits(network, slash + 1))
		return error_set(
		    error, "the number after the slash is 0 to 32 (IPv6: 128)");
	return 0;
}

int
cidr_list_parse(struct cidr_list *list, const char *text, struct error *error)
{
	static const char blanks[] = " \t";
	char copy[CIDR_TEXT_BYTES], *rest = copy, *item, *end;

	*list = (struct cidr_list){ .count = 0 };
	if (strlen(text) >= sizeof(copy))
		return error_set(error, "the list is too long");
	strcpy(copy, text);
	while (*text != '\0' && (item = strsep(&rest, ",")) != NULL) {
		item += strspn(item, blanks);
		for (end = item + strlen(item); end > item; *--end = '\0')
			if (strchr(blanks, end[-1]) == NULL)
				break;
		if (parse_network(&list->networks[list->count++], item, error))
			return -1;
	}
	return 0;
}

static bool
holds(const struct cidr *network, int family, const uint8_t *address)
{
	unsigned bytes = network->bits / 8, rest = network->bits % 8;
	uint8_t mask = (uint8_t)(0xff00 >> rest);

	if (network->family != family ||
	    memcmp(network->address, address, bytes) != 0)
		return false;
	return rest == 0 ||
	       ((network->address[bytes] ^ address[bytes]) & mask) == 0;
}

bool
cidr_list_holds(const struct cidr_list *list, const struct sockaddr *address)
{
	struct sockaddr_in in = { .sin_family = AF_UNSPEC };
	struct sockaddr_in6 in6;
	const uint8_t *bytes = (const uint8_t *)&in.sin_addr;
	int family = address->sa_family;

	if (family == AF_INET) {
		memcpy(&in, address, sizeof(in));
	} else if (family == AF_INET6) {
		memcpy(&in6, address, sizeof(in6));
		bytes = in6.sin6_addr.s6_addr;
		if (IN6_IS_ADDR_V4MAPPED(&in6.sin6_addr)) {
			family = AF_INET;
			bytes += 12;
		}
	}
	for (size_t i = 0; i < list->count; i++)
		if (holds(&list->networks[i], family, bytes))
			return true;
	return false;
}
