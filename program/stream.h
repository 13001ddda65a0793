/* Writes frames to the network's stream: many a call, never half a one that
 * a simple reader would stumble over. */
#ifndef PROGRAM_STREAM_H
#define PROGRAM_STREAM_H

#include <stddef.h>
#include <sys/uio.h>

/* A frame with its header, in one or two parts. */
struct parcel {
	struct iovec parts[2];
	int part_count;
	size_t bytes; /* header included */
};

/* Writes frames in order, as many a call as fit limit_bytes, at least one;
 * a call that wrote only a part is finished. Blocks while the peer is slow.
 * Returns how many frames were written completely; fewer than `count` means
 * that the stream broke, errno says how, and it can't be used any more. */
size_t stream_write(
    int fd, const struct parcel *parcels, size_t count, size_t limit_bytes);

#endif
