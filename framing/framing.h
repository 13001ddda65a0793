/* Turns a byte stream into Ethernet frames and back: QEMU's stream framing,
 * a 4-byte big-endian length and then the frame.
 * No I/O, no clock, no log, no thread: the caller brings those. */
#ifndef FRAMING_FRAMING_H
#define FRAMING_FRAMING_H

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

/* Writes the header of a frame of `length` bytes to the four bytes at `header`. */
void frame_put_header(uint8_t *header, uint32_t length);

/* What is wrong with a frame of this length, if anything: in one place for both
 * directions. */
enum frame_verdict {
	FRAME_GOOD,
	FRAME_EMPTY,    /* 0 bytes: ends QEMU's receive path for good */
	FRAME_RUNT,     /* 1 to 13 bytes */
	FRAME_OVERSIZE, /* more than max_frame */
};
enum frame_verdict frame_judge(uint64_t length, uint32_t max_frame);

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

enum deframer_result {
	DEFRAMER_FRAME,    /* *parcel is set */
	DEFRAMER_MORE,     /* no whole frame is left: receive more */
	DEFRAMER_PROTOCOL, /* the length exceeds max_frame: the stream is lost */
};

/* Reads into one buffer, hands out parcels that point into it.
 * A parcel stays valid until the next deframer_room() or deframer_reset(). */
struct deframer {
	uint8_t *buffer;
	size_t capacity; /* bytes */
	size_t start;    /* of the first byte not handed out */
	size_t end;      /* past the last byte received */
	uint64_t empty;  /* skipped frames, ever growing: */
	uint64_t runt;
};

/* The buffer stays the caller's. It needs room for the largest frame with its
 * header; a multiple of that keeps the moving of cut frames rare. */
void deframer_init(struct deframer *d, uint8_t *buffer, size_t capacity);

/* Where the next bytes go and how many fit: never 0 as long as max_frame plus
 * header fits the buffer and deframer_next() said DEFRAMER_MORE. Moves a cut frame to the front only when the space
 * behind it would not hold its rest, so a byte moves once a buffer turn at most. */
size_t deframer_room(struct deframer *d, uint8_t **room, uint32_t max_frame);

/* `bytes` were received where deframer_room() said. */
void deframer_filled(struct deframer *d, size_t bytes);

/* The next whole frame. Empty frames and runts are counted and skipped. After a
 * protocol error the parcel's length is the one that was announced. */
enum deframer_result deframer_next(
    struct deframer *d, struct iovec *parcel, uint32_t max_frame);

/* The stream ended; the next bytes are another stream's.
 * Returns 1 if a frame was cut off by the end, else 0. */
int deframer_reset(struct deframer *d);

#endif
