/* Reports when a file is created (a daemon's socket after a restart) or deleted
 * (the socket of the guest, or forwarder's own).
 *
 * All watches of the process share one inotify descriptor, because a user may
 * have only 128 of them. The owner of a watch (one thread, or several that
 * share a lock) polls file_watch_fd() and the watch's doorbell for POLLIN, then
 * calls file_watch_appeared() or file_watch_deleted(). The owner that reads the
 * descriptor records each event in every watch concerned, and rings the
 * doorbells of the other watches. No event is lost. */
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
	FILE_WATCH_CHANGED, /* the owner must check the path */
	FILE_WATCH_DELETED,
};

struct file_watch {
	struct doorbell *bell;
	int error; /* errno that prevents watching the path; 0: none */

	/* Also used by other owners, when they read the descriptor. */
	int target GUARDED;            /* what the system watches, or -1 */
	bool target_is_parent GUARDED; /* the folder that holds path */
	bool adding GUARDED;           /* the system is looking the target up */
	enum file_watch_news news GUARDED; /* not yet fetched */
	struct file_watch *next GUARDED;
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
};

/* The bell must not be destroyed before the watch. The shared descriptor is
 * opened when it is first needed, and closed when the last watch is
 * destroyed. */
void file_watch_init(struct file_watch *watch, struct doorbell *bell);
void file_watch_destroy(struct file_watch *watch);

/* Watches for path to appear. Replaces what was watched before. Parent folders
 * may be missing, and may be created and removed. A rename of a folder above
 * the nearest existing one is not detected. Returns 0, or -1 with errno: the
 * path may appear unnoticed, so call again some time later. */
int file_watch_path(struct file_watch *watch, const char *path);

/* Watches the file at path. Replaces what was watched before. Returns 0, or -1
 * with errno: nothing is watched. */
int file_watch_file(struct file_watch *watch, const char *path);

/* Stops the watch. The doorbell is not rung any more. */
void file_watch_stop(struct file_watch *watch);

/* Returns the descriptor to poll, or -1 if nothing is watched. */
int file_watch_fd(struct file_watch *watch);

/* Returns true if the path exists and may have appeared since the last call. */
bool file_watch_appeared(struct file_watch *watch);

/* Returns true once after the file's last link was removed and, on Linux, the
 * socket bound to it was closed. A rename or an unlink only wakes the owner.
 * The inode number is not reused while the file is watched, so compare inode
 * numbers to detect these. */
bool file_watch_deleted(struct file_watch *watch);

/* Returns advice for the user when watching failed with this errno, or "". */
const char *file_watch_advice(int error);

/* Returns the file's ctime, which distinguishes it from a later file with the
 * same inode number. */
int64_t file_watch_changed_ns(const struct stat *file);

#endif
