#include "keepalive/probe.h"

#include "keepalive/wire.h"

enum {
	PEER_MAGIC = 14,
	PEER_VERSION = 18,
	PEER_TYPE = 19,
	PEER_SEQUENCE = 22,
	PEER_VERSION_1 = 1,
};

/* Locally administered and unicast: 02, "FWDK", then A or B. */
static const uint8_t peer_mac[MAC_BYTES] = { 2, 'F', 'W', 'D', 'K', 'A' };
static const uint8_t unknown_mac[MAC_BYTES] = { 2, 'F', 'W', 'D', 'K', 'B' };
static const uint8_t broadcast[MAC_BYTES] = { 255, 255, 255, 255, 255, 255 };
static const uint8_t magic[] = { 'F', 'W', 'D', 'K' };

static void
start_frame(uint8_t *frame, const uint8_t *destination, const uint8_t *source,
    uint16_t ethertype)
{
	memset(frame, 0, PROBE_BYTES);
	memcpy(frame, destination, MAC_BYTES);
	memcpy(frame + ETHERNET_SOURCE, source, MAC_BYTES);
	frame[ETHERNET_TYPE] = (uint8_t)(ethertype >> 8);
	frame[ETHERNET_TYPE + 1] = (uint8_t)ethertype;
}

/* Starts an ARP or RARP packet from the guest's MAC. */
static void
start_arp(uint8_t *frame, const uint8_t *destination, const uint8_t *guest,
    uint16_t ethertype, uint8_t operation)
{
	static const uint8_t head[] = { 0, 1, 0x08, 0, 6, 4, 0 };

	start_frame(frame, destination, guest, ethertype);
	memcpy(frame + ETHERNET_PAYLOAD, head, sizeof(head));
	frame[ARP_OPERATION + 1] = operation;
	memcpy(frame + ARP_SENDER_MAC, guest, MAC_BYTES);
}

void
probe_arp_request(uint8_t frame[PROBE_BYTES], const uint8_t *guest,
    const uint8_t *gateway, const uint8_t *gateway_mac)
{
	start_arp(frame, gateway_mac != NULL ? gateway_mac : broadcast, guest,
	    ETHERTYPE_OF_ARP, ARP_REQUEST);
	memcpy(frame + ARP_TARGET_IPV4, gateway, IPV4_BYTES);
}

void
probe_announcement(uint8_t frame[PROBE_BYTES], const uint8_t *guest)
{
	start_arp(frame, broadcast, guest, ETHERTYPE_OF_RARP, RARP_REQUEST);
	memcpy(frame + ARP_TARGET_MAC, guest, MAC_BYTES);
}

void
probe_between_forwarders(uint8_t frame[PROBE_BYTES], enum probe_kind kind,
    const uint8_t *guest, uint64_t sequence)
{
	start_frame(frame, peer_mac, guest != NULL ? guest : unknown_mac,
	    ETHERTYPE_OF_PEER);
	memcpy(frame + PEER_MAGIC, magic, sizeof(magic));
	frame[PEER_VERSION] = PEER_VERSION_1;
	frame[PEER_TYPE] = (uint8_t)kind;
	for (int i = 0; i < 8; i++)
		frame[PEER_SEQUENCE + i] = (uint8_t)(sequence >> (56 - 8 * i));
}

static bool
is_arp_answer(
    const uint8_t *frame, size_t length, const struct probe_target *asked)
{
	return wire_is_arp(frame, length) &&
	       frame[ARP_OPERATION + 1] == ARP_REPLY &&
	       memcmp(frame, asked->guest, MAC_BYTES) == 0 &&
	       memcmp(frame + ARP_SENDER_IPV4, asked->gateway, IPV4_BYTES) ==
		   0 &&
	       memcmp(frame + ARP_TARGET_MAC, asked->guest, MAC_BYTES) == 0 &&
	       wire_is_zero(frame + ARP_TARGET_IPV4, IPV4_BYTES);
}

/* Returns whether the frame equals the PING or PONG that forwarder would compose
 * with that source MAC. */
static bool
is_between_forwarders(
    const uint8_t *frame, enum probe_kind kind, uint64_t sequence)
{
	uint8_t expected[PROBE_BYTES];

	probe_between_forwarders(
	    expected, kind, frame + ETHERNET_SOURCE, sequence);
	return memcmp(frame, expected, PROBE_BYTES) == 0;
}

enum probe_kind
probe_recognise(const uint8_t *frame, size_t length,
    const struct probe_target *asked, uint64_t *sequence)
{
	*sequence = 0;
	if (asked != NULL && is_arp_answer(frame, length, asked))
		return PROBE_ARP_ANSWER;
	if (length != PROBE_BYTES)
		return PROBE_NONE;
	for (int i = 0; i < 8; i++)
		*sequence = *sequence << 8 | frame[PEER_SEQUENCE + i];
	if (is_between_forwarders(frame, PROBE_PING, *sequence))
		return PROBE_PING;
	return is_between_forwarders(frame, PROBE_PONG, *sequence) ? PROBE_PONG
								   : PROBE_NONE;
}

bool
pong_limit_allows(struct pong_limit *limit, int64_t now_ms)
{
	int64_t *oldest_ms = &limit->sent_ms[limit->next];

	if (now_ms - *oldest_ms < 1000)
		return false;
	*oldest_ms = now_ms;
	limit->next = (limit->next + 1) % PONGS_PER_SECOND;
	return true;
}
