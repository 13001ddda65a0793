#include "guest/unixgram.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/socket.h"
#include "base/trust.h"
#include "guest/guest.h"

#define LOCKED NEEDS(guest->unixgram.lock)

#define LOOK_MS 1000
/* Upper limit of the frames counted, in case the guest keeps sending. A socket
 * queue holds fewer. */
#define QUEUE_FRAMES 65536
#define PATH_OFFSET ((socklen_t)offsetof(struct sockaddr_un, sun_path))
/* errno for a file that belongs to a stranger */
#define STRANGER EPERM

/* Any process that can send to the socket can cause these messages. A flood of
 * one kind does not suppress the other. */
static struct log_limit changes = { .burst = 20 };
static struct log_limit warnings = { .burst = 5 };

/* Converts an address from the kernel. Its path may lack the final zero; Linux
 * includes that zero in the length nevertheless. */
static struct unixgram_name
name_of(const struct sockaddr_un *address, socklen_t length)
{
	struct unixgram_name name = { .address = *address,
		.length =
		    length < sizeof(*address) ? length : sizeof(*address) };
	int bytes = length > PATH_OFFSET ? (int)(name.length - PATH_OFFSET) : 0;
	int abstract = bytes > 0 && address->sun_path[0] == '\0';

	snprintf(name.path, sizeof(name.path), "%s%.*s", abstract ? "@" : "",
	    bytes - abstract, address->sun_path + abstract);
	return name;
}

static bool
is_abstract(const struct unixgram_name *name)
{
	return name->address.sun_path[0] == '\0';
}

static int
connect_to(int fd, const struct unixgram_name *name)
{
	return connect(fd, (const void *)&name->address, name->length);
}

/* Reads and counts the queued frames that connect() would discard. */
static void
count_queue(struct guest *guest)
{
	char byte;

	for (int i = 0; i < QUEUE_FRAMES; i++)
		if (recv(guest->fd, &byte, sizeof(byte), MSG_DONTWAIT) >= 0)
			counter_add(&guest->lost, 1);
		else if (errno != ECONNRESET && errno != EINTR)
			break;
}

/* Replaces the socket by the successor, if there is one. A recv() that is
 * blocked on the old socket then returns 0 bytes and no sender address. */
static void
use_successor(struct guest *guest) LOCKED
{
	struct unixgram *u = &guest->unixgram;

	if (u->successor < 0)
		return;
	count_queue(guest);
	atomic_store(&u->fd_replaced, true);
	shutdown(guest->fd, SHUT_RD);
	dup2(u->successor, guest->fd);
	fcntl(guest->fd, F_SETFD, FD_CLOEXEC);
	close(u->successor);
	u->successor = -1;
	atomic_fetch_add(&guest->changes, 1);
	doorbell_ring(&u->bell);
}

/* Stops sending to the present guest and counts its queued frames. If the
 * socket is not connected, connect() keeps the queue, which may hold frames of
 * the next guest, so nothing is counted. */
static void
stop_sending(struct guest *guest) LOCKED
{
	struct sockaddr_un peer;
	socklen_t length = sizeof(peer);

	atomic_store(&guest->present, 0);
	if (getpeername(guest->fd, (struct sockaddr *)&peer, &length) == 0)
		count_queue(guest);
}

/* The only place that changes the state. Only WATCHED and FILELESS have a
 * watch. */
static void
enter(struct guest *guest, enum unixgram_state state) LOCKED
{
	struct unixgram *u = &guest->unixgram;

	u->state = state;
	if (state != UNIXGRAM_WATCHED && state != UNIXGRAM_FILELESS)
		file_watch_stop(&u->watch);
	if (state == UNIXGRAM_ABSENT)
		u->peer = (struct unixgram_name){ .length = 0 };
}

/* Disconnects the socket. There is no guest then. */
static void
detach(struct guest *guest) LOCKED
{
	struct sockaddr nobody = { .sa_family = AF_UNSPEC };

	stop_sending(guest);
	/* On macOS this fails if the socket was not connected. */
	(void)connect(guest->fd, &nobody, sizeof(nobody));
	use_successor(guest);
	enter(guest, UNIXGRAM_ABSENT);
}

/* Looks up the socket file and checks its owner. Returns 0, or an errno if
 * forwarder can't or must not connect to it. For an abstract name, which has no
 * file, the inode number is 0. */
static int
examine(struct guest *guest, const struct unixgram_name *name,
    struct stat *file) LOCKED
{
	*file = (struct stat){ .st_ino = 0 };
	if (is_abstract(name))
		return 0;
	if (lstat(name->path, file) < 0)
		return errno;
	if (trust_owner(name->path, file->st_uid, TRUST_NO_USER))
		return 0;
	if (file->st_ino != guest->unixgram.logged_stranger)
		log_limited(&warnings, LOG_LEVEL_WARN, LOG_GUEST,
		    "not answered: another user's socket in a directory that "
		    "other users can write to (use a private directory) "
		    "peer=%s uid=%lu",
		    name->path, (unsigned long)file->st_uid);
	guest->unixgram.logged_stranger = file->st_ino;
	return STRANGER;
}

static void
warn_unwatched(int error)
{
	const char *advice = file_watch_advice(error);

	log_limited(&warnings, LOG_LEVEL_WARN, LOG_GUEST,
	    "can't watch the guest's socket file; checking it every second "
	    "instead error=\"%s\"%s%s%s",
	    strerror(error), *advice ? " (" : "", advice, *advice ? ")" : "");
}

/* Watches the file at the path. Call this before examine(), so that a
 * replacement of the file between the two calls is reported. */
static enum unixgram_state
watch_file(struct guest *guest, const struct unixgram_name *name) LOCKED
{
	struct unixgram *u = &guest->unixgram;
	int error = 0;

	if (is_abstract(name))
		return UNIXGRAM_ABSTRACT;
	if (file_watch_file(&u->watch, name->path) < 0)
		error = errno;
	if (error == ENOENT)
		return UNIXGRAM_UNWATCHED;
	if (error && error != u->watch_error)
		warn_unwatched(error);
	u->watch_error = error;
	return error ? UNIXGRAM_UNWATCHED : UNIXGRAM_WATCHED;
}

/* Connects to the socket of that name, and connects again if the file was
 * replaced meanwhile. *file is from examine(). Returns 0, or an errno. */
static int
connect_to_file(struct guest *guest, const struct unixgram_name *name,
    struct stat *file) LOCKED
{
	ino_t before;
	int error = 0;

	do {
		before = file->st_ino;
		if (connect_to(guest->fd, name) < 0)
			return errno;
		error = examine(guest, name, file);
	} while (!error && file->st_ino != before);
	return error;
}

/* Makes the socket of that name the guest: ours is connected to it. */
static void
set_guest(struct guest *guest, const struct unixgram_name *name,
    const struct stat *file, enum unixgram_state state) LOCKED
{
	struct unixgram *u = &guest->unixgram;

	u->peer = *name;
	u->inode = file->st_ino;
	u->changed_ns = file_watch_changed_ns(file);
	enter(guest, state);
	atomic_store(&guest->present, ++u->guests);
	if (u->guests > 1 && guest->on_replaced)
		guest->on_replaced(guest->context);
	doorbell_ring(&u->bell);
}

/* Connects to the socket of that name and makes it the guest. Returns 0, or an
 * errno: there is no guest then. */
static int
attach(struct guest *guest, const struct unixgram_name *name) LOCKED
{
	enum unixgram_state state = watch_file(guest, name);
	struct stat file;
	int error = examine(guest, name, &file);

	/* right before connect(), so that all discarded frames are counted */
	stop_sending(guest);
	use_successor(guest);
	if (!error)
		error = connect_to_file(guest, name, &file);
	if (error)
		detach(guest);
	else
		set_guest(guest, name, &file, state);
	return error;
}

/* Takes over the guest that an inherited socket is connected to. Connects
 * again: that keeps queued frames, and reaches a guest that has restarted at
 * its path. If the guest's file is gone or can't be reached, keeps the
 * connection that it has. */
static void
attach_to_peer(struct guest *guest) LOCKED
{
	struct sockaddr_un peer = { .sun_family = AF_UNIX };
	socklen_t length = sizeof(peer);
	struct unixgram_name name;
	enum unixgram_state state;
	struct stat file;
	bool gone = false;
	int error;

	(void)getpeername(guest->fd, (struct sockaddr *)&peer, &length);
	name = name_of(&peer, length);
	state = watch_file(guest, &name);
	error = examine(guest, &name, &file);
	if (!error) {
		error = connect_to_file(guest, &name, &file);
		gone = error == ECONNREFUSED || error == STRANGER;
	}
	/* what is at the path, if anything, is not the guest's file */
	if (error)
		file = (struct stat){ .st_ino = 0 };
	if (error && state != UNIXGRAM_ABSTRACT)
		state = UNIXGRAM_FILELESS;
	if (gone)
		detach(guest);
	else
		set_guest(guest, &name, &file, state);
	log_line(LOG_LEVEL_INFO, LOG_GUEST, "%s peer=%s",
	    gone ? "gone while forwarder was not running" : "found again",
	    name.path);
}

/* Handles the loss of the guest: attaches to the socket that is now at its
 * path. */
static void
replace(struct guest *guest, const char *reason) LOCKED
{
	const struct unixgram_name name = guest->unixgram.peer;
	int error = attach(guest, &name);

	log_limited(&changes, LOG_LEVEL_WARN, LOG_GUEST,
	    "%s peer=%s reason=\"%s\"", error ? "gone" : "restarted", name.path,
	    reason);
}

/* Attaches to the sender of a frame, unless it is the guest already or a
 * stranger. */
static void
attach_to_sender(struct guest *guest, const struct unixgram_name *name) LOCKED
{
	const struct unixgram_name *peer = &guest->unixgram.peer;
	struct stat file;
	int error;

	if ((name->length == peer->length &&
		memcmp(&name->address, &peer->address, name->length) == 0) ||
	    examine(guest, name, &file) == STRANGER)
		return;
	error = attach(guest, name);
	if (!error)
		log_limited(&changes, LOG_LEVEL_INFO, LOG_GUEST,
		    "found peer=%s", name->path);
	else if (error != STRANGER)
		log_limited(&warnings, LOG_LEVEL_WARN, LOG_GUEST,
		    "can't connect to the guest peer=%s error=\"%s\"",
		    name->path, strerror(error));
}

/* Examines the sender of a batch. While the socket is connected, only the guest
 * can send to it. But a failed send disconnects it, and a frame from another
 * sender can arrive while `present` is still set. */
static void
check_sender(
    struct guest *guest, const struct sockaddr_un *sender, socklen_t length)
{
	struct unixgram *u = &guest->unixgram;
	bool named = length > PATH_OFFSET;
	bool present = atomic_load(&guest->present) != 0;
	struct unixgram_name name;

	if ((present || !named) && u->last_sender_length == length &&
	    memcmp(&u->last_sender, sender, length) == 0)
		return;
	memcpy(&u->last_sender, sender, length);
	u->last_sender_length = length;
	if (named) {
		name = name_of(sender, length);
		mutex_lock(&guest->unixgram.lock);
		attach_to_sender(guest, &name);
		mutex_unlock(&guest->unixgram.lock);
	} else if (!present) {
		log_limited(&warnings, LOG_LEVEL_WARN, LOG_GUEST,
		    "can't send to a guest whose socket is not bound "
		    "(bind it to a path)");
	}
}

static int
unixgram_receive(struct guest *guest, struct batch *batch, size_t limit)
{
	if (batch_receive(batch, guest->fd, limit) < 0)
		return -1;
	if (batch->count == 1 && parcel_length(batch->parcels) == 0 &&
	    batch->sender_length == 0 &&
	    atomic_load(&guest->unixgram.fd_replaced))
		batch->count = 0; /* use_successor() woke recv() */
	else
		check_sender(guest, &batch->sender, batch->sender_length);
	return 0;
}

enum at_path { THE_GUEST, NOTHING, ANOTHER };

/* Returns which file is at the guest's path. The inode number of a deleted file
 * can be reused; then the ctime differs, or the watch has reported the
 * deletion. */
static enum at_path
look_at_path(struct guest *guest, bool watched) LOCKED
{
	const struct unixgram *u = &guest->unixgram;
	struct stat file;

	if (u->state == UNIXGRAM_ABSTRACT)
		return THE_GUEST;
	if (lstat(u->peer.path, &file) < 0)
		return NOTHING;
	if (file.st_ino == u->inode &&
	    (watched || file_watch_changed_ns(&file) == u->changed_ns))
		return THE_GUEST;
	return ANOTHER;
}

/* Returns whether the same guest is still there although a send failed, for
 * example because it has shut down its receiving side. Connects to it again,
 * which discards no queued frames. */
static bool
still_answers(struct guest *guest, int error) LOCKED
{
	const struct unixgram *u = &guest->unixgram;

	if (u->state == UNIXGRAM_ABSTRACT && error != EPIPE)
		return false;
	return look_at_path(guest, false) == THE_GUEST &&
	       connect_to(guest->fd, &u->peer) == 0;
}

static enum guest_refusal
unixgram_refused(struct guest *guest, uint64_t which, int error)
{
	struct unixgram *u = &guest->unixgram;
	bool present;

	mutex_lock(&guest->unixgram.lock);
	if (guest->present == which && !still_answers(guest, error)) {
		replace(guest, "a send failed");
	} else if (guest->present == which && u->logged_refusing != which) {
		log_limited(&changes, LOG_LEVEL_WARN, LOG_GUEST,
		    "refuses frames peer=%s error=\"%s\"", u->peer.path,
		    strerror(error));
		u->logged_refusing = which;
	}
	present = guest->present != 0;
	mutex_unlock(&guest->unixgram.lock);
	return present ? GUEST_REFUSED : GUEST_ABSENT;
}

/* Whether the socket at the guest's path accepts connections. Tries this with
 * another socket. */
static bool
another_answers(struct guest *guest) LOCKED
{
	const struct unixgram_name *peer = &guest->unixgram.peer;
	struct stat file;
	int result, fd;

	if (examine(guest, peer, &file))
		return false;
	fd = socket(AF_UNIX, SOCK_DGRAM, 0);
	result = connect_to(fd, peer);
	close(fd);
	return result == 0;
}

/* Checks the guest's file and updates the state. Called by main(). */
static void
look(struct guest *guest) LOCKED
{
	struct unixgram *u = &guest->unixgram;
	bool deleted = file_watch_deleted(&u->watch);
	bool watched = u->state != UNIXGRAM_UNWATCHED;
	bool closed = peer_is_closed(guest->fd, deleted);
	enum at_path there = look_at_path(guest, watched);

	if (closed || (there == ANOTHER && another_answers(guest)))
		replace(guest, "the guest's socket was closed or replaced");
	else if (watched)
		enter(guest,
		    there == THE_GUEST ? UNIXGRAM_WATCHED : UNIXGRAM_FILELESS);
}

/* Returns whether the sender of the frame that waits at the successor can be
 * the next guest. If not, drops the frame and keeps the present guest, which
 * could not reach the old socket again once detached. */
static bool
next_guest_waits(struct guest *guest) LOCKED
{
	int fd = guest->unixgram.successor;
	struct sockaddr_un sender = { 0 };
	socklen_t length = sizeof(sender);
	struct unixgram_name name;
	struct stat file;
	char byte;

	if (recvfrom(fd, &byte, sizeof(byte), MSG_PEEK | MSG_DONTWAIT,
		(struct sockaddr *)&sender, &length) < 0)
		return false;
	name = name_of(&sender, length);
	if (length > PATH_OFFSET && examine(guest, &name, &file) == 0)
		return true;
	if (recv(fd, &byte, sizeof(byte), MSG_DONTWAIT) >= 0)
		counter_add(&guest->lost, 1);
	return false;
}

enum { POLL_BELL, POLL_FILE, POLL_SUCCESSOR };

static int
unixgram_watch(struct guest *guest, struct pollfd *fds)
{
	struct unixgram *u = &guest->unixgram;
	int timeout_ms;

	mutex_lock(&guest->unixgram.lock);
	fds[POLL_BELL].fd = u->bell.fds[0];
	fds[POLL_FILE].fd = file_watch_fd(&u->watch);
	fds[POLL_SUCCESSOR].fd = u->successor;
	timeout_ms = u->state >= UNIXGRAM_FILELESS ? LOOK_MS : -1;
	mutex_unlock(&guest->unixgram.lock);
	return timeout_ms;
}

static void
unixgram_serve(struct guest *guest, const struct pollfd *fds)
{
	struct unixgram *u = &guest->unixgram;

	doorbell_answer(&u->bell);
	mutex_lock(&guest->unixgram.lock);
	if (u->state >= UNIXGRAM_WATCHED) /* cheap, so at each wake */
		look(guest);
	/* Detach now; fwd-up attaches to the sender when it receives the
	 * frame. */
	if (fds[POLL_SUCCESSOR].revents && u->successor >= 0 &&
	    next_guest_waits(guest))
		detach(guest);
	mutex_unlock(&guest->unixgram.lock);
}

static const char *
unixgram_fault(const struct guest *guest, int fd)
{
	struct sockaddr_un address = { .sun_family = AF_UNSPEC };
	socklen_t length = sizeof(address);
	struct unixgram_name name;
	int type = 0;
	socklen_t type_length = sizeof(type);

	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_length) < 0 ||
	    getsockname(fd, (struct sockaddr *)&address, &length) < 0)
		return "not a socket";
	if (address.sun_family != AF_UNIX || type != SOCK_DGRAM)
		return "not a Unix datagram socket";
	name = name_of(&address, length);
	if (strcmp(name.path, guest->endpoint.path) != 0)
		return "not bound to the path of the guest endpoint";
	if (peer_is_shut(fd)) /* use_successor() has given it up */
		return "shut down";
	return NULL;
}

/* Finds out which of the inherited sockets the file belongs to. If to neither,
 * records the file as missing, so that it is created again. A file that we may
 * not connect to counts as ours: a socket unit has made it for the guest's user
 * only (SocketUser=). */
static void
inherit(struct guest *guest) LOCKED
{
	struct unixgram *u = &guest->unixgram;
	enum unix_socket there =
	    unix_file_look(&guest->file, guest->endpoint.path);
	bool ours = there == UNIX_FORBIDDEN_SOCKET ||
		    (there == UNIX_CONNECTED_SOCKET && guest->inherited >= 0) ||
		    (there == UNIX_FREE_SOCKET && guest->inherited_free >= 0);

	if (!ours)
		guest->file.inode = 0;
	guest->fd = guest->inherited;
	if (guest->fd < 0)
		guest->fd = guest->inherited_free;
	else if (there == UNIX_FREE_SOCKET || there == UNIX_FORBIDDEN_SOCKET)
		u->successor = guest->inherited_free;
	else if (guest->inherited_free >= 0)
		close(guest->inherited_free); /* nobody can send to it */
	if (guest->inherited >= 0)
		attach_to_peer(guest);
}

static int
bind_new(struct guest *guest, mode_t mode, struct error *error)
{
	guest->fd = unix_bind(
	    &guest->file, SOCK_DGRAM, guest->endpoint.path, mode, error);
	return guest->fd < 0 ? -1 : 0;
}

static int
unixgram_open(struct guest *guest, mode_t mode, struct error *error)
{
	struct unixgram *u = &guest->unixgram;
	bool inherited = guest_is_inherited(guest);

	*u = (struct unixgram){ .successor = -1,
		.last_sender_length = (socklen_t)-1 };
	if (!inherited && bind_new(guest, mode, error) < 0)
		return -1;
	if (doorbell_init(&u->bell) < 0) {
		unix_file_remove(&guest->file);
		close(guest->fd);
		return error_set(
		    error, "can't create a pipe: %s", strerror(errno));
	}
	mutex_init(&u->lock);
	file_watch_init(&u->watch, &u->bell);
	mutex_lock(&guest->unixgram.lock);
	if (inherited)
		inherit(guest);
	mutex_unlock(&guest->unixgram.lock);
	return 0;
}

static size_t
unixgram_duplicate(struct guest *guest, int fds[GUEST_KEPT])
{
	const struct unixgram *u = &guest->unixgram;
	size_t count = 0;

	mutex_lock(&guest->unixgram.lock);
	fds[count++] = fcntl(guest->fd, F_DUPFD_CLOEXEC, 0);
	if (u->successor >= 0)
		fds[count++] = fcntl(u->successor, F_DUPFD_CLOEXEC, 0);
	mutex_unlock(&guest->unixgram.lock);
	while (count > 0 && fds[count - 1] < 0) /* out of descriptors */
		count--;
	return count;
}

static int
unixgram_bind_again(struct guest *guest, struct error *error)
{
	struct unixgram *u = &guest->unixgram;
	struct unix_file file;
	int fd = unix_bind(
	    &file, SOCK_DGRAM, guest->endpoint.path, guest->mode, error);

	if (fd < 0)
		return -1;
	guest->file = file;
	mutex_lock(&guest->unixgram.lock);
	if (u->successor >= 0)
		close(u->successor);
	u->successor = fd;
	atomic_fetch_add(&guest->changes, 1);
	if (u->state == UNIXGRAM_ABSENT)
		use_successor(guest);
	mutex_unlock(&guest->unixgram.lock);
	return 0;
}

static void
unixgram_describe(struct guest *guest, char *text, size_t room)
{
	mutex_lock(&guest->unixgram.lock);
	snprintf(text, room, "%s", guest->unixgram.peer.path);
	mutex_unlock(&guest->unixgram.lock);
}

static void
unixgram_close(struct guest *guest)
{
	struct unixgram *u = &guest->unixgram;

	mutex_lock(&guest->unixgram.lock);
	if (u->successor >= 0)
		close(u->successor);
	mutex_unlock(&guest->unixgram.lock);
	file_watch_destroy(&u->watch);
	doorbell_destroy(&u->bell);
	mutex_destroy(&u->lock);
}

const struct guest_ops guest_unixgram = {
	.open = unixgram_open,
	.close = unixgram_close,
	.receive = unixgram_receive,
	.send = guest_send_datagrams,
	.refused = unixgram_refused,
	.describe = unixgram_describe,
	.watch = unixgram_watch,
	.serve = unixgram_serve,
	.bind_again = unixgram_bind_again,
	.fault = unixgram_fault,
	.duplicate = unixgram_duplicate,
};
