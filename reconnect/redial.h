/* When to dial. No clock, no socket, no thread: the caller brings those.
 * All times are clock_now_ms() milliseconds. */
#ifndef RECONNECT_REDIAL_H
#define RECONNECT_REDIAL_H

#include <stdbool.h>
#include <stdint.h>

#include "reconnect/backoff.h"

/* Whatever a daemon does, dials are made no closer than this, but for the first
 * one after its path appears: one that sends a byte and dies must not spin us. */
#define REDIAL_SPACING_MS 10

struct redial {
	struct backoff backoff;
	int64_t due_ms;       /* the next dial may start */
	int64_t connected_ms; /* the last connection was made */
	int64_t hurried_ms;   /* the last dial was due that had been hurried */
};

/* The first dial is due at once. */
void redial_init(struct redial *redial, int64_t now_ms, int64_t min_ms,
    int64_t max_ms, unsigned jitter_percent);

/* A dial failed: back off. */
void redial_failed(struct redial *redial, int64_t now_ms, uint32_t random);

/* A dial made a connection. No proof of life. */
void redial_connected(struct redial *redial, int64_t now_ms);

/* From when on the next connection may be made, by whoever calls. */
int64_t redial_spaced_ms(const struct redial *redial);

/* The connection ended. If it had proven its life, dial at once and back off
 * from the start; otherwise it was a failed dial. */
void redial_lost(
    struct redial *redial, int64_t now_ms, bool proven, uint32_t random);

/* The daemon's socket appeared: dial at once, unless that was done just now; the
 * backoff stays. */
void redial_appeared(struct redial *redial, int64_t now_ms);

/* The host woke from a suspend: dial at once, from the backoff's start. */
void redial_resumed(struct redial *redial, int64_t now_ms);

#endif
