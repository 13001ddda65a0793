/* An ARP request from the guest does not identify its gateway, because it sends
 * one for every neighbour. But a frame to the MAC of 192.168.1.1 with a packet
 * for 8.8.8.8 shows that the guest uses 192.168.1.1 as a router. So the last
 * few pairs of address and MAC that the guest has learned are kept, and its
 * IPv4 frames are compared with them until the gateway is known.
 *
 * Classless routes (option 121) and options in the sname and file fields
 * (option 52) of a lease are ignored. A router named there is still found by
 * the guest's packets. */
#include "keepalive/learn.h"

void
learn_configure(struct learned *l, const uint8_t *gateway)
{
	if (l->configured == (gateway != NULL) &&
	    (gateway == NULL || memcmp(l->gateway, gateway, IPV4_BYTES) == 0))
		return;
	*l = (struct learned){ .configured = gateway != NULL };
	if (gateway != NULL) {
		memcpy(l->gateway, gateway, IPV4_BYTES);
		l->state = LEARN_ADDRESS;
	}
}

/* Finds a neighbour with this address and this MAC; NULL matches any. */
static struct neighbour *
find(struct learned *l, const uint8_t *ipv4, const uint8_t *mac)
{
	for (unsigned i = 0; i < LEARN_NEIGHBOURS; i++) {
		struct neighbour *n = &l->neighbours[i];

		if ((ipv4 == NULL || memcmp(n->ipv4, ipv4, IPV4_BYTES) == 0) &&
		    (mac == NULL || memcmp(n->mac, mac, MAC_BYTES) == 0))
			return n;
	}
	return NULL;
}

static bool
is_gateway(const struct learned *l, const uint8_t *ipv4)
{
	return l->state != LEARN_NOTHING &&
	       memcmp(l->gateway, ipv4, IPV4_BYTES) == 0;
}

static void
set_gateway_mac(struct learned *l, const uint8_t *mac)
{
	memcpy(l->gateway_mac, mac, MAC_BYTES);
	l->state = LEARN_ALL;
}

static void
set_gateway(struct learned *l, const uint8_t *ipv4)
{
	const struct neighbour *known = find(l, ipv4, NULL);

	if (l->configured || is_gateway(l, ipv4))
		return;
	memcpy(l->gateway, ipv4, IPV4_BYTES);
	l->state = LEARN_ADDRESS;
	if (known != NULL)
		set_gateway_mac(l, known->mac);
}

/* Stores an address and its MAC that the guest knows or is about to learn. */
static void
add_neighbour(struct learned *l, const uint8_t *ipv4, const uint8_t *mac)
{
	struct neighbour *n = find(l, ipv4, NULL);

	if (!wire_is_host_ipv4(ipv4) || !wire_is_host_mac(mac))
		return;
	if (n == NULL)
		n = &l->neighbours[l->next_neighbour++ % LEARN_NEIGHBOURS];
	memcpy(n->ipv4, ipv4, IPV4_BYTES);
	memcpy(n->mac, mac, MAC_BYTES);
	if (l->state == LEARN_ADDRESS && is_gateway(l, ipv4))
		set_gateway_mac(l, mac);
}

/* A unicast request and a reply both show which MAC the guest uses for an
 * address. */
static void
learn_from_guest_arp(struct learned *l, const uint8_t *frame)
{
	uint8_t operation = frame[ARP_OPERATION + 1];

	if (operation == ARP_REQUEST || operation == ARP_REPLY)
		add_neighbour(l, frame + ARP_TARGET_IPV4,
		    operation == ARP_REPLY ? frame + ARP_TARGET_MAC : frame);
}

/* Looks for a packet to one address in a frame to the MAC of another. */
static void
learn_from_guest_ipv4(struct learned *l, const uint8_t *frame)
{
	const uint8_t *destination = frame + IPV4_DESTINATION;
	const struct neighbour *through;

	if (l->configured || l->state == LEARN_ALL)
		return;
	if (!wire_is_host_mac(frame) || !wire_is_host_ipv4(destination))
		return;
	through = find(l, NULL, frame);
	if (through != NULL && find(l, destination, frame) == NULL)
		set_gateway(l, through->ipv4);
}

void
learn_from_guest(struct learned *l, const uint8_t *frame, size_t length)
{
	if (wire_is_arp(frame, length))
		learn_from_guest_arp(l, frame);
	else if (length >= IPV4_END &&
		 wire_get16(frame + ETHERNET_TYPE) == ETHERTYPE_OF_IPV4)
		learn_from_guest_ipv4(l, frame);
}

static void
learn_from_network_arp(
    struct learned *l, const uint8_t *guest, const uint8_t *frame)
{
	const uint8_t *ipv4 = frame + ARP_SENDER_IPV4;
	const uint8_t *mac = frame + ARP_SENDER_MAC;

	if (!wire_is_host_mac(mac))
		return;
	if (guest != NULL && memcmp(frame, guest, MAC_BYTES) == 0)
		add_neighbour(l, ipv4, mac);
	if (is_gateway(l, ipv4))
		set_gateway_mac(l, mac);
}

/* Returns whether the frame is a complete reply of a DHCP server to the guest.
 * Checksums are ignored, because virtual links often omit them. */
static bool
is_dhcp_reply(const uint8_t *frame, size_t length, const uint8_t *guest)
{
	static const uint8_t ports[] = { 0, 67, 0, 68 };
	static const uint8_t head[] = { 2, 1, 6 }; /* reply, 6-byte MAC */
	static const uint8_t cookie[] = { 99, 130, 83, 99 };

	return length >= DHCP_OPTIONS &&
	       wire_get16(frame + ETHERNET_TYPE) == ETHERTYPE_OF_IPV4 &&
	       frame[IPV4_VERSION] == IPV4_PLAIN &&
	       frame[IPV4_PROTOCOL] == IPV4_IS_UDP &&
	       (wire_get16(frame + IPV4_FRAGMENT) & 0x3fff) == 0 &&
	       memcmp(frame + UDP_PORTS, ports, sizeof(ports)) == 0 &&
	       wire_get16(frame + UDP_LENGTH) <= length - UDP_PORTS &&
	       memcmp(frame + DHCP_HEAD, head, sizeof(head)) == 0 &&
	       memcmp(frame + DHCP_CLIENT_MAC, guest, MAC_BYTES) == 0 &&
	       memcmp(frame + DHCP_COOKIE, cookie, sizeof(cookie)) == 0;
}

/* Returns the first option with that code: its length, then its bytes. NULL if
 * there is none before the end of the list or an option that is too long. */
static const uint8_t *
find_option(const uint8_t *frame, uint8_t code)
{
	size_t at = DHCP_OPTIONS;
	size_t end = UDP_PORTS + (size_t)wire_get16(frame + UDP_LENGTH);

	while (at + 1 < end && frame[at] != DHCP_END) {
		if (frame[at] == DHCP_PAD) {
			at++;
			continue;
		}
		if (at + 2 + frame[at + 1] > end)
			break;
		if (frame[at] == code)
			return frame + at + 1;
		at += 2u + frame[at + 1];
	}
	return NULL;
}

static void
learn_from_lease(struct learned *l, const uint8_t *frame)
{
	const uint8_t *type = find_option(frame, DHCP_TYPE);
	const uint8_t *router = find_option(frame, DHCP_ROUTER);

	if (type != NULL && type[0] == 1 && type[1] == DHCP_ACK &&
	    router != NULL && router[0] >= IPV4_BYTES &&
	    wire_is_host_ipv4(router + 1))
		set_gateway(l, router + 1);
}

void
learn_from_network(struct learned *l, const uint8_t *guest,
    const uint8_t *frame, size_t length)
{
	if (wire_is_arp(frame, length))
		learn_from_network_arp(l, guest, frame);
	else if (guest != NULL && is_dhcp_reply(frame, length, guest))
		learn_from_lease(l, frame);
}
