/* Tells when a file appears (a daemon's socket after a restart), and when one
 * goes (a guest's socket, our own). Without being told, whoever uses it has to
 * look from time to time.
 *
 * Every watch of the process shares one descriptor, because the system gives a
 * user only so many. A watch has one owner: one thread, or several behind a
 * lock of theirs. The owner polls file_watch_fd() and its bell for POLLIN, then
 * asks the watch for its news. Which owner reads the descriptor doesn't matter:
 * it notes what it read for all watches, and rings the bells of the others. */
#ifndef BASE_FILE_WATCH_H
#define BASE_FILE_WATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/doorbell.h"
#include "base/sync.h"

enum file_watch_state {
	FILE_WATCH_OFF,
	FILE_WATCH_FILE,   /* a file is to go */
	FILE_WATCH_FOLDER, /* path is to appear in the folder that is watched */
	FILE_WATCH_ABOVE,  /* a folder further up is watched: that one isn't
			      there, or can't be watched (see error) */
};

struct file_watch {
	struct doorbell *bell;
	bool holds_system; /* had reason to open the shared descriptor */
	int error;         /* why path may appear unnoticed; 0: it can't */

	/* Whoever reads the descriptor uses these, too. */
	enum file_watch_state state GUARDED;
	unsigned news GUARDED; /* of which the owner isn't told yet */
	int target GUARDED;    /* the system's name of it, or -1 */
	bool adding GUARDED;   /* a target, whose name is not known yet */
	struct file_watch *next GUARDED; /* of those that are not off */
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)]; /* to appear */
};

/* Takes nothing from the system until something is watched. The bell has to
 * outlive the watch. */
void file_watch_init(struct file_watch *watch, struct doorbell *bell);
void file_watch_destroy(struct file_watch *watch);

/* Watches for `path` to appear from now on, in place of what was watched; what
 * happened before is forgotten. Folders on the way may be missing and may come
 * and go; that one further up than the lowest is moved goes unnoticed. Returns 0, or -1 with errno: it may appear unnoticed, so call again
 * some time later. */
int file_watch_path(struct file_watch *watch, const char *path);

/* Watches the file that stands at `path` now, in place of what was watched.
 * Returns 0, or -1 with errno: nothing will be told. */
int file_watch_file(struct file_watch *watch, const char *path);

/* From now on nothing is told, and nothing wakes the owner. */
void file_watch_stop(struct file_watch *watch);

/* -1 while nothing is watched. */
int file_watch_fd(struct file_watch *watch);

/* Takes the news. True: the path (re)appeared since the last call. */
bool file_watch_appeared(struct file_watch *watch);

/* Takes the news. True: the file exists no more (Linux: so a socket bound to it
 * was closed, too). False: it may have been moved or unlinked; as long as it is
 * watched its inode number isn't given to another file, so compare that. */
bool file_watch_deleted(struct file_watch *watch);

/* For people: what to do when watching failed with `error`; "" if unknown. */
const char *file_watch_advice(int error);

/* When that file was created, opened to others or linked: tells it from another
 * that got its inode number, if it isn't watched. */
int64_t file_watch_changed_ns(const struct stat *file);

#endif
