/* A stream socket as this project wants it, whatever the system. */
#ifndef BASE_SOCKET_H
#define BASE_SOCKET_H

/* Closed on exec, never a cause of SIGPIPE, with room for a batch of frames.
 * Returns the descriptor, or -1 with errno. */
int socket_stream(int family);

/* Closes one that came to nothing; errno goes on saying why. Returns -1. */
int socket_give_up(int fd);

#endif
