/* Tells when one socket file is removed or replaced, and nothing else that
 * goes on in its folder. */
#ifndef PROGRAM_PEER_WATCH_H
#define PROGRAM_PEER_WATCH_H

#include <stdbool.h>

struct peer_watch {
	int fd;     /* poll it for POLLIN; -1 if the system gave none */
	int target; /* -1: nothing is watched */
};

void peer_watch_init(struct peer_watch *watch);
void peer_watch_destroy(struct peer_watch *watch);

/* Watches the file that stands at `path` now; NULL: none. */
void peer_watch_set(struct peer_watch *watch, const char *path);

/* Takes what was told off the descriptor. True: the file is gone from its
 * path. False: it may be (a link count or attribute changed); as long as it is
 * watched its inode number isn't given to another file, so compare that. */
bool peer_watch_drain(struct peer_watch *watch);

#endif
