/* A bound socket holds its file's inode, unlinked or not, until it is closed:
 * only then inotify tells IN_DELETE_SELF. */
#include "program/guest_peer.h"

bool
guest_peer_closed(int fd, bool deleted)
{
	(void)fd;
	return deleted;
}
