/* Finds the guest's gateway in the frames that pass by: the probes of mode arp
 * ask for it. No I/O, clock, log or lock. Both copy threads and the prober use
 * one struct learned, so the caller has a mutex for it.
 *
 *	gateway        1. the configuration's, for good
 *	               2. the first router of a DHCP acknowledgement to the guest
 *	               3. a neighbour through which the guest sends to others
 *	gateway's MAC  the sender of any ARP from the gateway's address; until
 *	               there was one, where the guest sends for it
 *
 *	state               event                                 next
 *	NOTHING, ADDRESS    another gateway: 2 or 3               ADDRESS
 *	ALL                 another gateway: 2                    ADDRESS
 *	ADDRESS             its MAC, maybe seen before            ALL
 *	ALL                 learn_doubt()                         ADDRESS
 *
 * With a configured gateway it begins in ADDRESS, and no other is accepted. */
#ifndef KEEPALIVE_LEARN_H
#define KEEPALIVE_LEARN_H

#include "keepalive/wire.h"

/* A guest asks for its gateway, its name server and a few neighbours. The
 * gateway is found as soon as one packet is sent through it. */
#define LEARN_NEIGHBOURS 8

enum learn_state {
	LEARN_NOTHING,
	LEARN_ADDRESS, /* the gateway's address; what is more may be wrong */
	LEARN_ALL,     /* and its MAC */
};

struct neighbour {
	uint8_t ipv4[IPV4_BYTES];
	uint8_t mac[MAC_BYTES];
};

struct learned {
	enum learn_state state;
	bool configured; /* the gateway */
	uint8_t gateway[IPV4_BYTES];
	uint8_t gateway_mac[MAC_BYTES];                /* if state is ALL */
	struct neighbour neighbours[LEARN_NEIGHBOURS]; /* the guest's */
	unsigned next_neighbour;
};

/* Starts afresh with this gateway, or without one (NULL). The same one again
 * keeps what was found: a dead peer could not teach it a second time. A struct
 * of zeros has none. */
void learn_configure(struct learned *l, const uint8_t *gateway);

/* What is known may be wrong: another guest came, or a probe wasn't answered.
 * The gateway is asked for by broadcast until its MAC is learned again. */
static inline void
learn_doubt(struct learned *l)
{
	if (l->state == LEARN_ALL)
		l->state = LEARN_ADDRESS;
}

/* Where to send the question for the gateway. NULL: to everybody. */
static inline const uint8_t *
learn_gateway_mac(const struct learned *l)
{
	return l->state == LEARN_ALL ? l->gateway_mac : NULL;
}

/* The guest's MAC may be NULL: not known yet. Show an answer to a probe before
 * it is consumed. */
void learn_from_guest(struct learned *l, const uint8_t *frame, size_t length);
void learn_from_network(struct learned *l, const uint8_t *guest,
    const uint8_t *frame, size_t length);

#endif
