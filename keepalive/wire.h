/* Where things are in an Ethernet frame, and what they must be: shared by
 * probe.c and learn.c, of no use to others. Offsets are from the frame's first
 * byte; a VLAN tag shifts what follows it, so tagged frames match nothing. */
#ifndef KEEPALIVE_WIRE_H
#define KEEPALIVE_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define MAC_BYTES 6u
#define IPV4_BYTES 4u

enum {
	ETHERNET_DESTINATION = 0,
	ETHERNET_SOURCE = 6,
	ETHERNET_TYPE = 12,
	ETHERNET_PAYLOAD = 14,
};

enum {
	ETHERTYPE_OF_IPV4 = 0x0800,
	ETHERTYPE_OF_ARP = 0x0806,
	ETHERTYPE_OF_PEER = 0x88b5, /* IEEE 802 local experimental 1 */
};

/* RFC 826 for Ethernet and IPv4. */
enum {
	ARP_OPERATION = 20,
	ARP_SENDER_MAC = 22,
	ARP_SENDER_IPV4 = 28,
	ARP_TARGET_MAC = 32,
	ARP_TARGET_IPV4 = 38,
	ARP_END = 42, /* the least length: not everybody pads to 60 */
	ARP_REQUEST = 1,
	ARP_REPLY = 2,
};

static inline uint16_t
wire_get16(const uint8_t *bytes)
{
	return (uint16_t)(bytes[0] << 8 | bytes[1]);
}

static inline bool
wire_all_zero(const uint8_t *bytes, size_t length)
{
	for (size_t i = 0; i < length; i++)
		if (bytes[i] != 0)
			return false;
	return true;
}

/* An address that one host can have. */
static inline bool
wire_is_host_mac(const uint8_t *mac)
{
	return (mac[0] & 1) == 0 && !wire_all_zero(mac, MAC_BYTES);
}

/* The same, leaving out 0/8, loopback, multicast, and broadcast. */
static inline bool
wire_is_host_ipv4(const uint8_t *ipv4)
{
	return ipv4[0] != 0 && ipv4[0] != 127 && ipv4[0] < 224;
}

/* A whole ARP packet about Ethernet and IPv4. */
static inline bool
wire_is_arp(const uint8_t *frame, size_t length)
{
	static const uint8_t head[] = { 0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0 };

	return length >= ARP_END &&
	       memcmp(frame + ETHERNET_TYPE, head, sizeof(head)) == 0;
}

#endif
