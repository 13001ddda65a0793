/* The PING and the PONG, as they are on the wire:
 *
 *	0       6       12     14      18       19    20        22         30   60
 *	| to    | from  | 88B5 | FWDK  | version| type| 0 (two) | sequence | 0  |
 *
 * RFC 826 makes the replier swap sender and target, so the answer to our ARP
 * request has 0.0.0.0 as its target address; Linux, the BSDs, passt and gvproxy
 * do that. An answer to the guest's own question names the guest's address. */
#include "keepalive/probe.h"

#include "keepalive/wire.h"

enum {
	PEER_MAGIC = 14,
	PEER_VERSION = 18,
	PEER_TYPE = 19,
	PEER_RESERVED = 20,
	PEER_SEQUENCE = 22,
	PEER_END = 30,
};

#define VERSION_1 1

/* Locally administered and unicast: 02, then "FWDK", then which. */
static const uint8_t peer_mac[MAC_BYTES] = { 2, 'F', 'W', 'D', 'K', 'A' };
static const uint8_t nobody_mac[MAC_BYTES] = { 2, 'F', 'W', 'D', 'K', 'B' };
static const uint8_t magic[] = { 'F', 'W', 'D', 'K' };

static void
start_frame(uint8_t *frame, const uint8_t *destination, const uint8_t *source,
    uint16_t ethertype)
{
	memset(frame, 0, PROBE_BYTES);
	memcpy(frame + ETHERNET_DESTINATION, destination, MAC_BYTES);
	memcpy(frame + ETHERNET_SOURCE, source, MAC_BYTES);
	frame[ETHERNET_TYPE] = (uint8_t)(ethertype >> 8);
	frame[ETHERNET_TYPE + 1] = (uint8_t)ethertype;
}

size_t
probe_arp_request(uint8_t *frame, const uint8_t *guest, const uint8_t *gateway,
    const uint8_t *gateway_mac)
{
	static const uint8_t everybody[MAC_BYTES] = { 0xff, 0xff, 0xff, 0xff,
		0xff, 0xff };
	static const uint8_t head[] = { 0, 1, 0x08, 0, 6, 4, 0, ARP_REQUEST };

	start_frame(frame, gateway_mac != NULL ? gateway_mac : everybody, guest,
	    ETHERTYPE_OF_ARP);
	memcpy(frame + ETHERNET_PAYLOAD, head, sizeof(head));
	memcpy(frame + ARP_SENDER_MAC, guest, MAC_BYTES);
	memcpy(frame + ARP_TARGET_IPV4, gateway, IPV4_BYTES);
	return PROBE_BYTES;
}

static size_t
peer_frame(uint8_t *frame, const uint8_t *source, enum probe_kind type,
    uint64_t sequence)
{
	start_frame(frame, peer_mac, source != NULL ? source : nobody_mac,
	    ETHERTYPE_OF_PEER);
	memcpy(frame + PEER_MAGIC, magic, sizeof(magic));
	frame[PEER_VERSION] = VERSION_1;
	frame[PEER_TYPE] = type == PROBE_PING ? 1 : 2;
	for (int i = 0; i < 8; i++)
		frame[PEER_SEQUENCE + i] = (uint8_t)(sequence >> (56 - 8 * i));
	return PROBE_BYTES;
}

size_t
probe_ping(uint8_t *frame, const uint8_t *source, uint64_t sequence)
{
	return peer_frame(frame, source, PROBE_PING, sequence);
}

size_t
probe_pong(uint8_t *frame, const uint8_t *source, uint64_t sequence)
{
	return peer_frame(frame, source, PROBE_PONG, sequence);
}

static bool
is_arp_answer(
    const uint8_t *frame, size_t length, const struct probe_target *asked)
{
	return wire_is_arp(frame, length) &&
	       frame[ARP_OPERATION + 1] == ARP_REPLY &&
	       memcmp(frame + ETHERNET_DESTINATION, asked->guest, MAC_BYTES) ==
		   0 &&
	       memcmp(frame + ARP_SENDER_IPV4, asked->gateway, IPV4_BYTES) ==
		   0 &&
	       memcmp(frame + ARP_TARGET_MAC, asked->guest, MAC_BYTES) == 0 &&
	       wire_all_zero(frame + ARP_TARGET_IPV4, IPV4_BYTES);
}

static bool
is_peer_frame(const uint8_t *frame, size_t length)
{
	return length == PROBE_BYTES &&
	       wire_get16(frame + ETHERNET_TYPE) == ETHERTYPE_OF_PEER &&
	       memcmp(frame + ETHERNET_DESTINATION, peer_mac, MAC_BYTES) == 0 &&
	       memcmp(frame + PEER_MAGIC, magic, sizeof(magic)) == 0 &&
	       frame[PEER_VERSION] == VERSION_1 &&
	       wire_get16(frame + PEER_RESERVED) == 0 &&
	       wire_all_zero(frame + PEER_END, PROBE_BYTES - PEER_END);
}

enum probe_kind
probe_recognise(const uint8_t *frame, size_t length,
    const struct probe_target *outstanding, uint64_t *sequence)
{
	if (outstanding != NULL && is_arp_answer(frame, length, outstanding))
		return PROBE_ARP_ANSWER;
	if (!is_peer_frame(frame, length) || frame[PEER_TYPE] < 1 ||
	    frame[PEER_TYPE] > 2)
		return PROBE_NONE;
	*sequence = 0;
	for (int i = 0; i < 8; i++)
		*sequence = *sequence << 8 | frame[PEER_SEQUENCE + i];
	return frame[PEER_TYPE] == 1 ? PROBE_PING : PROBE_PONG;
}

void
pong_limit_init(struct pong_limit *limit)
{
	limit->oldest = 0;
	for (int i = 0; i < PONGS_PER_SECOND; i++)
		limit->sent_ms[i] = INT64_MIN / 2;
}

bool
pong_limit_allows(struct pong_limit *limit, int64_t now_ms)
{
	if (now_ms - limit->sent_ms[limit->oldest] < 1000)
		return false;
	limit->sent_ms[limit->oldest] = now_ms;
	limit->oldest = (limit->oldest + 1) % PONGS_PER_SECOND;
	return true;
}
