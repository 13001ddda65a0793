/* The socket or device through which the guest sends and receives: an inherited
 * descriptor, a datagram or stream socket at a path, or a TAP device. It stays
 * open for the life of the VM. Each kind is a table of operations in a file of its
 * own. guest.c has what the kinds share: whether a guest is present, the guest's
 * MAC address, and the meaning of errors. The copy threads call these functions to
 * receive and send frames. */
#ifndef GUEST_GUEST_H
#define GUEST_GUEST_H

#include <poll.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "base/unix_bind.h"
#include "config/guest_endpoint.h"
#include "guest/batch.h"
#include "guest/stream.h"
#include "guest/unixgram.h"
#include "status/counters.h"

/* Why a frame could not be sent to the guest. */
enum guest_refusal {
	GUEST_FULL, /* the guest's queue is full: call guest_await_room() */
	/* the kernel is out of buffers; poll() does not report when it has some
	 * again */
	GUEST_NO_BUFFERS,
	GUEST_TOO_LARGE, /* the frame exceeds the socket's send buffer */
	GUEST_REFUSED,   /* the send failed although a guest is present */
	GUEST_ABSENT,    /* no guest is present now */
	GUEST_GONE,      /* the guest is gone and cannot return */
};

/* What main() polls for a guest. */
#define GUEST_DESCRIPTORS 3

/* The most descriptors that the next forwarder inherits. The second is a
 * successor (unixgram.h). */
#define GUEST_KEPT 2

/* An inherited descriptor, for guest_open() to take. */
struct guest_offer {
	int fd;
	const char *fault; /* why it wasn't taken, or NULL */
};

struct guest {
	const struct guest_ops *ops;
	struct guest_endpoint endpoint;
	int fd;
	struct unix_file file;    /* socket file, if any; used by main() only */
	mode_t mode;              /* of that file; used by main() only */
	_Atomic uint64_t present; /* number of the current guest; 0: none */
	_Atomic uint64_t mac;     /* 0 until learned */
	/* the longest frame that a stream may hold; a longer one ends it */
	_Atomic uint32_t max_frame;
	/* queued frames that were discarded instead of forwarded */
	counter lost;

	/* Called with the guest's lock held when another guest has replaced the
	 * last one. The callback may call no guest function except
	 * guest_get_mac(). May be NULL. */
	void (*on_replaced)(void *context);
	void *context;

	/* Inherited descriptors, or -1: a socket connected to the guest; a socket
	 * that is not connected, or a device. */
	int inherited, inherited_free;
	atomic_uint changes; /* how often the descriptors have changed */

	struct unixgram unixgram; /* used by unixgram.c */
	struct stream stream;     /* used by stream.c */
	/* used by fwd-up: it may have more frames than it has returned, though
	 * fd need not be readable */
	bool has_frames;
	bool drained; /* used by tap_linux.c: the last receive read all */
};

/* The operations of one kind of guest. */
struct guest_ops {
	const char *name; /* for the log and status, if describe is NULL */
	/* Sets fd, and `present` if the guest is there from the start. */
	int (*open)(struct guest *guest, mode_t mode, struct error *error);
	/* As batch_receive(), but may return an empty batch; it does not wait
	 * if fd is readable or has_frames is set. ESHUTDOWN means that no more
	 * frames can arrive. */
	int (*receive)(struct guest *guest, struct batch *batch, size_t limit);
	/* As batch_send(). */
	int (*send)(struct guest *guest, struct batch *batch, size_t from);

	/* The operations below may be NULL. */

	/* Returns why this inherited descriptor can't be the guest's, or
	 * NULL. */
	const char *(*fault)(const struct guest *guest, int fd);
	/* As guest_duplicate(). Without this operation, fd is duplicated. */
	size_t (*duplicate)(struct guest *guest, int fds[GUEST_KEPT]);
	void (*close)(struct guest *guest); /* releases everything except fd */
	/* Handles errno `error` of a send to guest number `which`. Returns
	 * GUEST_REFUSED if a guest is present now, GUEST_GONE if it cannot
	 * return, else GUEST_ABSENT. Without this operation, a guest whose
	 * send fails is gone. */
	enum guest_refusal (*refused)(
	    struct guest *guest, uint64_t which, int error);
	void (*describe)(struct guest *guest, char *text, size_t room);
	int (*watch)(struct guest *guest, struct pollfd *fds);
	void (*serve)(struct guest *guest, const struct pollfd *fds);
	int (*bind_again)(struct guest *guest, struct error *error);
};

/* send() for datagram sockets. */
int guest_send_datagrams(struct guest *guest, struct batch *batch, size_t from);

extern const struct guest_ops guest_descriptor, guest_unixgram, guest_stream,
    guest_tap;

/* Opens the endpoint. A path is bound with the permission bits `mode`. A stale
 * socket file is replaced; one that a running process has open is not. A
 * descriptor's kind is that of its socket. max_frame is FRAME_LIMIT_BYTES at
 * first.
 *
 * If an offered descriptor fits the endpoint, it is used instead: the frames
 * queued in it are received, a guest that it is connected to is present at once,
 * and a socket's file keeps its mode. Offers with a fault remain the caller's.
 *
 * Returns 0, or -1 with the reason. */
int guest_open(struct guest *guest, const struct guest_endpoint *endpoint,
    mode_t mode, struct guest_offer *offers, size_t count, struct error *error);

/* Whether it was opened with an inherited descriptor. */
static inline bool
guest_is_inherited(const struct guest *guest)
{
	return guest->inherited >= 0 || guest->inherited_free >= 0;
}

/* Duplicates the guest's descriptors, for the next forwarder to inherit. Returns
 * how many there are; fewer if the process is out of descriptors. Call it again
 * when `changes` has changed. */
size_t guest_duplicate(struct guest *guest, int fds[GUEST_KEPT]);

/* Whether a frame from the guest can be received now. */
bool guest_is_readable(const struct guest *guest);

/* For fwd-up: waits until guest_receive() need not wait, or other_fd is
 * readable. Returns whether it is the guest; other_fd goes first. A signal does
 * not end this wait. */
bool guest_await(const struct guest *guest, int other_fd);

/* Call this only when no thread uses the guest. If a thread may still be
 * blocked on the guest, call unix_file_remove(&guest->file) instead. */
void guest_close(struct guest *guest);

/* For fwd-up: waits for frames and receives up to `limit`. Returns 0 (the batch
 * may be empty), or -1 if no more frames can arrive. */
int guest_receive(struct guest *guest, struct batch *batch, size_t limit);

/* For fwd-up: learns the guest's MAC address from the source of its frame. */
void guest_learn_mac(struct guest *guest, const uint8_t *frame);
/* Copies the guest's MAC address. Returns false if it is not known yet. */
bool guest_get_mac(const struct guest *guest, uint8_t mac[6]);

/* For fwd-down: sends the frames of the parcels from `from` on, without
 * waiting. Returns how many were sent; if 0, *refusal is the reason. If the
 * reason would be GUEST_REFUSED, the send is tried once more first. */
size_t guest_send(struct guest *guest, struct batch *batch, size_t from,
    enum guest_refusal *refusal);

/* Waits for room until clock_now_ms() reaches deadline_ms. Returns false if
 * there was no room by then. */
bool guest_await_room(const struct guest *guest, int64_t deadline_ms);

/* Writes the guest's path or kind to text; "" if no guest is present. */
void guest_describe(struct guest *guest, char *text, size_t room);

/* The functions below are called by main() only. */

/* Fills in the descriptors to poll, and returns the timeout in ms, or -1. Call
 * guest_serve() after poll(). */
int guest_watch(struct guest *guest, struct pollfd fds[GUEST_DESCRIPTORS]);
void guest_serve(
    struct guest *guest, const struct pollfd fds[GUEST_DESCRIPTORS]);

/* Sets the length above which a frame ends a guest's stream. */
static inline void
guest_set_max_frame(struct guest *guest, uint32_t bytes)
{
	atomic_store_explicit(&guest->max_frame, bytes, memory_order_relaxed);
}

/* Changes the permission bits of the socket file. Logs a failure. */
void guest_set_mode(struct guest *guest, mode_t mode);

/* Binds a new socket to the path whose file was removed. The guest that is
 * connected stays so; one that uses datagrams, until another guest sends to the
 * new socket. Returns 0, or -1 with the reason: nothing has changed. */
int guest_bind_again(struct guest *guest, struct error *error);

#endif
