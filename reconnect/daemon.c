#include "reconnect/daemon.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/private_folder.h"
#include "base/socket.h"
#include "base/wait.h"
#include "base/words.h"
#include "reconnect/reconnect.h"

/* A daemon that exits this soon with status 0 has put itself into the
 * background. */
#define BACKGROUND_MS 1000

_Static_assert(CHILD_FD == 3, "what {fd} becomes");

void
daemon_init(struct daemon *daemon)
{
	*daemon = (struct daemon){ .child = { .end_fd = -1 },
		.target = { .kind = ENDPOINT_EXEC },
		.exit = -1 };
}

enum supervisor_action
daemon_step(struct daemon *daemon, enum supervisor_event event)
{
	enum supervisor_action action =
	    supervisor_step(&daemon->supervisor, event, clock_now_ms());

	if (action == SUPERVISOR_TERMINATE) {
		child_signal(&daemon->child, SIGTERM);
		child_signal(&daemon->child, SIGCONT);
	} else if (action == SUPERVISOR_KILL) {
		daemon->kill_error = 0;
		if (child_signal(&daemon->child, SIGKILL) < 0)
			daemon->kill_error = errno;
	}
	return action;
}

/* Where a daemon with {socket} will listen. No file of an earlier one is left
 * there. */
static int
choose_target(
    struct daemon *daemon, const struct dial *how, struct error *error)
{
	bool datagrams = how->endpoint->datagrams;

	daemon->target = (struct endpoint){ .kind = ENDPOINT_EXEC };
	if (!how->endpoint->has_path)
		return 0;
	if (private_folder_path(
		how->folder, "net", daemon->target.path, error) < 0)
		return -1;
	unlink(daemon->target.path);
	daemon->target.kind = datagrams ? ENDPOINT_UNIXGRAM : ENDPOINT_UNIX;
	daemon->target.datagrams = datagrams;
	return 0;
}

/* Starts the command with fd, or -1. Returns 0, or -1 with errno and the error
 * set. */
static int
start(struct daemon *daemon, const char *command, int fd, struct error *error)
{
	const struct words_place places[] = { { ENDPOINT_FD, "3" },
		{ ENDPOINT_SOCKET, daemon->target.path }, { NULL, NULL } };
	struct words words;

	if (words_split(&words, command, places, error) < 0) {
		errno = E2BIG;
		return -1;
	}
	if (child_start(&daemon->child, words.list, fd) < 0)
		return error_set(error, "can't run \"%s\": %s", words.list[0],
		    strerror(errno));
	daemon->started_ms = clock_now_ms();
	atomic_store(&daemon->pid, daemon->child.pid);
	atomic_fetch_add(&daemon->starts, 1);
	daemon_step(daemon, SUPERVISOR_STARTED);
	return 0;
}

/* Returns our end of the pair whose other end the daemon gets as {fd}. */
static int
start_with_pair(
    struct daemon *daemon, const struct endpoint *endpoint, struct error *error)
{
	int ends[2], result;

	if (socket_pair(endpoint->datagrams ? SOCK_DGRAM : SOCK_STREAM, ends) <
	    0)
		return error_set(
		    error, "can't create {fd}: %s", strerror(errno));
	result = start(daemon, endpoint->command, ends[1], error);
	socket_give_up(ends[1]);
	return result == 0 ? ends[0] : socket_give_up(ends[0]);
}

/* A daemon that was just started may listen within milliseconds. */
static int
dial_target(const struct dial *how, bool is_new, struct error *error)
{
	struct dial attempt = *how;

	attempt.endpoint = &how->daemon->target;
	if (is_new)
		attempt.retry_window_ms = RECONNECT_WINDOW_MS;
	return dial(&attempt, error);
}

int
daemon_dial(const struct dial *how, struct error *error)
{
	struct daemon *daemon = how->daemon;
	const struct endpoint *endpoint = how->endpoint;
	bool is_new = daemon->supervisor.state == SUPERVISOR_NONE;
	int fd;

	if (is_new && (choose_target(daemon, how, error) < 0 ||
			  (endpoint->has_path &&
			      start(daemon, endpoint->command, -1, error) < 0)))
		return -1;
	fd = endpoint->has_path ? dial_target(how, is_new, error)
				: start_with_pair(daemon, endpoint, error);
	if (fd >= 0)
		daemon_step(daemon, SUPERVISOR_CONNECTED);
	return fd;
}

/* Says how the daemon has ended, and what its user may not know. */
static void
describe(const struct daemon *daemon, int status, struct error *end)
{
	bool killed = WIFSIGNALED(status);
	bool left = !killed && WEXITSTATUS(status) == 0 &&
		    clock_now_ms() - daemon->started_ms < BACKGROUND_MS;
	char text[CHILD_END_BYTES];

	error_set(end, "the daemon %s %s%s",
	    killed ? "was killed by" : "exited with", child_end(text, status),
	    left ? " (it must stay in the foreground)" : "");
}

bool
daemon_reap(struct daemon *daemon, struct error *end)
{
	int status;

	if (daemon->supervisor.state == SUPERVISOR_NONE ||
	    !child_reap(&daemon->child, &status))
		return false;
	describe(daemon, status, end);
	unlink(daemon->target.path);
	atomic_store(&daemon->exit, status);
	atomic_store(&daemon->pid, 0);
	daemon_step(daemon, SUPERVISOR_EXITED);
	return true;
}

static void
await_end(struct daemon *daemon, int limit_ms)
{
	struct error end;

	wait_readable(daemon->child.end_fd, -1, clock_now_ms() + limit_ms);
	daemon_reap(daemon, &end);
}

void
daemon_stop(struct daemon *daemon)
{
	if (daemon->supervisor.state == SUPERVISOR_NONE)
		return;
	daemon_step(daemon, SUPERVISOR_DISMISSED);
	await_end(daemon, DAEMON_STOP_MS);
	if (daemon->supervisor.state == SUPERVISOR_NONE)
		return;
	child_signal(&daemon->child, SIGKILL);
	await_end(daemon, DAEMON_KILL_MS);
}

void
daemon_look(const struct daemon *daemon, struct daemon_view *view)
{
	int status = atomic_load(&daemon->exit);

	*view = (struct daemon_view){ .pid = atomic_load(&daemon->pid),
		.starts = atomic_load(&daemon->starts) };
	if (status >= 0)
		child_end(view->last_exit, status);
}
