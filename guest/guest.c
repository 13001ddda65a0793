/* Theory of operation
 *
 * A guest given as a descriptor is there from the start; once a send finds it
 * gone, it is gone for good. One on a path comes and goes:
 *
 *             a frame from a named sender
 *      absent ---------------------------> present, fd connected to it
 *        ^                                     |
 *        +-------------------------------------+
 *          its socket was closed, or a send to it is refused,
 *          and nobody new answers at its path
 *
 * As long as fd is connected the kernel lets nobody else send to it, and tells
 * us nothing of who tried: so a guest that restarted is found by its file, or
 * by a send that is refused. A live guest's file may go (a cleaner of /tmp): the
 * connection goes on working both ways, and nobody could make it again. So
 * main's look at the guest's path, `closed` being what peer_is_closed() says,
 * ends so:
 *
 *      at the path         not closed                       closed
 *      the guest's file    -                                connect again
 *      nothing             keep it, look once a second      absent
 *      another file        connect if somebody answers,     connect again
 *                          else as with nothing
 *
 * If nobody answers the second connect(), it is absent. The system gives a user
 * only so many watches, and none of a file that the user may not read: without
 * one, main looks at the guest's path once a second too. A bell tells it of each
 * new guest, since that one may be without.
 *
 * Connecting to a new guest, or to nobody, throws away what the old one had
 * queued: that is read and counted before. What the kernel throws away itself,
 * when it refuses a send, nobody can count. Guests are numbered, and a refused
 * send says whom it was for: it may be reported when another guest has come and
 * has frames in the queue.
 *
 * Where others may write the folder, anybody may bind the path of a guest that
 * restarts, so whose file it is decides (trust.h).
 *
 * Our own socket's file may be removed, too. A new socket, the door, is then
 * bound to the path; the guest that is connected to the old one, fd, goes on
 * as before. The door takes fd's place as soon as nobody is connected to that,
 * before another guest is, and when a frame arrives at it.
 *
 * The lock orders those who may connect fd: fwd-up (first sender), fwd-down
 * (refused) and main (the file). It is held across no call that blocks:
 * connect() of a datagram socket doesn't. */
#include "guest/guest.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/socket.h"
#include "base/trust.h"
#include "guest/tap.h"

/* Whoever may send to us can come and go at any rate. */
static struct log_limit found_limit = { .burst = 20 };
static struct log_limit gone_limit = { .burst = 20 };
static struct log_limit unanswered_limit = { .burst = 5 };

/* How long a guest that restarted waits at most where nothing tells. */
#define LOOK_MS 1000

/* More than a socket's queue holds, and an end if the guest fills it meanwhile. */
#define QUEUE_FRAMES 65536

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
		.door = -1,
		.mode = mode,
		.bell = { { -1, -1 } } };
	mutex_init(&guest->lock);
	file_watch_init(&guest->watch, &guest->bell);
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
	mutex_lock(&guest->lock);
	if (guest->door >= 0)
		close(guest->door);
	mutex_unlock(&guest->lock);
	close(guest->fd);
	file_watch_destroy(&guest->watch);
	doorbell_destroy(&guest->bell);
	mutex_destroy(&guest->lock);
}

int
guest_set_mode(struct guest *guest, mode_t mode)
{
	if (guest->endpoint.kind != GUEST_UNIXGRAM || mode == guest->mode)
		return 0;
	if (unix_file_set_mode(&guest->file, mode) < 0) {
		/* The next one is bound with the new mode. */
		if (!unix_file_stands(&guest->file))
			guest->mode = mode;
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

enum at_path { THE_GUEST, NOTHING, ANOTHER };

/* Which file stands at the guest's path. An inode number is given to another
 * file once its own is deleted; then the time tells, or the watch has told. */
static enum at_path
look_at_path(const struct guest *guest, const char *path, bool watch_tells)
    NEEDS(guest->lock)
{
	struct stat file;

	if (guest->peer_inode == 0)
		return THE_GUEST;
	if (lstat(path, &file) < 0)
		return NOTHING;
	if (file.st_ino != guest->peer_inode)
		return ANOTHER;
	return watch_tells ||
		       file_watch_changed_ns(&file) == guest->peer_changed_ns
		   ? THE_GUEST
		   : ANOTHER;
}

/* Reads and counts what would be thrown away unread. */
static void
count_queue(struct guest *guest) NEEDS(guest->lock)
{
	char byte;

	for (int i = 0; i < QUEUE_FRAMES; i++)
		if (recv(guest->fd, &byte, sizeof(byte), MSG_DONTWAIT) >= 0)
			counter_add(&guest->lost, 1);
		else if (errno != ECONNRESET && errno != EINTR)
			break;
}

/* Before a connect(), which throws the queue away only if fd is connected;
 * otherwise the queue may hold the next guest's frames. */
static void
empty_queue(struct guest *guest) NEEDS(guest->lock)
{
	struct sockaddr_un peer;
	socklen_t length = sizeof(peer);

	if (getpeername(guest->fd, (struct sockaddr *)&peer, &length) == 0)
		count_queue(guest);
}

/* From now on fd is the socket that our path leads to. A recv() that sleeps on
 * the old one returns a frame of 0 bytes from nobody, which guest_receive()
 * knows by `woken`. */
static void
use_door(struct guest *guest) NEEDS(guest->lock)
{
	if (guest->door < 0)
		return;
	count_queue(guest);
	atomic_store(&guest->woken, true);
	shutdown(guest->fd, SHUT_RD);
	dup2(guest->door, guest->fd);
	fcntl(guest->fd, F_SETFD, FD_CLOEXEC);
	close(guest->door);
	guest->door = -1;
}

enum attempt { CONNECTED, UNANSWERED, UNTRUSTED };

/* What is known before connecting: UNTRUSTED if a stranger's file stands at the
 * path (trust.h), which is told. Nothing, if the address has no file. */
static enum attempt
examine(const struct sockaddr_un *address, socklen_t length, const char *path,
    struct stat *file)
{
	*file = (struct stat){ .st_ino = 0 };
	if (!has_file(address, length))
		return CONNECTED;
	if (lstat(path, file) < 0)
		return UNANSWERED;
	return trust_owner(path, file->st_uid, TRUST_NOBODY_ELSE) ? CONNECTED
								  : UNTRUSTED;
}

/* Connects fd to the file that stands at the path before and after, which is
 * told. UNANSWERED comes with errno. */
static enum attempt
try_address(struct guest *guest, const struct sockaddr_un *address,
    socklen_t length, const char *path, struct stat *file) NEEDS(guest->lock)
{
	enum attempt attempt = examine(address, length, path, file);
	uid_t owner = TRUST_NOBODY_ELSE;
	struct stat after;

	if (attempt != CONNECTED)
		return attempt;
	if (connect(guest->fd, (const struct sockaddr *)address, length) < 0)
		return UNANSWERED;
	if (file->st_ino == 0)
		return CONNECTED;
	if (lstat(path, &after) == 0 && after.st_ino == file->st_ino)
		owner = after.st_uid;
	return trust_owner(path, owner, TRUST_NOBODY_ELSE) ? CONNECTED
							   : UNTRUSTED;
}

/* Makes whoever is at the address the guest. The watch is set first: a file that
 * is replaced in between then tells. */
static enum attempt
attach(struct guest *guest, const struct sockaddr_un *address, socklen_t length)
    NEEDS(guest->lock)
{
	char path[sizeof(address->sun_path) + 2];
	enum attempt attempt;
	struct stat file;

	path_of(address, length, path, sizeof(path));
	/* Until it is known who answers, nobody is sent to. */
	atomic_store(&guest->present, 0);
	guest->unwatched = 0;
	if (!has_file(address, length))
		file_watch_stop(&guest->watch);
	else if (file_watch_file(&guest->watch, path) < 0)
		guest->unwatched = errno;
	empty_queue(guest);
	use_door(guest);
	attempt = try_address(guest, address, length, path, &file);
	if (attempt != CONNECTED)
		return attempt;
	guest->peer = *address;
	guest->peer_length = length;
	guest->peer_inode = file.st_ino;
	guest->peer_changed_ns = file_watch_changed_ns(&file);
	guest->fileless = false;
	atomic_store(&guest->present, ++guest->guests);
	doorbell_ring(&guest->bell);
	return CONNECTED;
}

static void
detach(struct guest *guest) NEEDS(guest->lock)
{
	struct sockaddr nobody = { .sa_family = AF_UNSPEC };

	file_watch_stop(&guest->watch);
	guest->unwatched = 0;
	guest->fileless = false;
	/* Before others are let in: the next sender's frame may arrive at once. */
	atomic_store(&guest->present, 0);
	empty_queue(guest);
	/* Fails only where there was nobody to leave (macOS). */
	(void)connect(guest->fd, &nobody, sizeof(nobody));
	use_door(guest);
	guest->peer_length = 0;
	guest->peer_inode = 0;
}

/* attach(), or absent. */
static enum attempt
attach_or_detach(struct guest *guest, const struct sockaddr_un *address,
    socklen_t length) NEEDS(guest->lock)
{
	enum attempt attempt = attach(guest, address, length);
	int error = errno;

	if (attempt != CONNECTED)
		detach(guest);
	errno = error;
	return attempt;
}

/* Finds whoever answers at the last guest's path now; nobody: absent. */
static enum attempt
attach_again(struct guest *guest) NEEDS(guest->lock)
{
	struct sockaddr_un address = guest->peer;

	return attach_or_detach(guest, &address, guest->peer_length);
}

/* Whether a new guest answers at the path of the present one, which stays
 * connected meanwhile. */
static enum attempt
ask_at_path(struct guest *guest, const char *path) NEEDS(guest->lock)
{
	const struct sockaddr *address = (struct sockaddr *)&guest->peer;
	struct stat file;
	enum attempt attempt =
	    examine(&guest->peer, guest->peer_length, path, &file);
	int fd;

	if (attempt != CONNECTED)
		return attempt;
	fd = socket(AF_UNIX, SOCK_DGRAM, 0);
	if (fd < 0)
		return UNANSWERED;
	if (connect(fd, address, guest->peer_length) < 0)
		attempt = UNANSWERED;
	close(fd);
	return attempt;
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
tell_untrusted(struct guest *guest, const char *path)
{
	struct stat file = { .st_ino = 0 };

	(void)lstat(path, &file);
	mutex_lock(&guest->lock);
	if (file.st_ino == guest->told_untrusted)
		file.st_ino = 0;
	else
		guest->told_untrusted = file.st_ino;
	mutex_unlock(&guest->lock);
	if (file.st_ino != 0)
		log_limited(&unanswered_limit, LOG_LEVEL_WARN, LOG_GUEST,
		    "not answered: another user's socket in a folder that "
		    "others may write (let the guest use a private folder) "
		    "peer=%s uid=%lu",
		    path, (unsigned long)file.st_uid);
}

static void
adopt(struct guest *guest, const struct sockaddr_un *sender, socklen_t length)
{
	char path[sizeof(sender->sun_path) + 2];
	enum attempt attempt = CONNECTED;
	bool known, another;
	struct stat file;
	int error;

	path_of(sender, length, path, sizeof(path));
	mutex_lock(&guest->lock);
	known = is_peer(guest, sender, length);
	if (!known)
		attempt = examine(sender, length, path, &file);
	if (!known && attempt != UNTRUSTED)
		attempt = attach_or_detach(guest, sender, length);
	error = errno;
	another = !known && attempt == CONNECTED && guest->guests > 1;
	mutex_unlock(&guest->lock);
	if (another)
		tell_another(guest);
	if (attempt == UNTRUSTED)
		tell_untrusted(guest, path);
	else if (attempt == UNANSWERED)
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

/* The guest left, for that reason; who was found at its path since? */
static void
tell_gone(struct guest *guest, const char *path, const char *reason,
    enum attempt found)
{
	if (found == CONNECTED)
		tell_another(guest);
	log_limited(&gone_limit, LOG_LEVEL_WARN, LOG_GUEST,
	    "%s peer=%s reason=\"%s\"",
	    found == CONNECTED ? "restarted" : "gone", path, reason);
	if (found == UNTRUSTED)
		tell_untrusted(guest, path);
}

int
guest_bind_again(struct guest *guest, char *why, size_t why_size)
{
	struct unix_file file;
	int fd = unix_bind(&file, SOCK_DGRAM, guest->endpoint.path, guest->mode,
	    why, why_size);

	if (fd < 0)
		return -1;
	mutex_lock(&guest->lock);
	guest->file = file;
	if (guest->door >= 0)
		close(guest->door);
	guest->door = fd;
	if (!atomic_load(&guest->present))
		use_door(guest);
	mutex_unlock(&guest->lock);
	return 0;
}

int
guest_door_fd(struct guest *guest)
{
	int fd;

	mutex_lock(&guest->lock);
	fd = guest->door;
	mutex_unlock(&guest->lock);
	return fd;
}

/* Whether whoever sent the frame that waits at the door could be answered. A
 * guest that is connected to fd could never come back: its frame is dropped for
 * one that can't be the next guest. */
static bool
admits_at_door(struct guest *guest) NEEDS(guest->lock)
{
	char path[sizeof(guest->peer.sun_path) + 2], byte;
	struct sockaddr_un sender = { 0 };
	socklen_t length = sizeof(sender);
	struct stat file;

	if (recvfrom(guest->door, &byte, sizeof(byte), MSG_PEEK | MSG_DONTWAIT,
		(struct sockaddr *)&sender, &length) < 0)
		return false;
	if (length > sizeof(sender))
		length = sizeof(sender);
	path_of(&sender, length, path, sizeof(path));
	if (length > offsetof(struct sockaddr_un, sun_path) &&
	    examine(&sender, length, path, &file) == CONNECTED)
		return true;
	if (recv(guest->door, &byte, sizeof(byte), MSG_DONTWAIT) >= 0)
		counter_add(&guest->lost, 1);
	return false;
}

/* Nobody is the guest until fwd-up hears who it is. */
void
guest_open_door(struct guest *guest)
{
	mutex_lock(&guest->lock);
	if (guest->door >= 0 && admits_at_door(guest))
		detach(guest);
	mutex_unlock(&guest->lock);
}

/* Whether what was received is no frame, but a recv() that use_door() ended. */
static bool
is_wake(const struct guest *guest, const struct batch *batch)
{
	return batch->count == 1 && parcel_length(batch->parcels) == 0 &&
	       batch->sender_length == 0 && atomic_load(&guest->woken);
}

int
guest_receive(struct guest *guest, struct batch *batch, size_t limit)
{
	if (guest->endpoint.kind == GUEST_TAP)
		return tap_receive(batch, guest->fd, limit, &guest->drained);
	if (batch_receive(batch, guest->fd, limit) < 0)
		return -1;
	if (!is_wake(guest, batch))
		return 0;
	batch->count = 0;
	errno = EINTR;
	return -1;
}

int
guest_send(struct guest *guest, struct batch *batch, size_t from)
{
	return guest->endpoint.kind == GUEST_TAP
		   ? tap_send(batch, guest->fd, from)
		   : batch_send(batch, guest->fd, from);
}

/* The same guest answers, and yet refused a frame with `error` (it shut its
 * receiving side down): it stays, and so do its frames, as connecting to it again
 * throws none away. */
static bool
still_answers(struct guest *guest, const char *path, int error)
    NEEDS(guest->lock)
{
	const struct sockaddr *address = (struct sockaddr *)&guest->peer;

	if (guest->peer_inode == 0 && error != EPIPE)
		return false;
	return look_at_path(guest, path, false) == THE_GUEST &&
	       connect(guest->fd, address, guest->peer_length) == 0;
}

bool
guest_is_shut(const struct guest *guest)
{
	return guest->endpoint.kind == GUEST_FD && peer_is_shut(guest->fd);
}

bool
guest_gone(struct guest *guest, uint64_t which, int error)
{
	char path[sizeof(guest->peer.sun_path) + 2];
	enum attempt found = UNANSWERED;
	bool was_there, same, present, told;

	if (guest->endpoint.kind == GUEST_TAP && error != ENODEV)
		return false; /* it is down, and may come up again */
	if (guest->endpoint.kind != GUEST_UNIXGRAM) {
		atomic_store(&guest->present, 0);
		return false;
	}
	mutex_lock(&guest->lock);
	was_there = which != 0 && guest->present == which;
	path_of(&guest->peer, guest->peer_length, path, sizeof(path));
	same = was_there && still_answers(guest, path, error);
	if (was_there && !same)
		found = attach_again(guest);
	present = guest->present != 0;
	told = guest->told_refusing == which;
	if (same)
		guest->told_refusing = which;
	mutex_unlock(&guest->lock);
	if (same && !told)
		log_line(LOG_LEVEL_WARN, LOG_GUEST,
		    "refuses frames peer=%s error=\"%s\"", path,
		    strerror(error));
	else if (was_there && !same)
		tell_gone(guest, path, "a send was refused", found);
	return present;
}

int
guest_watch_fd(struct guest *guest)
{
	int fd;

	mutex_lock(&guest->lock);
	fd = file_watch_fd(&guest->watch);
	mutex_unlock(&guest->lock);
	return fd;
}

int
guest_patience_ms(struct guest *guest)
{
	bool untold;

	mutex_lock(&guest->lock);
	untold = guest->unwatched != 0 || guest->fileless;
	mutex_unlock(&guest->lock);
	return untold ? LOOK_MS : -1;
}

static void
tell_unwatched(struct guest *guest, int error)
{
	const char *advice = file_watch_advice(error);

	if (error && !guest->told_unwatched)
		log_line(LOG_LEVEL_WARN, LOG_GUEST,
		    "can't watch the guest's socket, looking at it once a "
		    "second instead error=\"%s\"%s%s%s",
		    strerror(error), *advice ? " (" : "", advice,
		    *advice ? ")" : "");
	guest->told_unwatched |= error != 0;
}

/* True: the guest before is gone, and `found` is who is at its path now.
 * False: it stays; `found` may be UNTRUSTED. */
static bool
look(struct guest *guest, const char *path, bool closed, enum attempt *found)
    NEEDS(guest->lock)
{
	enum at_path there = look_at_path(guest, path, guest->unwatched == 0);

	*found = UNANSWERED;
	if (!closed && there == ANOTHER)
		*found = ask_at_path(guest, path);
	guest->fileless = !closed && there != THE_GUEST;
	if (!closed && *found != CONNECTED)
		return false;
	if (there == NOTHING)
		detach(guest);
	else
		*found = attach_again(guest);
	return true;
}

bool
guest_look(struct guest *guest)
{
	char path[sizeof(guest->peer.sun_path) + 2];
	bool closed, moved = false;
	enum attempt found = UNANSWERED;
	int unwatched;

	doorbell_answer(&guest->bell);
	mutex_lock(&guest->lock);
	path_of(&guest->peer, guest->peer_length, path, sizeof(path));
	closed = file_watch_deleted(&guest->watch);
	if (guest->peer_inode != 0)
		moved = look(
		    guest, path, peer_is_closed(guest->fd, closed), &found);
	unwatched = guest->unwatched;
	mutex_unlock(&guest->lock);
	tell_unwatched(guest, unwatched);
	if (moved)
		tell_gone(
		    guest, path, "its socket was closed or replaced", found);
	else if (found == UNTRUSTED)
		tell_untrusted(guest, path);
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
