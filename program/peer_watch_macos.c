#include "program/peer_watch.h"

#include <fcntl.h>
#include <sys/event.h>
#include <unistd.h>

void
peer_watch_init(struct peer_watch *watch)
{
	watch->fd = kqueue();
	watch->target = -1;
	if (watch->fd >= 0)
		fcntl(watch->fd, F_SETFD, FD_CLOEXEC);
}

void
peer_watch_destroy(struct peer_watch *watch)
{
	peer_watch_set(watch, 0);
	if (watch->fd >= 0)
		close(watch->fd);
}

void
peer_watch_set(struct peer_watch *watch, const char *path)
{
	struct kevent change;

	if (watch->target >= 0)
		close(watch->target);
	watch->target = path ? open(path, O_EVTONLY | O_CLOEXEC) : -1;
	if (watch->target < 0)
		return;
	EV_SET(&change, watch->target, EVFILT_VNODE, EV_ADD | EV_CLEAR,
	    NOTE_DELETE | NOTE_RENAME | NOTE_LINK, 0, 0);
	kevent(watch->fd, &change, 1, 0, 0, 0);
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
