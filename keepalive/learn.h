/* Who the guest is and who its gateway, from the frames that pass by: a probe
 * is sent in the name of the one to the other. Pure bytes; no I/O, clock, log,
 * thread, and no lock: the two copy threads and the prober share one struct
 * learned, so the caller has a mutex for it, taken only for frames that
 * learn_is_possible() or learn_wants() asked for.
 *
 * Addresses are bytes in the order of the wire: 6 of a MAC, 4 of an IPv4. */
#ifndef KEEPALIVE_LEARN_H
#define KEEPALIVE_LEARN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A guest asks its gateway, its name server and a few neighbours; the gateway
 * is found as soon as one packet is sent through it. */
#define LEARN_NEIGHBOURS 8

struct neighbour {
	uint8_t ipv4[4];
	uint8_t mac[6];
};

struct learned {
	bool guest_known, gateway_known, gateway_mac_known;
	uint8_t guest[6];
	uint8_t gateway[4];
	uint8_t gateway_mac[6];

	/* The rest is nobody else's business. */
	bool configured; /* the gateway: nothing that passes by changes it */
	bool doubted;
	struct neighbour neighbours[LEARN_NEIGHBOURS]; /* seen in ARP */
	unsigned next_neighbour;
};

/* Knows nothing, except the gateway if one is configured (else NULL). */
void learn_init(struct learned *l, const uint8_t *gateway);

/* What is known may have become wrong: the guest was restarted, or a probe
 * stays unanswered. It serves on, but looking starts again, and the next
 * evidence replaces it. The gateway's own ARP, the answer to a probe
 * included, ends the doubt. */
void learn_doubt(struct learned *l);

/* Are the guest's frames worth a look? Any of them will do, one of a batch if
 * you like. False once all is known. Whoever can't take the lock for every
 * batch keeps the answer in an atomic of its own. */
static inline bool
learn_wants(const struct learned *l)
{
	return l->doubted || !l->guest_known || !l->gateway_known ||
	       !l->gateway_mac_known;
}

/* Where to send the question for the gateway: NULL, to everybody, while its
 * MAC is unknown or in doubt. */
static inline const uint8_t *
learn_gateway_mac(const struct learned *l)
{
	return l->gateway_mac_known && !l->doubted ? l->gateway_mac : NULL;
}

/* Is this frame from the network ARP, or a DHCP server's? Some compares in the
 * frame's first 36 bytes, no lock. The few that pass are worth a look at any
 * time, since a gateway can change its MAC, and a lease its gateway. */
static inline bool
learn_is_possible(const uint8_t *frame, size_t length)
{
	if (length < 42 || frame[12] != 0x08)
		return false;
	if (frame[13] == 0x06)
		return true;
	return frame[13] == 0x00 && frame[23] == 17 && frame[34] == 0 &&
	       frame[35] == 67;
}

/* Both return true if something became known or changed.
 * The answer to a probe is to be shown before it is consumed. */
bool learn_from_guest(struct learned *l, const uint8_t *frame, size_t length);
bool learn_from_network(struct learned *l, const uint8_t *frame, size_t length);

#endif
