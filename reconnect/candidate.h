/* A client that came while another one is connected, where that one is asked
 * for a sign of life first: which of the two stays. Holds no descriptor, reads
 * no clock; the caller asks, accepts and closes.
 *
 *	client comes   ask       ask       ask       ask       verdict
 *	and first ask   |         |         |         |         |
 *	0 ----------- 200 ----- 400 ----- 600 ----- 800 ----- 1000 ---> ms
 *
 * At each tick: a sign of life since the client came refuses it. At the last
 * one the client takes the place. A tick that comes late, as after a suspend,
 * only asks: the answer had no time to arrive.
 * Verdicts fall at ticks only, so no two asks are closer than one, however many
 * clients come: the next one is accepted after the verdict. */
#ifndef RECONNECT_CANDIDATE_H
#define RECONNECT_CANDIDATE_H

#include <stdbool.h>
#include <stdint.h>

/* Five unanswered asks are the contract's second; a peer answers ten PINGs a
 * second (PONGS_PER_SECOND), its own keepalive's included. */
#define CANDIDATE_TICK_MS 200
#define CANDIDATE_ASKS 5

struct candidate {
	unsigned asks;    /* so far; 0: no client waits */
	int64_t since_ms; /* when it came */
	int64_t due_ms;   /* the next tick; no client is accepted before */
};

enum candidate_verdict {
	CANDIDATE_WAIT,
	CANDIDATE_ASK,    /* the present peer, again */
	CANDIDATE_REFUSE, /* it showed life: the client has to go */
	CANDIDATE_ADMIT,  /* it did not: the client takes its place */
};

static inline bool
candidate_waits(const struct candidate *candidate)
{
	return candidate->asks > 0;
}

/* A client came and the present peer was asked for the first time. */
void candidate_come(struct candidate *candidate, int64_t now_ms);

/* `alive`: the present peer has shown life since since_ms. After
 * CANDIDATE_REFUSE and CANDIDATE_ADMIT no client waits. */
enum candidate_verdict candidate_check(
    struct candidate *candidate, int64_t now_ms, bool alive);

/* It is gone, or the peer is: no verdict is needed. */
void candidate_leave(struct candidate *candidate);

#endif
