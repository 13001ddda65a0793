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
/* More than a socket's queue holds, and an end if the guest fills it meanwhile. */
#define QUEUE_FRAMES 65536
#define NAME_OFFSET ((socklen_t)offsetof(struct sockaddr_un, sun_path))
/* A path as text: with a leading @ or a final zero. */
#define TEXT_BYTES (sizeof(((struct sockaddr_un *)0)->sun_path) + 2)
/* errno for a stranger's file. */
#define STRANGER EPERM

/* What to say, and to whom, once the lock is given back. */
struct outcome {
	const char *what; /* happened to the guest; NULL: nothing */
	const char *key, *reason;
	bool another;          /* guest took the place of one before */
	uid_t stranger;        /* owner of the file at the path; 0: none */
	int watch_error;       /* why the file can't be watched, if new */
	char path[TEXT_BYTES]; /* the guest's */
};

/* A path from the kernel may lack its final zero. */
static void
put_path(char *path, const struct sockaddr_un *address, socklen_t length)
{
	int bytes = length > NAME_OFFSET ? (int)(length - NAME_OFFSET) : 0;
	int abstract = bytes > 0 && address->sun_path[0] == '\0';

	snprintf(path, TEXT_BYTES, "%s%.*s", abstract ? "@" : "",
	    bytes - abstract, address->sun_path + abstract);
}

/* Whoever may send to us can cause these at any rate. */
static void
publish(const struct guest *guest, const struct outcome *outcome)
{
	static struct log_limit changes = { .burst = 20 };
	static struct log_limit warnings = { .burst = 5 };
	const char *advice = file_watch_advice(outcome->watch_error);

	if (outcome->another && guest->on_replaced)
		guest->on_replaced(guest->context);
	if (outcome->what && outcome->reason)
		log_limited(&changes, LOG_LEVEL_WARN, LOG_GUEST,
		    "%s peer=%s %s=\"%s\"", outcome->what, outcome->path,
		    outcome->key, outcome->reason);
	else if (outcome->what)
		log_limited(&changes, LOG_LEVEL_INFO, LOG_GUEST, "%s peer=%s",
		    outcome->what, outcome->path);
	if (outcome->stranger)
		log_limited(&warnings, LOG_LEVEL_WARN, LOG_GUEST,
		    "not answered: another user's socket in a folder that "
		    "others may write (let the guest use a private folder) "
		    "peer=%s uid=%lu",
		    outcome->path, (unsigned long)outcome->stranger);
	if (outcome->watch_error)
		log_limited(&warnings, LOG_LEVEL_WARN, LOG_GUEST,
		    "can't watch the guest's socket, looking at it once a "
		    "second instead error=\"%s\"%s%s%s",
		    strerror(outcome->watch_error), *advice ? " (" : "", advice,
		    *advice ? ")" : "");
}

/* Reads and counts what would be thrown away unread. */
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

/* The successor takes the place of our socket. A recv() that sleeps on the old
 * one returns an empty frame from nobody. */
static void
use_successor(struct guest *guest) LOCKED
{
	struct unixgram *it = &guest->unixgram;

	if (it->successor < 0)
		return;
	count_queue(guest);
	atomic_store(&it->succeeded, true);
	shutdown(guest->fd, SHUT_RD);
	dup2(it->successor, guest->fd);
	fcntl(guest->fd, F_SETFD, FD_CLOEXEC);
	close(it->successor);
	it->successor = -1;
}

/* Nobody is sent to from now on: the next sender's frame may arrive at once.
 * connect() throws the queue away only if the socket is connected; otherwise it
 * may hold the next guest's frames. */
static void
let_go(struct guest *guest) LOCKED
{
	struct sockaddr_un peer;
	socklen_t length = sizeof(peer);

	atomic_store(&guest->present, 0);
	if (getpeername(guest->fd, (struct sockaddr *)&peer, &length) == 0)
		count_queue(guest);
}

/* The only place where the state changes. The watch is on in two of them. */
static void
enter(struct guest *guest, enum unixgram_state state) LOCKED
{
	struct unixgram *it = &guest->unixgram;

	it->state = state;
	if (state != UNIXGRAM_WATCHED && state != UNIXGRAM_FILELESS)
		file_watch_stop(&it->watch);
	if (state == UNIXGRAM_ABSENT)
		it->peer_length = 0;
}

/* Nobody is the guest. */
static void
detach(struct guest *guest) LOCKED
{
	struct sockaddr nobody = { .sa_family = AF_UNSPEC };

	let_go(guest);
	/* Fails only where there was nobody to leave (macOS). */
	(void)connect(guest->fd, &nobody, sizeof(nobody));
	use_successor(guest);
	enter(guest, UNIXGRAM_ABSENT);
}

/* The file at the path of an address; none if the address is abstract. Returns
 * 0, or why it can't be connected to: an errno. */
static int
examine(struct guest *guest, const struct sockaddr_un *address,
    struct stat *file, struct outcome *outcome) LOCKED
{
	*file = (struct stat){ .st_ino = 0 };
	if (address->sun_path[0] == '\0')
		return 0;
	if (lstat(outcome->path, file) < 0)
		return errno;
	if (trust_owner(outcome->path, file->st_uid, TRUST_NOBODY_ELSE))
		return 0;
	if (file->st_ino != guest->unixgram.stranger)
		outcome->stranger = file->st_uid;
	guest->unixgram.stranger = file->st_ino;
	return STRANGER;
}

/* Watches the file at the address. The watch is set before the file is examined,
 * so that it reports one that is replaced in between. */
static enum unixgram_state
watch_file(struct guest *guest, const struct sockaddr_un *address,
    struct outcome *outcome) LOCKED
{
	struct unixgram *it = &guest->unixgram;
	int error = 0;

	if (address->sun_path[0] == '\0')
		return UNIXGRAM_ABSTRACT;
	if (file_watch_file(&it->watch, outcome->path) < 0)
		error = errno;
	if (error != ENOENT && error != it->watch_error)
		outcome->watch_error = it->watch_error = error;
	return error ? UNIXGRAM_UNWATCHED : UNIXGRAM_WATCHED;
}

/* Makes the socket at the address the guest. Returns 0, or an errno: nobody is
 * the guest. The file has to be the same before and after connect(). */
static int
attach(struct guest *guest, const struct sockaddr_un *address, socklen_t length,
    struct outcome *outcome) LOCKED
{
	struct unixgram *it = &guest->unixgram;
	enum unixgram_state state;
	struct stat file;
	ino_t before;
	int error;

	let_go(guest);
	use_successor(guest);
	state = watch_file(guest, address, outcome);
	error = examine(guest, address, &file, outcome);
	do {
		before = file.st_ino;
		if (!error && connect(guest->fd, (const void *)address, length))
			error = errno;
		if (!error)
			error = examine(guest, address, &file, outcome);
	} while (!error && file.st_ino != before);
	if (error) {
		detach(guest);
		return error;
	}
	it->peer = *address;
	it->peer_length = length;
	it->inode = file.st_ino;
	it->changed_ns = file_watch_changed_ns(&file);
	enter(guest, state);
	outcome->another = it->guests > 0;
	atomic_store(&guest->present, ++it->guests);
	doorbell_ring(&it->bell);
	return 0;
}

/* The guest is gone for that reason: attaches to what is at its path now. */
static void
replace(struct guest *guest, const char *reason, struct outcome *outcome) LOCKED
{
	struct sockaddr_un address = guest->unixgram.peer;
	socklen_t length = guest->unixgram.peer_length;

	outcome->key = "reason";
	outcome->reason = reason;
	outcome->what =
	    attach(guest, &address, length, outcome) ? "gone" : "restarted";
}

/* A frame from another sender. */
static void
adopt(struct guest *guest, const struct sockaddr_un *sender, socklen_t length)
{
	struct outcome outcome = { .key = "error" };
	struct unixgram *it = &guest->unixgram;
	struct stat file;
	int error;

	put_path(outcome.path, sender, length);
	mutex_lock(&guest->unixgram.lock);
	if ((it->peer_length != length ||
		memcmp(&it->peer, sender, length) != 0) &&
	    examine(guest, sender, &file, &outcome) != STRANGER) {
		error = attach(guest, sender, length, &outcome);
		outcome.what = error ? "can't answer" : "found";
		if (error)
			outcome.reason = strerror(error);
		if (error == STRANGER)
			outcome.what = NULL;
	}
	mutex_unlock(&guest->unixgram.lock);
	publish(guest, &outcome);
}

/* While connected the kernel lets nobody else send; but a send that is refused
 * disconnects, and then another's frame comes in while somebody is `present`. */
static void
hear(struct guest *guest, const struct sockaddr_un *sender, socklen_t length)
{
	struct unixgram *it = &guest->unixgram;
	bool named = length > NAME_OFFSET;
	bool present = atomic_load(&guest->present) != 0;

	if ((present || !named) && it->heard_length == length &&
	    memcmp(&it->heard, sender, length) == 0)
		return;
	memcpy(&it->heard, sender, length);
	it->heard_length = length;
	if (named)
		adopt(guest, sender, length);
	else if (!present)
		log_line(LOG_LEVEL_WARN, LOG_GUEST,
		    "can't answer a guest whose socket has no name "
		    "(bind it to a path)");
}

static int
unixgram_receive(struct guest *guest, struct batch *batch, size_t limit)
{
	if (batch_receive(batch, guest->fd, limit) < 0)
		return -1;
	if (batch->count == 1 && parcel_length(batch->parcels) == 0 &&
	    batch->sender_length == 0 &&
	    atomic_load(&guest->unixgram.succeeded))
		batch->count = 0; /* use_successor() ended the call */
	else
		hear(guest, &batch->sender, batch->sender_length);
	return 0;
}

enum at_path { THE_GUEST, NOTHING, ANOTHER };

/* Which file is at the guest's path. An inode number is given to another file
 * once its own is deleted; then the time differs, or the watch has told. */
static enum at_path
look_at_path(struct guest *guest, const char *path, bool watched) LOCKED
{
	const struct unixgram *it = &guest->unixgram;
	struct stat file;

	if (it->state == UNIXGRAM_ABSTRACT)
		return THE_GUEST;
	if (lstat(path, &file) < 0)
		return NOTHING;
	if (file.st_ino == it->inode &&
	    (watched || file_watch_changed_ns(&file) == it->changed_ns))
		return THE_GUEST;
	return ANOTHER;
}

/* The same guest answers, and yet refused a frame (it shut its receiving side
 * down): it stays, and so do its frames, as connecting to it again throws none
 * away. */
static bool
still_answers(struct guest *guest, const char *path, int error) LOCKED
{
	const struct unixgram *it = &guest->unixgram;

	if (it->state == UNIXGRAM_ABSTRACT && error != EPIPE)
		return false;
	return look_at_path(guest, path, false) == THE_GUEST &&
	       connect(guest->fd, (const void *)&it->peer, it->peer_length) ==
		   0;
}

static enum guest_refusal
unixgram_refused(struct guest *guest, uint64_t which, int error)
{
	struct outcome outcome = { .key = "error", .reason = strerror(error) };
	struct unixgram *it = &guest->unixgram;
	bool present;

	mutex_lock(&guest->unixgram.lock);
	put_path(outcome.path, &it->peer, it->peer_length);
	if (guest->present == which &&
	    !still_answers(guest, outcome.path, error)) {
		replace(guest, "a send was refused", &outcome);
	} else if (guest->present == which && it->refusing != which) {
		outcome.what = "refuses frames";
		it->refusing = which;
	}
	present = guest->present != 0;
	mutex_unlock(&guest->unixgram.lock);
	publish(guest, &outcome);
	return present ? GUEST_REFUSED : GUEST_ABSENT;
}

/* Whether a new guest answers at the path of the present one, which stays
 * connected meanwhile. */
static bool
another_answers(struct guest *guest, struct outcome *outcome) LOCKED
{
	const struct unixgram *it = &guest->unixgram;
	struct stat file;
	int result, fd;

	if (examine(guest, &it->peer, &file, outcome))
		return false;
	fd = socket(AF_UNIX, SOCK_DGRAM, 0);
	result = connect(fd, (const void *)&it->peer, it->peer_length);
	close(fd);
	return result == 0;
}

/* What main() does about the guest's file. */
static void
look(struct guest *guest, struct outcome *outcome) LOCKED
{
	struct unixgram *it = &guest->unixgram;
	bool deleted = file_watch_deleted(&it->watch);
	bool watched = it->state != UNIXGRAM_UNWATCHED;
	bool closed = peer_is_closed(guest->fd, deleted);
	enum at_path there = look_at_path(guest, outcome->path, watched);

	if (closed || (there == ANOTHER && another_answers(guest, outcome)))
		replace(guest, "its socket was closed or replaced", outcome);
	else if (watched)
		enter(guest,
		    there == THE_GUEST ? UNIXGRAM_WATCHED : UNIXGRAM_FILELESS);
}

/* A frame waits at the successor. Whether its sender can be the next guest; if
 * not, the frame is dropped: a guest that is connected to the old socket could
 * never come back. */
static bool
next_guest_calls(struct guest *guest, struct outcome *outcome) LOCKED
{
	int fd = guest->unixgram.successor;
	struct sockaddr_un sender = { 0 };
	socklen_t length = sizeof(sender);
	struct stat file;
	char byte;

	if (recvfrom(fd, &byte, sizeof(byte), MSG_PEEK | MSG_DONTWAIT,
		(struct sockaddr *)&sender, &length) < 0)
		return false;
	if (length > sizeof(sender))
		length = sizeof(sender);
	put_path(outcome->path, &sender, length);
	if (length > NAME_OFFSET &&
	    examine(guest, &sender, &file, outcome) == 0)
		return true;
	if (recv(fd, &byte, sizeof(byte), MSG_DONTWAIT) >= 0)
		counter_add(&guest->lost, 1);
	return false;
}

enum { POLL_BELL, POLL_FILE, POLL_SUCCESSOR };

static int
unixgram_watch(struct guest *guest, struct pollfd *fds)
{
	struct unixgram *it = &guest->unixgram;
	int timeout_ms;

	mutex_lock(&guest->unixgram.lock);
	fds[POLL_BELL].fd = it->bell.fds[0];
	fds[POLL_FILE].fd = file_watch_fd(&it->watch);
	fds[POLL_SUCCESSOR].fd = it->successor;
	timeout_ms = it->state >= UNIXGRAM_FILELESS ? LOOK_MS : -1;
	mutex_unlock(&guest->unixgram.lock);
	return timeout_ms;
}

/* Looking is cheap: it is done whatever woke main(). */
static void
unixgram_serve(struct guest *guest, const struct pollfd *fds)
{
	struct outcome outcome = { .what = NULL };
	struct unixgram *it = &guest->unixgram;

	doorbell_answer(&it->bell);
	mutex_lock(&guest->unixgram.lock);
	put_path(outcome.path, &it->peer, it->peer_length);
	if (it->state >= UNIXGRAM_WATCHED)
		look(guest, &outcome);
	/* Nobody is the guest until fwd-up hears who it is. */
	if (fds[POLL_SUCCESSOR].revents && it->successor >= 0 &&
	    next_guest_calls(guest, &outcome))
		detach(guest);
	mutex_unlock(&guest->unixgram.lock);
	publish(guest, &outcome);
}

static int
unixgram_open(struct guest *guest, mode_t mode, struct error *error)
{
	struct unixgram *it = &guest->unixgram;

	*it =
	    (struct unixgram){ .successor = -1, .heard_length = (socklen_t)-1 };
	guest->fd = unix_bind(
	    &guest->file, SOCK_DGRAM, guest->endpoint.path, mode, error);
	if (guest->fd < 0)
		return -1;
	if (doorbell_init(&it->bell) < 0) {
		unix_file_remove(&guest->file);
		close(guest->fd);
		return error_set(error, "no pipe: %s", strerror(errno));
	}
	mutex_init(&it->lock);
	file_watch_init(&it->watch, &it->bell);
	return 0;
}

static int
unixgram_bind_again(struct guest *guest, struct error *error)
{
	struct unixgram *it = &guest->unixgram;
	struct unix_file file;
	int fd = unix_bind(
	    &file, SOCK_DGRAM, guest->endpoint.path, guest->mode, error);

	if (fd < 0)
		return -1;
	guest->file = file;
	mutex_lock(&guest->unixgram.lock);
	if (it->successor >= 0)
		close(it->successor);
	it->successor = fd;
	if (it->state == UNIXGRAM_ABSENT)
		use_successor(guest);
	mutex_unlock(&guest->unixgram.lock);
	return 0;
}

static void
unixgram_describe(struct guest *guest, char *text, size_t room)
{
	struct unixgram *it = &guest->unixgram;
	char path[TEXT_BYTES];

	mutex_lock(&guest->unixgram.lock);
	put_path(path, &it->peer, it->peer_length);
	mutex_unlock(&guest->unixgram.lock);
	snprintf(text, room, "%s", path);
}

static void
unixgram_close(struct guest *guest)
{
	struct unixgram *it = &guest->unixgram;

	mutex_lock(&guest->unixgram.lock);
	if (it->successor >= 0)
		close(it->successor);
	mutex_unlock(&guest->unixgram.lock);
	file_watch_destroy(&it->watch);
	doorbell_destroy(&it->bell);
	mutex_destroy(&it->lock);
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
};
