#include "base/peer_user.h"

#include <unistd.h>

int
peer_user(int fd, uid_t *user)
{
	gid_t group;

	return getpeereid(fd, user, &group);
}
