/* A TAP device as the guest: containers, network namespaces, Firecracker. Each
 * read() or write() transfers one frame. Frames are collected into batches
 * nevertheless, for writing to the stream. */
#include "guest/guest.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define TUN_PATH "/dev/net/tun"
/* errno of read(), write() and ioctl() after the device was deleted */
#define DELETED EBADFD

static const char *
attach_fault(int error)
{
	switch (error) {
	case EPERM:
		return "not permitted; create the device as root: "
		       "ip tuntap add dev NAME mode tap user USER";
	case EBUSY:
		return "in use by another program";
	case EINVAL:
		return "a device of that name exists and is not a single-queue "
		       "TAP device";
	default:
		return strerror(error);
	}
}

/* Brings the interface up. Errors are ignored: a process that may create the
 * device may also bring it up. */
static void
bring_up(const char *name)
{
	struct ifreq request = { 0 };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
	if (fd < 0)
		return;
	if (ioctl(fd, SIOCGIFFLAGS, &request) == 0) {
		request.ifr_flags |= IFF_UP;
		ioctl(fd, SIOCSIFFLAGS, &request);
	}
	close(fd);
}

/* Creates the device and brings it up if it does not exist. An existing device
 * is not changed. Returns its descriptor, or -1 with the reason. */
static int
attach(const char *name, struct error *error)
{
	struct ifreq request = { .ifr_flags = IFF_TAP | IFF_NO_PI };
	bool made = if_nametoindex(name) == 0;
	int fd = open(TUN_PATH, O_RDWR | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0)
		return error_set(error, "%s: %s%s", TUN_PATH, strerror(errno),
		    errno == ENOENT ? " (is the tun module loaded? As a "
				      "service, use forwarder-tap@.service)"
				    : "");
	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
	if (ioctl(fd, TUNSETIFF, &request) < 0) {
		error_set(error, "tap:%s: %s", name, attach_fault(errno));
		close(fd);
		return -1;
	}
	if (made)
		bring_up(name);
	return fd;
}

/* The device of an inherited descriptor is not changed, either. */
static int
tap_open(struct guest *guest, mode_t mode, struct error *error)
{
	int fd = guest->inherited_free;

	(void)mode;
	if (fd < 0)
		fd = attach(guest->endpoint.name, error);
	else /* guest_open() has made it blocking, as sockets are */
		fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	if (fd < 0)
		return -1;
	guest->fd = fd;
	guest->present = 1;
	return 0;
}

/* Can't see whether IFF_NO_PI is missing: TUNGETIFF also sets that bit, as
 * IFF_NOFILTER, for a descriptor without a filter. */
static const char *
tap_fault(const struct guest *guest, int fd)
{
	const int wrong = IFF_TUN | IFF_VNET_HDR | IFF_MULTI_QUEUE;
	struct ifreq request = { 0 };

	if (ioctl(fd, TUNGETIFF, &request) < 0)
		return errno == DELETED ? "its TAP device was deleted"
					: "not a TAP device";
	if (request.ifr_flags & wrong)
		return "not a single-queue TAP device without headers";
	if (strcmp(request.ifr_name, guest->endpoint.name) != 0)
		return "not the device of the guest endpoint";
	return NULL;
}

static int
receive_one(struct batch *batch, int fd)
{
	ssize_t length = read(fd, batch_slot(batch, batch->count), BATCH_ROOM);

	if (length < 0) {
		if (errno == DELETED)
			errno = ENODEV;
		return -1;
	}
	batch_add(batch, (size_t)length);
	return 0;
}

static int
tap_receive(struct guest *guest, struct batch *batch, size_t limit)
{
	struct pollfd readable = { .fd = guest->fd, .events = POLLIN };

	batch_clear(batch);
	/* The last read() failed with EAGAIN: wait first. */
	if (guest->drained && poll(&readable, 1, -1) < 0)
		return -1;
	while (receive_one(batch, guest->fd) < 0)
		if (errno != EAGAIN || poll(&readable, 1, -1) < 0)
			return -1;
	while (batch->count < limit && receive_one(batch, guest->fd) == 0)
		;
	guest->drained = batch->count < limit;
	return 0;
}

static int
tap_send(struct guest *guest, struct batch *batch, size_t from)
{
	size_t i = from;

	for (; i < batch->count; i++)
		if (write(guest->fd, parcel_frame(&batch->parcels[i]),
			parcel_length(&batch->parcels[i])) < 0)
			break;
	return i > from ? (int)(i - from) : -1;
}

/* Unless the device was deleted, it is down and may come up again. */
static enum guest_refusal
tap_refused(struct guest *guest, uint64_t which, int error)
{
	(void)which;
	if (error != DELETED)
		return GUEST_ABSENT;
	atomic_store(&guest->present, 0);
	return GUEST_GONE;
}

const struct guest_ops guest_tap = {
	.name = "tap",
	.fault = tap_fault,
	.open = tap_open,
	.receive = tap_receive,
	.send = tap_send,
	.refused = tap_refused,
};
