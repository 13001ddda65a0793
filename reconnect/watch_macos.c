/* kqueue tells that a folder changed, not what changed in it: any file at the
 * path counts as having appeared, and the dial finds out. */
#include "reconnect/watch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/event.h>
#include <sys/stat.h>
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
	watch_disarm(watch);
	if (watch->fd >= 0)
		close(watch->fd);
}

/* Length of the folder part of the first `length` bytes of path. */
static size_t
folder_of(const char *path, size_t length)
{
	while (length > 0 && path[length - 1] != '/')
		length--;
	while (length > 1 && path[length - 1] == '/')
		length--;
	return length;
}

static int
open_folder(const struct watch *watch, size_t length)
{
	char folder[sizeof(watch->path)];

	snprintf(folder, sizeof(folder), "%.*s", (int)length, watch->path);
	return open(length > 0 ? folder : ".", O_EVTONLY | O_CLOEXEC);
}

static void
descend(struct watch *watch)
{
	size_t own = folder_of(watch->path, strlen(watch->path));
	size_t length = own, up;
	struct kevent change;

	while ((watch->target = open_folder(watch, length)) < 0 &&
	       (errno == ENOENT || errno == ENOTDIR) &&
	       (up = folder_of(watch->path, length)) != length)
		length = up;
	watch->folder_length = length;
	watch->above = length != own;
	if (watch->target < 0)
		return;
	EV_SET(&change, watch->target, EVFILT_VNODE, EV_ADD | EV_CLEAR,
	    NOTE_WRITE | NOTE_DELETE | NOTE_RENAME | NOTE_ATTRIB, 0, NULL);
	kevent(watch->fd, &change, 1, NULL, 0, NULL);
}

void
watch_disarm(struct watch *watch)
{
	/* Closing the folder takes its events out of the queue. */
	if (watch->target >= 0)
		close(watch->target);
	watch->target = -1;
}

void
watch_arm(struct watch *watch, const char *path)
{
	watch_disarm(watch);
	if (watch->fd < 0)
		return;
	snprintf(watch->path, sizeof(watch->path), "%s", path);
	descend(watch);
}

bool
watch_appeared(struct watch *watch)
{
	struct timespec at_once = { 0 };
	struct kevent event;
	size_t before;

	while (kevent(watch->fd, NULL, 0, &event, 1, &at_once) > 0)
		;
	do {
		before = watch->folder_length;
		watch_disarm(watch);
		descend(watch);
	} while (watch->folder_length != before);
	/* A stale file counts too: a dial that is refused costs little. */
	return !watch->above && access(watch->path, F_OK) == 0;
}
