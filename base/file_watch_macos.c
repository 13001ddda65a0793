/* kqueue. It reports that a folder changed, but not which entry, so a file at
 * the path may be an old one. A target is a descriptor; closing it removes its
 * events from the queue. */
#include <errno.h>
#include <fcntl.h>
#include <sys/event.h>
#include <unistd.h>

#include "base/file_watch.h"
#include "base/file_watch_system.h"
#include "base/socket.h"

#define CHANGES                                                                \
	(NOTE_WRITE | NOTE_ATTRIB | NOTE_LINK | NOTE_DELETE | NOTE_RENAME)

int
file_watch_system_open(void)
{
	int fd = kqueue();

	if (fd >= 0)
		fcntl(fd, F_SETFD, FD_CLOEXEC);
	return fd;
}

int
file_watch_system_add(int fd, const char *path)
{
	struct kevent change;
	int target = open(path, O_EVTONLY | O_CLOEXEC);

	if (target < 0)
		return -1;
	EV_SET(&change, target, EVFILT_VNODE, EV_ADD | EV_CLEAR, CHANGES, 0, 0);
	if (kevent(fd, &change, 1, 0, 0, 0) == 0)
		return target;
	return socket_give_up(target);
}

void
file_watch_system_remove(int fd, int target)
{
	(void)fd;
	close(target);
}

void
file_watch_system_read(int fd, file_watch_event *event)
{
	struct timespec at_once = { 0, 0 };
	struct kevent e;

	while (kevent(fd, 0, 0, &e, 1, &at_once) > 0)
		event((int)e.ident, NULL, e.fflags & NOTE_DELETE);
}

const char *
file_watch_advice(int error)
{
	return error == EMFILE ? "raise the limit of open files" : "";
}

int64_t
file_watch_changed_ns(const struct stat *file)
{
	return file->st_ctimespec.tv_sec * INT64_C(1000000000) +
	       file->st_ctimespec.tv_nsec;
}
