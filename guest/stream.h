/* A guest that uses a Unix stream socket with QEMU's framing (framing.h): a
 * client of a listening socket, or a connected socket that was given as a
 * descriptor.
 *
 *      state       guest.fd                      left when
 *      NO_CLIENT   forwarder's own pipe          a client is accepted: CLIENT
 *      CLIENT      the connection                it ends: NO_CLIENT, or GONE if
 *                                                it was given as a descriptor
 *      GONE        the connection, at its end    never
 *
 *      event in CLIENT                 action
 *      end of the stream, a reset      the connection ends; part of a frame is
 *                                      counted as truncated
 *      a length above max_frame        the same, with one warning
 *      a send fails                    frames for the guest are dropped until the
 *                                      connection ends; frames that the guest
 *                                      has sent are still received
 *      another client connects         it waits in the backlog until this one
 *                                      has gone
 *
 * main() accepts clients and enters CLIENT. fwd-up receives, and ends a
 * connection. fwd-down sends, and so does main(), see below. Only main() uses
 * the listening socket: if its file is removed, main() binds another one at
 * once. Clients that waited in the backlog of the old one are disconnected.
 *
 * The number guest.fd stays the same for all clients: a connection, or the pipe,
 * is put there with dup2(). So whoever waits for that number waits for the right
 * thing: main() makes the pipe readable after it has put a client there, and
 * fwd-up shuts a connection down before it puts the pipe there. The lock is held
 * for each change of the state and for each send, so a send never reaches another
 * client. fwd-up receives without it, since only fwd-up ends a connection. Nothing
 * under the lock blocks.
 *
 * Received bytes are collected in a deframer. Its frames are passed on in the
 * buffer, whole batches first, before more is received.
 *
 * Sending never waits. If the kernel takes only part of a frame, the frame counts
 * as sent and the rest is kept. It goes first in the next send; or main(), which
 * is told, sends it as soon as there is room. A frame is therefore never cut. (On
 * Linux this concerns frames of more than 32 KiB; shorter writes are taken whole
 * or not at all.) The rest is lost if the client leaves first. */
#ifndef GUEST_STREAM_H
#define GUEST_STREAM_H

#include <stdatomic.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/stream.h"
#include "base/sync.h"
#include "base/wait.h"
#include "framing/framing.h"
#include "status/counters.h"

enum stream_state { STREAM_NO_CLIENT, STREAM_CLIENT, STREAM_GONE };

struct stream {
	struct mutex lock;
	_Atomic enum stream_state state; /* changed with the lock held */
	pid_t client GUARDED;            /* its process; 0: not known */
	uint64_t clients GUARDED; /* accepted so far; number of the last one */
	/* of a frame that was sent in part; rest_start == rest_end: none */
	uint8_t *rest GUARDED;
	size_t rest_start GUARDED, rest_end GUARDED;

	struct doorbell arrived; /* wakes fwd-up: there is a client */
	struct doorbell bell; /* wakes main(): no client, or a rest to send */

	counter sent; /* frames sent to all clients; written by fwd-down */

	struct deframer deframer; /* used by fwd-up only */
	struct stream_traffic traffic;

	int listener;      /* used by main() only; -1: a descriptor was given */
	int64_t accept_ms; /* used by main() only: earliest next accept() */
};

#endif
