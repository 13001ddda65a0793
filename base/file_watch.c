/* Theory of operation
 *
 * The descriptor that all watches share is opened for the first one that has
 * something to watch and closed with the last. Whoever reads it notes the news
 * in every watch concerned, under the lock, and rings the bell of each but its
 * own: so an event is never lost, whichever of the threads in poll() was first.
 *
 * An event belongs to a watch by its target. While a watch adds a target, it
 * doesn't know the target's name yet: the lock isn't held then, since looking
 * up a path may block, and another thread may read the first events. Events of
 * an unknown target are therefore news to every watch that is adding.
 *
 * For a path that is to appear:
 *
 *      FOLDER  the path's folder is watched. Its entry for the path was made or
 *              changed: the path appeared. The folder went: descend again.
 *      ABOVE   the nearest folder above it that can be. Whatever happens there:
 *              descend again.
 *
 * To descend is to watch the nearest folder there is, then to look further
 * down, since the next folder may have been made before; and to let go of a
 * folder only when one further down is watched. So a folder is either found or
 * made under the eyes of the watch.
 *
 * How to watch a folder or a file is the system's (file_watch_linux.c,
 * file_watch_macos.c). */
#include "base/file_watch.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file_watch_system.h"

enum file_watch_news {
	NEWS_CERTAIN = 1, /* the path appeared; the file is deleted */
	NEWS_LOOK = 2,    /* it may have */
};

#define NO_FOLDER (-1)

static struct {
	struct mutex lock; /* taken last: owners may hold locks of theirs */
	int fd GUARDED;    /* -1: closed */
	unsigned holders GUARDED;
	struct file_watch *first GUARDED;        /* that is not off */
	const struct file_watch *reader GUARDED; /* whose owner reads fd */
} shared = { .lock = { PTHREAD_MUTEX_INITIALIZER }, .fd = -1 };

/* Rings under the lock: the owner may destroy the watch right after. */
static void
note(struct file_watch *watch, unsigned news) NEEDS(shared.lock)
{
	watch->news |= news;
	if (news && watch != shared.reader)
		doorbell_ring(watch->bell);
}

static bool
is_for_path(const struct file_watch *watch, const struct file_event *event)
{
	const char *slash = strrchr(watch->path, '/');

	return strcmp(event->name, slash ? slash + 1 : watch->path) == 0;
}

/* What an event of its target means to a watch. */
static unsigned
judge(const struct file_watch *watch, const struct file_event *event)
    NEEDS(shared.lock)
{
	if (watch->state == FILE_WATCH_FILE)
		return event->kind == FILE_EVENT_DELETED ? NEWS_CERTAIN
							 : NEWS_LOOK;
	if (watch->state == FILE_WATCH_FOLDER &&
	    event->kind == FILE_EVENT_NAMED)
		return is_for_path(watch, event) ? NEWS_CERTAIN : 0;
	return NEWS_LOOK;
}

/* An event of a target that no watch has, or not yet. The last one of a target
 * is mostly of one that was let go of; but another watch that is adding the same
 * inode may have lost its target with it. */
static void
heard_unknown(const struct file_event *event) NEEDS(shared.lock)
{
	for (struct file_watch *w = shared.first; w; w = w->next) {
		if (!w->adding)
			continue;
		note(w,
		    w->state == FILE_WATCH_FILE ? judge(w, event) : NEWS_LOOK);
	}
}

static void
heard(const struct file_event *event) NEEDS(shared.lock)
{
	bool all = event->kind == FILE_EVENT_LOST, known = all;

	for (struct file_watch *w = shared.first; w; w = w->next) {
		if (all || w->target == event->target) {
			known = true;
			note(w, judge(w, event));
		}
	}
	if (!known)
		heard_unknown(event);
}

static void
read_news(const struct file_watch *watch) NEEDS(shared.lock)
{
	shared.reader = watch;
	if (shared.fd >= 0)
		file_watch_system_read(shared.fd, heard);
	shared.reader = NULL;
}

static unsigned
take_news(struct file_watch *watch)
{
	unsigned news;

	mutex_lock(&shared.lock);
	read_news(watch);
	news = watch->news;
	watch->news = 0;
	mutex_unlock(&shared.lock);
	return news;
}

/* Puts another target in place of the present one; -1: none. */
static void
aim(struct file_watch *watch, int target) NEEDS(shared.lock)
{
	int before = watch->target;

	watch->target = target;
	if (before < 0)
		return;
	for (struct file_watch *w = shared.first; w; w = w->next)
		if (w->target == before)
			return;
	file_watch_system_remove(shared.fd, before);
}

/* Opens the shared descriptor if this is the first to need it, and lists the
 * watch. Returns the descriptor, or -1 with errno. */
static int
begin(struct file_watch *watch, enum file_watch_state state)
{
	int fd;

	mutex_lock(&shared.lock);
	if (shared.fd < 0)
		shared.fd = file_watch_system_open();
	fd = shared.fd;
	if (fd >= 0 && !watch->holds_system) {
		watch->holds_system = true;
		shared.holders++;
	}
	if (fd >= 0) {
		watch->state = state;
		watch->adding = true;
		watch->next = shared.first;
		shared.first = watch;
	}
	mutex_unlock(&shared.lock);
	return fd;
}

static void
leave_list(struct file_watch *watch) NEEDS(shared.lock)
{
	struct file_watch **at = &shared.first;

	while (*at != watch)
		at = &(*at)->next;
	*at = watch->next;
}

void
file_watch_stop(struct file_watch *watch)
{
	mutex_lock(&shared.lock);
	if (watch->state != FILE_WATCH_OFF) {
		aim(watch, -1);
		leave_list(watch);
		watch->state = FILE_WATCH_OFF;
		read_news(watch); /* what was told of it wakes nobody */
	}
	watch->news = 0;
	mutex_unlock(&shared.lock);
	watch->error = 0;
}

void
file_watch_init(struct file_watch *watch, struct doorbell *bell)
{
	*watch = (struct file_watch){ .bell = bell, .target = -1 };
}

void
file_watch_destroy(struct file_watch *watch)
{
	file_watch_stop(watch);
	mutex_lock(&shared.lock);
	if (watch->holds_system && --shared.holders == 0) {
		close(shared.fd);
		shared.fd = -1;
	}
	mutex_unlock(&shared.lock);
	watch->holds_system = false;
}

int
file_watch_fd(struct file_watch *watch)
{
	int fd;

	mutex_lock(&shared.lock);
	fd = watch->state != FILE_WATCH_OFF ? shared.fd : -1;
	mutex_unlock(&shared.lock);
	return fd;
}

/* Length of the folder part of the first `length` bytes of path: "/run" for
 * "/run/x", "/" for "/x", 0 for "x". */
static int
folder_of(const char *path, int length)
{
	while (length > 0 && path[length - 1] != '/')
		length--;
	while (length > 1 && path[length - 1] == '/')
		length--;
	return length;
}

/* Watches the folder that is the first `length` bytes of the path. */
static int
add_folder(const struct file_watch *watch, int fd, int length)
{
	char folder[sizeof(watch->path)];

	snprintf(folder, sizeof(folder), "%.*s", length, watch->path);
	return file_watch_system_folder(fd, length > 0 ? folder : ".");
}

/* Another folder would be refused for the same reason. */
static bool
is_shortage(int error)
{
	return error == ENOSPC || error == EMFILE || error == ENFILE ||
	       error == ENOMEM;
}

/* Watches the lowest folder on the way to the path that can be watched, of
 * those longer than *length. Returns its target and *length, or -1. */
static int
add_lowest(struct file_watch *watch, int fd, int *length)
{
	int above = *length, target;
	int at = folder_of(watch->path, (int)strlen(watch->path)), up;

	watch->error = 0;
	for (;;) {
		if (at <= above)
			return -1;
		target = add_folder(watch, fd, at);
		if (target >= 0)
			break;
		if (errno != ENOENT && errno != ENOTDIR)
			watch->error = errno;
		up = folder_of(watch->path, at);
		if (is_shortage(errno) || up == at)
			return -1;
		at = up;
	}
	*length = at;
	return target;
}

static void
descend(struct file_watch *watch, int fd)
{
	int own = folder_of(watch->path, (int)strlen(watch->path));
	int length = NO_FOLDER, target;

	mutex_lock(&shared.lock);
	watch->adding = true;
	while (length != own) {
		mutex_unlock(&shared.lock);
		target = add_lowest(watch, fd, &length);
		mutex_lock(&shared.lock);
		if (target < 0)
			break;
		aim(watch, target);
		watch->state =
		    length == own ? FILE_WATCH_FOLDER : FILE_WATCH_ABOVE;
	}
	if (length == NO_FOLDER) {
		aim(watch, -1);
		watch->error = watch->error ? watch->error : ENOENT;
	}
	watch->adding = false;
	mutex_unlock(&shared.lock);
}

int
file_watch_path(struct file_watch *watch, const char *path)
{
	int fd;

	file_watch_stop(watch);
	snprintf(watch->path, sizeof(watch->path), "%s", path);
	fd = begin(watch, FILE_WATCH_ABOVE);
	if (fd < 0)
		watch->error = errno;
	else
		descend(watch, fd);
	errno = watch->error;
	return watch->error ? -1 : 0;
}

int
file_watch_file(struct file_watch *watch, const char *path)
{
	int fd, target = -1, error;

	file_watch_stop(watch);
	fd = begin(watch, FILE_WATCH_FILE);
	if (fd >= 0)
		target = file_watch_system_file(fd, path);
	error = errno;
	mutex_lock(&shared.lock);
	watch->adding = false;
	watch->target = target;
	mutex_unlock(&shared.lock);
	if (target >= 0)
		return 0;
	file_watch_stop(watch);
	errno = error;
	return -1;
}

bool
file_watch_appeared(struct file_watch *watch)
{
	unsigned news = take_news(watch);
	bool found;

	if (!(news & NEWS_LOOK))
		return news & NEWS_CERTAIN;
	descend(watch, file_watch_fd(watch));
	mutex_lock(&shared.lock);
	found = watch->state == FILE_WATCH_FOLDER;
	mutex_unlock(&shared.lock);
	return (news & NEWS_CERTAIN) ||
	       (found && access(watch->path, F_OK) == 0);
}

bool
file_watch_deleted(struct file_watch *watch)
{
	return take_news(watch) & NEWS_CERTAIN;
}
