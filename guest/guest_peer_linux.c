/* A bound socket holds its file's inode, unlinked or not, until it is closed:
 * only then inotify tells IN_DELETE_SELF. */
#include "guest/guest_peer.h"

#include <poll.h>

bool
guest_peer_closed(int fd, bool deleted)
{
	(void)fd;
	return deleted;
}

bool
guest_peer_is_shut(int fd)
{
	struct pollfd end = { .fd = fd, .events = POLLRDHUP };

	return poll(&end, 1, 0) > 0 && (end.revents & POLLRDHUP);
}
