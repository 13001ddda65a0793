#include "guest/tap.h"

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

static const char *
attach_fault(int error)
{
	switch (error) {
	case EPERM:
		return "not permitted; make it once for this user: "
		       "ip tuntap add dev NAME mode tap user USER";
	case EBUSY:
		return "in use by another program";
	case EINVAL:
		return "there is a device of that name that is no TAP, or a "
		       "multi-queue one";
	default:
		return strerror(error);
	}
}

/* Best effort: who may make a device may bring it up. */
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

int
tap_open(const char *name, char *why, size_t why_size)
{
	struct ifreq request = { .ifr_flags = IFF_TAP | IFF_NO_PI };
	bool made = if_nametoindex(name) == 0;
	int fd = open(TUN_PATH, O_RDWR | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0) {
		snprintf(why, why_size, "%s: %s%s", TUN_PATH, strerror(errno),
		    errno == ENOENT ? " (is the tun module loaded?)" : "");
		return -1;
	}
	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
	if (ioctl(fd, TUNSETIFF, &request) < 0) {
		snprintf(
		    why, why_size, "tap:%s: %s", name, attach_fault(errno));
		close(fd);
		return -1;
	}
	if (made)
		bring_up(name);
	return fd;
}

/* The kernel's word for a device that was deleted is EBADFD. */
static int
fail(void)
{
	if (errno == EBADFD)
		errno = ENODEV;
	return -1;
}

static int
receive_one(struct batch *batch, int fd)
{
	ssize_t length = read(fd, batch_slot(batch, batch->count), BATCH_ROOM);

	if (length < 0)
		return fail();
	batch_add(batch, (size_t)length);
	return 0;
}

int
tap_receive(struct batch *batch, int fd, size_t limit, bool *drained)
{
	struct pollfd readable = { .fd = fd, .events = POLLIN };

	batch_clear(batch);
	/* Not first a read() that will only say EAGAIN again. */
	if (*drained && poll(&readable, 1, -1) < 0)
		return -1;
	while (receive_one(batch, fd) < 0)
		if (errno != EAGAIN || poll(&readable, 1, -1) < 0)
			return -1;
	while (batch->count < limit && receive_one(batch, fd) == 0)
		;
	*drained = batch->count < limit;
	return 0;
}

int
tap_send(const struct batch *batch, int fd, size_t from)
{
	size_t i = from;

	for (; i < batch->count; i++)
		if (write(fd, parcel_frame(&batch->parcels[i]),
			parcel_length(&batch->parcels[i])) < 0)
			break;
	return i > from ? (int)(i - from) : fail();
}
