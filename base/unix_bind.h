/* Binds a Unix socket to a path: replaces what a dead process left there,
 * never the socket of a living one, and removes only its own. */
#ifndef BASE_UNIX_BIND_H
#define BASE_UNIX_BIND_H

#include <stdbool.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/un.h>

#include "base/error.h"

/* The file of a bound socket. */
struct unix_file {
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)]; /* "": none */
	dev_t device;
	ino_t inode;
};

/* Makes a socket of `type`, closed on exec, bound to `path` with permission
 * bits mode, never wider ones. A stream socket listens already, so that no other
 * process takes it for a dead one. Returns the descriptor, or -1 with errno. */
int unix_bind(struct unix_file *file, int type, const char *path, mode_t mode,
    struct error *error);

/* Whether the file is there and still ours. */
bool unix_file_stands(const struct unix_file *file);

/* Removes the file if it is still ours. Call it before the descriptor is
 * closed: until then the inode can't become another file's. */
void unix_file_remove(struct unix_file *file);

/* Gives the file these permission bits if it is still ours, and never what a
 * symbolic link leads to. Returns 0, or -1 with errno (ESTALE: not ours). */
int unix_file_set_mode(const struct unix_file *file, mode_t mode);

#endif
