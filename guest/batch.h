/* A batch is an array of parcels, each a frame behind its header in one piece
 * of memory: a datagram received into one of the batch's slots, or a frame that
 * a deframer found in a stream's buffer. Either can be sent as a datagram or to
 * a stream without a copy.
 *
 * A slot holds the longest possible frame, so the kernel gets one piece of memory
 * for each. An ordinary frame touches one page of it, and the system provides
 * memory only for pages that are touched. */
#ifndef GUEST_BATCH_H
#define GUEST_BATCH_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>

#include "framing/framing.h"

/* Bounds the memory: a page for each. 64-byte frames fill half a write. */
#define BATCH_FRAMES 256
/* The frame starts on a cache line, its header right before it. The distance of
 * two slots is an odd number of lines, or all frames would share a few sets of
 * the cache. */
#define BATCH_OFFSET 64u
#define BATCH_STRIDE (FRAME_LIMIT_BYTES + BATCH_OFFSET)
/* What a receiver offers of a slot. A frame that fills it was longer than any
 * may be, and is cut. */
#define BATCH_ROOM (FRAME_LIMIT_BYTES + 1)

struct batch {
	struct iovec parcels[BATCH_FRAMES];
	size_t count;
	struct sockaddr_un sender; /* of the first frame received */
	socklen_t sender_length;   /* 0: it has no name */

	uint8_t *memory;
	struct batch_system *system;
	/* Bytes of the longest frame in each slot, or 0 if that was short. */
	uint32_t long_slots[BATCH_FRAMES];
	size_t long_bytes; /* the sum of long_slots */
};

/* Returns 0, or -1 with errno. */
int batch_create(struct batch *batch);
void batch_destroy(struct batch *batch);

/* Waits for a frame, then takes those that are there, `limit` at most. Returns 0,
 * or -1 with errno and no parcels. */
int batch_receive(struct batch *batch, int fd, size_t limit);

/* Sends the frames of the parcels from `from` on, one datagram each, without
 * waiting. Returns how many were sent, or -1 with errno if none was. */
int batch_send(struct batch *batch, int fd, size_t from);

/* For receivers: empties the batch. Returns the slots' memory to the system once
 * long frames have touched much of it. Frames of one length never touch that
 * much, because the caller takes few long ones at a time. */
void batch_clear(struct batch *batch);

/* Where the frame of slot i lies. */
static inline uint8_t *
batch_slot(const struct batch *batch, size_t i)
{
	return batch->memory + i * BATCH_STRIDE + BATCH_OFFSET;
}

/* A frame was received into slot number batch->count. */
void batch_add(struct batch *batch, size_t length);

/* What batch_receive() and batch_send() need of the system. */
int batch_system_create(struct batch *batch);
void batch_system_destroy(struct batch *batch);

#endif
