/* Theory of operation
 *
 *	guest's MAC    the source of a frame it sends
 *	gateway        1. the configuration's, for good
 *	               2. DHCP: the first router of an acknowledgement to the guest
 *	               3. a neighbour through which the guest sends to others
 *	gateway's MAC  the sender of any ARP from the gateway's address;
 *	               until there was one, where the guest sends for it
 *
 * That the guest asks for an address by ARP says nothing, it asks for every
 * neighbour. But a frame to the MAC of 192.168.1.1 with a packet for 8.8.8.8
 * shows that the guest takes 192.168.1.1 for a router. So the pairs of address
 * and MAC that the guest comes to know are kept, the latest few, and its IPv4
 * frames compared with them, until the gateway is known.
 *
 * What it doesn't do: a lease's classless routes (option 121) and options
 * carried in the sname and file fields (option 52) are passed over. A router
 * named there is still found by the guest's packets. */
#include "keepalive/learn.h"

#include "keepalive/wire.h"

enum {
	IPV4_FRAGMENT = 20, /* flags and offset */
	IPV4_PROTOCOL = 23,
	IPV4_DESTINATION = 30,
	IPV4_LEAST_HEADER = 20,
	UDP_HEADER = 8,
	PROTOCOL_UDP = 17,
};

/* RFC 2131, from the first byte of the message. */
enum {
	DHCP_CLIENT_MAC = 28,
	DHCP_COOKIE = 236,
	DHCP_OPTIONS = 240,
};

/* RFC 2132 */
enum {
	OPTION_PAD = 0,
	OPTION_ROUTER = 3,
	OPTION_TYPE = 53,
	OPTION_END = 255,
	TYPE_ACK = 5,
};

struct span {
	const uint8_t *bytes; /* NULL: none */
	size_t length;
};

void
learn_init(struct learned *l, const uint8_t *gateway)
{
	*l = (struct learned){ .configured = gateway != NULL };
	if (gateway != NULL) {
		memcpy(l->gateway, gateway, IPV4_BYTES);
		l->gateway_known = true;
	}
}

void
learn_doubt(struct learned *l)
{
	l->doubted = true;
}

/* Sets `bytes` to `news`; true if that is new. */
static bool
set(bool *known, uint8_t *bytes, const uint8_t *news, size_t length)
{
	if (*known && memcmp(bytes, news, length) == 0)
		return false;
	memcpy(bytes, news, length);
	*known = true;
	return true;
}

static struct neighbour *
find_by_ipv4(struct learned *l, const uint8_t *ipv4)
{
	for (unsigned i = 0; i < LEARN_NEIGHBOURS; i++)
		if (memcmp(l->neighbours[i].ipv4, ipv4, IPV4_BYTES) == 0)
			return &l->neighbours[i];
	return NULL;
}

static struct neighbour *
find_by_mac(struct learned *l, const uint8_t *mac)
{
	for (unsigned i = 0; i < LEARN_NEIGHBOURS; i++)
		if (memcmp(l->neighbours[i].mac, mac, MAC_BYTES) == 0)
			return &l->neighbours[i];
	return NULL;
}

static bool
set_gateway_mac(struct learned *l, const uint8_t *mac)
{
	return set(&l->gateway_mac_known, l->gateway_mac, mac, MAC_BYTES);
}

static bool
set_gateway(struct learned *l, const uint8_t *ipv4)
{
	const struct neighbour *known = find_by_ipv4(l, ipv4);

	if (l->configured ||
	    !set(&l->gateway_known, l->gateway, ipv4, IPV4_BYTES))
		return false;
	l->gateway_mac_known = false;
	if (known != NULL)
		set_gateway_mac(l, known->mac);
	return true;
}

/* The guest knows, or is about to, that `ipv4` is at `mac`. */
static bool
meet(struct learned *l, const uint8_t *ipv4, const uint8_t *mac)
{
	struct neighbour *n = find_by_ipv4(l, ipv4);

	if (!wire_is_host_ipv4(ipv4) || !wire_is_host_mac(mac))
		return false;
	if (n == NULL)
		n = &l->neighbours[l->next_neighbour++ % LEARN_NEIGHBOURS];
	memcpy(n->ipv4, ipv4, IPV4_BYTES);
	memcpy(n->mac, mac, MAC_BYTES);
	if (!l->gateway_known || l->gateway_mac_known ||
	    memcmp(l->gateway, ipv4, IPV4_BYTES) != 0)
		return false;
	return set_gateway_mac(l, mac);
}

/* A question to one MAC, and an answer, both show what the guest believes. */
static bool
guest_arp(struct learned *l, const uint8_t *frame)
{
	if (frame[ARP_OPERATION + 1] == ARP_REQUEST)
		return meet(
		    l, frame + ARP_TARGET_IPV4, frame + ETHERNET_DESTINATION);
	if (frame[ARP_OPERATION + 1] == ARP_REPLY)
		return meet(l, frame + ARP_TARGET_IPV4, frame + ARP_TARGET_MAC);
	return false;
}

/* A packet for one address, in a frame to the MAC of another. */
static bool
guest_ipv4(struct learned *l, const uint8_t *frame)
{
	const uint8_t *destination = frame + IPV4_DESTINATION;
	const struct neighbour *at = find_by_ipv4(l, destination);
	const struct neighbour *through;

	if (l->gateway_known && !l->doubted)
		return false;
	if (!wire_is_host_mac(frame) || !wire_is_host_ipv4(destination))
		return false;
	if (at != NULL && memcmp(at->mac, frame, MAC_BYTES) == 0)
		return false;
	through = find_by_mac(l, frame);
	return through != NULL && set_gateway(l, through->ipv4);
}

bool
learn_from_guest(struct learned *l, const uint8_t *frame, size_t length)
{
	bool news = false;

	if (length < ETHERNET_PAYLOAD)
		return false;
	if ((!l->guest_known || l->doubted) &&
	    wire_is_host_mac(frame + ETHERNET_SOURCE))
		news = set(&l->guest_known, l->guest, frame + ETHERNET_SOURCE,
		    MAC_BYTES);
	if (wire_is_arp(frame, length))
		return guest_arp(l, frame) || news;
	if (wire_get16(frame + ETHERNET_TYPE) == ETHERTYPE_OF_IPV4 &&
	    length >= ETHERNET_PAYLOAD + IPV4_LEAST_HEADER)
		return guest_ipv4(l, frame) || news;
	return news;
}

static bool
network_arp(struct learned *l, const uint8_t *frame)
{
	const uint8_t *ipv4 = frame + ARP_SENDER_IPV4;
	const uint8_t *mac = frame + ARP_SENDER_MAC;
	bool news = false;

	if (!wire_is_host_mac(mac))
		return false;
	if (l->guest_known && memcmp(frame, l->guest, MAC_BYTES) == 0)
		news = meet(l, ipv4, mac);
	if (!l->gateway_known || memcmp(l->gateway, ipv4, IPV4_BYTES) != 0)
		return news;
	l->doubted = false;
	return set_gateway_mac(l, mac) || news;
}

/* What a whole, unfragmented IPv4 packet from UDP port 67 to 68 carries.
 * Checksums are not looked at: on virtual links they are often left out. */
static struct span
dhcp_message(const uint8_t *frame, size_t length)
{
	static const uint8_t ports[] = { 0, 67, 0, 68 };
	const uint8_t *ip = frame + ETHERNET_PAYLOAD;
	size_t header, packet, udp;

	if (length < ETHERNET_PAYLOAD + IPV4_LEAST_HEADER ||
	    wire_get16(frame + ETHERNET_TYPE) != ETHERTYPE_OF_IPV4 ||
	    ip[0] >> 4 != 4 || frame[IPV4_PROTOCOL] != PROTOCOL_UDP ||
	    (wire_get16(frame + IPV4_FRAGMENT) & 0x3fff) != 0)
		return (struct span){ 0 };
	header = (ip[0] & 15u) * 4;
	packet = wire_get16(ip + 2);
	if (packet > length - ETHERNET_PAYLOAD || header < IPV4_LEAST_HEADER ||
	    packet < header + UDP_HEADER)
		return (struct span){ 0 };
	udp = wire_get16(ip + header + 4);
	if (udp < UDP_HEADER || udp > packet - header ||
	    memcmp(ip + header, ports, sizeof(ports)) != 0)
		return (struct span){ 0 };
	return (struct span){ ip + header + UDP_HEADER, udp - UDP_HEADER };
}

static bool
is_reply_to(const uint8_t *guest, struct span message)
{
	static const uint8_t head[] = { 2, 1,
		6 }; /* reply, Ethernet, 6 bytes */
	static const uint8_t cookie[] = { 99, 130, 83, 99 };

	return message.length >= DHCP_OPTIONS &&
	       memcmp(message.bytes, head, sizeof(head)) == 0 &&
	       memcmp(message.bytes + DHCP_CLIENT_MAC, guest, MAC_BYTES) == 0 &&
	       memcmp(message.bytes + DHCP_COOKIE, cookie, sizeof(cookie)) == 0;
}

/* The first option of that code, as far as it is whole. */
static struct span
find_option(struct span message, uint8_t code)
{
	size_t at = DHCP_OPTIONS;

	while (at < message.length && message.bytes[at] != OPTION_END) {
		const uint8_t *option = message.bytes + at;

		if (*option == OPTION_PAD) {
			at++;
			continue;
		}
		if (message.length - at < 2 ||
		    message.length - at - 2 < option[1])
			break;
		if (*option == code)
			return (struct span){ option + 2, option[1] };
		at += 2u + option[1];
	}
	return (struct span){ 0 };
}

static bool
network_dhcp(struct learned *l, struct span message)
{
	struct span type, router;

	if (!l->guest_known || !is_reply_to(l->guest, message))
		return false;
	type = find_option(message, OPTION_TYPE);
	router = find_option(message, OPTION_ROUTER);
	if (type.length != 1 || *type.bytes != TYPE_ACK)
		return false;
	if (router.length < IPV4_BYTES || !wire_is_host_ipv4(router.bytes))
		return false;
	return set_gateway(l, router.bytes);
}

bool
learn_from_network(struct learned *l, const uint8_t *frame, size_t length)
{
	if (wire_is_arp(frame, length))
		return network_arp(l, frame);
	return network_dhcp(l, dhcp_message(frame, length));
}
