/* An event is matched to a watch by its target. All of this happens under one
 * lock, so an event is never read before the watch that caused it knows its
 * target.
 *
 * A path is watched through its own folder. If that is missing, the nearest
 * folder above is watched instead, and after any event there descend() looks
 * for a lower one. */
#include "base/file_watch.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file_watch_system.h"

enum {
	NEWS_CERTAIN = 1, /* the path appeared; the file is deleted */
	NEWS_LOOK = 2,    /* perhaps */
};

static struct {
	struct mutex lock; /* taken last: owners may hold locks of theirs */
	int fd GUARDED;    /* -1: closed */
	unsigned users GUARDED; /* watches that needed it so far */
	struct file_watch *first GUARDED;
	const struct file_watch *reader GUARDED; /* rings no bell of its own */
} shared = { .lock = { PTHREAD_MUTEX_INITIALIZER }, .fd = -1 };

/* What an event of its target means to a watch. */
static unsigned
judge(const struct file_watch *watch, const char *name, bool deleted)
    NEEDS(shared.lock)
{
	const char *slash = strrchr(watch->path, '/');

	if (watch->kind == FILE_WATCH_FILE)
		return deleted ? NEWS_CERTAIN : NEWS_LOOK;
	if (!watch->in_place || !name)
		return NEWS_LOOK;
	return strcmp(name, slash ? slash + 1 : watch->path) ? 0 : NEWS_CERTAIN;
}

static void
note_event(int target, const char *name, bool deleted) NEEDS(shared.lock)
{
	for (struct file_watch *w = shared.first; w; w = w->next) {
		unsigned news;

		if (target != -1 && w->target != target)
			continue;
		news = judge(w, name, deleted);
		w->news |= news;
		if (news && w != shared.reader)
			doorbell_ring(w->bell);
	}
}

/* Returns what is new to this watch, which then is not new any more. */
static unsigned
take_news(struct file_watch *watch) NEEDS(shared.lock)
{
	unsigned news;

	shared.reader = watch;
	if (shared.fd >= 0)
		file_watch_system_read(shared.fd, note_event);
	shared.reader = NULL;
	news = watch->news;
	watch->news = 0;
	return news;
}

/* Replaces the target (-1: none); the system may have given it to others too. */
static void
set_target(struct file_watch *watch, int target) NEEDS(shared.lock)
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

static void
stop(struct file_watch *watch) NEEDS(shared.lock)
{
	struct file_watch **at = &shared.first;

	watch->error = 0;
	if (watch->kind == FILE_WATCH_OFF)
		return;
	set_target(watch, -1);
	while (*at != watch)
		at = &(*at)->next;
	*at = watch->next;
	watch->kind = FILE_WATCH_OFF;
	take_news(watch); /* or events of before would wake others */
}

void
file_watch_stop(struct file_watch *watch)
{
	mutex_lock(&shared.lock);
	stop(watch);
	mutex_unlock(&shared.lock);
}

void
file_watch_init(struct file_watch *watch, struct doorbell *bell)
{
	*watch = (struct file_watch){ .bell = bell, .target = -1 };
}

void
file_watch_destroy(struct file_watch *watch)
{
	mutex_lock(&shared.lock);
	stop(watch);
	if (watch->uses_fd && --shared.users == 0) {
		close(shared.fd);
		shared.fd = -1;
	}
	watch->uses_fd = false;
	mutex_unlock(&shared.lock);
}

int
file_watch_fd(struct file_watch *watch)
{
	int fd;

	mutex_lock(&shared.lock);
	fd = watch->kind != FILE_WATCH_OFF ? shared.fd : -1;
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
add_folder(const struct file_watch *watch, int length) NEEDS(shared.lock)
{
	char folder[sizeof(watch->path)];

	snprintf(folder, sizeof(folder), "%.*s", length, watch->path);
	return file_watch_system_folder(shared.fd, length > 0 ? folder : ".");
}

/* Another folder would be refused for the same reason. */
static bool
is_shortage(int error)
{
	return error == ENOSPC || error == EMFILE || error == ENFILE ||
	       error == ENOMEM;
}

/* Watches the lowest folder on the way to the path that can be watched. A lower
 * one may have been made just before the watch on it began: so each time, look
 * again from the bottom, until there is none below the one that is watched. */
static void
descend(struct file_watch *watch) NEEDS(shared.lock)
{
	int own = folder_of(watch->path, (int)strlen(watch->path));
	int at = own, watched = -1, target, above;

	watch->error = 0;
	while (at > watched) {
		target = add_folder(watch, at);
		if (target >= 0) {
			set_target(watch, target);
			watched = at;
			at = own;
			watch->error = 0;
			continue;
		}
		if (errno != ENOENT && errno != ENOTDIR)
			watch->error = errno;
		above = folder_of(watch->path, at);
		if (is_shortage(errno) || above == at)
			break;
		at = above;
	}
	if (watched < 0 && !watch->error)
		watch->error = ENOENT;
	watch->in_place = watched == own;
}

/* Lists the watch. Returns 0, or -1 with errno. */
static int
start(struct file_watch *watch, int kind) NEEDS(shared.lock)
{
	stop(watch);
	if (shared.fd < 0)
		shared.fd = file_watch_system_open();
	if (shared.fd < 0)
		return -1;
	shared.users += !watch->uses_fd;
	watch->uses_fd = true;
	watch->kind = kind;
	watch->next = shared.first;
	shared.first = watch;
	return 0;
}

int
file_watch_path(struct file_watch *watch, const char *path)
{
	int error;

	mutex_lock(&shared.lock);
	snprintf(watch->path, sizeof(watch->path), "%s", path);
	if (start(watch, FILE_WATCH_PATH) < 0)
		watch->error = errno;
	else
		descend(watch);
	error = watch->error;
	mutex_unlock(&shared.lock);
	errno = error;
	return error ? -1 : 0;
}

int
file_watch_file(struct file_watch *watch, const char *path)
{
	int error = 0;

	mutex_lock(&shared.lock);
	if (start(watch, FILE_WATCH_FILE) == 0)
		watch->target = file_watch_system_file(shared.fd, path);
	if (watch->target < 0) {
		error = errno;
		stop(watch);
	}
	mutex_unlock(&shared.lock);
	errno = error;
	return error ? -1 : 0;
}

bool
file_watch_appeared(struct file_watch *watch)
{
	unsigned news;
	bool seen;

	mutex_lock(&shared.lock);
	news = take_news(watch);
	if (news & NEWS_LOOK)
		descend(watch);
	seen =
	    (news & NEWS_CERTAIN) || ((news & NEWS_LOOK) && watch->in_place &&
					 access(watch->path, F_OK) == 0);
	mutex_unlock(&shared.lock);
	return seen;
}

bool
file_watch_deleted(struct file_watch *watch)
{
	unsigned news;

	mutex_lock(&shared.lock);
	news = take_news(watch);
	mutex_unlock(&shared.lock);
	return news & NEWS_CERTAIN;
}
