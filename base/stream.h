/* Writes frames to a stream, and reads from it. */
#ifndef BASE_STREAM_H
#define BASE_STREAM_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

/* Writes parcels in order. Each sendmsg() gets as many parcels as fit into
 * limit_bytes, but at least one. A partly written parcel is continued in the
 * next call. Blocks while the peer does not read. Fails with EAGAIN when
 * SO_SNDTIMEO has expired twice in a row without progress. Returns how many were
 * written completely; fewer than count means that the stream broke (errno) and
 * can't be used any more. */
size_t stream_write(
    int fd, const struct iovec *parcels, size_t count, size_t limit_bytes);

/* Writes parcels without waiting: one sendmsg() with as many as fit into
 * limit_bytes, but at least one. Returns how many the kernel took, wholly or in
 * part, or -1 with errno. *left is how many bytes of the last one it did not
 * take. */
int stream_try_write(int fd, const struct iovec *parcels, size_t count,
    size_t limit_bytes, size_t *left);

/* How much traffic the other direction has. Set `frames`, and all other members
 * to 0. */
struct stream_traffic {
	const _Atomic uint64_t *frames; /* how many have gone there */
	uint64_t before;                /* frames at the last read */
	unsigned calm_reads;            /* reads in a row with few frames */
};

/* Waits for data and returns what recv() returns. A signal ends the wait (EINTR).
 *
 * A recv() that sleeps on a Unix stream is also woken each time the peer reads
 * data of the other direction: the kernel wakes readers and writers alike
 * (net/unix/af_unix.c, unix_write_space). poll() is woken by data only. While
 * many frames go in the other direction, that saves more than its two additional
 * calls cost. While few do, the peer usually answers the frame that it has just
 * read, and the early wakeup saves time. */
ssize_t stream_read(
    int fd, uint8_t *room, size_t bytes, struct stream_traffic *traffic);

#endif
