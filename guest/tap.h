/* A TAP device as the guest: containers, network namespaces, Firecracker.
 * Linux only. One frame a read() or write(); reads are gathered all the same,
 * so that the stream is written in batches. */
#ifndef GUEST_TAP_H
#define GUEST_TAP_H

#include <stdbool.h>
#include <stddef.h>

#include "guest/batch.h"

/* Opens the device; one that doesn't exist is made, if that is permitted, and
 * brought up; one that exists is taken as it is.
 * Returns a non-blocking descriptor, or -1 with the reason in `why`. */
int tap_open(const char *name, char *why, size_t why_size);

/* As batch_receive() and batch_send(). ENODEV: the device was deleted; EIO: it
 * is down. */
int tap_receive(struct batch *batch, int fd, size_t limit, bool *drained);
int tap_send(const struct batch *batch, int fd, size_t from);

#endif
