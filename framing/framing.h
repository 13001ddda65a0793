/* Turns a byte stream into Ethernet frames and back: QEMU's stream framing,
 * a 4-byte big-endian length and then the frame.
 * No I/O, no clock, no log, no thread: the caller brings those. */
#ifndef FRAMING_FRAMING_H
#define FRAMING_FRAMING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#define FRAME_HEADER_BYTES 4u
/* Destination, source and EtherType: anything shorter is a runt. passt resets
 * the connection for one, gvproxy can panic. */
#define FRAME_MIN_BYTES 14u
/* Room for a 64 KiB GSO frame with its headers; QEMU drops a connection that
 * announces more (net/net.h, NET_BUFSIZE is 4096 + 65536). */
#define FRAME_LIMIT_BYTES 69632u

static inline void
frame_put_header(uint8_t header[FRAME_HEADER_BYTES], uint32_t length)
{
	header[0] = (uint8_t)(length >> 24);
	header[1] = (uint8_t)(length >> 16);
	header[2] = (uint8_t)(length >> 8);
	header[3] = (uint8_t)length;
}

/* What is wrong with a frame of this length, in both directions. */
enum frame_verdict {
	FRAME_GOOD,
	FRAME_EMPTY,    /* 0 bytes: ends QEMU's receive path for good */
	FRAME_RUNT,     /* 1 to 13 bytes */
	FRAME_OVERSIZE, /* more than max_frame */
};
static inline enum frame_verdict
frame_judge(uint64_t length, uint32_t max_frame)
{
	if (length == 0)
		return FRAME_EMPTY;
	if (length < FRAME_MIN_BYTES)
		return FRAME_RUNT;
	return length <= max_frame ? FRAME_GOOD : FRAME_OVERSIZE;
}

/* A parcel: a header and its frame in one piece of memory. A stream is given
 * all of it, a datagram socket what is behind the header. */
static inline uint8_t *
parcel_frame(const struct iovec *parcel)
{
	return (uint8_t *)parcel->iov_base + FRAME_HEADER_BYTES;
}

/* Bytes of the frame. */
static inline uint32_t
parcel_length(const struct iovec *parcel)
{
	return (uint32_t)(parcel->iov_len - FRAME_HEADER_BYTES);
}

/* Takes bytes into one buffer and finds the parcels in it. Starts with buffer
 * and capacity set, and all else 0; the buffer stays the caller's. It needs
 * room for the largest parcel; several times that keeps moves rare. */
struct deframer {
	uint8_t *buffer;
	size_t capacity;      /* bytes */
	size_t start, end;    /* of what was received and not handed out */
	uint64_t empty, runt; /* frames skipped so far, over all streams */
};

/* Where the next bytes go. Returns how many fit: never 0 after DEFRAMER_MORE.
 * Moves a cut frame to the front only if its rest would not fit behind it, so
 * a byte moves at most once each time the buffer was filled. Parcels that were
 * handed out become invalid. */
size_t deframer_room(struct deframer *d, uint8_t **room, uint32_t max_frame);

/* `bytes` were received there. */
static inline void
deframer_filled(struct deframer *d, size_t bytes)
{
	d->end += bytes;
}

enum deframer_result {
	DEFRAMER_FRAME,    /* *parcel is set */
	DEFRAMER_MORE,     /* no whole frame is left: receive more */
	DEFRAMER_PROTOCOL, /* parcel_length() exceeds max_frame: give up */
};

/* Finds the next whole frame; counts and skips empty ones and runts. */
enum deframer_result deframer_next(
    struct deframer *d, struct iovec *parcel, uint32_t max_frame);

/* The stream has ended, and another one follows. True: inside a frame. */
bool deframer_reset(struct deframer *d);

#endif
