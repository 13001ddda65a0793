/* Listening sockets for tests, like those of a network daemon. */
#ifndef TESTS_SUPPORT_LISTENER_H
#define TESTS_SUPPORT_LISTENER_H

#include <netinet/in.h>
#include <stddef.h>

/* Bound, not yet listening: a path that exists and refuses. */
int bound_unix(const char *path);

/* The socket of a datagram daemon. */
int bound_datagrams(const char *path);

int listening_unix(const char *path, int backlog);

/* A client of such a listener, or of a datagram socket. */
int connected_unix(int type, const char *path);

/* On a free port of 127.0.0.1 or, for AF_INET6, of ::1; -1 if there is no such
 * address. The port goes to `port`, decimal. */
int listening_tcp(int family, int backlog, char port[static 6]);

/* An unused port of 127.0.0.1. */
void free_port(char port[static 6]);

/* Connects until the backlog is full. Returns how many connections were made;
 * their descriptors go to fds, at most `most` of them. */
size_t fill_backlog(int listener, int *fds, size_t most);

void close_all(const int *fds, size_t count);

#endif
