/* Tells when a path appears: a daemon's socket after a restart. Watches the
 * folder, or while that is missing too the nearest one above it.
 * One thread at a time. */
#ifndef RECONNECT_WATCH_H
#define RECONNECT_WATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/un.h>

struct watch {
	int fd;     /* poll it for POLLIN; -1 if the system gave none */
	int target; /* what is being watched; -1 while disarmed */
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
	size_t folder_length; /* of the folder that is watched, in path */
	bool above;           /* that folder is not the path's own */
};

/* Never fails: without a watch, fd stays -1 and the backoff finds the path. */
void watch_init(struct watch *watch);
void watch_destroy(struct watch *watch);

/* Watches for `path` to appear from now on; what happened before is forgotten.
 * Disarmed, nothing in the folder wakes the caller. */
void watch_arm(struct watch *watch, const char *path);
void watch_disarm(struct watch *watch);

/* After fd was readable: true if the path (re)appeared since. */
bool watch_appeared(struct watch *watch);

/* Between watch.c and the system's part of it: watches the nearest folder that
 * exists, again while that is one above the path's own, since the next one down
 * may have appeared before it was watched. */
void watch_descend(struct watch *watch);
/* Watches one folder: sets target, or -1 with errno. */
int watch_folder(struct watch *watch, const char *folder);
/* Watches nothing. What was told before may still be on fd. */
void watch_release(struct watch *watch);
/* Takes everything off fd. */
void watch_drain(struct watch *watch);

#endif
