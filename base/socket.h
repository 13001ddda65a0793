/* Stream sockets, and who is at the other end of a Unix socket. */
#ifndef BASE_SOCKET_H
#define BASE_SOCKET_H

#include <errno.h>
#include <stdbool.h>
#include <sys/types.h>
#include <unistd.h>

/* Makes a stream socket: closed on exec, never a cause of SIGPIPE, with room
 * for a batch of frames. Returns the descriptor, or -1 with errno. */
int socket_stream(int family);

/* The effective user of the peer when it connected or, if the peer accepted,
 * when it called listen(). Returns 0, or -1 with errno. */
int peer_user(int fd, uid_t *user);

/* Whether the datagram socket that fd is connected to is known to be closed.
 * file_deleted: its file no longer exists under any name. */
bool peer_is_closed(int fd, bool file_deleted);

/* Whether the datagram socket was shut down by a process that shares it, so
 * that recv() returns at once for ever. False where the system can't tell. */
bool peer_is_shut(int fd);

/* Closes a descriptor whose set-up failed; keeps errno. Returns -1. */
static inline int
socket_give_up(int fd)
{
	int error = errno;

	close(fd);
	errno = error;
	return -1;
}

#endif
