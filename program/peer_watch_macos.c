#include "program/peer_watch.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/event.h>
#include <unistd.h>

void
peer_watch_close(struct peer_watch *watch)
{
	peer_watch_set(watch, 0);
	if (watch->fd >= 0)
		close(watch->fd);
	*watch = PEER_WATCH_NONE;
}

static int
open_queue(void)
{
	int fd = kqueue();

	if (fd >= 0)
		fcntl(fd, F_SETFD, FD_CLOEXEC);
	return fd;
}

int
peer_watch_set(struct peer_watch *watch, const char *path)
{
	struct kevent change;

	if (watch->target >= 0)
		close(watch->target);
	watch->target = -1;
	if (!path)
		return 0;
	if (watch->fd < 0)
		watch->fd = open_queue();
	if (watch->fd >= 0)
		watch->target = open(path, O_EVTONLY | O_CLOEXEC);
	if (watch->target < 0)
		return -1;
	EV_SET(&change, watch->target, EVFILT_VNODE, EV_ADD | EV_CLEAR,
	    NOTE_DELETE | NOTE_RENAME | NOTE_LINK, 0, 0);
	return kevent(watch->fd, &change, 1, 0, 0, 0);
}

int64_t
peer_watch_changed_ns(const struct stat *file)
{
	return file->st_ctimespec.tv_sec * INT64_C(1000000000) +
	       file->st_ctimespec.tv_nsec;
}

const char *
peer_watch_advice(int error)
{
	return error == EMFILE ? "raise the limit of open files" : "";
}

bool
peer_watch_drain(struct peer_watch *watch)
{
	struct timespec at_once = { 0, 0 };
	struct kevent event;
	bool gone = false;

	while (kevent(watch->fd, 0, 0, &event, 1, &at_once) > 0)
		gone |= (event.fflags & (NOTE_DELETE | NOTE_RENAME)) != 0;
	return gone;
}
