/* inotify. No event tells of listen(): the path appears at bind(), and the
 * dialler tries again for a while after it. */
#include "base/file_watch_system.h"

#include <errno.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "base/file_watch.h"

/* IN_MASK_ADD: an inode has one target for all who watch it.
 * IN_ATTRIB of a folder's entry: a daemon opens its socket to others after
 * bind(). Of a file: its link count falls while somebody holds the inode. */
#define IN_FOLDER                                                              \
	(IN_CREATE | IN_MOVED_TO | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF | \
	    IN_ONLYDIR | IN_MASK_ADD)
#define IN_FILE (IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF | IN_MASK_ADD)

int
file_watch_system_open(void)
{
	return inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
}

int
file_watch_system_folder(int fd, const char *folder)
{
	return inotify_add_watch(fd, folder, IN_FOLDER);
}

int
file_watch_system_file(int fd, const char *path)
{
	return inotify_add_watch(fd, path, IN_FILE);
}

void
file_watch_system_remove(int fd, int target)
{
	inotify_rm_watch(fd, target);
}

static enum file_event_kind
kind_of(const struct inotify_event *event)
{
	if (event->mask & IN_Q_OVERFLOW)
		return FILE_EVENT_LOST;
	if (event->mask & IN_IGNORED)
		return FILE_EVENT_LAST;
	if (event->mask & IN_DELETE_SELF)
		return FILE_EVENT_DELETED;
	return event->len > 0 ? FILE_EVENT_NAMED : FILE_EVENT_CHANGED;
}

void
file_watch_system_read(int fd, void (*heard)(const struct file_event *event))
{
	_Alignas(struct inotify_event) char events[4096];
	ssize_t length;

	while ((length = read(fd, events, sizeof(events))) > 0) {
		for (char *at = events; at < events + length;) {
			struct inotify_event *event = (void *)at;

			heard(&(struct file_event){ .kind = kind_of(event),
			    .target = event->wd,
			    .name = event->name });
			at += sizeof(*event) + event->len;
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
