/* Tells when one socket file is removed or replaced, and nothing else that
 * goes on in its folder. */
#ifndef PROGRAM_PEER_WATCH_H
#define PROGRAM_PEER_WATCH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

struct peer_watch {
	int fd;     /* poll it for POLLIN; -1: nothing was ever watched */
	int target; /* -1: nothing is watched */
};

#define PEER_WATCH_NONE ((struct peer_watch){ -1, -1 })

void peer_watch_close(struct peer_watch *watch);

/* Watches the file that stands at `path` now; NULL: none. The first one takes a
 * descriptor of which the system has only so many for a user. Returns 0, or -1
 * with errno: nothing will be told. */
int peer_watch_set(struct peer_watch *watch, const char *path);

/* When that file was created, opened to others or linked: tells it from another
 * that got its inode number, if it isn't watched. */
int64_t peer_watch_changed_ns(const struct stat *file);

/* For people: what to do when that failed with `error`; "" if unknown. */
const char *peer_watch_advice(int error);

/* Takes what was told off the descriptor. True: the file is gone from its
 * path. False: it may be (a link count or attribute changed); as long as it is
 * watched its inode number isn't given to another file, so compare that. */
bool peer_watch_drain(struct peer_watch *watch);

#endif
