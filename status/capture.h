/* `forwarder capture`, in the daemon: gives the frames of both directions to a
 * client of the control socket, as pcapng.
 *
 *	copy threads, fwd-link           fwd-capture            client
 *	add frames and       ──► buffer
 *	events to one buffer     buffer ──► reports what is ──► writes it to its
 *	                                    in the other one    output
 *
 * The two buffers are memory that is shared with the client: each frame is
 * copied once in this process. Only the thread fwd-capture waits for the
 * client; what doesn't fit into the buffer that is being filled is lost to the
 * capture, and counted. The thread and the buffers exist during a capture only.
 *
 *	state    event                             next     action
 *	OFF      capture_start()                   RUNNING  start fwd-capture
 *	RUNNING  CAPTURE_END, or capture_stop()    ENDING   add no more frames;
 *	                                                    hand over what is left
 *	RUNNING  the client has left               OFF      free all
 *	ENDING   the client has taken all, or has  OFF      free all
 *	         left, or CAPTURE_END_MS have
 *	         passed
 *
 * There is one capture at a time. More clients would cost the copy threads a
 * copy each; tee(1) can divide a stream. */
#ifndef STATUS_CAPTURE_H
#define STATUS_CAPTURE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/sync.h"
#include "base/wait.h"
#include "status/pcapng.h"
#include "status/status.h"

/* The client gets a capture_hello together with the descriptor of the buffers,
 * and then a capture_part for each part that it may write. It answers with
 * CAPTURE_TAKEN. CAPTURE_END asks for the last part. Any other byte, or the end
 * of the connection, ends the capture at once. */
struct capture_hello {
	char magic[12]; /* CAPTURE_MAGIC; other versions may differ */
	uint32_t bytes; /* of the shared memory */
};
#define CAPTURE_MAGIC "pcapng by 1"

struct capture_part {
	uint32_t offset, length; /* in the shared memory */
};

enum { CAPTURE_TAKEN = 't', CAPTURE_END = 'e' };

/* How long a client may take for what is buffered when the capture ends. */
#define CAPTURE_END_MS 1000
/* How long capture_stop() waits for that, so that the process ends within a
 * second. */
#define CAPTURE_STOP_MS 200

enum capture_direction { CAPTURE_UP, CAPTURE_DOWN, CAPTURE_DIRECTIONS };

enum capture_state { CAPTURE_OFF, CAPTURE_RUNNING, CAPTURE_ENDING };

/* Room for the comment of a frame, which may be about several events. */
#define CAPTURE_COMMENT_BYTES 512

struct capture {
	struct mutex lock; /* not held across a call that can block */
	struct condition ended;
	_Atomic enum capture_state state; /* written under the lock */

	/* Valid until OFF. */
	struct pcapng *filling GUARDED; /* the buffer for new blocks */
	bool sleeping GUARDED;          /* fwd-capture waits for a block */
	bool losing GUARDED; /* frames were lost since the last statistics */
	struct pcapng_statistics statistics[CAPTURE_DIRECTIONS] GUARDED;
	struct text comment GUARDED; /* for the next frame */
	char comment_bytes[CAPTURE_COMMENT_BYTES];

	/* Used by fwd-capture; the bell is rung under the lock. */
	int client, memory;
	bool taken; /* the client has written the last part */
	struct doorbell bell;
	struct pcapng buffers[2];
	int64_t next_ms;     /* earliest time of the next part */
	int64_t deadline_ms; /* INT64_MAX until ENDING */
};

void capture_init(struct capture *capture);

/* Called by main(). Starts a capture for the client, a connected stream socket
 * that fwd-capture closes at the end. Only root and this process's own user may
 * capture, even if others may ask for the status. Returns NULL, or the reason
 * of a refusal; the caller then still owns the client. */
const char *capture_start(
    struct capture *capture, int client, const struct status *now);

/* Called by main(). Ends a capture and waits for its end, up to
 * CAPTURE_STOP_MS. */
void capture_stop(struct capture *capture);

/* This is all that the copy threads call while there is no capture. */
static inline bool
capture_is_on(const struct capture *capture)
{
	return atomic_load_explicit(&capture->state, memory_order_relaxed) ==
	       CAPTURE_RUNNING;
}

/* Captures frames that have just arrived, by copying them under the lock. In
 * each piece, `skip` bytes precede the frame. */
void capture_frames(struct capture *capture, enum capture_direction direction,
    const struct iovec *pieces, size_t count, size_t skip);

/* Captures an event: an entry between the frames, which is repeated as the
 * comment of the next frame. It may be lost if the client is slow. */
void capture_event(struct capture *capture, const char *message);

#endif
