#include "forwarder/socket_keeper.h"

/* Another user may remove the file again and again. */
static struct log_limit removed_limit = { .burst = 10 };

void
socket_keeper_start(struct socket_keeper *keeper, struct doorbell *bell)
{
	file_watch_init(&keeper->watch, bell);
	socket_keeper_recheck(keeper);
}

void
socket_keeper_recheck(struct socket_keeper *keeper)
{
	keeper->due_ms = 0;
}

/* Sets the watch before checking the file, so that no later change is missed.
 * Returns whether to bind again now. */
static bool
check_file(struct socket_keeper *keeper, int64_t now_ms)
{
	bool watched = file_watch_file(&keeper->watch, keeper->file->path) == 0;

	if (unix_file_stands(keeper->file)) {
		keeper->state = SOCKET_KEPT;
		keeper->due_ms = watched ? INT64_MAX : now_ms + SOCKET_RETRY_MS;
		return false;
	}
	file_watch_stop(&keeper->watch);
	if (keeper->state != SOCKET_KEPT)
		return true;
	keeper->state = SOCKET_LOST;
	keeper->due_ms = now_ms + SOCKET_PAUSE_MS;
	return false;
}

bool
socket_keeper_look(struct socket_keeper *keeper, int64_t now_ms)
{
	bool happened =
	    file_watch_deleted(&keeper->watch) ||
	    (keeper->state == SOCKET_KEPT && !unix_file_stands(keeper->file));

	if (keeper->file->path[0] == '\0') {
		file_watch_stop(&keeper->watch);
		keeper->due_ms = INT64_MAX;
		return false;
	}
	return (happened || now_ms >= keeper->due_ms) &&
	       check_file(keeper, now_ms);
}

void
socket_keeper_report(
    struct socket_keeper *keeper, const struct error *why, int64_t now_ms)
{
	if (why == NULL) {
		keeper->state = SOCKET_KEPT;
		keeper->due_ms = now_ms; /* the check sets the watch */
		log_limited(&removed_limit, LOG_LEVEL_WARN, keeper->subsystem,
		    "socket file was removed; bound again path=%s",
		    keeper->file->path);
		return;
	}
	if (keeper->state == SOCKET_LOST)
		log_limited(&removed_limit, LOG_LEVEL_WARN, keeper->subsystem,
		    "socket file was removed; can't bind again yet: %s",
		    why->text);
	keeper->state = SOCKET_FAILED;
	keeper->due_ms = now_ms + SOCKET_RETRY_MS;
}
