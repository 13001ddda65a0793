/* Which folder to watch. How to watch one is the system's (watch_linux.c,
 * watch_macos.c). */
#include "reconnect/watch.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

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

/* Watches the folder that is the first `length` bytes of the path. */
static int
watch_part(struct watch *watch, size_t length)
{
	char folder[sizeof(watch->path)];

	snprintf(folder, sizeof(folder), "%.*s", (int)length, watch->path);
	return watch_folder(watch, length > 0 ? folder : ".");
}

/* Watches the nearest folder that exists. */
static void
watch_nearest(struct watch *watch)
{
	size_t own = folder_of(watch->path, strlen(watch->path));
	size_t length = own, up;

	while (watch_part(watch, length) < 0 &&
	       (errno == ENOENT || errno == ENOTDIR) &&
	       (up = folder_of(watch->path, length)) != length)
		length = up;
	watch->folder_length = length;
	watch->above = length != own;
}

void
watch_descend(struct watch *watch)
{
	size_t before;

	watch->folder_length = SIZE_MAX;
	do {
		before = watch->folder_length;
		watch_release(watch);
		watch_nearest(watch);
	} while (watch->above && watch->folder_length != before);
}

void
watch_disarm(struct watch *watch)
{
	if (watch->fd < 0)
		return;
	watch_release(watch);
	watch_drain(watch);
}

void
watch_arm(struct watch *watch, const char *path)
{
	watch_disarm(watch);
	if (watch->fd < 0)
		return;
	snprintf(watch->path, sizeof(watch->path), "%s", path);
	watch_descend(watch);
}
