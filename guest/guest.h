/* The guest's side: one datagram socket for the life of the VM. Opens it,
 * learns who the guest is, and notices when another one took its place.
 * Passing frames is the copy threads' work. */
#ifndef GUEST_GUEST_H
#define GUEST_GUEST_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/doorbell.h"
#include "base/file_watch.h"
#include "base/sync.h"
#include "base/unix_bind.h"
#include "config/guest_endpoint.h"
#include "guest/batch.h"
#include "status/counters.h"

#define GUEST_WHY_BYTES 256

struct guest {
	struct mutex lock;
	struct sockaddr_un peer GUARDED; /* whom fd is connected to */
	socklen_t peer_length GUARDED;   /* 0: nobody */
	ino_t peer_inode GUARDED;        /* of its file, 0: it has none */
	int64_t peer_changed_ns GUARDED; /* that file was */
	bool fileless GUARDED;           /* it is no longer at its path */
	struct file_watch watch GUARDED; /* of that file */
	int unwatched GUARDED;           /* errno, if that can't be; else 0 */
	struct doorbell bell; /* rings for main(): a new guest, its file */
	struct guest_endpoint endpoint;
	int fd;
	struct unix_file file; /* of our own socket, if it has one; main()'s */
	int door GUARDED;      /* our newer socket, bound to file; or -1 */
	atomic_bool woken;     /* fwd-up was, out of recv() on an older fd */
	uint64_t guests GUARDED;  /* there were so far */
	_Atomic uint64_t present; /* which of them is; 0: nobody to send to */
	_Atomic uint64_t mac;     /* 0 until learned */
	/* Frames of a guest that another one followed, unread. Written under
	 * the lock. */
	counter lost;
	ino_t told_untrusted GUARDED;   /* file that was warned of last */
	uint64_t told_refusing GUARDED; /* guest that was */

	/* Called with no lock held, by whoever found that another guest took
	 * the place of the one before. NULL: nobody wants to know. */
	void (*on_another)(void *context);
	void *context;

	/* fwd-up's own: whom it heard last, and whether it complained. */
	struct sockaddr_un sender;
	socklen_t sender_length;
	bool told_anonymous, drained;
	/* main()'s own. */
	bool told_unwatched;
	mode_t mode; /* of our socket's file */
};

/* Opens the endpoint; a path is bound with these permission bits, a dead
 * forwarder's stale socket file is replaced, a live one's never.
 * Returns 0, or -1 with the reason in `why`. */
int guest_open(struct guest *guest, const struct guest_endpoint *endpoint,
    mode_t mode, char why[GUEST_WHY_BYTES]);

/* Removes our socket's file, if it is still ours. Closes nothing: a copy
 * thread may be blocked on the descriptor until the process ends. */
void guest_remove(struct guest *guest);
void guest_close(struct guest *guest);

/* Changes the permission bits of our socket's file, if it is still ours.
 * Returns 0, or -1 after a warning. main() only. */
int guest_set_mode(struct guest *guest, mode_t mode);

/* Our socket's file was removed: binds a new socket to its path. A guest that
 * is connected to the old one stays, until another one comes through the new
 * one. Returns 0, or -1 with the reason: nothing has changed. main() only. */
int guest_bind_again(struct guest *guest, char *why, size_t why_size);

/* Poll this for POLLIN (-1: nothing to poll), then call guest_open_door(): a
 * guest has come through the new socket, which takes the old one's place.
 * main() only. */
int guest_door_fd(struct guest *guest);
void guest_open_door(struct guest *guest);

/* Frames came from `sender`: a new one becomes the guest and is connected
 * back to. Cheap when nothing changed. fwd-up only. */
void guest_heard(
    struct guest *guest, const struct sockaddr_un *sender, socklen_t length);

/* A frame of the guest: its source is the guest's MAC. fwd-up only. */
void guest_learn_mac(struct guest *guest, const uint8_t *frame);

/* False: the MAC isn't known yet. */
bool guest_get_mac(const struct guest *guest, uint8_t mac[6]);

/* batch_receive() and batch_send(), whatever the guest is. */
int guest_receive(struct guest *guest, struct batch *batch, size_t limit);
int guest_send(struct guest *guest, struct batch *batch, size_t from);

/* Whether a guest given as a descriptor can send nothing any more: whoever
 * shares the descriptor has shut it down. */
bool guest_is_shut(const struct guest *guest);

/* Sending found nobody at the other end (errno `error`), when `which` was
 * present. True: somebody answers there, send again (once: it may refuse frames
 * for ever). False: nobody is there now. A guest given as a descriptor that is
 * not `present` any more is gone for good. A report about an earlier guest leaves the later one alone. */
bool guest_gone(struct guest *guest, uint64_t which, int error);

/* Poll this and the bell for POLLIN, for guest_patience_ms() at most (-1: for
 * ever), then call guest_look(): it forgets a guest whose socket was closed or
 * replaced, so that a new one can send to us. True: it did. main() only. */
int guest_watch_fd(struct guest *guest);
int guest_patience_ms(struct guest *guest);
bool guest_look(struct guest *guest);

/* For people: the guest's path, "" if nobody is there. */
void guest_peer_text(struct guest *guest, char *text, size_t room);

#endif
