#include "program/peer_watch.h"

#include <errno.h>
#include <sys/inotify.h>
#include <unistd.h>

void
peer_watch_close(struct peer_watch *watch)
{
	if (watch->fd >= 0)
		close(watch->fd);
	*watch = PEER_WATCH_NONE;
}

int
peer_watch_set(struct peer_watch *watch, const char *path)
{
	if (watch->target >= 0)
		inotify_rm_watch(watch->fd, watch->target);
	watch->target = -1;
	if (!path)
		return 0;
	if (watch->fd < 0)
		watch->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	/* IN_ATTRIB: the link count falls while somebody holds the inode. */
	if (watch->fd >= 0)
		watch->target = inotify_add_watch(
		    watch->fd, path, IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF);
	return watch->target < 0 ? -1 : 0;
}

int64_t
peer_watch_changed_ns(const struct stat *file)
{
	return file->st_ctim.tv_sec * INT64_C(1000000000) +
	       file->st_ctim.tv_nsec;
}

const char *
peer_watch_advice(int error)
{
	if (error == EMFILE)
		return "raise fs.inotify.max_user_instances";
	return error == ENOSPC ? "raise fs.inotify.max_user_watches" : "";
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
