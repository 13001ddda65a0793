/* The guest's end, for the life of the VM: a descriptor from a VMM or a
 * launcher, a datagram socket at a path, a TAP device. Each kind is a table of
 * operations in a file of its own; guest.c has what they share: who is there,
 * its MAC, what an error means. Passing frames is the copy threads' work. */
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
	GUEST_REFUSED,    /* this frame: the guest is there, and took none */
	GUEST_ABSENT,
	GUEST_GONE, /* it was there, and never will be again */
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
	counter lost; /* frames, unread when another guest took the place */

	/* Called with no lock held, by the thread that found another guest in
	 * the place of the one before. NULL: nobody wants to know. */
	void (*on_replaced)(void *context);
	void *context;

	struct unixgram unixgram; /* unixgram.c's */
	bool drained; /* tap_linux.c's: the last receive took all there was */
};

/* What the kinds differ in. */
struct guest_ops {
	const char *name; /* for people, where there is no describe() */
	/* Sets fd, and present if the guest is there from the start. */
	int (*open)(struct guest *guest, mode_t mode, struct error *error);
	/* As guest_receive(), but errors come with errno. ESHUTDOWN: there will
	 * never be frames again. */
	int (*receive)(struct guest *guest, struct batch *batch, size_t limit);
	/* As batch_send(). */
	int (*send)(struct guest *guest, struct batch *batch, size_t from);

	/* The rest may be NULL. */
	void (*close)(struct guest *guest); /* all but fd */
	/* Guest `which` refused a send with `error`. Returns GUEST_REFUSED if
	 * somebody is there now, else GUEST_ABSENT. NULL: it is gone for good. */
	enum guest_refusal (*refused)(
	    struct guest *guest, uint64_t which, int error);
	void (*describe)(struct guest *guest, char *text, size_t room);
	int (*watch)(struct guest *guest, struct pollfd *fds);
	void (*serve)(struct guest *guest, const struct pollfd *fds);
	int (*bind_again)(struct guest *guest, struct error *error);
};

/* The send() of sockets that take a frame a datagram. */
int guest_send_datagrams(struct guest *guest, struct batch *batch, size_t from);

extern const struct guest_ops guest_descriptor, guest_unixgram, guest_tap;

/* Opens the endpoint; a path is bound with these permission bits, a dead
 * forwarder's stale socket file is replaced, a live one's never.
 * Returns 0, or -1 with the reason. */
int guest_open(struct guest *guest, const struct guest_endpoint *endpoint,
    mode_t mode, struct error *error);

/* Only once no thread uses it; where one may be blocked on it until the process
 * ends, unix_file_remove(&guest->file) is all there is to do. */
void guest_close(struct guest *guest);

/* fwd-up: waits for frames, `limit` at most. Returns 0, sometimes without any,
 * or -1 once there will never be any again. */
int guest_receive(struct guest *guest, struct batch *batch, size_t limit);

/* fwd-up: the source of a frame of the guest is the guest's MAC. */
void guest_learn_mac(struct guest *guest, const uint8_t *frame);
/* False: the MAC isn't known yet. */
bool guest_get_mac(const struct guest *guest, uint8_t mac[6]);

/* fwd-down: sends the frames of the parcels from `from` on, without waiting.
 * Returns how many went; 0: *refusal says why not even the first did. A refused
 * frame is tried a second time if somebody is there. */
size_t guest_send(struct guest *guest, struct batch *batch, size_t from,
    enum guest_refusal *refusal);

/* False: there was none until clock_now_ms() reached deadline_ms. */
bool guest_await_room(const struct guest *guest, int64_t deadline_ms);

/* For people: the guest's path, "" if nobody is there. */
void guest_describe(struct guest *guest, char *text, size_t room);

/* The rest is main()'s. Sets what to poll, for so many milliseconds at most
 * (-1: for ever); call guest_serve() with the outcome. */
int guest_watch(struct guest *guest, struct pollfd fds[GUEST_DESCRIPTORS]);
void guest_serve(
    struct guest *guest, const struct pollfd fds[GUEST_DESCRIPTORS]);

/* Changes the permission bits of our socket's file, if it is still ours; or logs
 * why not. */
void guest_set_mode(struct guest *guest, mode_t mode);

/* Our socket's file was removed: binds a new socket to its path. A guest that
 * is connected to the old one stays, until another one comes through the new
 * one. Returns 0, or -1 with the reason: nothing has changed. */
int guest_bind_again(struct guest *guest, struct error *error);

#endif
