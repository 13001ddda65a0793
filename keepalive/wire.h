/* Offsets and values of the fields of an Ethernet frame. Offsets are from the
 * frame's first byte. Frames with a VLAN tag match nothing, because the tag
 * shifts what follows it. Addresses are arrays of bytes in network order. */
#ifndef KEEPALIVE_WIRE_H
#define KEEPALIVE_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define MAC_BYTES 6u
#define IPV4_BYTES 4u

enum {
	ETHERNET_SOURCE = 6,
	ETHERNET_TYPE = 12,
	ETHERNET_PAYLOAD = 14,

	ETHERTYPE_OF_IPV4 = 0x0800, /* RFC 894 */
	ETHERTYPE_OF_ARP = 0x0806,  /* RFC 826 */
	ETHERTYPE_OF_RARP = 0x8035, /* RFC 903 */
	ETHERTYPE_OF_PEER = 0x88b5, /* IEEE 802 local experimental 1 */

	/* RFC 826 for Ethernet and IPv4; RARP has the same form. */
	ARP_OPERATION = 20,
	ARP_SENDER_MAC = 22,
	ARP_SENDER_IPV4 = 28,
	ARP_TARGET_MAC = 32,
	ARP_TARGET_IPV4 = 38,
	ARP_END = 42, /* some senders don't pad to 60 */
	ARP_REQUEST = 1,
	ARP_REPLY = 2,
	RARP_REQUEST = 3, /* RFC 903: request reverse */

	/* RFC 791, a header without options */
	IPV4_VERSION = 14,
	IPV4_FRAGMENT = 20,
	IPV4_PROTOCOL = 23,
	IPV4_DESTINATION = 30,
	IPV4_END = 34,
	IPV4_PLAIN = 0x45, /* version 4, five words */
	IPV4_IS_UDP = 17,

	/* RFC 768 */
	UDP_PORTS = 34,
	UDP_LENGTH = 38,

	/* RFC 2131, its options in RFC 2132 */
	DHCP_HEAD = 42,
	DHCP_CLIENT_MAC = 70,
	DHCP_COOKIE = 278,
	DHCP_OPTIONS = 282,
	DHCP_PAD = 0,
	DHCP_ROUTER = 3,
	DHCP_TYPE = 53,
	DHCP_ACK = 5,
	DHCP_END = 255,
};

static inline uint16_t
wire_get16(const uint8_t *bytes)
{
	return (uint16_t)(bytes[0] << 8 | bytes[1]);
}

static inline bool
wire_is_zero(const uint8_t *bytes, size_t length)
{
	for (size_t i = 0; i < length; i++)
		if (bytes[i] != 0)
			return false;
	return true;
}

/* Returns whether this can be the address of a single host. */
static inline bool
wire_is_host_mac(const uint8_t *mac)
{
	return (mac[0] & 1) == 0 && !wire_is_zero(mac, MAC_BYTES);
}

/* The same for IPv4: not in 0/8, loopback, multicast or broadcast. */
static inline bool
wire_is_host_ipv4(const uint8_t *ipv4)
{
	return ipv4[0] != 0 && ipv4[0] != 127 && ipv4[0] < 224;
}

/* Returns whether the frame is a complete ARP packet for Ethernet and IPv4. */
static inline bool
wire_is_arp(const uint8_t *frame, size_t length)
{
	static const uint8_t head[] = { 0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0 };

	return length >= ARP_END &&
	       memcmp(frame + ETHERNET_TYPE, head, sizeof(head)) == 0;
}

/* Returns quickly whether a frame from the network may be ARP, or come from a
 * DHCP server or another forwarder. Only such frames need probe_recognise() and
 * learn_from_network(). */
static inline bool
wire_is_notable(const uint8_t *frame, size_t length)
{
	if (length < ARP_END)
		return false;
	switch (wire_get16(frame + ETHERNET_TYPE)) {
	case ETHERTYPE_OF_ARP:
	case ETHERTYPE_OF_PEER:
		return true;
	case ETHERTYPE_OF_IPV4:
		return frame[IPV4_PROTOCOL] == IPV4_IS_UDP &&
		       wire_get16(frame + UDP_PORTS) == 67;
	default:
		return false;
	}
}

#endif
