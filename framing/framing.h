/* Turns a byte stream into Ethernet frames and back: QEMU's stream framing, a
 * 4-byte big-endian length and then the frame. Does no I/O. */
#ifndef FRAMING_FRAMING_H
#define FRAMING_FRAMING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#define FRAME_HEADER_BYTES 4u
/* Length of the Ethernet header; shorter frames are runts. passt resets the
 * connection when it receives a runt, and gvproxy can panic. */
#define FRAME_MIN_BYTES 14u
/* The longest frame: a 64 KiB GSO frame with headers. QEMU closes the
 * connection if a length field is larger (NET_BUFSIZE in net/net.h). */
#define FRAME_LIMIT_BYTES 69632u

static inline void
frame_put_header(uint8_t header[FRAME_HEADER_BYTES], uint32_t length)
{
	header[0] = (uint8_t)(length >> 24);
	header[1] = (uint8_t)(length >> 16);
	header[2] = (uint8_t)(length >> 8);
	header[3] = (uint8_t)length;
}

/* Whether a frame of this length may be forwarded, in either direction. */
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

/* A parcel: a header and its frame in one piece of memory. The whole parcel is
 * written to a stream; only the frame is sent to a datagram socket. */
static inline uint8_t *
parcel_frame(const struct iovec *parcel)
{
	return (uint8_t *)parcel->iov_base + FRAME_HEADER_BYTES;
}

/* Returns the length of the frame without its header. */
static inline uint32_t
parcel_length(const struct iovec *parcel)
{
	return (uint32_t)(parcel->iov_len - FRAME_HEADER_BYTES);
}

/* Collects the bytes of a stream in a buffer and finds the parcels in it. Set
 * buffer and capacity, and all other members to 0. The caller owns the buffer.
 * The buffer must hold the largest parcel. If it is several times larger,
 * memmove() is rarely needed. */
struct deframer {
	uint8_t *buffer;
	size_t capacity;      /* bytes */
	size_t start, end;    /* of the bytes received and not yet returned */
	uint64_t empty, runt; /* frames skipped; the caller may reset them */
};

/* Sets *room to where the next bytes are to be received, and returns how many
 * fit (never 0 after DEFRAMER_MORE). max_frame is the longest frame that must
 * fit. An incomplete frame is moved to the start of the buffer only if it would
 * not fit where it is. Each byte is therefore moved at most once. Parcels
 * returned before become invalid. */
size_t deframer_room(struct deframer *d, uint8_t **room, uint32_t max_frame);

/* Adds `bytes` bytes, which the caller has received at *room. */
static inline void
deframer_filled(struct deframer *d, size_t bytes)
{
	d->end += bytes;
}

enum deframer_result {
	DEFRAMER_FRAME, /* *parcel is set */
	DEFRAMER_MORE,  /* no whole frame is left: receive more */
	/* parcel_length() is more than max_frame: the stream is unusable */
	DEFRAMER_PROTOCOL,
};

/* Finds the next whole frame; counts and skips empty ones and runts. */
enum deframer_result deframer_next(
    struct deframer *d, struct iovec *parcel, uint32_t max_frame);

/* Discards the buffered bytes, for use with a new stream. Returns true if the
 * old stream ended inside a frame. */
bool deframer_reset(struct deframer *d);

#endif
