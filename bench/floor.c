/* The least that a forwarder with two copy threads can do. Comparing with it
 * shows the cost of the forwarder's logic. It survives no outage, checks no limits
 * and counts nothing.
 *
 *              receives with     sends with
 *   datagrams  recvmmsg          sendmmsg
 *   stream     recv              sendmsg of whole frames, at most 32 KB
 *
 * -s gives the length of the frames, from which it chooses the size of slots and
 * batches. A real forwarder does not know that length. */
#include "ends.h"
#include <netinet/in.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define HEADER_BYTES 4u
#define WRITE_BATCH_BYTES (32u * 1024)
#define MAX_SLOTS 512u
/* Measured with load -d down: for frames of 65,000 bytes 256 KB is best (0.85 of
 * the processor time), but for 9,014 bytes it is worse than 128 KB. */
#define BIG_FRAME_BYTES 16384u
#define READ_BYTES (128u * 1024)
#define READ_BIG_BYTES (256u * 1024)

/* One direction. A parcel is a header and its frame, contiguous: one iovec. */
struct copier {
	int in, out;
	struct iovec parcels[MAX_SLOTS];
	unsigned count; /* received and not yet sent */

	uint8_t *memory; /* slots, or the bytes of a stream */
	size_t size; /* of the slots: how many; of a stream: bytes per read */
	size_t at, held; /* of a stream: the bytes not yet received as frames */

	struct mmsghdr arriving[MAX_SLOTS], leaving[MAX_SLOTS];
	struct iovec slots[MAX_SLOTS], frames[MAX_SLOTS];
};

static size_t
min(size_t a, size_t b)
{
	return a < b ? a : b;
}

static void *
allocate(size_t bytes)
{
	void *memory = calloc(1, bytes);

	if (!memory)
		die("calloc");
	return memory;
}

/* Datagrams. */

/* As small as the frames allow. At 9,014 bytes this needs 0.82 of the processor
 * time of 65 KB slots; a stride of 65,536 needs 1.24 times as much at 1,514. */
static size_t
stride_for(const struct ends *ends)
{
	return ends->stride ? ends->stride
			    : (HEADER_BYTES + ends->frame + 63) / 64 * 64;
}

static void
prepare_slots(struct copier *c, const struct ends *ends)
{
	size_t fit = WRITE_BATCH_BYTES / (HEADER_BYTES + ends->frame);
	size_t stride = stride_for(ends);

	c->size = fit > 0 ? min(fit, MAX_SLOTS) : 1;
	c->memory = allocate(c->size * stride + ENDS_MAX_FRAME);
	for (size_t i = 0; i < c->size; i++) {
		uint8_t *slot = c->memory + i * stride;

		c->parcels[i].iov_base = slot;
		c->slots[i].iov_base = slot + HEADER_BYTES;
		c->slots[i].iov_len =
		    min(stride - HEADER_BYTES, ENDS_MAX_FRAME);
		c->arriving[i].msg_hdr.msg_iov = &c->slots[i];
		c->arriving[i].msg_hdr.msg_iovlen = 1;
	}
}

static bool
receive_datagrams(struct copier *c)
{
	int n = recvmmsg(
	    c->in, c->arriving, (unsigned)c->size, MSG_WAITFORONE, NULL);

	for (int i = 0; i < n; i++) {
		uint32_t header = htonl(c->arriving[i].msg_len);

		memcpy(c->parcels[i].iov_base, &header, HEADER_BYTES);
		c->parcels[i].iov_len = HEADER_BYTES + c->arriving[i].msg_len;
	}
	c->count = n > 0 ? (unsigned)n : 0;
	return n > 0;
}

static bool
send_datagrams(struct copier *c)
{
	unsigned sent = 0;
	int n;

	for (unsigned i = 0; i < c->count; i++) {
		c->frames[i].iov_base =
		    (uint8_t *)c->parcels[i].iov_base + HEADER_BYTES;
		c->frames[i].iov_len = c->parcels[i].iov_len - HEADER_BYTES;
		c->leaving[i].msg_hdr.msg_iov = &c->frames[i];
		c->leaving[i].msg_hdr.msg_iovlen = 1;
	}
	for (; sent < c->count; sent += (unsigned)n) {
		n = sendmmsg(c->out, c->leaving + sent, c->count - sent, 0);
		if (n <= 0)
			return false;
	}
	return true;
}

/* Streams. */

static void
prepare_reads(struct copier *c, const struct ends *ends)
{
	c->size = ends->frame > BIG_FRAME_BYTES ? READ_BIG_BYTES : READ_BYTES;
	if (ends->reading)
		c->size = ends->reading;
	c->memory = allocate(c->size + ENDS_MAX_FRAME + HEADER_BYTES);
}

/* Takes the complete frames that have been read. */
static void
take_frames(struct copier *c)
{
	uint32_t header;

	for (c->count = 0;
	     c->count < MAX_SLOTS && c->held - c->at >= HEADER_BYTES;
	     c->count++) {
		memcpy(&header, c->memory + c->at, HEADER_BYTES);
		header = ntohl(header);
		if (c->held - c->at - HEADER_BYTES < header)
			break;
		c->parcels[c->count].iov_base = c->memory + c->at;
		c->parcels[c->count].iov_len = HEADER_BYTES + header;
		c->at += HEADER_BYTES + header;
	}
}

static bool
receive_stream(struct copier *c)
{
	ssize_t got;

	for (take_frames(c); c->count == 0; take_frames(c)) {
		memmove(c->memory, c->memory + c->at, c->held - c->at);
		c->held -= c->at;
		c->at = 0;
		got = recv(c->in, c->memory + c->held, c->size, 0);
		if (got <= 0)
			return false;
		c->held += (size_t)got;
	}
	return true;
}

static bool
send_stream(struct copier *c)
{
	struct msghdr call = { 0 };
	size_t bytes;

	for (unsigned i = 0; i < c->count; i += (unsigned)call.msg_iovlen) {
		call.msg_iov = c->parcels + i;
		call.msg_iovlen = 0;
		bytes = 0;
		do
			bytes += c->parcels[i + call.msg_iovlen++].iov_len;
		while (i + call.msg_iovlen < c->count &&
		       bytes + c->parcels[i + call.msg_iovlen].iov_len <=
			   WRITE_BATCH_BYTES);
		if (sendmsg(c->out, &call, MSG_NOSIGNAL) < 0)
			return false;
	}
	return true;
}

/* Any pair. */

static const struct kind {
	void (*prepare)(struct copier *c, const struct ends *ends);
	bool (*receive)(struct copier *c);
	bool (*send)(struct copier *c);
} datagrams = { prepare_slots, receive_datagrams, send_datagrams },
  stream = { prepare_reads, receive_stream, send_stream };

static const struct kind *
kind_of(const struct end *end)
{
	return end->stream ? &stream : &datagrams;
}

static void
copy(const struct ends *ends, const struct end *from, const struct end *to)
{
	struct copier *c = allocate(sizeof(*c));

	c->in = from->fd;
	c->out = to->fd;
	kind_of(from)->prepare(c, ends);
	while (kind_of(from)->receive(c) && kind_of(to)->send(c))
		;
}

int
main(int argc, char **argv)
{
	struct ends ends;

	ends_open(&ends, argc, argv);
	ends_copy(copy, &ends);
}
