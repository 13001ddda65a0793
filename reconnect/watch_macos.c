/* kqueue tells that a folder changed, not what changed in it: any file at the
 * path counts as having appeared, and the dial finds out. */
#include "reconnect/watch.h"

#include <fcntl.h>
#include <sys/event.h>
#include <unistd.h>

void
watch_init(struct watch *watch)
{
	*watch = (struct watch){ .fd = kqueue(), .target = -1 };
	if (watch->fd >= 0)
		fcntl(watch->fd, F_SETFD, FD_CLOEXEC);
}

void
watch_destroy(struct watch *watch)
{
	watch_release(watch);
	if (watch->fd >= 0)
		close(watch->fd);
}

int
watch_folder(struct watch *watch, const char *folder)
{
	struct kevent change;

	watch->target = open(folder, O_EVTONLY | O_CLOEXEC);
	if (watch->target < 0)
		return -1;
	EV_SET(&change, watch->target, EVFILT_VNODE, EV_ADD | EV_CLEAR,
	    NOTE_WRITE | NOTE_DELETE | NOTE_RENAME | NOTE_ATTRIB, 0, NULL);
	return kevent(watch->fd, &change, 1, NULL, 0, NULL);
}

/* Closing the folder takes its events out of the queue. */
void
watch_release(struct watch *watch)
{
	if (watch->target >= 0)
		close(watch->target);
	watch->target = -1;
}

void
watch_drain(struct watch *watch)
{
	struct timespec at_once = { 0 };
	struct kevent event;

	while (kevent(watch->fd, NULL, 0, &event, 1, &at_once) > 0)
		;
}

bool
watch_appeared(struct watch *watch)
{
	watch_drain(watch);
	watch_descend(watch);
	/* A stale file counts too: a dial that is refused costs little. */
	return !watch->above && access(watch->path, F_OK) == 0;
}
