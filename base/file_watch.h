/* Reports when a file appears (a daemon's socket after a restart), and when one
 * goes (a guest's socket, our own).
 *
 * All watches of the process share one descriptor, because the system gives a
 * user only 128. The owner of a watch (one thread, or several behind a lock of
 * theirs) polls file_watch_fd() and its doorbell for POLLIN, then asks the
 * watch. Whichever owner reads the descriptor notes the events in every watch
 * they concern and rings the bells of the others, so none is lost. */
#ifndef BASE_FILE_WATCH_H
#define BASE_FILE_WATCH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/sync.h"
#include "base/wait.h"

enum file_watch_news {
	FILE_WATCH_NOTHING,
	FILE_WATCH_CHANGED, /* perhaps what the owner waits for */
	FILE_WATCH_DELETED,
};

struct file_watch {
	struct doorbell *bell;
	int error; /* why path may appear unnoticed; 0: it can't */

	/* Also used by whoever reads the descriptor. */
	int target GUARDED;    /* what the system watches, or -1 */
	bool in_place GUARDED; /* the target is the folder of path */
	bool adding GUARDED;   /* a target that isn't known yet */
	enum file_watch_news news GUARDED; /* not yet asked for by the owner */
	struct file_watch *next GUARDED;
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
};

/* The bell has to outlive the watch. The shared descriptor is opened when it is
 * first needed, and closed when the last watch is destroyed. */
void file_watch_init(struct file_watch *watch, struct doorbell *bell);
void file_watch_destroy(struct file_watch *watch);

/* Watches for path to appear from now on, instead of what was watched. Folders
 * on the way may be missing, and may come and go; but if one further up than
 * the lowest is moved, that is not noticed. Returns 0, or -1 with errno: the
 * path may appear unnoticed, so call again some time later. */
int file_watch_path(struct file_watch *watch, const char *path);

/* Watches the file at path, instead of what was watched. Returns 0, or -1 with
 * errno: nothing is watched. */
int file_watch_file(struct file_watch *watch, const char *path);

/* Watches nothing from now on, and wakes nobody. */
void file_watch_stop(struct file_watch *watch);

/* -1 while nothing is watched. */
int file_watch_fd(struct file_watch *watch);

/* Whether the path appeared, or appeared again, since the last call. */
bool file_watch_appeared(struct file_watch *watch);

/* True, once: the file no longer exists under any name (on Linux, a socket
 * bound to it is closed as well). If it was moved or unlinked, the watch only
 * wakes its owner; as long as it is watched, its inode number isn't given to
 * another file, so compare that. */
bool file_watch_deleted(struct file_watch *watch);

/* What the user can do when watching failed with this errno, or "". */
const char *file_watch_advice(int error);

/* When the file was created, or its mode or links changed. It tells the file
 * from a later one with the same inode number. */
int64_t file_watch_changed_ns(const struct stat *file);

#endif
