/* Finds the guest's gateway, the target of ARP probes, in the forwarded frames.
 * No I/O, clock, log or lock: several threads use one struct learned, so the
 * caller needs a mutex for it.
 *
 *	gateway        1. the configured one
 *	               2. the first router of a DHCP acknowledgement to the guest
 *	               3. a neighbour through which the guest sends to others
 *	gateway's MAC  the sender's MAC in any ARP from the gateway's address;
 *	               before the first, the MAC that the guest uses for it
 *
 *	state               event                                 next
 *	NOTHING, ADDRESS    another gateway is found: 2 or 3      ADDRESS
 *	ALL                 another gateway is found: 2           ADDRESS
 *	ADDRESS             the MAC is found, or known already    ALL
 *	ALL                 learn_doubt()                         ADDRESS
 *
 * If a gateway is configured, the first state is ADDRESS, and no other gateway
 * is accepted. */
#ifndef KEEPALIVE_LEARN_H
#define KEEPALIVE_LEARN_H

#include "keepalive/wire.h"

/* A guest asks for its gateway, its name server and a few neighbours. The
 * gateway is found as soon as one packet is sent through it. */
#define LEARN_NEIGHBOURS 8

enum learn_state {
	LEARN_NOTHING,
	LEARN_ADDRESS, /* the gateway's address; its MAC is unknown or doubted */
	LEARN_ALL,     /* the gateway's address and MAC */
};

struct neighbour {
	uint8_t ipv4[IPV4_BYTES];
	uint8_t mac[MAC_BYTES];
};

struct learned {
	enum learn_state state;
	bool configured; /* `gateway` is the configured one */
	uint8_t gateway[IPV4_BYTES];
	uint8_t gateway_mac[MAC_BYTES]; /* valid if state is ALL */
	struct neighbour neighbours[LEARN_NEIGHBOURS]; /* of the guest */
	unsigned next_neighbour;
};

/* Sets the configured gateway, or NULL, and discards what was learned. Does
 * nothing if the setting has not changed: while the peer is silent, nothing
 * could be learned again. Initialise the struct with zeros. */
void learn_configure(struct learned *l, const uint8_t *gateway);

/* Call this if the MAC may be wrong: another guest has attached, or a probe was
 * not answered. Probes are broadcast until the MAC is learned again. */
static inline void
learn_doubt(struct learned *l)
{
	if (l->state == LEARN_ALL)
		l->state = LEARN_ADDRESS;
}

/* Returns the MAC to send a probe to, or NULL to broadcast it. */
static inline const uint8_t *
learn_gateway_mac(const struct learned *l)
{
	return l->state == LEARN_ALL ? l->gateway_mac : NULL;
}

/* Examine a frame. `guest` is the guest's MAC, or NULL if it is not known yet.
 * Pass answers to probes, too. */
void learn_from_guest(struct learned *l, const uint8_t *frame, size_t length);
void learn_from_network(struct learned *l, const uint8_t *guest,
    const uint8_t *frame, size_t length);

#endif
