/* Replaces peer_user() in the program that includes this: the peer appears to be
 * this user. */
#ifndef TESTS_SUPPORT_SETTABLE_USER_H
#define TESTS_SUPPORT_SETTABLE_USER_H

#include <errno.h>
#include <stdatomic.h>

#include "base/socket.h"

#define STRANGER 12345u
#define STRANGER_REFUSED                                                       \
	"the daemon runs as user 12345, which network.user does not allow"

static atomic_uint user_at_the_other_end; /* (uid_t)-1: unknown */

int
peer_user(int fd, uid_t *user)
{
	(void)fd;
	*user = atomic_load(&user_at_the_other_end);
	errno = ENOTCONN;
	return *user == (uid_t)-1 ? -1 : 0;
}

#endif
