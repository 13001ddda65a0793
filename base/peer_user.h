/* Who is at the other end of a Unix stream socket. */
#ifndef BASE_PEER_USER_H
#define BASE_PEER_USER_H

#include <sys/types.h>

/* The effective user of the peer when it connected or, if it is the one that
 * accepted, when it began to listen. Returns 0, or -1 with errno. */
int peer_user(int fd, uid_t *user);

#endif
