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

/* Writes parcels without waiting: one sendmsg() with as many as fit into
 * limit_bytes, but at least one. Returns of how many the kernel took at least one
 * byte, or -1 with errno. *left is how many bytes of the last of them it did not
 * take. */
int stream_try_write(int fd, struct iovec *parcels, size_t count,
    size_t limit_bytes, size_t *left);

#endif
