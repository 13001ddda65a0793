/* Theory of operation
 *
 *      KEPT     the file's inode is watched, and the file was ours when looked
 *               at after that. Gone or another's at a later look: LOST
 *      LOST     after PAUSE_MS it is bound again: KEPT, or else MISSING
 *      MISSING  it is tried again every LOOK_MS
 *
 * Looking is cheap, so each wake of main() looks. A file whose folder was moved
 * is found only then: the inode doesn't tell. */
#include "forwarder/socket_keeper.h"

#include <errno.h>

/* How often to look where nothing tells: while it can't be bound, or where the
 * system gives no watch. */
#define LOOK_MS 1000

/* Whoever removes a folder with what is in it shall find it empty. */
#define PAUSE_MS 100

#define WHY_BYTES 256

/* Whoever may remove the file can do so as often as it likes. */
static struct log_limit removed_limit = { .burst = 10 };

void
socket_keeper_start(struct socket_keeper *keeper, struct doorbell *bell)
{
	file_watch_init(&keeper->watch, bell);
	keeper->state = SOCKET_KEPT;
	socket_keeper_stir(keeper);
}

void
socket_keeper_stir(struct socket_keeper *keeper)
{
	keeper->look_ms = 0;
}

static void
bind_again(struct socket_keeper *keeper, int64_t now_ms)
{
	bool known = keeper->state == SOCKET_MISSING;
	const char *path = keeper->file->path;
	char why[WHY_BYTES];

	if (keeper->bind_again(keeper->context, why, sizeof(why)) == 0) {
		keeper->state = SOCKET_KEPT;
		keeper->look_ms = now_ms; /* from its first moment on */
		log_limited(&removed_limit, LOG_LEVEL_WARN, keeper->subsystem,
		    "its socket was removed; bound again path=%s", path);
		return;
	}
	keeper->state = SOCKET_MISSING;
	keeper->look_ms = now_ms + LOOK_MS;
	if (!known)
		log_limited(&removed_limit, LOG_LEVEL_WARN, keeper->subsystem,
		    "its socket was removed, and can't be bound again yet: %s",
		    why);
}

/* Watches first, then looks: what happens after the look is told. */
static void
look(struct socket_keeper *keeper, int64_t now_ms)
{
	bool watched = file_watch_file(&keeper->watch, keeper->file->path) == 0;

	if (unix_file_stands(keeper->file)) {
		keeper->state = SOCKET_KEPT;
		keeper->look_ms = watched ? INT64_MAX : now_ms + LOOK_MS;
		return;
	}
	file_watch_stop(&keeper->watch);
	if (keeper->state == SOCKET_KEPT) {
		keeper->state = SOCKET_LOST;
		keeper->look_ms = now_ms + PAUSE_MS;
	} else {
		bind_again(keeper, now_ms);
	}
}

int64_t
socket_keeper_look(struct socket_keeper *keeper, int64_t now_ms)
{
	bool told =
	    file_watch_deleted(&keeper->watch) ||
	    (keeper->state == SOCKET_KEPT && !unix_file_stands(keeper->file));

	if (keeper->file->path[0] == '\0') {
		file_watch_stop(&keeper->watch);
		keeper->look_ms = INT64_MAX;
	} else if (told || now_ms >= keeper->look_ms) {
		look(keeper, now_ms);
	}
	return keeper->look_ms;
}
