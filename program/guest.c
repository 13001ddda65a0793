/* Theory of operation
 *
 * A guest given as a descriptor is there from the start; once a send finds it
 * gone, it is gone for good. One on a path comes and goes:
 *
 *             a frame from a named sender
 *      absent ---------------------------> present, fd connected to it
 *        ^                                     |
 *        +-------------------------------------+
 *          send refused, or the sender's file removed or replaced,
 *          and nobody new answers at the same path
 *
 * As long as fd is connected the kernel lets nobody else send to it, and tells
 * us nothing of who tried: so a guest that restarted is found by its file, or
 * by a send that is refused. Connecting to a new guest, or to nobody, throws
 * away what the old one had queued; only a dead guest's last frames. So guests
 * are numbered, and a refused send says whom it was for: it may be reported
 * when another guest has come and has frames in the queue.
 *
 * The system gives a user only so many watches, and none of a file that he may
 * not read: without one, main looks at the guest's file once a second. A bell
 * tells it of each new guest, since that one may be without.
 *
 * The lock orders those who may connect fd: fwd-up (first sender), fwd-down
 * (refused) and main (the file). It is held across no call that blocks:
 * connect() of a datagram socket doesn't. */
#include "program/guest.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "program/log.h"
#include "program/tap.h"

/* Whoever may send to us can come and go as often as he likes. */
static struct log_limit found_limit = { .burst = 20 };
static struct log_limit gone_limit = { .burst = 20 };
static struct log_limit unanswered_limit = { .burst = 5 };

/* How long a guest that restarted waits at most where nothing tells. */
#define UNWATCHED_LOOK_MS 1000

static int
fail(char why[GUEST_WHY_BYTES], const char *what, const char *reason)
{
	snprintf(why, GUEST_WHY_BYTES, "%s: %s", what, reason);
	return -1;
}

/* Whether fd is what a VMM hands over: a connected datagram socket. */
static const char *
descriptor_fault(int fd)
{
	struct sockaddr_storage peer;
	socklen_t length = sizeof(peer);
	int type = 0;
	socklen_t type_length = sizeof(type);

	if (fcntl(fd, F_GETFD) < 0)
		return "no such open descriptor (was it passed on?)";
	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_length) < 0)
		return "not a socket";
	if (type != SOCK_DGRAM)
		return "a socket, but not a datagram socket";
	if (getpeername(fd, (struct sockaddr *)&peer, &length) < 0)
		return "a datagram socket that is connected to nobody";
	return NULL;
}

static int
open_descriptor(struct guest *guest, char why[GUEST_WHY_BYTES])
{
	int fd = guest->endpoint.fd;
	const char *fault = descriptor_fault(fd);
	char what[32];

	if (fault) {
		snprintf(what, sizeof(what), "fd:%d", fd);
		return fail(why, what, fault);
	}
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
	guest->fd = fd;
	guest->present = 1;
	return 0;
}

static int
open_path(struct guest *guest, mode_t mode, char why[GUEST_WHY_BYTES])
{
	guest->fd = unix_bind(&guest->file, SOCK_DGRAM, guest->endpoint.path,
	    mode, why, GUEST_WHY_BYTES);
	if (guest->fd >= 0 && doorbell_init(&guest->bell) == 0)
		return 0;
	if (guest->fd >= 0) {
		fail(why, "no pipe", strerror(errno));
		close(guest->fd);
		guest_remove(guest);
	}
	return -1;
}

int
guest_open(struct guest *guest, const struct guest_endpoint *endpoint,
    mode_t mode, char why[GUEST_WHY_BYTES])
{
	int result = -1;

	*guest = (struct guest){ .endpoint = *endpoint,
		.fd = -1,
		.mode = mode,
		.watch = PEER_WATCH_NONE,
		.bell = { { -1, -1 } } };
	mutex_init(&guest->lock);
	switch (endpoint->kind) {
	case GUEST_FD:
		result = open_descriptor(guest, why);
		break;
	case GUEST_UNIXGRAM:
		result = open_path(guest, mode, why);
		break;
	case GUEST_TAP:
		guest->fd = tap_open(endpoint->name, why, GUEST_WHY_BYTES);
		guest->present = guest->fd < 0 ? 0 : 1;
		result = guest->fd < 0 ? -1 : 0;
		break;
	}
	if (result < 0)
		mutex_destroy(&guest->lock);
	return result;
}

void
guest_remove(struct guest *guest)
{
	unix_file_remove(&guest->file);
}

void
guest_close(struct guest *guest)
{
	guest_remove(guest);
	close(guest->fd);
	peer_watch_close(&guest->watch);
	doorbell_destroy(&guest->bell);
	mutex_destroy(&guest->lock);
}

int
guest_set_mode(struct guest *guest, mode_t mode)
{
	if (guest->endpoint.kind != GUEST_UNIXGRAM || mode == guest->mode)
		return 0;
	if (unix_file_set_mode(&guest->file, mode) < 0) {
		log_line(LOG_LEVEL_WARN, LOG_GUEST,
		    "can't change the mode of our socket path=%s error=\"%s\"",
		    guest->endpoint.path, strerror(errno));
		return -1;
	}
	guest->mode = mode;
	return 0;
}

static bool
has_file(const struct sockaddr_un *address, socklen_t length)
{
	return length > offsetof(struct sockaddr_un, sun_path) &&
	       address->sun_path[0] != '\0';
}

/* A path from the kernel may lack its final zero. */
static void
path_of(const struct sockaddr_un *address, socklen_t length, char *path,
    size_t room)
{
	size_t offset = offsetof(struct sockaddr_un, sun_path);
	bool abstract = length > offset && address->sun_path[0] == '\0';

	if (length <= offset)
		snprintf(path, room, "%s", "");
	else
		snprintf(path, room, "%s%.*s", abstract ? "@" : "",
		    (int)(length - offset - abstract),
		    address->sun_path + abstract);
}

/* Whether another file stands at the guest's path. The inode number of a file
 * that is watched isn't given to another one; of one that isn't it may be, and
 * the time tells. */
static bool
is_moved(const struct guest *guest, const char *path) NEEDS(guest->lock)
{
	struct stat file;

	if (guest->peer_inode == 0)
		return false;
	return lstat(path, &file) < 0 || file.st_ino != guest->peer_inode ||
	       (guest->unwatched != 0 &&
		   peer_watch_changed_ns(&file) != guest->peer_changed_ns);
}

static void
note_file(struct guest *guest, const char *path) NEEDS(guest->lock)
{
	struct stat file = { .st_ino = 0 };

	(void)lstat(path, &file);
	guest->peer_inode = file.st_ino;
	guest->peer_changed_ns = peer_watch_changed_ns(&file);
}

/* Connects to the address. The watch is set first: a file that is replaced in
 * between then tells. Returns 0, or -1 with errno. */
static int
attach(struct guest *guest, const struct sockaddr_un *address, socklen_t length)
    NEEDS(guest->lock)
{
	char path[sizeof(address->sun_path) + 2];

	path_of(address, length, path, sizeof(path));
	if (has_file(address, length)) {
		guest->unwatched =
		    peer_watch_set(&guest->watch, path) < 0 ? errno : 0;
		note_file(guest, path);
	}
	if (connect(guest->fd, (const struct sockaddr *)address, length) < 0)
		return -1;
	guest->peer = *address;
	guest->peer_length = length;
	atomic_store(&guest->present, ++guest->guests);
	doorbell_ring(&guest->bell);
	return 0;
}

static void
detach(struct guest *guest) NEEDS(guest->lock)
{
	struct sockaddr nobody = { .sa_family = AF_UNSPEC };

	peer_watch_set(&guest->watch, NULL);
	guest->unwatched = 0;
	/* First: the frame of whom the kernel lets in next must find it so. */
	atomic_store(&guest->present, 0);
	/* Fails only where there was nobody to leave (macOS). */
	(void)connect(guest->fd, &nobody, sizeof(nobody));
	guest->peer_length = 0;
	guest->peer_inode = 0;
}

/* Finds whoever answers at the last guest's path now; nobody: absent. */
static bool
attach_again(struct guest *guest) NEEDS(guest->lock)
{
	struct sockaddr_un address = guest->peer;
	socklen_t length = guest->peer_length;

	detach(guest);
	if (length == 0 || attach(guest, &address, length) == 0)
		return length != 0;
	detach(guest);
	return false;
}

static bool
is_peer(const struct guest *guest, const struct sockaddr_un *sender,
    socklen_t length) NEEDS(guest->lock)
{
	return guest->peer_length == length &&
	       memcmp(&guest->peer, sender, length) == 0;
}

static void
tell_another(const struct guest *guest)
{
	if (guest->on_another)
		guest->on_another(guest->context);
}

static void
adopt(struct guest *guest, const struct sockaddr_un *sender, socklen_t length)
{
	char path[sizeof(sender->sun_path) + 2];
	bool known, another;
	int error = 0;

	mutex_lock(&guest->lock);
	known = is_peer(guest, sender, length);
	if (!known && attach(guest, sender, length) < 0) {
		error = errno;
		detach(guest);
	}
	another = !known && !error && guest->guests > 1;
	mutex_unlock(&guest->lock);
	if (another)
		tell_another(guest);
	path_of(sender, length, path, sizeof(path));
	if (error)
		log_limited(&unanswered_limit, LOG_LEVEL_WARN, LOG_GUEST,
		    "can't answer peer=%s error=\"%s\"", path, strerror(error));
	else if (!known)
		log_limited(&found_limit, LOG_LEVEL_INFO, LOG_GUEST,
		    "found peer=%s", path);
}

static void
tell_anonymous(struct guest *guest)
{
	if (!guest->told_anonymous && !atomic_load(&guest->present))
		log_line(LOG_LEVEL_WARN, LOG_GUEST,
		    "can't answer a guest whose socket has no name "
		    "(bind it to a path)");
	guest->told_anonymous = true;
}

/* While connected the kernel lets nobody else send; but a send that is refused
 * disconnects, before anybody could say so, and then a stranger's frame comes
 * in while `present` still stands. */
void
guest_heard(
    struct guest *guest, const struct sockaddr_un *sender, socklen_t length)
{
	if (guest->endpoint.kind != GUEST_UNIXGRAM)
		return;
	if (length <= offsetof(struct sockaddr_un, sun_path)) {
		tell_anonymous(guest);
		return;
	}
	if (atomic_load(&guest->present) && guest->sender_length == length &&
	    memcmp(&guest->sender, sender, length) == 0)
		return;
	memcpy(&guest->sender, sender, length);
	guest->sender_length = length;
	adopt(guest, sender, length);
}

void
guest_learn_mac(struct guest *guest, const uint8_t *frame)
{
	uint64_t mac = 0;

	for (int i = 6; i < 12; i++)
		mac = mac << 8 | frame[i];
	if (mac == 0 || (frame[6] & 1) || /* a group is nobody's source */
	    mac == atomic_load_explicit(&guest->mac, memory_order_relaxed))
		return;
	atomic_store_explicit(&guest->mac, mac, memory_order_relaxed);
}

bool
guest_get_mac(const struct guest *guest, uint8_t mac[6])
{
	uint64_t number =
	    atomic_load_explicit(&guest->mac, memory_order_relaxed);

	/* Decided by what was copied: another look may find more. */
	for (int i = 0; i < 6; i++)
		mac[i] = (uint8_t)(number >> (40 - 8 * i));
	return number != 0;
}

static void
tell_gone(const char *path, const char *reason, bool replaced)
{
	log_limited(&gone_limit, LOG_LEVEL_WARN, LOG_GUEST,
	    "%s peer=%s reason=\"%s\"", replaced ? "restarted" : "gone", path,
	    reason);
}

int
guest_receive(struct guest *guest, struct batch *batch, size_t limit)
{
	return guest->endpoint.kind == GUEST_TAP
		   ? tap_receive(batch, guest->fd, limit)
		   : batch_receive(batch, guest->fd, limit);
}

int
guest_send(struct guest *guest, struct batch *batch, const struct frame *frames,
    size_t count)
{
	return guest->endpoint.kind == GUEST_TAP
		   ? tap_send(guest->fd, frames, count)
		   : batch_send(batch, guest->fd, frames, count);
}

bool
guest_gone(struct guest *guest, uint64_t which, int error)
{
	char path[sizeof(guest->peer.sun_path) + 2];
	bool was_there, replaced;

	if (guest->endpoint.kind == GUEST_TAP && error != ENODEV)
		return false; /* it is down, and may come up again */
	if (guest->endpoint.kind != GUEST_UNIXGRAM) {
		atomic_store(&guest->present, 0);
		return false;
	}
	mutex_lock(&guest->lock);
	was_there = which != 0 && guest->present == which;
	path_of(&guest->peer, guest->peer_length, path, sizeof(path));
	replaced = was_there ? attach_again(guest) : guest->present != 0;
	mutex_unlock(&guest->lock);
	if (was_there && replaced)
		tell_another(guest);
	if (was_there)
		tell_gone(path, "a send was refused", replaced);
	return replaced;
}

int
guest_watch_fd(struct guest *guest)
{
	int fd;

	mutex_lock(&guest->lock);
	fd = guest->watch.fd;
	mutex_unlock(&guest->lock);
	return fd;
}

int
guest_patience_ms(struct guest *guest)
{
	bool unwatched;

	mutex_lock(&guest->lock);
	unwatched = guest->unwatched != 0;
	mutex_unlock(&guest->lock);
	return unwatched ? UNWATCHED_LOOK_MS : -1;
}

static void
tell_unwatched(struct guest *guest, int error)
{
	const char *advice = peer_watch_advice(error);

	if (error && !guest->told_unwatched)
		log_line(LOG_LEVEL_WARN, LOG_GUEST,
		    "can't watch the guest's socket, looking at it once a "
		    "second instead error=\"%s\"%s%s%s",
		    strerror(error), *advice ? " (" : "", advice,
		    *advice ? ")" : "");
	guest->told_unwatched |= error != 0;
}

bool
guest_look(struct guest *guest)
{
	char path[sizeof(guest->peer.sun_path) + 2];
	bool moved, replaced = false;
	int unwatched;

	doorbell_answer(&guest->bell);
	mutex_lock(&guest->lock);
	moved = peer_watch_drain(&guest->watch);
	path_of(&guest->peer, guest->peer_length, path, sizeof(path));
	moved |= is_moved(guest, path);
	if (moved)
		replaced = attach_again(guest);
	unwatched = guest->unwatched;
	mutex_unlock(&guest->lock);
	tell_unwatched(guest, unwatched);
	if (replaced)
		tell_another(guest);
	if (moved)
		tell_gone(path, "its socket was removed or replaced", replaced);
	return moved;
}

void
guest_peer_text(struct guest *guest, char *text, size_t room)
{
	mutex_lock(&guest->lock);
	path_of(&guest->peer, guest->peer_length, text, room);
	mutex_unlock(&guest->lock);
	if (guest->endpoint.kind == GUEST_FD && atomic_load(&guest->present))
		snprintf(text, room, "fd");
	if (guest->endpoint.kind == GUEST_TAP && atomic_load(&guest->present))
		snprintf(text, room, "tap");
}
