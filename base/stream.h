/* Writes frames to the network's stream. */
#ifndef BASE_STREAM_H
#define BASE_STREAM_H

#include <stddef.h>
#include <sys/uio.h>

/* Writes parcels, each a frame with its header, in order: in each call as many
 * as fit limit_bytes, at least one; what a call left of a parcel begins the
 * next. Blocks while the peer is slow, but fails with EAGAIN once SO_SNDTIMEO
 * has expired twice without a byte taken. Leaves the parcels as they are.
 * Returns how many were written completely; fewer than count means that the
 * stream broke (errno) and can't be used any more. */
size_t stream_write(
    int fd, struct iovec *parcels, size_t count, size_t limit_bytes);

#endif
