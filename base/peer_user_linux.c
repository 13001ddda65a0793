#include "base/peer_user.h"

#include <sys/socket.h>

int
peer_user(int fd, uid_t *user)
{
	struct ucred peer;
	socklen_t length = sizeof(peer);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) < 0)
		return -1;
	*user = peer.uid;
	return 0;
}
