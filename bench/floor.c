/* The least that a forwarder with two copy threads can do. Comparing with it
 * shows the cost of the forwarder's logic. It survives no outage, checks no limits
 * and counts nothing.
 *
 *   guest -> network   recvmmsg, one sendmsg of all headers and payloads
 *   network -> guest   recv, one sendmmsg of all whole frames
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

static size_t
min(size_t a, size_t b)
{
	return a < b ? a : b;
}

static size_t
slots_for(const struct ends *ends)
{
	size_t fit = WRITE_BATCH_BYTES / (HEADER_BYTES + ends->frame);

	return fit > 0 ? min(fit, MAX_SLOTS) : 1;
}

/* As small as the frames allow. At 9,014 bytes this needs 0.82 of the processor
 * time of 65 KB slots; a stride of 65,536 needs 1.24 times as much at 1,514. */
static size_t
stride_for(const struct ends *ends)
{
	return ends->stride ? ends->stride
			    : (HEADER_BYTES + ends->frame + 63) / 64 * 64;
}

/* A slot holds a header and its frame, contiguous: one iovec per frame. */
static void *
copy_up(void *argument)
{
	static struct mmsghdr messages[MAX_SLOTS];
	static struct iovec in[MAX_SLOTS], out[MAX_SLOTS];
	const struct ends *ends = argument;
	size_t slots = slots_for(ends);
	size_t stride = stride_for(ends);
	uint8_t *memory = malloc(slots * stride + ENDS_MAX_FRAME);
	struct msghdr batch = { .msg_iov = out };

	if (!memory)
		die("malloc");
	for (size_t i = 0; i < slots; i++) {
		uint8_t *slot = memory + i * stride;

		out[i].iov_base = slot;
		in[i].iov_base = slot + HEADER_BYTES;
		in[i].iov_len = min(stride - HEADER_BYTES, ENDS_MAX_FRAME);
		messages[i].msg_hdr.msg_iov = &in[i];
		messages[i].msg_hdr.msg_iovlen = 1;
	}
	for (;;) {
		int n = recvmmsg(ends->guest, messages, (unsigned)slots,
		    MSG_WAITFORONE, NULL);

		if (n <= 0)
			return NULL;
		for (int i = 0; i < n; i++) {
			uint32_t header = htonl(messages[i].msg_len);

			memcpy(out[i].iov_base, &header, HEADER_BYTES);
			out[i].iov_len = HEADER_BYTES + messages[i].msg_len;
		}
		batch.msg_iovlen = (size_t)n;
		if (sendmsg(ends->network, &batch, MSG_NOSIGNAL) < 0)
			return NULL;
	}
}

/* Sends the complete frames at `bytes` to the guest. Returns their length. */
static size_t
send_frames(int guest, uint8_t *bytes, size_t length)
{
	static struct mmsghdr messages[MAX_SLOTS];
	static struct iovec frames[MAX_SLOTS];
	size_t at = 0;
	unsigned n = 0;
	unsigned sent = 0;

	while (n < MAX_SLOTS && length - at >= HEADER_BYTES) {
		uint32_t header;

		memcpy(&header, bytes + at, HEADER_BYTES);
		header = ntohl(header);
		if (length - at - HEADER_BYTES < header)
			break;
		frames[n].iov_base = bytes + at + HEADER_BYTES;
		frames[n].iov_len = header;
		messages[n].msg_hdr.msg_iov = &frames[n];
		messages[n].msg_hdr.msg_iovlen = 1;
		at += HEADER_BYTES + header;
		n++;
	}
	while (sent < n) {
		int done = sendmmsg(guest, messages + sent, n - sent, 0);

		if (done <= 0)
			die("sendmmsg");
		sent += (unsigned)done;
	}
	return at;
}

static size_t
reading_for(const struct ends *ends)
{
	if (ends->reading)
		return ends->reading;
	return ends->frame > BIG_FRAME_BYTES ? READ_BIG_BYTES : READ_BYTES;
}

static void *
copy_down(void *argument)
{
	const struct ends *ends = argument;
	size_t reading = reading_for(ends);
	uint8_t *memory = malloc(reading + ENDS_MAX_FRAME + HEADER_BYTES);
	size_t held = 0; /* bytes of an incomplete frame */

	if (!memory)
		die("malloc");
	for (;;) {
		ssize_t got = recv(ends->network, memory + held, reading, 0);
		size_t at = 0, step;

		if (got <= 0)
			return NULL;
		held += (size_t)got;
		while ((step = send_frames(
			    ends->guest, memory + at, held - at)) > 0)
			at += step;
		held -= at;
		if (held > 0 && at > 0)
			memmove(memory, memory + at, held);
	}
}

int
main(int argc, char **argv)
{
	struct ends ends;

	ends_open(&ends, argc, argv);
	run_pair(copy_up, copy_down, &ends);
}
