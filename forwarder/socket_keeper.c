#include "forwarder/socket_keeper.h"

/* Whoever may remove the file can do so as often as it likes. */
static struct log_limit removed_limit = { .burst = 10 };

void
socket_keeper_start(
    struct socket_keeper *keeper, struct daemon *daemon, struct doorbell *bell)
{
	keeper->daemon = daemon;
	file_watch_init(&keeper->watch, bell);
	socket_keeper_check(keeper);
}

void
socket_keeper_check(struct socket_keeper *keeper)
{
	keeper->due_ms = 0;
}

static void
bind_again(struct socket_keeper *keeper, int64_t now_ms)
{
	struct error why;

	if (keeper->bind_again(keeper->daemon, &why) == 0) {
		keeper->state = SOCKET_KEPT;
		keeper->due_ms = now_ms; /* watched from its first moment on */
		log_limited(&removed_limit, LOG_LEVEL_WARN, keeper->subsystem,
		    "its socket was removed; bound again path=%s",
		    keeper->file->path);
		return;
	}
	if (!keeper->complained)
		log_limited(&removed_limit, LOG_LEVEL_WARN, keeper->subsystem,
		    "its socket was removed, and can't be bound again yet: %s",
		    why.text);
	keeper->complained = true;
	keeper->due_ms = now_ms + SOCKET_RETRY_MS;
}

/* Watches first, then looks: the watch reports what happens after the look. */
static void
look(struct socket_keeper *keeper, int64_t now_ms)
{
	bool watched = file_watch_file(&keeper->watch, keeper->file->path) == 0;

	if (unix_file_stands(keeper->file)) {
		keeper->state = SOCKET_KEPT;
		keeper->complained = false;
		keeper->due_ms = watched ? INT64_MAX : now_ms + SOCKET_RETRY_MS;
		return;
	}
	file_watch_stop(&keeper->watch);
	if (keeper->state == SOCKET_LOST) {
		bind_again(keeper, now_ms);
	} else {
		keeper->state = SOCKET_LOST;
		keeper->due_ms = now_ms + SOCKET_PAUSE_MS;
	}
}

int64_t
socket_keeper_look(struct socket_keeper *keeper, int64_t now_ms)
{
	bool happened =
	    file_watch_deleted(&keeper->watch) ||
	    (keeper->state == SOCKET_KEPT && !unix_file_stands(keeper->file));

	if (keeper->file->path[0] == '\0') {
		file_watch_stop(&keeper->watch);
		keeper->due_ms = INT64_MAX;
	} else if (happened || now_ms >= keeper->due_ms) {
		look(keeper, now_ms);
	}
	return keeper->due_ms;
}
