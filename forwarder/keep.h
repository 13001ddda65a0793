/* The guest's newest frames, which fwd-up keeps in a long outage (up.c). A ring
 * of a fixed size: it does no I/O, and the time is passed in.
 *
 *	call            event               which frames leave, the oldest first
 *	keep_add()      a new frame         as many as needed to make room
 *	keep_expire()   time has passed     those kept for KEEP_AGE_MS
 *	keep_limit()    other settings      all but the newest `limit`
 *	keep_remove()   a write             those that were written
 *
 * The first three return how many frames left: they are lost, and the caller
 * counts them. */
#ifndef FORWARDER_KEEP_H
#define FORWARDER_KEEP_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "framing/framing.h"

#define KEEP_FRAMES 256         /* the highest limit */
#define KEEP_BYTES (256 * 1024) /* several of the longest frames */
/* A TCP retransmits after pauses that double, so its last frame is at most about
 * half as old as the outage: 30 s serve outages of up to a minute. A resolver or a
 * DHCP client that asked longer ago has given up. */
#define KEEP_AGE_MS 30000

struct keep {
	struct iovec parcels[KEEP_FRAMES]; /* a ring, like the memory */
	int64_t added_ms[KEEP_FRAMES];
	size_t first, count, limit;
	uint8_t *memory;
};

/* Allocates the memory; its pages are used only while frames are kept. The limit
 * is 0. Returns 0, or -1 with errno. */
int keep_create(struct keep *keep);
void keep_destroy(struct keep *keep);

/* Copies the frame of the parcel. With a limit of 0 that frame is lost. */
size_t keep_add(struct keep *keep, const struct iovec *parcel, int64_t now_ms);

size_t keep_expire(struct keep *keep, int64_t now_ms);

/* Sets the limit, at most KEEP_FRAMES. */
size_t keep_limit(struct keep *keep, size_t limit);

/* Gets the parcels, the oldest first. They are valid until the next call of
 * another function. Returns how many there are. */
size_t keep_parcels(const struct keep *keep, struct iovec parcels[KEEP_FRAMES]);

void keep_remove(struct keep *keep, size_t count);

#endif
