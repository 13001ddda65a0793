/* Writes frames to the network's stream. */
#ifndef BASE_STREAM_H
#define BASE_STREAM_H

#include <stddef.h>
#include <sys/uio.h>

/* Writes parcels in order. Each sendmsg() gets as many parcels as fit into
 * limit_bytes, but at least one. A partly written parcel is continued in the
 * next call. Blocks while the peer does not read. Fails with EAGAIN when
 * SO_SNDTIMEO has expired twice in a row without progress. The parcels are
 * modified during the call and restored. Returns how many were written
 * completely; fewer than count means that the stream broke (errno) and can't be
 * used any more. */
size_t stream_write(
    int fd, struct iovec *parcels, size_t count, size_t limit_bytes);

#endif
