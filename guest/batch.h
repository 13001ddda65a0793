/* Many datagrams a system call, where the system can. Each received frame
 * lies behind room for its header, ready to be written to a stream.
 *
 * A slot holds the longest frame there can be, so one piece of memory is all
 * the kernel has to look at; of an ordinary network's frame it touches one
 * page, and the system gives memory only for pages that are touched. */
#ifndef GUEST_BATCH_H
#define GUEST_BATCH_H

#include <stdbool.h>
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

struct batch {
	size_t count; /* frames received by the last call */
	uint32_t length[BATCH_FRAMES];
	bool cut[BATCH_FRAMES]; /* longer than a slot */
	bool drained;           /* the last call took all there was (TAP) */
	/* Who sent the first of them; length 0 if nobody with a name did. */
	struct sockaddr_un sender;
	socklen_t sender_length;

	uint8_t *memory;
	struct batch_system *system;
	uint32_t
	    touched[BATCH_FRAMES]; /* bytes of the longest frame, if long */
	size_t long_bytes;         /* of those, in all */
};

/* Returns 0, or -1 with errno. */
int batch_create(struct batch *batch);
void batch_destroy(struct batch *batch);

static inline uint8_t *
batch_frame(const struct batch *batch, size_t i)
{
	return batch->memory + i * BATCH_STRIDE + BATCH_OFFSET;
}

/* What the kernel told as the length of the sender's address. Linux tells one
 * more than it wrote for a path that fills sun_path: its final zero. */
static inline void
batch_set_sender_length(struct batch *batch, socklen_t told)
{
	batch->sender_length =
	    told < sizeof(batch->sender) ? told : sizeof(batch->sender);
}

/* The frame with its header, which this writes. */
static inline struct iovec
batch_parcel(const struct batch *batch, size_t i)
{
	uint8_t *header = batch_frame(batch, i) - FRAME_HEADER_BYTES;

	frame_put_header(header, batch->length[i]);
	return (struct iovec){ header, FRAME_HEADER_BYTES + batch->length[i] };
}

/* Frames longer than this have touched more than a page or two of their slot,
 * and are told of. */
#define BATCH_LONG_BYTES 4096u
void batch_tell_long(struct batch *batch, size_t i);

/* Gives the memory back to the system once long frames have touched a good deal
 * of it; the frames in it are gone. Frames that are all of one length never
 * get there: long ones are taken a few at a time. */
void batch_trim(struct batch *batch);

/* Waits for the first frame, then takes what else is there, `limit` at most.
 * Returns 0, or -1 with errno. */
int batch_receive(struct batch *batch, int fd, size_t limit);

/* Sends one datagram a frame without ever waiting. Returns how many went, or
 * -1 with errno if the first didn't. */
int batch_send(
    struct batch *batch, int fd, const struct frame *frames, size_t count);

/* For the two above: what one of them needs of the system. */
int batch_system_create(struct batch *batch);
void batch_system_destroy(struct batch *batch);

#endif
