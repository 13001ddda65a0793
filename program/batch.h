/* Many datagrams a system call, where the system can. Each received frame
 * lies behind room for its header, ready to be written to a stream.
 *
 * A slot has two parts. The first parts lie close together and hold any frame
 * of an ordinary network, so that a full batch of those touches 1 MiB; what is
 * longer runs over into a second part, of which the system gives memory only
 * when it is used. */
#ifndef PROGRAM_BATCH_H
#define PROGRAM_BATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>

#include "framing/framing.h"

/* As many 64-byte frames as fit one write of 32 KiB. */
#define BATCH_FRAMES 480
#define BATCH_FIRST_STRIDE 2048u
/* The frame starts on a cache line, its header right before it. */
#define BATCH_FIRST_OFFSET 64u
#define BATCH_FIRST_BYTES (BATCH_FIRST_STRIDE - BATCH_FIRST_OFFSET)
#define BATCH_REST_BYTES (FRAME_LIMIT_BYTES - BATCH_FIRST_BYTES)
#define BATCH_REST_STRIDE FRAME_LIMIT_BYTES

struct batch {
	size_t count; /* frames received by the last call */
	uint32_t length[BATCH_FRAMES];
	bool cut[BATCH_FRAMES]; /* longer than a slot */
	/* Who sent the first of them; length 0 if nobody with a name did. */
	struct sockaddr_un sender;
	socklen_t sender_length;

	uint8_t *memory; /* the first parts, then the rests */
	struct batch_system *system;
};

/* Returns 0, or -1 with errno. */
int batch_create(struct batch *batch);
void batch_destroy(struct batch *batch);

static inline uint8_t *
batch_first(const struct batch *batch, size_t i)
{
	return batch->memory + i * BATCH_FIRST_STRIDE + BATCH_FIRST_OFFSET;
}

static inline uint8_t *
batch_rest(const struct batch *batch, size_t i)
{
	return batch->memory + BATCH_FRAMES * (size_t)BATCH_FIRST_STRIDE +
	       i * BATCH_REST_STRIDE;
}

/* Writes the frame's header; returns how many of `parts` header and frame
 * take: one for an ordinary frame, two for a long one. */
int batch_parts(const struct batch *batch, size_t i, struct iovec parts[2]);

/* Gives the memory of long frames back, but for the first `keep` slots. */
void batch_trim(struct batch *batch, size_t keep);

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
