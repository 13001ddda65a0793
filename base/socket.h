/* Making sockets, and who is at the other end of a Unix socket. */
#ifndef BASE_SOCKET_H
#define BASE_SOCKET_H

#include <errno.h>
#include <stdbool.h>
#include <sys/types.h>
#include <unistd.h>

/* Creates a stream socket, closed on exec, with buffers for a batch of frames.
 * Writing to it never raises SIGPIPE. Returns the descriptor, or -1 with
 * errno. */
int socket_stream(int family);

/* Gives a datagram socket buffers for frames of any length where the system's
 * default is too small for them: macOS. Without them it still works, for shorter
 * frames. */
void socket_datagram_buffers(int fd);

/* Creates two connected Unix sockets of this type (SOCK_STREAM, SOCK_DGRAM), as
 * socket_stream() does. Returns 0, or -1 with errno. */
int socket_pair(int type, int ends[2]);

/* Gives a stream socket that socket_stream() did not create the same options. */
void socket_stream_options(int fd, int family);

/* Gets the effective user of the peer at the time of its connect() or listen().
 * Returns 0, or -1 with errno. */
int peer_user(int fd, uid_t *user);

/* Returns the process at the other end at the time of its connect(), or 0 if it
 * is not known. */
pid_t peer_process(int fd);

/* Whether the datagram socket that fd is connected to is known to be closed.
 * file_deleted: its file no longer exists under any name. */
bool peer_is_closed(int fd, bool file_deleted);

/* Whether the datagram socket was shut down by a process that shares it: recv()
 * then always returns at once. Always false on macOS. */
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
