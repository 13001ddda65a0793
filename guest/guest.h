/* The guest's end, for the life of the VM: a descriptor from a VMM or a
 * launcher, a datagram socket at a path, a TAP device. Each kind is a table of
 * operations in a file of its own. guest.c has what they share: whether a guest
 * is present, its MAC, what an error means. The copy threads pass the frames. */
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
#include "guest/unixgram.h"
#include "status/counters.h"

/* Why the guest didn't take a frame. */
enum guest_refusal {
	GUEST_FULL,       /* guest_await_room() */
	GUEST_NO_BUFFERS, /* in the kernel; nothing tells when it has some */
	GUEST_TOO_LARGE,  /* this frame, for our socket's buffer */
	GUEST_REFUSED,    /* this frame, by a guest that is present */
	GUEST_ABSENT,
	GUEST_GONE, /* and can't come back */
};

/* What main() polls for a guest. */
#define GUEST_DESCRIPTORS 3

struct guest {
	const struct guest_ops *ops;
	struct guest_endpoint endpoint;
	int fd;
	struct unix_file file;    /* of our socket, if it has one; main()'s */
	mode_t mode;              /* of that file; main()'s */
	_Atomic uint64_t present; /* number of the guest to send to; 0: none */
	_Atomic uint64_t mac;     /* 0 until learned */
	counter lost; /* frames left unread when another guest replaced it */

	/* Called when a new guest has replaced the old one, with the guest
	 * locked: it may call guest_get_mac() only. May be NULL. */
	void (*on_replaced)(void *context);
	void *context;

	struct unixgram unixgram; /* unixgram.c's */
	bool drained; /* tap_linux.c's: the last receive took all frames */
};

/* The operations of one kind of guest. */
struct guest_ops {
	const char *name; /* in log and status, if there is no describe() */
	/* Sets fd, and present if the guest is there from the start. */
	int (*open)(struct guest *guest, mode_t mode, struct error *error);
	/* As batch_receive(). ESHUTDOWN: no frame will ever come again. */
	int (*receive)(struct guest *guest, struct batch *batch, size_t limit);
	/* As batch_send(). */
	int (*send)(struct guest *guest, struct batch *batch, size_t from);

	/* The rest may be NULL. */
	void (*close)(struct guest *guest); /* all but fd */
	/* Guest number `which` refused a send with errno `error`. Returns
	 * GUEST_REFUSED if a guest is present now, else GUEST_ABSENT. NULL: it
	 * is gone for good. */
	enum guest_refusal (*refused)(
	    struct guest *guest, uint64_t which, int error);
	void (*describe)(struct guest *guest, char *text, size_t room);
	int (*watch)(struct guest *guest, struct pollfd *fds);
	void (*serve)(struct guest *guest, const struct pollfd *fds);
	int (*bind_again)(struct guest *guest, struct error *error);
};

/* send() for datagram sockets. */
int guest_send_datagrams(struct guest *guest, struct batch *batch, size_t from);

extern const struct guest_ops guest_descriptor, guest_unixgram, guest_tap;

/* Opens the endpoint; a path is bound with these permission bits, a dead
 * forwarder's stale socket file is replaced, a live one's never.
 * Returns 0, or -1 with the reason. */
int guest_open(struct guest *guest, const struct guest_endpoint *endpoint,
    mode_t mode, struct error *error);

/* Call it only when no thread uses the guest. If one may still be blocked on it,
 * call unix_file_remove(&guest->file) instead. */
void guest_close(struct guest *guest);

/* fwd-up: waits for frames, and takes `limit` at most. Returns 0, maybe without
 * a frame, or -1: no frame will ever come again. */
int guest_receive(struct guest *guest, struct batch *batch, size_t limit);

/* fwd-up: learns the guest's MAC from the source of its frame. */
void guest_learn_mac(struct guest *guest, const uint8_t *frame);
/* False: the MAC isn't known yet. */
bool guest_get_mac(const struct guest *guest, uint8_t mac[6]);

/* fwd-down: sends the frames of the parcels from `from` on, without waiting.
 * Returns how many were sent; if 0, sets *refusal. A refused frame is sent a
 * second time if a guest is present. */
size_t guest_send(struct guest *guest, struct batch *batch, size_t from,
    enum guest_refusal *refusal);

/* Waits for room until clock_now_ms() reaches deadline_ms. False: there was
 * none. */
bool guest_await_room(const struct guest *guest, int64_t deadline_ms);

/* The guest's path, "" if no guest is present. */
void guest_describe(struct guest *guest, char *text, size_t room);

/* The rest is for main(). Fills in the descriptors to poll, and returns the
 * timeout in ms, or -1. Call guest_serve() after poll(). */
int guest_watch(struct guest *guest, struct pollfd fds[GUEST_DESCRIPTORS]);
void guest_serve(
    struct guest *guest, const struct pollfd fds[GUEST_DESCRIPTORS]);

/* Changes the permission bits of our socket's file. Logs why, if it can't. */
void guest_set_mode(struct guest *guest, mode_t mode);

/* Call it when our socket's file was removed: binds a new socket to its path. A
 * guest that is connected to the old one stays until another guest calls.
 * Returns 0, or -1 with the reason: nothing has changed. */
int guest_bind_again(struct guest *guest, struct error *error);

#endif
