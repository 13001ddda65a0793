/* Connects to a daemon that takes datagrams at a Unix path (unixgram:PATH), and
 * tells whether it is still the one at that path. Used by fwd-link.
 *
 * Such a daemon answers to the address of the sender, so our socket is bound, to
 * a new name in a private folder for each generation: no late datagram of an
 * earlier one can arrive. gvproxy sends to that name; vmnet-helper connects to it.
 *
 * The kernel reports no end of a datagram socket to its peer. What shows it:
 *   - ECONNREFUSED for the next datagram that we send
 *   - the daemon's file: closed (Linux reports the end of its inode) or replaced.
 *     If the file alone is gone, the daemon may live: some remove it once they
 *     have a client. The generation goes on until another file is there.
 *   - probes, if the daemon is frozen, or a full queue (write_stall) */
#ifndef RECONNECT_DGRAM_H
#define RECONNECT_DGRAM_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/error.h"
#include "base/file_watch.h"
#include "base/unix_bind.h"

struct dial;

struct dgram {
	unsigned number;      /* of our last address */
	struct unix_file own; /* our address */
	dev_t device;         /* the daemon's file */
	ino_t inode;
	/* Of the daemon's file, whose inode number can't be used again until the
	 * watch has reported its end. watch.error: the file can't be watched. */
	struct file_watch watch;
};

/* The bell is that of the watch. */
void dgram_init(struct dgram *dgram, struct doorbell *bell);
void dgram_destroy(struct dgram *dgram);

/* Makes one attempt, for dial(); never blocks. With how->vfkit: says "VFKT" first, as
 * vfkit does; then gvproxy knows where to send before the guest sends a frame.
 * Returns a connected, blocking descriptor, closed on exec, or -1 with errno and the
 * reason. EPERM: the daemon is not trusted; EISCONN: it is connected to another
 * client; EAGAIN: its queue is full. */
int dgram_dial(const struct dial *how, struct error *error);

/* Removes our address and the watch. Call it when the generation has ended. */
void dgram_release(struct dgram *dgram);

/* For dial_trusts(): judges the owner of the daemon's file, which is all that shows the
 * user of a datagram socket. A missing file is not distrusted. */
bool dgram_trusts(const struct dial *how, int fd, struct error *error);

/* What is at the daemon's path now. */
enum dgram_file {
	DGRAM_SAME,
	DGRAM_MISSING,
	DGRAM_REPLACED, /* by another file */
};
enum dgram_file dgram_look(const struct dgram *dgram, const char *path);

#endif
