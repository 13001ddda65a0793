/* inotify. No event tells of listen(): the path appears at bind(), and the
 * dialler tries again for a while after it. */
#include "reconnect/watch.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

/* IN_ATTRIB: a daemon that opens its socket to others after bind(). */
#define EVENTS                                                                 \
	(IN_CREATE | IN_MOVED_TO | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF | \
	    IN_ONLYDIR)

void
watch_init(struct watch *watch)
{
	*watch = (struct watch){ .fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC),
		.target = -1 };
}

void
watch_destroy(struct watch *watch)
{
	if (watch->fd >= 0)
		close(watch->fd);
}

/* Length of the folder part of the first `length` bytes of path: "/run" for
 * "/run/x", "/" for "/x", 0 for "x". */
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
add(struct watch *watch, size_t length)
{
	char folder[sizeof(watch->path)];

	snprintf(folder, sizeof(folder), "%.*s", (int)length, watch->path);
	return inotify_add_watch(watch->fd, length > 0 ? folder : ".", EVENTS);
}

/* Watches the nearest folder that exists. */
static void
watch_nearest(struct watch *watch)
{
	size_t own = folder_of(watch->path, strlen(watch->path));
	size_t length = own, up;

	while ((watch->target = add(watch, length)) < 0 &&
	       (errno == ENOENT || errno == ENOTDIR) &&
	       (up = folder_of(watch->path, length)) != length)
		length = up;
	watch->folder_length = length;
	watch->above = length != own;
}

/* Again while that is one above the path's own: the next one down may have
 * appeared before it was watched. */
static void
descend(struct watch *watch)
{
	size_t before;

	watch->folder_length = SIZE_MAX;
	do {
		before = watch->folder_length;
		if (watch->target >= 0)
			inotify_rm_watch(watch->fd, watch->target);
		watch_nearest(watch);
	} while (watch->above && watch->folder_length != before);
}

static void
drain(struct watch *watch)
{
	char events[4096];

	while (read(watch->fd, events, sizeof(events)) > 0)
		;
}

void
watch_disarm(struct watch *watch)
{
	if (watch->target >= 0)
		inotify_rm_watch(watch->fd, watch->target);
	watch->target = -1;
	if (watch->fd >= 0)
		drain(watch);
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

static bool
is_ours(const struct watch *watch, const struct inotify_event *event)
{
	const char *name = strrchr(watch->path, '/');

	return event->wd == watch->target && event->len > 0 &&
	       strcmp(event->name, name ? name + 1 : watch->path) == 0;
}

/* Folders came or went on the way to the path. Events of an earlier target
 * don't count: that it is watched no more is told as an event, too. */
static bool
is_move(const struct watch *watch, const struct inotify_event *event)
{
	return event->wd == watch->target &&
	       (watch->above ||
		   (event->mask & (IN_DELETE_SELF | IN_MOVE_SELF)));
}

bool
watch_appeared(struct watch *watch)
{
	_Alignas(struct inotify_event) char events[4096];
	bool appeared = false, moved = false;
	ssize_t length;

	while ((length = read(watch->fd, events, sizeof(events))) > 0) {
		for (char *at = events; at < events + length;) {
			struct inotify_event *event = (void *)at;

			appeared |= !watch->above && is_ours(watch, event);
			moved |= is_move(watch, event);
			at += sizeof(*event) + event->len;
		}
	}
	if (moved && watch->target >= 0) {
		descend(watch);
		appeared |= !watch->above && access(watch->path, F_OK) == 0;
	}
	return appeared;
}
