/* inotify. listen() causes no event: the path appears at bind(), so a refused
 * dial is retried for a while. A full queue is reported with target -1. */
#include <errno.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "base/file_watch.h"
#include "base/file_watch_system.h"

/* IN_ATTRIB: an entry's mode changed (a daemon may open its socket to others
 * after bind()), or the file's link count fell while the inode is in use. */
#define CHANGES                                                                \
	(IN_CREATE | IN_MOVED_TO | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF)

int
file_watch_system_open(void)
{
	return inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
}

int
file_watch_system_add(int fd, const char *path)
{
	return inotify_add_watch(fd, path, CHANGES);
}

void
file_watch_system_remove(int fd, int target)
{
	inotify_rm_watch(fd, target);
}

void
file_watch_system_read(int fd, file_watch_event *event)
{
	_Alignas(struct inotify_event) char events[4096];
	ssize_t length;

	while ((length = read(fd, events, sizeof(events))) > 0) {
		for (char *at = events; at < events + length;) {
			struct inotify_event *e = (void *)at;

			event(e->wd, e->len > 0 ? e->name : NULL,
			    e->mask & IN_DELETE_SELF);
			at += sizeof(*e) + e->len;
		}
	}
}

const char *
file_watch_advice(int error)
{
	if (error == EMFILE)
		return "raise fs.inotify.max_user_instances";
	return error == ENOSPC ? "raise fs.inotify.max_user_watches" : "";
}

int64_t
file_watch_changed_ns(const struct stat *file)
{
	return file->st_ctim.tv_sec * INT64_C(1000000000) +
	       file->st_ctim.tv_nsec;
}
