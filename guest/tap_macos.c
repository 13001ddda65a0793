#include "guest/tap.h"

#include <errno.h>
#include <stdio.h>

int
tap_open(const char *name, char *why, size_t why_size)
{
	snprintf(why, why_size, "tap:%s: only Linux has TAP devices", name);
	return -1;
}

int
tap_receive(struct batch *batch, int fd, size_t limit, bool *drained)
{
	(void)batch, (void)fd, (void)limit, (void)drained;
	errno = ENODEV;
	return -1;
}

int
tap_send(const struct batch *batch, int fd, size_t from)
{
	(void)batch, (void)fd, (void)from;
	errno = ENODEV;
	return -1;
}
