/* A folder for sockets of our own, which only our user and root can reach. */
#ifndef BASE_PRIVATE_FOLDER_H
#define BASE_PRIVATE_FOLDER_H

#include <sys/un.h>

#include "base/error.h"
#include "base/sync.h"

#define PRIVATE_PATH_BYTES sizeof(((struct sockaddr_un *)0)->sun_path)
/* The longest name in the folder, with its final zero. */
#define PRIVATE_NAME_BYTES 16

struct private_folder {
	struct mutex lock;
	char path[PRIVATE_PATH_BYTES] GUARDED; /* "": not created */
};

/* Creates nothing yet. */
void private_folder_init(struct private_folder *folder);

/* Copies to path that of `name` in the folder. If there is no folder, creates it,
 * with the mode 0700, in the first of these directories where that works and in
 * which no other user can replace it: $RUNTIME_DIRECTORY (its first entry),
 * $XDG_RUNTIME_DIR, $TMPDIR, /tmp. A folder that was removed meanwhile (old
 * files in /tmp are) is created again, under another name. Returns 0, or -1 with
 * errno and the error set. Any thread. */
int private_folder_path(struct private_folder *folder, const char *name,
    char path[PRIVATE_PATH_BYTES], struct error *error);

/* Removes the folder and the files in it. A later private_folder_path() would
 * create it again. Any thread. */
void private_folder_remove(struct private_folder *folder);

#endif
