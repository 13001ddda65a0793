/* The frames that we send ourselves, and the answers to them, as bytes: probes
 * that ask a quiet network for a sign of life, and the announcement of the
 * guest. When to probe is keepalive.h's; sending is the caller's.
 *
 * PING and PONG pass between two forwarders:
 *
 *	0       6       12     14      18       19    20        22         30   60
 *	| to    | from  | 88B5 | FWDK  | version| type| 0 (two) | sequence | 0  | */
#ifndef KEEPALIVE_PROBE_H
#define KEEPALIVE_PROBE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* All of them are as long as the shortest frame of a wire, without FCS. */
#define PROBE_BYTES 60u
#define PONGS_PER_SECOND 10

enum probe_kind {
	PROBE_NONE,       /* somebody else's frame: forward it */
	PROBE_PING,       /* 1, as in the frame; answer it with a PONG */
	PROBE_PONG,       /* 2, as in the frame */
	PROBE_ARP_ANSWER, /* the gateway's, to our question */
};

/* Who has `gateway`? RFC 5227's form of the question. In the guest's name: a
 * MAC of our own would be learned as the guest's by switches and by passt. From
 * 0.0.0.0: any other address would be entered in ARP caches. To `gateway_mac`,
 * or to everybody if that is NULL. */
void probe_arp_request(uint8_t frame[PROBE_BYTES], const uint8_t *guest,
    const uint8_t *gateway, const uint8_t *gateway_mac);

/* A PING or a PONG. `guest` is the guest's MAC, so that a switch or passt that
 * gets the frame by a mistake in the configuration learns nothing wrong. NULL,
 * while no guest was heard: a fixed, locally administered address. */
void probe_between_forwarders(uint8_t frame[PROBE_BYTES], enum probe_kind kind,
    const uint8_t *guest, uint64_t sequence);

/* The RARP broadcast that tells switches where the guest is now, as QEMU sends
 * it after a migration: nobody answers. */
void probe_announcement(uint8_t frame[PROBE_BYTES], const uint8_t *guest);

/* Whom an ARP request asked, and in whose name. */
struct probe_target {
	uint8_t guest[6];
	uint8_t gateway[4];
};

/* What a frame from the network is; *sequence is that of a PING or PONG. `asked` is NULL unless an ARP request of
 * ours waits for its answer; forget it with the first answer, so that no second
 * frame is taken from the guest. RFC 826 makes the replier swap sender and
 * target, so an answer is ours if it goes to 0.0.0.0; Linux, the BSDs, passt
 * and gvproxy do that. Only a guest that tests whether it may take the
 * gateway's own address asks from there too. */
enum probe_kind probe_recognise(const uint8_t *frame, size_t length,
    const struct probe_target *asked, uint64_t *sequence);

/* Keeps a flood of PINGs from becoming a flood of PONGs. All zero at first. */
struct pong_limit {
	int64_t sent_ms[PONGS_PER_SECOND]; /* of the last ones */
	unsigned next;                     /* the oldest of them */
};

/* True: send one, it has been counted. */
bool pong_limit_allows(struct pong_limit *limit, int64_t now_ms);

#endif
