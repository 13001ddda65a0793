/* The frames that ask a quiet network for a sign of life, and their answers,
 * as pure bytes. When to send them is keepalive.h's part, sending the caller's.
 *
 * Addresses are bytes in the order of the wire: 6 of a MAC, 4 of an IPv4. */
#ifndef KEEPALIVE_PROBE_H
#define KEEPALIVE_PROBE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Every probe is as long as the shortest frame of a wire, without FCS. */
#define PROBE_BYTES 60u
#define PONGS_PER_SECOND 10

/* Each builder fills PROBE_BYTES at `frame` and returns that number. */

/* Who has `gateway`? RFC 5227's form of the question: in the guest's name,
 * since a MAC of our own would be learned as the guest's by switches and by
 * passt, and from 0.0.0.0, since any other address would be entered in ARP
 * caches. To `gateway_mac`, or to everybody if that is NULL. */
size_t probe_arp_request(uint8_t *frame, const uint8_t *guest,
    const uint8_t *gateway, const uint8_t *gateway_mac);

/* PING and PONG between two forwarders. `source` is the guest's MAC: should
 * the frame reach a switch or passt by a mistake in the configuration, they
 * learn nothing but what is true. NULL while no guest was heard: then it is a
 * fixed, locally administered address of our own, and what a stranger learned
 * from it is put right by the guest's first frame. */
size_t probe_ping(uint8_t *frame, const uint8_t *source, uint64_t sequence);
size_t probe_pong(uint8_t *frame, const uint8_t *source, uint64_t sequence);

/* Whom the outstanding ARP request asked, and in whose name. */
struct probe_target {
	uint8_t guest[6];
	uint8_t gateway[4];
};

enum probe_kind {
	PROBE_NONE,       /* somebody else's frame: forward it */
	PROBE_ARP_ANSWER, /* the gateway's, to our question */
	PROBE_PING,       /* *sequence is set; answer it with a PONG */
	PROBE_PONG,       /* *sequence is set to the PING's */
};

/* False for nearly all frames, at the price of two compares: what passes is
 * worth probe_recognise() and learn_from_network(). */
static inline bool
probe_is_possible(const uint8_t *frame, size_t length)
{
	return length >= 42 && ((frame[12] == 0x08 && frame[13] == 0x06) ||
				   (frame[12] == 0x88 && frame[13] == 0xb5));
}

/* What a frame from the network is. `outstanding` is NULL unless an ARP
 * request of ours waits for its answer; an answer is ours if it goes to
 * 0.0.0.0, the address only our request (and a guest that tests whether it
 * may take the gateway's own address) asks from. The caller forgets the target
 * with the first answer, so that no second frame is taken from the guest. */
enum probe_kind probe_recognise(const uint8_t *frame, size_t length,
    const struct probe_target *outstanding, uint64_t *sequence);

/* At most PONGS_PER_SECOND within any 1000 ms, so a flood of PINGs doesn't
 * become a flood of PONGs. */
struct pong_limit {
	int64_t sent_ms[PONGS_PER_SECOND];
	unsigned oldest;
};

void pong_limit_init(struct pong_limit *limit);

/* True: send one, it has been counted. */
bool pong_limit_allows(struct pong_limit *limit, int64_t now_ms);

#endif
