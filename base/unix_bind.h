/* Binds Unix sockets to paths. It replaces the socket file of a dead process,
 * but not one in use, and removes only its own. */
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

/* Creates a socket of `type`, closed on exec, bound to `path`. The file has the
 * permission bits `mode` from the start. A stream socket also listens at once,
 * so that no other process takes it for stale. Returns the descriptor, or -1
 * with errno. */
int unix_bind(struct unix_file *file, int type, const char *path, mode_t mode,
    struct error *error);

/* What a datagram socket finds at a path. */
enum unix_socket {
	UNIX_NO_SOCKET,        /* nothing, or a socket that is no longer open */
	UNIX_FREE_SOCKET,      /* one that anyone may send to */
	UNIX_STREAM_SOCKET,    /* one of another type */
	UNIX_CONNECTED_SOCKET, /* one that only its peer may send to */
	UNIX_FORBIDDEN_SOCKET, /* one that this user may not send to */
};

/* Looks without disturbing a socket that is there. Sets *file to the file at
 * the path, in case it belongs to a socket of the caller. */
enum unix_socket unix_file_look(struct unix_file *file, const char *path);

/* Whether the file is there and still ours. */
bool unix_file_stands(const struct unix_file *file);

/* Removes the file if it is still ours. Call it before the descriptor is
 * closed: until then the inode number isn't reused. */
void unix_file_remove(struct unix_file *file);

/* Sets the file's permission bits if it is still ours. Follows no symbolic
 * link. Returns 0, or -1 with errno (ESTALE: not ours). */
int unix_file_set_mode(const struct unix_file *file, mode_t mode);

#endif
