#include "program/peer_watch.h"

#include <sys/inotify.h>
#include <unistd.h>

void
peer_watch_init(struct peer_watch *watch)
{
	watch->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	watch->target = -1;
}

void
peer_watch_destroy(struct peer_watch *watch)
{
	if (watch->fd >= 0)
		close(watch->fd);
}

void
peer_watch_set(struct peer_watch *watch, const char *path)
{
	if (watch->target >= 0)
		inotify_rm_watch(watch->fd, watch->target);
	/* IN_ATTRIB: the link count falls while somebody holds the inode. */
	watch->target = path ? inotify_add_watch(watch->fd, path,
				   IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF)
			     : -1;
}

bool
peer_watch_drain(struct peer_watch *watch)
{
	_Alignas(struct inotify_event) char events[4096];
	bool gone = false;
	ssize_t length;

	while ((length = read(watch->fd, events, sizeof(events))) > 0) {
		for (char *at = events; at < events + length;) {
			struct inotify_event *event = (void *)at;

			gone |= event->wd == watch->target &&
				(event->mask & (IN_DELETE_SELF | IN_MOVE_SELF |
						   IN_IGNORED));
			at += sizeof(*event) + event->len;
		}
	}
	return gone;
}
