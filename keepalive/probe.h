/* Composes and recognises the frames that forwarder itself sends: ARP probes,
 * PING and PONG, and the RARP announcement of the guest. keepalive.h decides
 * when to probe. The caller sends the frames.
 *
 * PING and PONG pass between two forwarders:
 *
 *      0    6      12     14     18        19     20  22         30  60
 *      | to | from | 88B5 | FWDK | version | type | 0 | sequence | 0 | */
#ifndef KEEPALIVE_PROBE_H
#define KEEPALIVE_PROBE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* All frames have the minimum length of Ethernet, 60 bytes without FCS. */
#define PROBE_BYTES 60u
#define PONGS_PER_SECOND 10

enum probe_kind {
	PROBE_NONE,       /* any other frame: forward it */
	PROBE_PING,       /* 1, as `type` in the frame; send a PONG */
	PROBE_PONG,       /* 2, as `type` in the frame */
	PROBE_ARP_ANSWER, /* the gateway's reply to an ARP probe */
};

/* Composes an ARP request for the address `gateway`, in the form of RFC 5227.
 * The source MAC is the guest's, because switches and passt would learn any
 * other MAC as the guest's. The sender IP is 0.0.0.0, so that no ARP cache is
 * changed. The destination is `gateway_mac`, or broadcast if it is NULL. */
void probe_arp_request(uint8_t frame[PROBE_BYTES], const uint8_t *guest,
    const uint8_t *gateway, const uint8_t *gateway_mac);

/* Composes a PING or PONG. The source MAC is the guest's, so that a switch that
 * receives the frame because of a configuration error learns no wrong address.
 * If `guest` is NULL (not known yet), a fixed, locally administered address is
 * used. */
void probe_between_forwarders(uint8_t frame[PROBE_BYTES], enum probe_kind kind,
    const uint8_t *guest, uint64_t sequence);

/* Composes a RARP broadcast, as QEMU sends it after a migration, so that
 * switches learn the guest's new port. It has no answer. */
void probe_announcement(uint8_t frame[PROBE_BYTES], const uint8_t *guest);

/* The addresses of a pending ARP request. */
struct probe_target {
	uint8_t guest[6];
	uint8_t gateway[4];
};

/* Classifies a frame from the network. *sequence is set for a PING or PONG.
 * `asked` is the pending ARP request, or NULL; pass NULL after the first
 * answer, so that only one reply is withheld from the guest. A reply has sender
 * and target exchanged (RFC 826), so the reply to a probe has the target
 * address 0.0.0.0. Linux, the BSDs, passt and gvproxy do this. The guest
 * expects such a reply only if it tests whether the gateway's address is
 * free. */
enum probe_kind probe_recognise(const uint8_t *frame, size_t length,
    const struct probe_target *asked, uint64_t *sequence);

/* Limits PONGs to PONGS_PER_SECOND. Initialise it with zeros. */
struct pong_limit {
	/* when the last PONGS_PER_SECOND PONGs were sent */
	int64_t sent_ms[PONGS_PER_SECOND];
	unsigned next; /* index of the oldest entry */
};

/* Returns true if another PONG may be sent now, and counts it. */
bool pong_limit_allows(struct pong_limit *limit, int64_t now_ms);

#endif
