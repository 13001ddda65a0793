/* inotify. No event tells of listen(): the path appears at bind(), and the
 * dialler tries again for a while after it. */
#include "reconnect/watch.h"

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

int
watch_folder(struct watch *watch, const char *folder)
{
	return watch->target = inotify_add_watch(watch->fd, folder, EVENTS);
}

void
watch_release(struct watch *watch)
{
	if (watch->target >= 0)
		inotify_rm_watch(watch->fd, watch->target);
	watch->target = -1;
}

void
watch_drain(struct watch *watch)
{
	char events[4096];

	while (read(watch->fd, events, sizeof(events)) > 0)
		;
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
		watch_descend(watch);
		appeared |= !watch->above && access(watch->path, F_OK) == 0;
	}
	return appeared;
}
