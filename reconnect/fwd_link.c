/* Theory of operation
 *
 * The thread sleeps in poll(). After each wakeup it takes new settings, passes
 * the events of the link, the host and the path to the machine (reconnect.h),
 * and carries out the machine's actions.
 *
 * It is woken by main() for a stop or new settings, in any state, even during a
 * dial; by the watch; by a client; by a deadline; by a resume of the host; and,
 * while up, by the link's bell. While down it does not poll that bell: the
 * monitor may still ring it, for a frame from the guest, but there is nothing to
 * do.
 *
 * With exec: a dial starts the daemon (daemon.h), and its exit ends the generation.
 * Until it has been reaped, the machine is not told of the loss and gets no TICK
 * (supervisor.h).
 *
 * Only this thread installs connections; any thread may end one. */
#include "reconnect/fwd_link.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/socket.h"
#include "base/sync.h"
#include "base/wait.h"
#include "reconnect/dial.h"

/* The longest sleep before a dial: the clock stops during a suspend, so where
 * nothing reports a resume (clock_resume_open()), it is noticed at a wakeup. */
#define NAP_MS 1000

/* Shorter suspends are ignored: clock_suspended_ms() is not exact. */
#define SUSPEND_NOTICED_MS 100

_Static_assert(DAEMON_STOP_MS + DAEMON_KILL_MS < FWD_LINK_JOIN_MS,
    "a daemon is ended before main() stops waiting for this thread");
_Static_assert(SUPERVISOR_START_MS == 10000, "see follow_daemon()");

static enum reconnect_action
step(struct fwd_link *fwd, enum reconnect_event event)
{
	return reconnect_step(&fwd->machine, event, clock_now_ms());
}

static const struct link_view *
look(struct fwd_link *fwd)
{
	link_look(fwd->link, &fwd->view);
	return &fwd->view;
}

static struct link_event
describe(struct fwd_link *fwd, enum link_event_kind kind)
{
	const struct link_view *view = look(fwd);

	return (struct link_event){ .kind = kind,
		.generation = view->generation,
		.outage_ms = view->outage_ms,
		.up_ms = view->up_ms,
		.dials = fwd->machine.dials,
		.proven = view->proven,
		.reason = view->last_error };
}

static void
report(struct fwd_link *fwd, enum link_event_kind kind, int error)
{
	struct link_event event = describe(fwd, kind);

	event.error = error;
	fwd->hooks.event(fwd->hooks.context, &event);
}

/* ---- dials ---- */

static void
dial_failed(struct fwd_link *fwd, int error, const char *reason)
{
	link_dial_failed(fwd->link, reason);
	step(fwd, RECONNECT_DIAL_FAILED);
	report(fwd, LINK_EVENT_DIAL_FAILED, error);
}

/* Reports a daemon that could not be started or has served no generation. */
static void
daemon_failed(struct fwd_link *fwd, const char *reason)
{
	link_dial_failed(fwd->link, reason);
	report(fwd, LINK_EVENT_DAEMON_FAILED, 0);
}

static void
connected(struct fwd_link *fwd, int fd)
{
	bool datagrams = fwd->settings.endpoint.datagrams;
	struct link_event event;

	fwd->hooks.on_connected(fwd->hooks.context, fd, datagrams);
	event = describe(fwd, LINK_EVENT_UP);
	event.generation = link_install(fwd->link, fd, datagrams);
	if (event.generation > 0) {
		step(fwd, RECONNECT_CONNECTED);
		event.dials = fwd->machine.dials;
		fwd->hooks.event(fwd->hooks.context, &event);
	} else if (errno == EBUSY) {
		dial_failed(fwd, EBUSY,
		    "too many connections are still being read: the guest is "
		    "slow");
	}
}

static struct dial
how_to_dial(struct fwd_link *fwd)
{
	return (struct dial){ .endpoint = &fwd->settings.endpoint,
		.interrupt_fd = fwd->orders.fds[0],
		.retry_window_ms = fwd->machine.retry_window_ms,
		.user = fwd->settings.user,
		.resolver = &fwd->resolver,
		.daemon = &fwd->daemon,
		.dgram = &fwd->dgram,
		.folder = fwd->settings.folder,
		.vfkit = fwd->settings.vfkit,
		.watch = fwd->settings.watch };
}

static void
make_dial(struct fwd_link *fwd)
{
	struct dial attempt = how_to_dial(fwd);
	bool starts = fwd->settings.endpoint.kind == ENDPOINT_EXEC;
	struct error error;
	int fd;

	link_dialled(fwd->link);
	pulse_enter(&fwd->pulse, PULSE_WAITING);
	fd = dial(&attempt, &error);
	pulse_enter(&fwd->pulse, PULSE_RUNNING);
	if (fd >= 0) {
		connected(fwd, fd);
	} else if (errno == EINTR) {
		step(fwd, RECONNECT_INTERRUPTED);
	} else if (starts && fwd->daemon.supervisor.state == SUPERVISOR_NONE) {
		step(fwd, RECONNECT_DIAL_FAILED);
		daemon_failed(fwd, error.text);
	} else {
		dial_failed(fwd, errno, error.text);
	}
}

static void
act(struct fwd_link *fwd, enum reconnect_action action)
{
	if (action == RECONNECT_DIAL)
		make_dial(fwd);
	else if (action == RECONNECT_PROVE)
		link_prove(fwd->link, look(fwd)->generation);
	else if (action == RECONNECT_REPORT_SETTLED)
		report(fwd, LINK_EVENT_SETTLED, 0);
	else if (action == RECONNECT_REPORT_LONG_OUTAGE)
		report(fwd, LINK_EVENT_LONG_OUTAGE, 0);
}

/* ---- the link ---- */

/* Passes proof and loss to the machine; the loss only once the daemon that served
 * the generation has been reaped. Returns false if the link was stopped. */
static bool
follow_link(struct fwd_link *fwd)
{
	const struct link_view *view = look(fwd);
	bool lost = view->state == LINK_DOWN &&
		    fwd->daemon.supervisor.state == SUPERVISOR_NONE;

	if (view->state == LINK_STOPPED)
		return false;
	if (!reconnect_is_up(&fwd->machine))
		return true;
	/* It was older than reconnect.max, but was lost before the tick. */
	if (lost && view->up_ms >= fwd->machine.settings.max_ms) {
		link_prove(fwd->link, view->generation);
		view = look(fwd);
	}
	if (view->proven)
		act(fwd, step(fwd, RECONNECT_PROOF));
	if (lost) {
		dgram_release(&fwd->dgram);
		step(fwd, RECONNECT_LOST);
		report(fwd, LINK_EVENT_LOST, 0);
	}
	return true;
}

/* ---- the daemon ---- */

/* Whether the reason is only that the peer has closed the connection. */
static bool
says_closed(const char *reason)
{
	return strcmp(reason, LINK_PEER_CLOSED) == 0 ||
	       strcmp(reason, strerror(ECONNRESET)) == 0 ||
	       strcmp(reason, strerror(ECONNREFUSED)) == 0 ||
	       strcmp(reason, strerror(EPIPE)) == 0;
}

/* Makes the daemon's exit the reason of the loss, or adds it to a reason that came
 * first: ours for sending a signal, or one that the exit does not explain. If the
 * generation is still up, ends it. */
static void
explain(struct fwd_link *fwd, bool was_signalled, const struct error *end)
{
	const struct link_view *view = look(fwd);
	struct error reason = *end;

	if (view->state == LINK_DOWN &&
	    (was_signalled || !says_closed(view->last_error)))
		error_set(&reason, "%s; %s", view->last_error, end->text);
	link_explain(fwd->link, view->generation, reason.text);
}

/* before: the supervisor's state until the daemon exited. */
static void
daemon_ended(
    struct fwd_link *fwd, enum supervisor_state before, const struct error *end)
{
	if (reconnect_is_up(&fwd->machine))
		explain(fwd, before >= SUPERVISOR_TERMINATING, end);
	else if (before == SUPERVISOR_STARTING)
		daemon_failed(fwd, end->text);
}

/* Reaps the daemon if it has exited. Ends it if its generation has ended. */
static void
follow_daemon(struct fwd_link *fwd)
{
	struct daemon *daemon = &fwd->daemon;
	enum supervisor_state before = daemon->supervisor.state;
	enum supervisor_action action;
	struct error end;

	if (before == SUPERVISOR_NONE)
		return;
	if (daemon_reap(daemon, &end)) {
		daemon_ended(fwd, before, &end);
		return;
	}
	if (before == SUPERVISOR_SERVING && look(fwd)->state == LINK_DOWN)
		daemon_step(daemon, SUPERVISOR_LOST);
	action = daemon_step(daemon, SUPERVISOR_TICK);
	if (action == SUPERVISOR_TERMINATE && before == SUPERVISOR_STARTING)
		daemon_failed(
		    fwd, "the daemon did not listen on its socket within 10 s");
	else if (action == SUPERVISOR_KILL)
		report(fwd, LINK_EVENT_DAEMON_KILLED, daemon->kill_error);
}

/* Whether the machine has to wait until a daemon has been reaped. */
static bool
is_held(const struct fwd_link *fwd)
{
	return supervisor_is_ending(&fwd->daemon.supervisor);
}

/* ---- the watches ----
 *
 *   link    a stream daemon     a datagram daemon
 *   down    path                path
 *   up      path until proven   file (dgram.h); path while the file isn't there or
 *                               can't be watched
 *
 * The path is watched for the next daemon, the file for the end of this one. */

/* The endpoint, or the socket of a daemon that was started. */
static const struct endpoint *
target(const struct fwd_link *fwd)
{
	return fwd->settings.endpoint.kind == ENDPOINT_EXEC
		   ? &fwd->daemon.target
		   : &fwd->settings.endpoint;
}

static bool
serves_datagrams(const struct fwd_link *fwd)
{
	return target(fwd)->kind == ENDPOINT_UNIXGRAM &&
	       reconnect_is_up(&fwd->machine);
}

/* Ends the generation if the file of a datagram daemon shows its end (dgram.h).
 * Looks at the path before it reads events: whatever replaced the file comes after
 * the event of its end. */
static void
check_file(struct fwd_link *fwd)
{
	bool replaced, deleted;
	struct loan loan;

	if (!serves_datagrams(fwd))
		return;
	replaced = dgram_look(&fwd->dgram, target(fwd)->path) == DGRAM_REPLACED;
	deleted = file_watch_deleted(&fwd->dgram.watch);
	if (replaced)
		step(fwd, RECONNECT_APPEARED);
	if (link_borrow(fwd->link, &loan, LINK_NO_WAIT) != LINK_READY)
		return;
	if (peer_is_closed(loan.fd, deleted))
		link_fail(fwd->link, loan.generation, LINK_PEER_CLOSED);
	else if (replaced)
		link_fail(fwd->link, loan.generation,
		    "another socket is at the daemon's path");
	link_return(&loan);
}

static void
stop_watching(struct fwd_link *fwd)
{
	if (fwd->watching)
		file_watch_stop(&fwd->watch);
	fwd->watching = false;
}

static bool
wants_watch(const struct fwd_link *fwd)
{
	const struct endpoint *endpoint = target(fwd);

	if (!fwd->settings.watch || endpoint->listens ||
	    endpoint->path[0] == '\0')
		return false;
	if (serves_datagrams(fwd))
		return fwd->dgram.watch.error ||
		       dgram_look(&fwd->dgram, endpoint->path) != DGRAM_SAME;
	return fwd->machine.state != RECONNECT_PROVEN;
}

/* Whether a daemon runs that may not listen yet. Its path is known, and watched,
 * only since its start. */
static bool
is_starting(const struct fwd_link *fwd)
{
	return fwd->daemon.supervisor.state == SUPERVISOR_STARTING;
}

/* Whether the path may have appeared before its watch began. The dial after the loss
 * of a stream daemon needs no such look: it retries for a while. */
static bool
is_watched_late(const struct fwd_link *fwd)
{
	return target(fwd)->datagrams || is_starting(fwd);
}

/* Watches the path when the table says so. If the system refuses, tries again at each
 * wakeup; meanwhile only the backoff finds the path. */
static void
update_watch(struct fwd_link *fwd)
{
	bool refused = fwd->watching && fwd->watch.error;

	if (!wants_watch(fwd)) {
		stop_watching(fwd);
		return;
	}
	if (fwd->watching && !refused)
		return;
	fwd->watching = true;
	if (file_watch_path(&fwd->watch, target(fwd)->path) < 0)
		report(fwd, LINK_EVENT_UNWATCHED, errno);
	else if ((refused || is_watched_late(fwd)) &&
		 access(target(fwd)->path, F_OK) == 0)
		step(fwd, RECONNECT_APPEARED);
	check_file(fwd);
}

/* ---- clients ---- */

static const char *
refusal(struct fwd_link *fwd, const struct sockaddr_storage *client)
{
	return fwd->hooks.refusal(
	    fwd->hooks.context, (const struct sockaddr *)client);
}

/* Whether the present client may stay. If getpeername() fails, it is gone, and
 * fwd-down will notice. */
static bool
admits_client(struct fwd_link *fwd, int fd, struct error *error)
{
	struct sockaddr_storage client = { 0 };
	socklen_t length = sizeof(client);

	error_set(error, "the client is no longer in network.allow");
	return getpeername(fd, (struct sockaddr *)&client, &length) < 0 ||
	       !refusal(fwd, &client);
}

/* Replaces the present connection, if any, by the client's. */
static void
serve_client(struct fwd_link *fwd, int fd)
{
	link_fail(fwd->link, look(fwd)->generation, "replaced by a new client");
	if (!follow_link(fwd)) {
		close(fd);
		return;
	}
	link_dialled(fwd->link);
	listener_pause(&fwd->listener, clock_now_ms(), RECONNECT_SPACING_MS);
	connected(fwd, fd);
}

static void
refuse_client(struct fwd_link *fwd, int fd,
    const struct sockaddr_storage *client, const char *reason)
{
	struct link_event event = describe(fwd, LINK_EVENT_CLIENT_REFUSED);

	close(fd);
	event.reason = reason;
	event.client = (const struct sockaddr *)client;
	fwd->hooks.event(fwd->hooks.context, &event);
}

static bool
probe(struct fwd_link *fwd, uint64_t generation)
{
	bool result;

	pulse_enter(&fwd->pulse, PULSE_WAITING);
	result = fwd->hooks.probe(fwd->hooks.context, generation);
	pulse_enter(&fwd->pulse, PULSE_RUNNING);
	return result;
}

/* The present client may be dead without any error (a half-open connection), or
 * alive. If it can be probed, the new client waits for the result. */
static void
admit_client(
    struct fwd_link *fwd, int fd, const struct sockaddr_storage *client)
{
	int64_t now_ms = clock_now_ms(); /* before the probe is sent */

	if (look(fwd)->state == LINK_UP && probe(fwd, fwd->view.generation))
		listener_hold(&fwd->listener, fd, client, now_ms);
	else
		serve_client(fwd, fd);
}

static void
take_client(struct fwd_link *fwd)
{
	struct sockaddr_storage client;
	int fd = listener_accept(&fwd->listener, &client, clock_now_ms());
	const char *reason;

	if (fd < 0) {
		if (errno != EAGAIN)
			report(fwd, LINK_EVENT_ACCEPT_FAILED, errno);
		return;
	}
	reason = refusal(fwd, &client);
	if (reason)
		refuse_client(fwd, fd, &client, reason);
	else
		admit_client(fwd, fd, &client);
}

static void
judge(struct fwd_link *fwd)
{
	const struct fwd_link_hooks *hooks = &fwd->hooks;
	struct listener *listener = &fwd->listener;
	uint64_t generation = look(fwd)->generation;

	if (!reconnect_is_up(&fwd->machine)) {
		serve_client(fwd, listener_release(listener));
		return;
	}
	switch (listener_judge(listener, clock_now_ms(),
	    hooks->alive(hooks->context, generation, listener->since_ms))) {
	case LISTENER_WAIT:
		break;
	case LISTENER_PROBE:
		probe(fwd, generation);
		break;
	case LISTENER_REFUSE:
		refuse_client(fwd, listener_release(listener),
		    &listener->candidate, "the present client answers");
		break;
	case LISTENER_ADMIT:
		serve_client(fwd, listener_release(listener));
		break;
	}
}

/* ---- settings ---- */

/* Ends the generation if the new settings do not admit its peer. */
static void
check_peer(struct fwd_link *fwd)
{
	struct dial attempt = how_to_dial(fwd);
	bool admitted;
	struct error error;
	struct loan loan;

	if (link_borrow(fwd->link, &loan, LINK_NO_WAIT) != LINK_READY)
		return;
	admitted = attempt.endpoint->listens
		       ? admits_client(fwd, loan.fd, &error)
		       : dial_trusts(&attempt, loan.fd, &error);
	if (!admitted)
		link_fail(fwd->link, loan.generation, error.text);
	link_return(&loan);
}

static void
take_settings(struct fwd_link *fwd)
{
	struct fwd_link_settings next;
	bool moved;

	doorbell_answer(&fwd->orders);
	if (!fwd->hooks.configure(fwd->hooks.context, &next))
		return;
	moved = !endpoint_equals(&fwd->settings.endpoint, &next.endpoint);
	fwd->settings = next;
	listener_drop(&fwd->listener); /* the candidate may not be admitted */
	if (moved || next.listen_fd >= 0)
		listener_replace(&fwd->listener, next.listen_fd);
	fwd->machine.settings = next.timing;
	step(fwd, moved ? RECONNECT_MOVED : RECONNECT_RELOADED);
	if (moved) {
		stop_watching(fwd);
		daemon_step(&fwd->daemon, SUPERVISOR_DISMISSED);
		link_fail(fwd->link, look(fwd)->generation,
		    "the network endpoint was changed");
	} else {
		check_peer(fwd);
	}
}

/* ---- the loop ---- */

static void
notice_suspend(struct fwd_link *fwd)
{
	int64_t suspended_ms = clock_suspended_ms();

	if (suspended_ms - fwd->suspended_ms <= SUSPEND_NOTICED_MS)
		return;
	fwd->suspended_ms = suspended_ms;
	fwd->resumed = reconnect_is_up(&fwd->machine);
	step(fwd, RECONNECT_RESUMED);
}

/* Returns when it is due again. A probe may block, like any write. */
static int64_t
run_keepalive(struct fwd_link *fwd, int64_t now_ms)
{
	int64_t due_ms;

	if (!reconnect_is_up(&fwd->machine) || is_held(fwd))
		return INT64_MAX;
	pulse_enter(&fwd->pulse, PULSE_WAITING);
	due_ms = fwd->hooks.keepalive(
	    fwd->hooks.context, look(fwd)->generation, now_ms, fwd->resumed);
	fwd->resumed = false;
	pulse_enter(&fwd->pulse, PULSE_RUNNING);
	return due_ms;
}

static int64_t
wake_ms(const struct fwd_link *fwd, int64_t now_ms)
{
	int64_t due_ms = supervisor_wake_ms(&fwd->daemon.supervisor);

	if (is_held(fwd))
		return due_ms;
	due_ms = earlier(due_ms, reconnect_wake_ms(&fwd->machine));
	due_ms = earlier(due_ms, listener_wake_ms(&fwd->listener, now_ms));
	return fwd->machine.state == RECONNECT_WAITING
		   ? earlier(due_ms, now_ms + NAP_MS)
		   : due_ms;
}

/* All watches share one descriptor. */
static int
events_fd(struct fwd_link *fwd)
{
	int fd = file_watch_fd(&fwd->watch);

	return fd >= 0 ? fd : file_watch_fd(&fwd->dgram.watch);
}

static void
wait_for_events(struct fwd_link *fwd, int64_t keepalive_due_ms)
{
	const struct listener *listener = &fwd->listener;
	int64_t now_ms = clock_now_ms();
	bool accepts = !is_held(fwd) && listener_accepts(listener, now_ms);
	bool up = reconnect_is_up(&fwd->machine);
	struct pollfd fds[] = {
		{ .fd = fwd->orders.fds[0], .events = POLLIN },
		{ .fd = events_fd(fwd), .events = POLLIN },
		{ .fd = fwd->path_bell.fds[0], .events = POLLIN },
		{ .fd = accepts ? listener->fd : -1, .events = POLLIN },
		{ .fd = up ? fwd->link->bell.fds[0] : -1, .events = POLLIN },
		{ .fd = fwd->resume_fd, .events = POLLIN },
		{ .fd = fwd->daemon.child.end_fd, .events = POLLIN },
	};
	int64_t due_ms = earlier(wake_ms(fwd, now_ms), keepalive_due_ms);
	int ready;

	atomic_store_explicit(&fwd->due_ms, due_ms, memory_order_relaxed);
	atomic_store_explicit(&fwd->polls_link, up, memory_order_relaxed);
	pulse_enter(&fwd->pulse, PULSE_RESTING);
	ready = poll(fds, sizeof(fds) / sizeof(*fds), wait_timeout(due_ms));
	pulse_enter(&fwd->pulse, PULSE_RUNNING);
	if (ready < 0 && errno != EINTR)
		wait_pause(WAIT_ERROR_MS);
	if (ready <= 0)
		return;
	if (fds[1].revents || fds[2].revents) {
		doorbell_answer(&fwd->path_bell);
		if (fwd->watching && file_watch_appeared(&fwd->watch))
			step(fwd, RECONNECT_APPEARED);
	}
	if (fds[3].revents)
		take_client(fwd);
	if (fds[5].revents)
		clock_resume_answer(fwd->resume_fd);
}

static void *
run(void *argument)
{
	struct fwd_link *fwd = argument;

	thread_name("fwd-link");
	for (;;) {
		enum reconnect_action action;

		doorbell_answer(&fwd->link->bell);
		take_settings(fwd);
		notice_suspend(fwd);
		follow_daemon(fwd);
		check_file(fwd);
		if (!follow_link(fwd))
			break;
		if (fwd->listener.state == LISTENER_JUDGING)
			judge(fwd);
		action = is_held(fwd) ? RECONNECT_NOTHING
				      : step(fwd, RECONNECT_TICK);
		update_watch(fwd);
		act(fwd, action);
		if (action == RECONNECT_NOTHING)
			wait_for_events(
			    fwd, run_keepalive(fwd, clock_now_ms()));
	}
	daemon_stop(&fwd->daemon);
	doorbell_ring(&fwd->ended);
	return NULL;
}

/* ---- start and end ---- */

static int
init_bells(struct fwd_link *fwd)
{
	if (doorbell_init(&fwd->path_bell) < 0)
		return -1;
	if (doorbell_init(&fwd->orders) == 0) {
		if (doorbell_init(&fwd->ended) == 0)
			return 0;
		doorbell_destroy(&fwd->orders);
	}
	doorbell_destroy(&fwd->path_bell);
	return -1;
}

static void
close_bells(struct fwd_link *fwd)
{
	doorbell_destroy(&fwd->path_bell);
	doorbell_destroy(&fwd->orders);
	doorbell_destroy(&fwd->ended);
	if (fwd->resume_fd >= 0)
		close(fwd->resume_fd);
}

int
fwd_link_start(struct fwd_link *fwd, struct link *link,
    const struct fwd_link_settings *settings,
    const struct fwd_link_hooks *hooks)
{
	int64_t now_ms = clock_now_ms();
	uint32_t random = ((uint32_t)now_ms ^ (uint32_t)getpid() * 2654435761u);
	int error;

	*fwd = (struct fwd_link){ .link = link,
		.hooks = *hooks,
		.settings = *settings,
		.suspended_ms = clock_suspended_ms() };
	daemon_init(&fwd->daemon);
	reconnect_init(&fwd->machine, &settings->timing, random | 1, now_ms);
	fwd->resume_fd = clock_resume_open();
	if (init_bells(fwd) < 0)
		return socket_give_up(fwd->resume_fd);
	file_watch_init(&fwd->watch, &fwd->path_bell);
	dgram_init(&fwd->dgram, &fwd->path_bell);
	listener_replace(&fwd->listener, settings->listen_fd);
	error = pthread_create(&fwd->thread, NULL, run, fwd);
	if (error == 0)
		return 0;
	dgram_destroy(&fwd->dgram);
	file_watch_destroy(&fwd->watch);
	close_bells(fwd);
	errno = error;
	return -1;
}

static bool
is_rung(const struct doorbell *bell)
{
	struct pollfd ring = { .fd = bell->fds[0], .events = POLLIN };

	return poll(&ring, 1, 0) > 0;
}

bool
fwd_link_has_event(const struct fwd_link *fwd)
{
	return clock_now_ms() >= atomic_load(&fwd->due_ms) ||
	       is_rung(&fwd->orders) ||
	       (atomic_load(&fwd->polls_link) && is_rung(&fwd->link->bell));
}

void
fwd_link_wake(struct fwd_link *fwd)
{
	doorbell_ring(&fwd->orders);
}

bool
fwd_link_join(struct fwd_link *fwd)
{
	doorbell_ring(&fwd->orders);
	if (wait_readable(
		fwd->ended.fds[0], -1, clock_now_ms() + FWD_LINK_JOIN_MS) < 0)
		return false;
	pthread_join(fwd->thread, NULL);
	resolver_abandon(&fwd->resolver);
	listener_replace(&fwd->listener, -1);
	dgram_destroy(&fwd->dgram);
	file_watch_destroy(&fwd->watch);
	close_bells(fwd);
	return true;
}
