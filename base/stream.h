/* Writes frames to the network's stream: many a call, never half a one that
 * a simple reader would stumble over. */
#ifndef BASE_STREAM_H
#define BASE_STREAM_H

#include <stddef.h>
#include <sys/uio.h>

/* Writes parcels, each a frame with its header, in order: as many a call as
 * fit limit_bytes, at least one; a call that wrote only a part is finished.
 * Blocks while the peer is slow, but gives up with EAGAIN once the peer took no
 * byte for twice the descriptor's SO_SNDTIMEO. The parcels stay as they are.
 * Returns how many were written completely; fewer than `count` means that the
 * stream broke, errno says how, and it can't be used any more. */
size_t stream_write(
    int fd, struct iovec *parcels, size_t count, size_t limit_bytes);

#endif
