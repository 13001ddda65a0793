/* kqueue tells that the file is gone while the socket lives. The kernel
 * disconnects whoever was connected to a socket that is closed (unp_detach() in
 * bsd/kern/uipc_usrreq.c). */
#include "guest/guest_peer.h"

#include <sys/socket.h>
#include <sys/un.h>

bool
guest_peer_closed(int fd, bool deleted)
{
	struct sockaddr_un peer;
	socklen_t length = sizeof(peer);

	(void)deleted;
	return getpeername(fd, (struct sockaddr *)&peer, &length) < 0;
}

bool
guest_peer_is_shut(int fd)
{
	(void)fd;
	return false;
}
