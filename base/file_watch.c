/* An event is matched to a watch by its target. The lock is released while the
 * system looks up the path, because a dead file server may block that, and only
 * the watch's owner may wait for it. Meanwhile another thread may read events
 * of the new target, or remove a target that two watches share. So any event
 * makes a watch that is `adding` look again.
 *
 * A path is watched through its own folder. If that is missing, the nearest
 * existing folder above is watched instead, and after any event there descend()
 * looks for a lower one. */
#include "base/file_watch.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file_watch_system.h"
#include "base/text.h"

static struct {
	struct mutex lock; /* taken last: owners may hold their own */
	int fd GUARDED;    /* -1: closed */
	struct file_watch *first GUARDED;        /* not yet destroyed */
	const struct file_watch *reader GUARDED; /* its own bell is not rung */
} shared = { .lock = { PTHREAD_MUTEX_INITIALIZER }, .fd = -1 };

/* name: the entry in the watched folder, or NULL. */
static bool
concerns(const struct file_watch *watch, int target, const char *name)
    NEEDS(shared.lock)
{
	const char *slash = strrchr(watch->path, '/');

	if (watch->adding)
		return true;
	if (watch->target < 0 || (target >= 0 && target != watch->target))
		return false;
	return !watch->target_is_parent || !name ||
	       strcmp(name, slash ? slash + 1 : watch->path) == 0;
}

static void
note_event(int target, const char *name, bool deleted) NEEDS(shared.lock)
{
	for (struct file_watch *w = shared.first; w; w = w->next) {
		enum file_watch_news news = deleted && !w->adding
						? FILE_WATCH_DELETED
						: FILE_WATCH_CHANGED;

		if (!concerns(w, target, name))
			continue;
		if (w->news < news)
			w->news = news;
		if (w != shared.reader)
			doorbell_ring(w->bell);
	}
}

/* Reads pending events. Returns and clears those of this watch. */
static enum file_watch_news
take_news(struct file_watch *watch) NEEDS(shared.lock)
{
	enum file_watch_news news;

	shared.reader = watch;
	if (shared.fd >= 0)
		file_watch_system_read(shared.fd, note_event);
	shared.reader = NULL;
	news = watch->news;
	watch->news = FILE_WATCH_NOTHING;
	return news;
}

/* Replaces the target (-1: none). Removes the old one unless another watch has
 * it too. */
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
	set_target(watch, -1);
	watch->target_is_parent = false;
	watch->error = 0;
	take_news(watch); /* pending events would wake other owners */
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
	mutex_lock(&shared.lock);
	watch->next = shared.first;
	shared.first = watch;
	mutex_unlock(&shared.lock);
}

void
file_watch_destroy(struct file_watch *watch)
{
	struct file_watch **at = &shared.first;

	mutex_lock(&shared.lock);
	stop(watch);
	while (*at != watch)
		at = &(*at)->next;
	*at = watch->next;
	if (!shared.first && shared.fd >= 0) {
		close(shared.fd);
		shared.fd = -1;
	}
	mutex_unlock(&shared.lock);
}

int
file_watch_fd(struct file_watch *watch)
{
	int fd;

	mutex_lock(&shared.lock);
	fd = watch->target >= 0 ? shared.fd : -1;
	mutex_unlock(&shared.lock);
	return fd;
}

/* Returns a target, or -1 with errno. Releases the lock meanwhile. */
static int
add(struct file_watch *watch, const char *path) NEEDS(shared.lock)
{
	int fd = shared.fd, target, error;

	watch->adding = true;
	mutex_unlock(&shared.lock);
	target = file_watch_system_add(fd, path);
	error = errno;
	mutex_lock(&shared.lock);
	watch->adding = false;
	errno = error;
	return target;
}

/* Watches the lowest existing folder on the path, and copies it to `reached`.
 * Returns false if `reached` was that folder already, or if none can be
 * watched. */
static bool
watch_lowest(struct file_watch *watch, char *reached) NEEDS(shared.lock)
{
	char folder[sizeof(watch->path)], inside[sizeof(folder) + 2];
	int target;

	watch->error = 0;
	strcpy(folder, watch->path);
	for (bool own = true; text_climb(folder); own = false) {
		if (strcmp(folder, reached) == 0)
			return false;
		/* "/.": fails if this is not a folder */
		snprintf(inside, sizeof(inside), "%s/.", folder);
		target = add(watch, inside);
		if (target >= 0) {
			set_target(watch, target);
			watch->target_is_parent = own;
			strcpy(reached, folder);
			return true;
		}
		if (errno != ENOENT && errno != ENOTDIR)
			watch->error = errno;
	}
	return false;
}

/* A lower folder may have been created just before this one was watched, so
 * look again until there is none. */
static void
descend(struct file_watch *watch) NEEDS(shared.lock)
{
	char reached[sizeof(watch->path)] = "";

	while (watch_lowest(watch, reached))
		;
	if (reached[0] == '\0' && watch->error == 0)
		watch->error = ENOENT;
}

/* Returns 0, or -1 with errno. */
static int
start(struct file_watch *watch) NEEDS(shared.lock)
{
	stop(watch);
	if (shared.fd < 0)
		shared.fd = file_watch_system_open();
	return shared.fd < 0 ? -1 : 0;
}

int
file_watch_path(struct file_watch *watch, const char *path)
{
	mutex_lock(&shared.lock);
	snprintf(watch->path, sizeof(watch->path), "%s", path);
	if (start(watch) < 0)
		watch->error = errno;
	else
		descend(watch);
	mutex_unlock(&shared.lock);
	errno = watch->error;
	return watch->error ? -1 : 0;
}

int
file_watch_file(struct file_watch *watch, const char *path)
{
	int result;

	mutex_lock(&shared.lock);
	result = start(watch);
	if (result == 0)
		result = watch->target = add(watch, path);
	mutex_unlock(&shared.lock);
	return result < 0 ? -1 : 0;
}

bool
file_watch_appeared(struct file_watch *watch)
{
	bool target_is_parent = false;

	mutex_lock(&shared.lock);
	if (take_news(watch) != FILE_WATCH_NOTHING) {
		descend(watch);
		target_is_parent = watch->target_is_parent;
	}
	mutex_unlock(&shared.lock);
	return target_is_parent && access(watch->path, F_OK) == 0;
}

bool
file_watch_deleted(struct file_watch *watch)
{
	enum file_watch_news news;

	mutex_lock(&shared.lock);
	news = take_news(watch);
	mutex_unlock(&shared.lock);
	return news == FILE_WATCH_DELETED;
}
