/* Binds a Unix socket to a path: replaces what a dead process left there,
 * never the socket of a living one, and removes only its own. */
#ifndef BASE_UNIX_BIND_H
#define BASE_UNIX_BIND_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/un.h>

/* The file that a bound socket stands for. */
struct unix_file {
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)]; /* "": none */
	dev_t device;
	ino_t inode;
};

/* Makes a socket of `type`, closed on exec, bound to `path` with permission
 * bits `mode`; nobody can reach it with wider ones at any moment. A stream
 * socket listens already, so that nobody takes it for a dead one.
 * Returns the descriptor, or -1 with errno and the reason in `why`. */
int unix_bind(struct unix_file *file, int type, const char *path, mode_t mode,
    char *why, size_t why_size);

/* Whether the file is there and still ours. */
bool unix_file_stands(const struct unix_file *file);

/* Removes the file if it is still ours. Call it before the descriptor is
 * closed: until then the inode can't become another file's. */
void unix_file_remove(struct unix_file *file);

/* Gives the file these permission bits, if it is still ours: never what another
 * file or a symbolic link at its path leads to. Returns 0, or -1 with errno
 * (ESTALE: another file is at its path). */
int unix_file_set_mode(const struct unix_file *file, mode_t mode);

#endif
