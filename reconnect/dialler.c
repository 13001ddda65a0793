/* Theory of operation
 *
 * The thread sleeps in poll() and after each wake decides afresh from what it
 * sees:
 *
 *      link   what the thread does                        sleeps until
 *      DOWN   reports the loss, arms the watch, dials     the next dial is due
 *      UP     waits for proof of life, then disarms       proof is due or
 *             the watch; has the generation tended        tending is, if ever
 *      STOPPED ends
 *
 * Three things wake it before that: orders (a stop, new settings), which also
 * interrupt a dial; what the state waits for (DOWN: the watch or a client; UP:
 * also the link's bell, because the generation ended or is to be tended). The
 * link's bell rings as often as the guest pleases, so nothing that is to make
 * progress while DOWN listens to it.
 *
 * The watch is armed before the first dial of an outage, and stays armed until
 * the next generation is proven: a dying daemon's connection can close before
 * its listener, so a dial may end in a backlog that dies a moment later, while
 * the next daemon's socket appears. A connection after such an unproven one is
 * reported as settled once it is proven or SETTLE_MS old.
 *
 * An endpoint that listens has no dials: a client's call makes the connection,
 * in any state, and ends the one before. Where the peer that is connected has
 * to be asked first, the client is accepted and waits for the verdict (see
 * candidate.h); nobody else is accepted meanwhile.
 *
 * Only this thread installs connections; any thread may end one. */
#include "reconnect/dialler.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/sync.h"
#include "base/wait.h"
#include "reconnect/listen.h"

/* How long a path that refuses is tried again when there is reason to believe
 * that its daemon is just starting: it exists from bind() on and is refused
 * until listen(). */
#define PATIENCE_MS 50

/* A backlog that dies with its daemon does so within moments. */
#define SETTLE_MS 100

/* An outage, or a start without a connection, that lasts this long is more than
 * a restart. */
#define LONG_OUTAGE_MS 10000

/* While down, the longest sleep: the clock stands still during a suspend, and
 * nothing else tells that the host woke up. */
#define NAP_MS 1000

/* Pause after accept() was out of descriptors or memory: the client
 * still waits, so without it poll() would return at once for ever. */
#define PAUSE_MS 1000

/* The two clocks behind clock_suspended_ms() are read one after the other. */
#define SUSPEND_NOTICED_MS 100

/* xorshift32: jitter needs to differ between processes, no more. */
static uint32_t
next_random(struct dialler *dialler)
{
	uint32_t x = dialler->random;

	x ^= x << 13;
	x ^= x >> 17;
	x ^= x << 5;
	return dialler->random = x;
}

static void
tell(struct dialler *dialler, const struct link_event *event)
{
	dialler->hooks.event(dialler->hooks.context, event);
}

/* Reported once, until there is a watch again. */
static void
unwatched(struct dialler *dialler, int error)
{
	if (!dialler->told_unwatched)
		tell(
		    dialler, &(struct link_event){ .kind = LINK_EVENT_UNWATCHED,
				 .generation = dialler->generation,
				 .reason = strerror(error),
				 .error = error });
	dialler->told_unwatched = true;
}

static void
path_appeared(struct dialler *dialler)
{
	dialler->appeared = true;
	redial_appeared(&dialler->redial, clock_now_ms());
}

/* Watches the path, if there is one. Where the system refused that, it is asked
 * again at each wake while down; until then the backoff bounds how long the
 * path goes unseen. */
static void
arm(struct dialler *dialler)
{
	const struct dialler_settings *settings = &dialler->settings;
	bool refused = dialler->armed && dialler->watch.error;

	if ((dialler->armed && !refused) || !settings->watch ||
	    settings->endpoint.listens ||
	    settings->endpoint.kind != ENDPOINT_UNIX)
		return;
	dialler->armed = true;
	if (file_watch_path(&dialler->watch, settings->endpoint.path) < 0) {
		unwatched(dialler, errno);
		return;
	}
	dialler->told_unwatched = false;
	/* It may have come while nothing was watched. */
	if (refused && access(settings->endpoint.path, F_OK) == 0)
		path_appeared(dialler);
}

static void
disarm(struct dialler *dialler)
{
	if (dialler->armed)
		file_watch_stop(&dialler->watch);
	dialler->armed = false;
}

/* From when on a client may come in: even clients that come and go don't spin
 * this thread, nor does one that can't be let in; one at a time is judged. */
static int64_t
door_opens_ms(const struct dialler *dialler)
{
	int64_t opens_ms =
	    later(redial_spaced_ms(&dialler->redial), dialler->resume_ms);

	return later(opens_ms, dialler->candidate.due_ms);
}

static void
look_at_path(struct dialler *dialler)
{
	doorbell_answer(&dialler->path_bell);
	if (file_watch_appeared(&dialler->watch))
		path_appeared(dialler);
}

/* Until the deadline, an order, the path's appearance, a client's call or,
 * while up, the link's bell. */
static void
sleep_until(struct dialler *dialler, enum link_state state, int64_t deadline_ms)
{
	bool listens = dialler->settings.endpoint.listens;
	int64_t opens_ms = door_opens_ms(dialler);
	bool open = clock_now_ms() >= opens_ms;
	struct pollfd fds[] = {
		{ .fd = dialler->orders.fds[0], .events = POLLIN },
		{ .fd = file_watch_fd(&dialler->watch), .events = POLLIN },
		{ .fd = dialler->path_bell.fds[0], .events = POLLIN },
		{ .fd = listens && open ? dialler->settings.listen_fd : -1,
		    .events = POLLIN },
		{ .fd = state == LINK_UP ? dialler->link->bell.fds[0] : -1,
		    .events = POLLIN },
	};
	int ready;

	if (listens && !open)
		deadline_ms = earlier(deadline_ms, opens_ms);
	ready = poll(fds, 5, wait_timeout(deadline_ms));
	if (ready < 0 && errno != EINTR)
		wait_pause(WAIT_ERROR_MS);
	if (ready <= 0)
		return;
	if (fds[1].revents || fds[2].revents)
		look_at_path(dialler);
	dialler->client_waits = fds[3].revents != 0;
}

static void
notice_suspend(struct dialler *dialler)
{
	int64_t suspended_ms = clock_suspended_ms();

	if (suspended_ms - dialler->suspended_ms > SUSPEND_NOTICED_MS) {
		dialler->suspended_ms = suspended_ms;
		redial_resumed(&dialler->redial, clock_now_ms());
	}
}

static bool
same_endpoint(const struct endpoint *a, const struct endpoint *b)
{
	return a->kind == b->kind && a->listens == b->listens &&
	       strcmp(a->path, b->path) == 0 && strcmp(a->host, b->host) == 0 &&
	       strcmp(a->port, b->port) == 0;
}

/* Replaces settings; a listening descriptor that isn't replaced by another one
 * stays as long as the endpoint does. True: the endpoint is another. */
static bool
replace(struct dialler_settings *old, const struct dialler_settings *settings)
{
	bool moved = !same_endpoint(&old->endpoint, &settings->endpoint);
	int listen_fd = old->listen_fd;

	*old = *settings;
	if (listen_fd >= 0 && (moved || settings->listen_fd >= 0))
		close(listen_fd);
	else if (listen_fd >= 0)
		old->listen_fd = listen_fd;
	return moved;
}

static bool
is_admitted(
    const struct dialler *dialler, const struct sockaddr_storage *client)
{
	return !dialler->hooks.admit ||
	       dialler->hooks.admit(
		   dialler->hooks.context, (const struct sockaddr *)client);
}

/* Who may come in has changed, maybe: the one who is in is asked again. */
static void
admit_again(struct dialler *dialler)
{
	struct sockaddr_storage client = { 0 };
	socklen_t length = sizeof(client);
	struct loan loan;

	if (link_borrow(dialler->link, &loan, LINK_NO_WAIT) != LINK_READY)
		return;
	/* One that is gone has no name; its end is somebody else's news. */
	if (getpeername(loan.fd, (struct sockaddr *)&client, &length) == 0 &&
	    !is_admitted(dialler, &client))
		link_fail(dialler->link, loan.generation,
		    "the client is not in allow any more");
	link_return(&loan);
}

/* Whose daemon may answer has changed, maybe. */
static void
trust_again(struct dialler *dialler)
{
	const struct dialler_settings *settings = &dialler->settings;
	char why[DIAL_WHY_BYTES];
	struct loan loan;

	dialler->told_distrust = false;
	if (settings->endpoint.listens ||
	    settings->endpoint.kind != ENDPOINT_UNIX ||
	    link_borrow(dialler->link, &loan, LINK_NO_WAIT) != LINK_READY)
		return;
	if (!dial_trusts(settings->endpoint.path, loan.fd, settings->user, why))
		link_fail(dialler->link, loan.generation, why);
	link_return(&loan);
}

/* The client that waited for a verdict goes, or -1. */
static int
release_candidate(struct dialler *dialler)
{
	int fd = dialler->candidate_fd;

	dialler->candidate_fd = -1;
	candidate_leave(&dialler->candidate);
	return fd;
}

static void
drop_candidate(struct dialler *dialler)
{
	int fd = release_candidate(dialler);

	if (fd >= 0)
		close(fd);
}

static void
apply(struct dialler *dialler, const struct dialler_settings *settings)
{
	bool moved = replace(&dialler->settings, settings);

	redial_init(&dialler->redial, clock_now_ms(), settings->min_ms,
	    settings->max_ms, settings->jitter_percent);
	link_set_proof(dialler->link, settings->max_ms);
	disarm(dialler);
	drop_candidate(dialler); /* it may be judged otherwise now */
	if (moved) {
		dialler->told_unwatched = false;
		dialler->client_waits =
		    false;                /* at the listener that was closed */
		dialler->appeared = true; /* it is new to us: dialled at once */
		dialler->endpoint_since_ms = clock_now_ms();
		dialler->long_reported = false;
		link_fail(dialler->link, dialler->generation,
		    "the network endpoint was changed");
	} else if (settings->endpoint.listens) {
		admit_again(dialler);
	}
	trust_again(dialler);
}

static void
stop_listening(struct dialler *dialler)
{
	close(dialler->settings.listen_fd);
	dialler->settings.listen_fd = -1;
	dialler->client_waits = false;
	mutex_lock(&dialler->lock);
	dialler->deaf = false;
	mutex_unlock(&dialler->lock);
	condition_wake_all(&dialler->heeded);
}

static void
take_wishes(struct dialler *dialler)
{
	struct dialler_settings wanted;
	bool changed, deaf;

	mutex_lock(&dialler->lock);
	changed = dialler->changed;
	wanted = dialler->wanted;
	dialler->changed = false;
	deaf = dialler->deaf;
	mutex_unlock(&dialler->lock);
	if (changed)
		apply(dialler, &wanted);
	if (deaf)
		stop_listening(dialler);
}

/* The generation this thread made last has ended. */
static void
note_loss(struct dialler *dialler, const struct link_loss *loss)
{
	assert(loss->generation == dialler->generation);
	bool again = dialler->unproven_before;

	dialler->ended = dialler->generation;
	dialler->unproven_before = !loss->proven;
	dialler->error = 0;
	redial_lost(&dialler->redial, clock_now_ms(), loss->proven,
	    next_random(dialler));
	if (loss->proven) {
		dialler->long_reported = false;
		dialler->appeared =
		    true; /* retry refused dials, as after that */
	} else if (dialler->appeared) {
		redial_appeared(&dialler->redial, clock_now_ms());
	}
	tell(dialler,
	    &(struct link_event){
		.kind = loss->proven ? LINK_EVENT_LOST : LINK_EVENT_UNPROVEN,
		.generation = loss->generation,
		.up_ms = loss->up_ms,
		.again = again,
		.settled = dialler->settled,
		.reason = loss->reason });
}

static void
dial_failed(struct dialler *dialler, int error, const char *why)
{
	struct link_view view;

	dialler->error = error;
	link_dial_failed(dialler->link, why);
	redial_failed(&dialler->redial, clock_now_ms(), next_random(dialler));
	link_look(dialler->link, &view);
	tell(dialler, &(struct link_event){ .kind = LINK_EVENT_DIAL_FAILED,
			  .generation = dialler->generation,
			  .dials = view.outage_dials,
			  .reason = why,
			  .error = error });
}

static void
connected(struct dialler *dialler, int fd)
{
	struct link_view view;
	unsigned dials;
	uint64_t generation;

	redial_connected(&dialler->redial, clock_now_ms());
	dialler->hooks.greet(dialler->hooks.context, fd);
	link_look(dialler->link, &view);
	dials = view.outage_dials; /* a loss can come before the next look */
	generation = link_install(dialler->link, fd);
	if (generation == 0 && errno == EBUSY)
		dial_failed(dialler, EBUSY,
		    "connections end faster than the guest takes their frames");
	if (generation == 0)
		return;
	dialler->generation = generation;
	dialler->settled = false;
	dialler->told_distrust = false;
	link_look(dialler->link, &view);
	tell(dialler, &(struct link_event){ .kind = LINK_EVENT_UP,
			  .generation = generation,
			  .outage_ms = view.outage_ms,
			  .dials = dials,
			  .again = dialler->unproven_before });
}

static void
distrust(struct dialler *dialler, const char *why)
{
	if (!dialler->told_distrust)
		tell(dialler,
		    &(struct link_event){ .kind = LINK_EVENT_DISTRUSTED,
			.generation = dialler->generation,
			.reason = why });
	dialler->told_distrust = true;
}

static void
make_dial(struct dialler *dialler)
{
	struct dial attempt = { .endpoint = dialler->settings.endpoint,
		.interrupt_fd = dialler->orders.fds[0],
		.patience_ms = dialler->appeared ? PATIENCE_MS : 0,
		.user = dialler->settings.user };
	int fd;

	link_dialled(dialler->link);
	fd = dial(&attempt, &dialler->resolver);
	if (fd < 0 && errno == EINTR)
		return; /* no failure; `appeared` still holds */
	dialler->appeared = false;
	if (attempt.distrusted)
		distrust(dialler, attempt.why);
	if (fd >= 0)
		connected(dialler, fd);
	else
		dial_failed(dialler, errno, attempt.why);
}

/* accept() failed: reported once, until it succeeds again. */
static void
accept_failed(struct dialler *dialler, int error)
{
	bool told = dialler->resume_ms != 0;

	if (error == EAGAIN || error == EINTR || error == ECONNABORTED)
		return; /* the client hung up */
	dialler->resume_ms = clock_now_ms() + PAUSE_MS;
	if (!told)
		tell(dialler,
		    &(struct link_event){ .kind = LINK_EVENT_ACCEPT_FAILED,
			.generation = dialler->generation,
			.reason = strerror(error) });
}

/* Ends the connection before this one, if that hasn't happened. */
static void
serve_client(struct dialler *dialler, int fd)
{
	struct link_view view;

	link_fail(dialler->link, dialler->generation,
	    "another client took its place");
	link_look(dialler->link, &view);
	if (view.state == LINK_STOPPED) {
		close(fd);
		return;
	}
	if (dialler->ended != dialler->generation)
		note_loss(dialler, &view.loss);
	link_dialled(dialler->link);
	connected(dialler, fd);
}

/* True: the peer that is connected is asked first, and the client waits. */
static bool
hold_candidate(
    struct dialler *dialler, int fd, const struct sockaddr_storage *client)
{
	const struct dialler_hooks *hooks = &dialler->hooks;
	int64_t now_ms = clock_now_ms(); /* before the answer can come */
	struct link_view view;

	link_look(dialler->link, &view);
	if (view.state != LINK_UP || !hooks->ask ||
	    !hooks->ask(hooks->context, dialler->generation))
		return false;
	dialler->candidate_fd = fd;
	dialler->candidate_from = *client;
	candidate_come(&dialler->candidate, now_ms);
	return true;
}

static void
refuse_candidate(struct dialler *dialler)
{
	drop_candidate(dialler);
	tell(dialler,
	    &(struct link_event){ .kind = LINK_EVENT_CLIENT_REFUSED,
		.generation = dialler->generation,
		.reason = "the present one answers",
		.client = (const struct sockaddr *)&dialler->candidate_from });
}

/* The newest client is served, unless the one before has to be asked: it may be
 * half open, and would never say so. */
static void
take_client(struct dialler *dialler)
{
	struct sockaddr_storage client;
	int fd = listen_accept(dialler->settings.listen_fd, &client);

	dialler->client_waits = false;
	if (fd < 0) {
		accept_failed(dialler, errno);
		return;
	}
	dialler->resume_ms = 0;
	if (!is_admitted(dialler, &client)) {
		close(fd);
		return;
	}
	if (!hold_candidate(dialler, fd, &client))
		serve_client(dialler, fd);
}

/* Once an outage: whoever has named a wrong path would wait for ever. Returns
 * when to look again. */
static int64_t
report_long_outage(
    struct dialler *dialler, const struct link_view *view, int64_t now_ms)
{
	int64_t since_ms =
	    later(now_ms - view->outage_age_ms, dialler->endpoint_since_ms);

	if (dialler->long_reported)
		return INT64_MAX;
	if (now_ms - since_ms < LONG_OUTAGE_MS)
		return since_ms + LONG_OUTAGE_MS;
	dialler->long_reported = true;
	tell(dialler, &(struct link_event){ .kind = LINK_EVENT_LONG_OUTAGE,
			  .generation = dialler->generation,
			  .outage_ms = view->outage_age_ms,
			  .dials = view->outage_dials,
			  .reason = view->last_error,
			  .error = dialler->error });
	return INT64_MAX;
}

static void
while_down(struct dialler *dialler, const struct link_view *view)
{
	int64_t now_ms = clock_now_ms(), look_ms;

	if (dialler->ended != dialler->generation)
		note_loss(dialler, &view->loss);
	arm(dialler);
	look_ms = report_long_outage(dialler, view, now_ms);
	if (dialler->settings.endpoint.listens)
		sleep_until(dialler, LINK_DOWN, look_ms);
	else if (dialler->redial.due_ms <= now_ms)
		make_dial(dialler);
	else
		sleep_until(dialler, LINK_DOWN,
		    earlier(earlier(dialler->redial.due_ms, now_ms + NAP_MS),
			look_ms));
}

/* Reports one that came after an unproven one once it has lasted. Returns when
 * to look again. */
static int64_t
settle(struct dialler *dialler, const struct link_view *view, int64_t now_ms)
{
	if (!dialler->unproven_before || dialler->settled)
		return INT64_MAX;
	if (!view->proven && view->up_ms < SETTLE_MS)
		return now_ms + SETTLE_MS - view->up_ms;
	dialler->settled = true;
	tell(dialler, &(struct link_event){ .kind = LINK_EVENT_SETTLED,
			  .generation = dialler->generation,
			  .outage_ms = view->outage_ms,
			  .dials = view->outage_dials });
	return INT64_MAX;
}

/* Sleeps until wake_ms at the latest. */
static void
while_up(struct dialler *dialler, const struct link_view *view, int64_t wake_ms)
{
	int64_t now_ms = clock_now_ms();
	int64_t due_ms = dialler->hooks.tend(
	    dialler->hooks.context, dialler->generation, now_ms);

	due_ms = earlier(due_ms, wake_ms);
	due_ms = earlier(due_ms, settle(dialler, view, now_ms));
	if (view->proven) {
		disarm(dialler);
	} else {
		arm(dialler); /* a reload disarms */
		due_ms = earlier(due_ms,
		    now_ms + dialler->settings.max_ms - view->up_ms + 1);
	}
	sleep_until(dialler, LINK_UP, due_ms);
}

/* Until the verdict the present generation goes on as ever. */
static void
while_judging(struct dialler *dialler, const struct link_view *view)
{
	const struct dialler_hooks *hooks = &dialler->hooks;
	struct candidate *candidate = &dialler->candidate;

	if (view->state != LINK_UP) {
		serve_client(dialler, release_candidate(dialler));
		return;
	}
	switch (candidate_check(candidate, clock_now_ms(),
	    hooks->alive(
		hooks->context, dialler->generation, candidate->since_ms))) {
	case CANDIDATE_WAIT:
		while_up(dialler, view, candidate->due_ms);
		break;
	case CANDIDATE_ASK:
		hooks->ask(hooks->context, dialler->generation);
		break;
	case CANDIDATE_REFUSE:
		refuse_candidate(dialler);
		break;
	case CANDIDATE_ADMIT:
		serve_client(dialler, release_candidate(dialler));
		break;
	}
}

static void *
run(void *argument)
{
	struct dialler *dialler = argument;
	struct link_view view;

	thread_name("fwd-link");
	for (;;) {
		doorbell_answer(&dialler->orders);
		doorbell_answer(&dialler->link->bell);
		take_wishes(dialler);
		notice_suspend(dialler);
		link_look(dialler->link, &view);
		if (view.state == LINK_STOPPED)
			return NULL;
		if (candidate_waits(&dialler->candidate))
			while_judging(dialler, &view);
		else if (dialler->client_waits)
			take_client(dialler);
		else if (view.state == LINK_UP)
			while_up(dialler, &view, INT64_MAX);
		else
			while_down(dialler, &view);
	}
}

int
dialler_start(struct dialler *dialler, struct link *link,
    const struct dialler_settings *settings, const struct dialler_hooks *hooks)
{
	int error;

	*dialler = (struct dialler){ .link = link,
		.hooks = *hooks,
		.settings = *settings,
		.candidate_fd = -1,
		.suspended_ms = clock_suspended_ms(),
		.appeared =
		    true, /* the daemon may just be starting, as we are */
		.random = ((uint32_t)clock_now_ms() ^
			      (uint32_t)getpid() * 2654435761u) |
			  1 };
	redial_init(&dialler->redial, clock_now_ms(), settings->min_ms,
	    settings->max_ms, settings->jitter_percent);
	link_set_proof(link, settings->max_ms);
	if (doorbell_init(&dialler->path_bell) < 0)
		return -1;
	if (doorbell_init(&dialler->orders) < 0) {
		doorbell_destroy(&dialler->path_bell);
		return -1;
	}
	file_watch_init(&dialler->watch, &dialler->path_bell);
	mutex_init(&dialler->lock);
	condition_init(&dialler->heeded);
	error = pthread_create(&dialler->thread, NULL, run, dialler);
	if (error == 0)
		return 0;
	doorbell_destroy(&dialler->path_bell);
	doorbell_destroy(&dialler->orders);
	condition_destroy(&dialler->heeded);
	mutex_destroy(&dialler->lock);
	errno = error;
	return -1;
}

void
dialler_configure(
    struct dialler *dialler, const struct dialler_settings *settings)
{
	mutex_lock(&dialler->lock);
	if (dialler->changed)
		replace(&dialler->wanted, settings);
	else
		dialler->wanted = *settings;
	dialler->changed = true;
	mutex_unlock(&dialler->lock);
	doorbell_ring(&dialler->orders);
}

void
dialler_stop_listening(struct dialler *dialler)
{
	mutex_lock(&dialler->lock);
	dialler->deaf = true;
	mutex_unlock(&dialler->lock);
	doorbell_ring(&dialler->orders);
	mutex_lock(&dialler->lock);
	while (dialler->deaf)
		condition_wait(
		    &dialler->heeded, &dialler->lock, CONDITION_NO_DEADLINE);
	mutex_unlock(&dialler->lock);
}

void
dialler_join(struct dialler *dialler)
{
	doorbell_ring(&dialler->orders);
	pthread_join(dialler->thread, NULL);
	doorbell_destroy(&dialler->orders);
	resolver_abandon(&dialler->resolver);
	if (dialler->settings.listen_fd >= 0)
		close(dialler->settings.listen_fd);
	drop_candidate(dialler);
	file_watch_destroy(&dialler->watch);
	doorbell_destroy(&dialler->path_bell);
	condition_destroy(&dialler->heeded);
	mutex_destroy(&dialler->lock);
}
