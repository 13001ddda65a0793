/* The two ways in which frames travel on a connection to the network: in a
 * stream, each after its length (framing.h), or one per datagram. The copy
 * threads and the monitor use the operations of wire_of(). */
#ifndef FORWARDER_WIRE_H
#define FORWARDER_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/stream.h"
#include "config/config.h"
#include "guest/batch.h"
#include "keepalive/probe.h"
#include "reconnect/link.h"
#include "status/counters.h"

/* Maximum bytes per recv() from a stream: WIRE_BUFFER_BYTES for long frames,
 * more than a Unix socket holds by default; WIRE_READ_BYTES for others, which
 * stay in the processor's cache until they are sent to the guest. */
#define WIRE_BUFFER_BYTES (256 * 1024)
#define WIRE_READ_BYTES (128 * 1024)

/* What fwd-down has received and not yet passed on. */
struct wire_input {
	struct batch batch;       /* the frames that take() has returned */
	struct deframer deframer; /* the bytes of a stream */
	size_t read_bytes;        /* maximum size of the next recv() */
	struct stream_traffic frames_up;
	struct down_counters *drops;
};

/* Allocates the buffers, for both kinds of connection. The counters are those of
 * the copy threads. Returns 0, or -1 with errno. */
int wire_input_create(struct wire_input *input, const struct up_counters *up,
    struct down_counters *down);
void wire_input_destroy(struct wire_input *input);

/* Discards the rest of a connection that has ended. Returns true if it ended
 * inside a frame. */
bool wire_input_reset(struct wire_input *input);

/* What to do when the socket has room for a part of a frame only. */
enum wire_rest {
	/* Blocks for the rest, for at most write_stall. If that fails, shuts
	 * down both directions, which wakes fwd-down: while the guest sends
	 * nothing, no other thread would notice. */
	WIRE_REST_WAITS,
	/* Shuts down the sending direction: what the peer has sent can still be
	 * read. */
	WIRE_REST_FAILS,
};

struct wire {
	/* Writes the frames of the batch from `from` on, in order. Blocks while
	 * the peer does not read. Returns how many were written completely. If
	 * not all were, errno is the reason:
	 *   EMSGSIZE         the next frame is too long for the socket
	 *   ENOBUFS, ENOMEM  the kernel had no buffers, even after retries
	 *   EAGAIN           no progress was made for write_stall
	 *   other            the connection has ended
	 * After the first two the connection can be used, without that frame.
	 * The caller holds the writer's token. */
	size_t (*write)(int fd, struct batch *batch, size_t from,
	    const struct config *config);

	/* Sends one frame of PROBE_BYTES if the socket has room. Returns 1, or 0
	 * if nothing was sent, or -1 with errno if the peer is gone and nothing
	 * else would show that. */
	int (*send)(int fd, const uint8_t *frame, enum wire_rest rest);

	/* Waits until something arrives, and receives it. Returns 1, or as
	 * recv() 0 at the end, or -1 with errno. Call take() until it returns
	 * DEFRAMER_MORE before the next call. */
	int (*receive)(struct wire_input *input, const struct loan *loan);

	/* Fills the batch with received frames that may be forwarded, and counts
	 * the others. Returns as batch_deframe(). */
	enum deframer_result (*take)(
	    struct wire_input *input, uint32_t max_frame);
};

extern const struct wire wire_stream, wire_datagrams;

static inline const struct wire *
wire_of(bool datagrams)
{
	return datagrams ? &wire_datagrams : &wire_stream;
}

#endif
