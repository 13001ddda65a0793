/* A batch is an array of parcels (framing.h). A parcel that was received as a
 * datagram is in one of the batch's slots, others are in the buffer of a
 * deframer. Either can be sent as a datagram or to a stream without a copy.
 *
 * A slot has room for the longest frame, so each message needs one iovec. A
 * frame of ordinary length touches one or two pages of its slot; untouched
 * pages use no memory. */
#ifndef GUEST_BATCH_H
#define GUEST_BATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>

#include "framing/framing.h"

/* Limits the memory: a frame of ordinary length uses one or two pages. 256
 * frames of 64 bytes fill half of the default write_batch. */
#define BATCH_FRAMES 256
/* The frame starts on a cache line; its header is right before it. Slots are an
 * odd number of cache lines apart, so that the frames do not all fall into the
 * same few cache sets. */
#define BATCH_OFFSET 64u
#define BATCH_STRIDE (FRAME_LIMIT_BYTES + BATCH_OFFSET)
/* Bytes of a slot given to recv(): one more than the longest frame. A frame
 * that fills it was too long and has been truncated. */
#define BATCH_ROOM (FRAME_LIMIT_BYTES + 1)

struct batch {
	struct iovec parcels[BATCH_FRAMES];
	size_t count;
	struct sockaddr_un sender; /* of the first frame received */
	socklen_t sender_length;   /* 0: the sender's socket is unbound */

	size_t frame_bytes; /* expected length of a received frame */

	/* Frames of a stream that were received, but not added; truncated: the
	 * stream ended inside it. */
	struct {
		uint64_t oversize, runt, empty, truncated;
	} skipped;

	uint8_t *memory;
	struct batch_system *system;
	/* the longest frame that each slot has held; 0: only short ones */
	uint32_t touched_bytes[BATCH_FRAMES];
	size_t long_bytes; /* the sum of touched_bytes */
};

/* Returns 0, or -1 with errno. */
int batch_create(struct batch *batch);
void batch_destroy(struct batch *batch);

/* Waits for a frame, then receives the frames that are queued, up to `limit`.
 * Returns 0, or -1 with errno and no parcels. */
int batch_receive(struct batch *batch, int fd, size_t limit);

/* Returns how many frames to receive at once: as many of the expected length as
 * stay in the processor's cache. */
size_t batch_limit(const struct batch *batch);

/* Learns the expected length from the frames that have just been received. It
 * rises at once and falls slowly. */
void batch_expect(struct batch *batch);

/* Adds whole frames from the deframer until the batch has `limit` frames
 * (DEFRAMER_FRAME: there may be more), or none is left (DEFRAMER_MORE). The
 * parcels stay in the deframer's buffer. After DEFRAMER_PROTOCOL,
 * parcels[count] has the length that is too long. */
enum deframer_result batch_deframe(
    struct batch *batch, struct deframer *d, uint32_t max_frame, size_t limit);

/* Removes the frames for which keeps() returns false. */
static inline void
batch_filter(struct batch *batch,
    bool (*keeps)(void *context, const struct iovec *parcel), void *context)
{
	size_t count = batch->count;

	batch->count = 0;
	for (size_t i = 0; i < count; i++)
		if (keeps(context, &batch->parcels[i]))
			batch->parcels[batch->count++] = batch->parcels[i];
}

/* Sends the frames of the parcels from `from` on, one datagram each, without
 * waiting. Returns how many were sent, or -1 with errno if none was. */
int batch_send(struct batch *batch, int fd, size_t from);

/* For receivers: empties the batch. Returns the slots' memory to the system
 * once long frames have touched much of it. That is rare: the longer the
 * frames, the fewer of them the caller receives at once. */
void batch_clear(struct batch *batch);

/* Returns the slots' memory to the system. What was received into them is
 * lost. */
void batch_release(struct batch *batch);

/* Returns the address of the frame in slot i. */
static inline uint8_t *
batch_slot(const struct batch *batch, size_t i)
{
	return batch->memory + i * BATCH_STRIDE + BATCH_OFFSET;
}

/* Adds the frame that was received into slot number batch->count. */
void batch_add(struct batch *batch, size_t length);

/* Allocate and free the data that batch_receive() and batch_send() need on this
 * system. */
int batch_system_create(struct batch *batch);
void batch_system_destroy(struct batch *batch);

#endif
