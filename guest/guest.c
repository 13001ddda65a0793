#include "guest/guest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/wait.h"

/* Pause before receiving again while the kernel is out of memory. */
#define SHORTAGE_PAUSE_MS 10

static const struct guest_ops *const kinds[] = {
	[GUEST_FD] = &guest_descriptor,
	[GUEST_UNIXGRAM] = &guest_unixgram,
	[GUEST_STREAM] = &guest_stream,
	[GUEST_TAP] = &guest_tap,
};

/* A descriptor may be a stream instead of a datagram socket. */
static const struct guest_ops *
ops_of(const struct guest_endpoint *endpoint)
{
	int type = 0;
	socklen_t length = sizeof(type);

	if (endpoint->kind == GUEST_FD &&
	    getsockopt(endpoint->fd, SOL_SOCKET, SO_TYPE, &type, &length) ==
		0 &&
	    type == SOCK_STREAM)
		return &guest_stream;
	return kinds[endpoint->kind];
}

static bool
is_same_socket(int a, int b)
{
	struct stat first, second;

	return fstat(a, &first) == 0 && fstat(b, &second) == 0 &&
	       first.st_dev == second.st_dev && first.st_ino == second.st_ino;
}

/* Takes an inherited descriptor. Returns NULL, or why it does not. */
static const char *
take(struct guest *guest, int fd)
{
	struct sockaddr_storage peer;
	socklen_t length = sizeof(peer);
	const char *fault = guest->ops->fault
				? guest->ops->fault(guest, fd)
				: "the guest endpoint is not a socket";
	int *place = getpeername(fd, (struct sockaddr *)&peer, &length) == 0
			 ? &guest->inherited
			 : &guest->inherited_free;

	if (fault)
		return fault;
	if (*place >= 0 && !is_same_socket(*place, fd))
		return "another one was inherited, too";
	if (*place >= 0) /* the same socket, from the store and a socket unit */
		close(*place);
	*place = fd;
	/* set by systemd for sockets that it binds */
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
	return NULL;
}

int
guest_open(struct guest *guest, const struct guest_endpoint *endpoint,
    mode_t mode, struct guest_offer *offers, size_t count, struct error *error)
{
	*guest = (struct guest){ .ops = ops_of(endpoint),
		.endpoint = *endpoint,
		.fd = -1,
		.mode = mode,
		.max_frame = FRAME_LIMIT_BYTES,
		.inherited = -1,
		.inherited_free = -1 };
	for (size_t i = 0; i < count; i++)
		offers[i].fault = take(guest, offers[i].fd);
	return guest->ops->open(guest, mode, error);
}

size_t
guest_duplicate(struct guest *guest, int fds[GUEST_KEPT])
{
	if (guest->ops->duplicate)
		return guest->ops->duplicate(guest, fds);
	fds[0] = fcntl(guest->fd, F_DUPFD_CLOEXEC, 0);
	return fds[0] >= 0 ? 1 : 0;
}

/* Returns the events of poll(), without waiting. */
static int
look(const struct guest *guest)
{
	struct pollfd readable = { .fd = guest->fd, .events = POLLIN };

	return poll(&readable, 1, 0) > 0 ? readable.revents : 0;
}

bool
guest_is_readable(const struct guest *guest)
{
	return look(guest) & POLLIN;
}

/* Another thread may put a new socket at the number, and shuts the old one down
 * to end this wait (use_successor()). On Linux, a poll() that is woken looks
 * the number up again, and would then sleep until an event of the old socket.
 * So it gets a number of its own, unless the process is out of descriptors. */
static int
wait_for_frame(const struct guest *guest, int other_fd)
{
	int own_fd = fcntl(guest->fd, F_DUPFD_CLOEXEC, 0);
	int result =
	    wait_readable(own_fd < 0 ? guest->fd : own_fd, other_fd, INT64_MAX);

	if (own_fd >= 0)
		close(own_fd);
	return result;
}

/* An error is an event, too: guest_receive() handles it. */
bool
guest_await(const struct guest *guest, int other_fd)
{
	struct pollfd other = { .fd = other_fd, .events = POLLIN };

	if (guest->has_frames)
		return poll(&other, 1, 0) <= 0;
	while (wait_for_frame(guest, other_fd) == 0)
		if (look(guest))
			return true;
	return false;
}

void
guest_close(struct guest *guest)
{
	unix_file_remove(&guest->file);
	if (guest->ops->close)
		guest->ops->close(guest);
	close(guest->fd);
}

int
guest_receive(struct guest *guest, struct batch *batch, size_t limit)
{
	if (guest->ops->receive(guest, batch, limit) == 0)
		return 0;
	switch (errno) {
	case EINTR:
	case EAGAIN:
	case ECONNRESET: /* the guest connected its socket to another address */
		return 0;
	case ENOBUFS:
	case ENOMEM:
		wait_pause(SHORTAGE_PAUSE_MS);
		return 0;
	case ESHUTDOWN:
		return -1;
	default:
		log_line(LOG_LEVEL_ERROR, LOG_GUEST,
		    "can't receive error=\"%s\"", strerror(errno));
		return -1;
	}
}

void
guest_learn_mac(struct guest *guest, const uint8_t *frame)
{
	uint64_t mac = 0;

	for (int i = 6; i < 12; i++)
		mac = mac << 8 | frame[i];
	/* a group address is not a valid source */
	if (mac == 0 || (frame[6] & 1) ||
	    mac == atomic_load_explicit(&guest->mac, memory_order_relaxed))
		return;
	atomic_store_explicit(&guest->mac, mac, memory_order_relaxed);
}

bool
guest_get_mac(const struct guest *guest, uint8_t mac[6])
{
	uint64_t number =
	    atomic_load_explicit(&guest->mac, memory_order_relaxed);

	for (int i = 0; i < 6; i++)
		mac[i] = (uint8_t)(number >> (40 - 8 * i));
	return number != 0;
}

int
guest_send_datagrams(struct guest *guest, struct batch *batch, size_t from)
{
	return batch_send(batch, guest->fd, from);
}

/* Handles the errno of a failed send to guest `which`. */
static enum guest_refusal
refusal_of(struct guest *guest, uint64_t which, int error)
{
	switch (error) {
	case EAGAIN:
		return GUEST_FULL;
	case ENOBUFS:
	case ENOMEM:
		return GUEST_NO_BUFFERS;
	case EMSGSIZE:
		return GUEST_TOO_LARGE;
	default: /* ECONNREFUSED, ENOTCONN, EPIPE, ... */
		if (guest->ops->refused)
			return guest->ops->refused(guest, which, error);
		atomic_store(&guest->present, 0);
		return GUEST_GONE;
	}
}

size_t
guest_send(struct guest *guest, struct batch *batch, size_t from,
    enum guest_refusal *refusal)
{
	for (int refused = 0; refused < 2; refused++) {
		uint64_t which =
		    atomic_load_explicit(&guest->present, memory_order_acquire);
		int sent;

		*refusal = GUEST_ABSENT;
		if (which == 0)
			break;
		do
			sent = guest->ops->send(guest, batch, from);
		while (sent < 0 && errno == EINTR);
		if (sent > 0)
			return (size_t)sent;
		*refusal = refusal_of(guest, which, errno);
		if (*refusal != GUEST_REFUSED)
			break;
	}
	return 0;
}

bool
guest_await_room(const struct guest *guest, int64_t deadline_ms)
{
	return wait_writable(guest->fd, -1, deadline_ms) == 0;
}

void
guest_describe(struct guest *guest, char *text, size_t room)
{
	if (guest->ops->describe)
		guest->ops->describe(guest, text, room);
	else
		snprintf(text, room, "%s",
		    atomic_load(&guest->present) ? guest->ops->name : "");
}

int
guest_watch(struct guest *guest, struct pollfd fds[GUEST_DESCRIPTORS])
{
	for (int i = 0; i < GUEST_DESCRIPTORS; i++)
		fds[i] = (struct pollfd){ .fd = -1, .events = POLLIN };
	return guest->ops->watch ? guest->ops->watch(guest, fds) : -1;
}

void
guest_serve(struct guest *guest, const struct pollfd fds[GUEST_DESCRIPTORS])
{
	if (guest->ops->serve)
		guest->ops->serve(guest, fds);
}

void
guest_set_mode(struct guest *guest, mode_t mode)
{
	int result;

	if (guest->file.path[0] == '\0' || mode == guest->mode)
		return;
	result = unix_file_set_mode(&guest->file, mode);
	if (result < 0)
		log_line(LOG_LEVEL_WARN, LOG_GUEST,
		    "can't change the mode of the socket file path=%s "
		    "error=\"%s\"",
		    guest->file.path, strerror(errno));
	/* A file that was removed is created again with the new mode. */
	if (result == 0 || !unix_file_stands(&guest->file))
		guest->mode = mode;
}

int
guest_bind_again(struct guest *guest, struct error *error)
{
	return guest->ops->bind_again(guest, error);
}
