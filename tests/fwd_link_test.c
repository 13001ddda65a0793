/* The thread fwd-link with real sockets; reconnect_test.c tests its decisions. */
#include "reconnect/fwd_link.h"

#include <sys/wait.h>

#include "base/wait.h"
#include "tests/support/hanging_lookup.h"
#include "tests/support/listener.h"
#include "tests/support/settable_clock.h"
#include "tests/support/settable_user.h"
#include "tests/support/suite.h"

/* Too long for a test: a wait must end for another reason than the backoff. */
#define LONG_MS (10 * 60 * 1000)

static struct link shared;
static struct fwd_link fwd;
static unsigned descriptors_before;
static struct private_folder folder;

static struct link_view
look(void)
{
	struct link_view view;

	link_look(&shared, &view);
	return view;
}

/* ---- the events it reports, read one by one ---- */

static struct {
	pthread_mutex_t lock;
	pthread_cond_t more;
	struct link_event events[1000];
	char reasons[1000][LINK_REASON_BYTES];
	sa_family_t client;
	size_t written, read;
} record = { .lock = PTHREAD_MUTEX_INITIALIZER,
	.more = PTHREAD_COND_INITIALIZER };

static void
on_event(void *context, const struct link_event *event)
{
	size_t i;

	ck_assert_ptr_eq(context, &record);
	pthread_mutex_lock(&record.lock);
	i = record.written++;
	ck_assert_uint_lt(i, 1000);
	record.events[i] = *event;
	snprintf(record.reasons[i], LINK_REASON_BYTES, "%s",
	    event->reason ? event->reason : "");
	record.events[i].reason = record.reasons[i];
	if (event->client)
		record.client = event->client->sa_family;
	pthread_cond_signal(&record.more);
	pthread_mutex_unlock(&record.lock);
}

static struct link_event
next_event(void)
{
	struct link_event event;

	pthread_mutex_lock(&record.lock);
	while (record.read == record.written)
		pthread_cond_wait(&record.more, &record.lock);
	event = record.events[record.read++];
	pthread_mutex_unlock(&record.lock);
	return event;
}

/* The next event of that kind; only failed dials and connections that settle
 * may come before it. */
static struct link_event
expect(enum link_event_kind kind)
{
	struct link_event event = next_event();

	while (event.kind != kind && (event.kind == LINK_EVENT_DIAL_FAILED ||
					 event.kind == LINK_EVENT_SETTLED))
		event = next_event();
	ck_assert_int_eq(event.kind, kind);
	return event;
}

static struct link_event
expect_up(uint64_t generation)
{
	struct link_event event = expect(LINK_EVENT_UP);

	ck_assert_uint_eq(event.generation, generation);
	ck_assert_uint_ge(event.dials, 1);
	ck_assert_int_ge(event.outage_ms, 0);
	return event;
}

enum { UNPROVEN, PROVEN };

static void
expect_lost(uint64_t generation, bool proven, const char *reason)
{
	struct link_event event = expect(LINK_EVENT_LOST);

	ck_assert_uint_eq(event.generation, generation);
	ck_assert_int_eq(event.proven, proven);
	ck_assert_str_eq(event.reason, reason);
	ck_assert_int_ge(event.up_ms, 0);
}

static void
expect_refused(const char *reason)
{
	struct link_event event = expect(LINK_EVENT_CLIENT_REFUSED);

	ck_assert_str_eq(event.reason, reason);
	ck_assert_int_eq(record.client, AF_UNIX);
}

static void
expect_nothing_more(void)
{
	pthread_mutex_lock(&record.lock);
	ck_assert_uint_eq(record.read, record.written);
	pthread_mutex_unlock(&record.lock);
}

/* ---- hooks ---- */

static struct fwd_link_settings settings; /* for the next reload() */
static struct fwd_link_settings published;
static atomic_bool is_published;
static atomic_uint tended, resumes, probes;
static atomic_bool answers, ends_when_probed, closed_to_all;

static bool
configure(void *context, struct fwd_link_settings *next)
{
	ck_assert_ptr_eq(context, &record);
	if (!atomic_load(&is_published))
		return false;
	*next = published;
	atomic_store(&is_published, false);
	return true;
}

/* Returns once fwd-link has taken the settings. */
static void
reload(void)
{
	published = settings;
	settings.listen_fd = -1;
	atomic_store(&is_published, true);
	fwd_link_wake(&fwd);
	while (atomic_load(&is_published))
		sched_yield();
}

/* Sends "hello" and checks that no other thread could send before. */
static void
say_hello(void *context, int fd, bool datagrams)
{
	ck_assert_int_eq(datagrams, fwd.settings.endpoint.datagrams);
	ck_assert_ptr_eq(context, &record);
	ck_assert(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	ck_assert_int_eq(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
	ck_assert_int_ne(look().state, LINK_UP);
	(void)!send(fd, "hello", 5, MSG_NOSIGNAL);
}

static int64_t
keepalive(void *context, uint64_t generation, int64_t now_ms, bool resumed)
{
	ck_assert_ptr_eq(context, &record);
	ck_assert_uint_ge(generation, 1);
	ck_assert_int_le(now_ms, clock_now_ms());
	atomic_fetch_add(&resumes, resumed);
	atomic_fetch_add(&tended, 1);
	return INT64_MAX;
}

static const char *
refusal(void *context, const struct sockaddr *client)
{
	ck_assert_ptr_eq(context, &record);
	ck_assert_int_eq(client->sa_family, AF_UNIX);
	return closed_to_all ? "closed" : NULL;
}

static const char *
stop_at_the_second(void *context, const struct sockaddr *client)
{
	if (look().state == LINK_UP)
		link_stop(&shared);
	return refusal(context, client);
}

static bool
never_probe(void *context, uint64_t generation)
{
	(void)context;
	(void)generation;
	return false;
}

static bool
probe(void *context, uint64_t generation)
{
	ck_assert_ptr_eq(context, &record);
	ck_assert_uint_ge(generation, 1);
	if (ends_when_probed)
		link_fail(&shared, generation, "it ended");
	atomic_fetch_add(&probes, 1);
	return true;
}

static bool
is_alive(void *context, uint64_t generation, int64_t since_ms)
{
	ck_assert_ptr_eq(context, &record);
	ck_assert_uint_ge(generation, 1);
	ck_assert_int_le(since_ms, clock_now_ms());
	return atomic_load(&answers);
}

static struct fwd_link_hooks hooks = { .context = &record,
	.event = on_event,
	.configure = configure,
	.on_connected = say_hello,
	.keepalive = keepalive,
	.refusal = refusal,
	.probe = never_probe,
	.alive = is_alive };

/* ---- the program around it ---- */

/* As fwd-down does: proves the generation by its first byte, reports its end. */
static void *
read_always(void *argument)
{
	struct loan loan;
	char bytes[64];

	(void)argument;
	while (link_borrow_next(&shared, &loan) == LINK_READY) {
		while (read(loan.fd, bytes, sizeof(bytes)) > 0)
			link_prove(&shared, loan.generation);
		link_fail(&shared, loan.generation, "peer closed");
		link_return(&loan);
	}
	return NULL;
}

/* What clock_resume_open() opens. */
static int resume_pipe[2] = { -1, -1 };

int
clock_resume_open(void)
{
	return resume_pipe[0];
}

static pthread_t reader;
static bool started;

static void
aim(const char *endpoint)
{
	struct error error;

	ck_assert_int_eq(
	    endpoint_parse(&settings.endpoint, endpoint, &error), 0);
	settings.timing.listens = settings.endpoint.listens;
}

static void
set_up(void)
{
	signal(SIGPIPE, SIG_IGN);
	scratch_enter();
	descriptors_before = open_descriptors();
	settings = (struct fwd_link_settings){ .timing = { LONG_MS, LONG_MS, 0,
						   false },
		.watch = true,
		.vfkit = true,
		.folder = &folder,
		.listen_fd = -1 };
	private_folder_init(&folder);
	aim("unix:sock");
}

static void
start(void)
{
	started = true;
	ck_assert_int_eq(link_init(&shared), 0);
	ck_assert_int_eq(fwd_link_start(&fwd, &shared, &settings, &hooks), 0);
	settings.listen_fd = -1;
	ck_assert_int_eq(pthread_create(&reader, NULL, read_always, NULL), 0);
}

/* Whatever it is doing. */
static void
stop(void)
{
	int64_t stopped_ms = clock_now_ms();

	if (!started)
		return;
	started = false;
	link_stop(&shared);
	ck_assert(fwd_link_join(&fwd));
	ck_assert_int_lt(clock_now_ms() - stopped_ms, 1000);
	pthread_join(reader, NULL);
	link_destroy(&shared);
}

static void
tear_down(void)
{
	stop();
	lookups_answer();
	while (open_descriptors() != descriptors_before)
		sched_yield();
	scratch_leave();
}

static void
await_dials(uint64_t dials)
{
	while (look().dials < dials)
		sched_yield();
}

/* While up: wakes the thread and waits until it is about to sleep again. */
static void
wake_while_up(void)
{
	unsigned before = atomic_load(&tended);

	doorbell_ring(&shared.bell);
	while (atomic_load(&tended) == before)
		sched_yield();
}

/* A daemon, by default at sock. */
struct stand_in {
	const char *path;
	int listener, peer;
};

static struct stand_in
daemon_at(const char *path)
{
	return (struct stand_in){ path, listening_unix(path, 1000), -1 };
}

static void
daemon_accept(struct stand_in *daemon)
{
	char hello[5];

	daemon->peer = accept(daemon->listener, NULL, NULL);
	ck_assert_int_ge(daemon->peer, 0);
	ck_assert_int_eq(recv(daemon->peer, hello, 5, MSG_WAITALL), 5);
	ck_assert_mem_eq(hello, "hello", 5);
}

static void
prove(int peer)
{
	ck_assert_int_eq(send(peer, "x", 1, MSG_NOSIGNAL), 1);
	while (!look().proven)
		sched_yield();
}

/* Waits until that generation is up, and proves it. */
static void
daemon_serve(struct stand_in *daemon, uint64_t generation)
{
	expect_up(generation);
	daemon_accept(daemon);
	prove(daemon->peer);
}

static void
daemon_hang_up(struct stand_in *daemon)
{
	close(daemon->peer);
	daemon->peer = -1;
}

/* Closes the listener first, so that no dial ends in its backlog. */
static void
daemon_kill(struct stand_in *daemon)
{
	unlink(daemon->path);
	close(daemon->listener);
	if (daemon->peer >= 0)
		close(daemon->peer);
}

FIXTURE(set_up, tear_down)

/* ---- dialling and the watch ---- */

/* The daemon restarts at once, or later: then the watch finds it. */
TEST(a_daemon_that_starts_and_restarts_is_dialled_at_once, .count = 2)
{
	struct link_event event;
	struct stand_in daemon;

	start();
	event = next_event();
	ck_assert_int_eq(event.kind, LINK_EVENT_DIAL_FAILED);
	ck_assert_uint_eq(event.dials, 1);
	ck_assert_int_eq(event.error, ENOENT);
	ck_assert_str_eq(event.reason, strerror(ENOENT));
	daemon = daemon_at("sock");
	for (uint64_t generation = 1; generation <= 10; generation++) {
		daemon_serve(&daemon, generation);
		daemon_kill(&daemon);
		if (_i == 1)
			expect_lost(generation, PROVEN, "peer closed");
		if (_i == 1)
			expect(LINK_EVENT_DIAL_FAILED);
		daemon = daemon_at("sock");
		if (_i == 0)
			expect_lost(generation, PROVEN, "peer closed");
	}
	expect_up(11);
	ck_assert_uint_eq(look().outages, 10);
	daemon_kill(&daemon);
}

/* As after SIGSTOP. */
TEST(a_connection_older_than_max_is_proven_even_if_lost_before_a_tick)
{
	struct stand_in daemon = daemon_at("sock");

	start();
	expect_up(1);
	clock_skip(LONG_MS);
	link_fail(&shared, 1, "gone");
	expect_lost(1, PROVEN, "gone");
	ck_assert_uint_eq(look().outages, 1);
	daemon_kill(&daemon);
}

/* The next daemon appears while the dead one's backlog is still open. */
TEST(a_path_that_appears_before_the_old_backlog_closes_is_not_missed)
{
	struct stand_in old = daemon_at("sock"), new;

	start();
	expect_up(1);
	unlink("sock");
	new = daemon_at("sock");
	close(old.listener);
	expect_lost(1, UNPROVEN, "peer closed");
	expect_up(2);
	daemon_accept(&new);
	daemon_kill(&new);
}

/* It was bound before the loss, unnoticed by the watch, and listens after it. */
TEST(after_a_proven_loss_a_refusing_path_is_retried_for_a_while)
{
	struct stand_in old = daemon_at("sock"), next;

	start();
	daemon_serve(&old, 1);
	expect(
	    LINK_EVENT_SETTLED); /* the machine knows, so nothing is watched */
	wake_while_up();
	unlink("sock");
	next = (struct stand_in){ "sock", bound_unix("sock"), -1 };
	clock_stop(clock_now_ms() + 1000); /* the window stays open */
	daemon_hang_up(&old);
	expect_lost(1, PROVEN, "peer closed");
	await_dials(2);
	ck_assert_int_eq(listen(next.listener, 5), 0);
	ck_assert_int_eq(next_event().kind, LINK_EVENT_UP);
	close(old.listener);
	daemon_kill(&next);
}

/* The other thread is main(), which watches files of its own. */
TEST(a_path_whose_event_another_thread_read_is_dialled_at_once)
{
	struct file_watch others;
	struct doorbell bell;
	struct stand_in daemon;

	ck_assert_int_eq(doorbell_init(&bell), 0);
	file_watch_init(&others, &bell);
	ck_assert_int_eq(file_watch_file(&others, "."), 0);
	start();
	for (unsigned generation = 1; generation <= 50; generation++) {
		expect(LINK_EVENT_DIAL_FAILED);
		daemon = daemon_at("sock");
		(void)file_watch_deleted(&others);
		daemon_serve(&daemon, generation);
		daemon_kill(&daemon);
		expect_lost(generation, PROVEN, "peer closed");
	}
	file_watch_destroy(&others);
	doorbell_destroy(&bell);
}

/* A path that came while nothing was watched is found, too. */
TEST(a_watch_that_was_refused_is_reported_and_armed_later)
{
	struct stand_in daemon;

	aim("tcp:127.0.0.1:1");
	start();
	expect(LINK_EVENT_DIAL_FAILED);
	ck_assert_int_eq(file_watch_fd(&fwd.watch), -1);
	daemon = daemon_at("sock");
	limit_descriptors(3);
	aim("unix:sock");
	reload();
	ck_assert_int_eq(expect(LINK_EVENT_UNWATCHED).error, EMFILE);
	expect(LINK_EVENT_DIAL_FAILED);
	limit_descriptors(1000);
	while (next_event().kind != LINK_EVENT_UP)
		;
	daemon_kill(&daemon);
}

/* ---- datagram daemons ---- */

/* Waits until that generation is up. Connects to it, as vmnet-helper does. */
static void
datagrams_serve(int fd, uint64_t generation)
{
	struct sockaddr_un sender = { .sun_family = AF_UNIX };
	socklen_t length = sizeof(sender);
	char bytes[100];

	expect_up(generation);
	ck_assert_int_eq(recvfrom(fd, bytes, sizeof(bytes), 0,
			     (struct sockaddr *)&sender, &length),
	    4);
	ck_assert_mem_eq(bytes, "VFKT", 4);
	ck_assert_int_eq(recv(fd, bytes, sizeof(bytes), 0), 5);
	ck_assert_mem_eq(bytes, "hello", 5);
	ck_assert_int_eq(connect(fd, (struct sockaddr *)&sender, length), 0);
}

static void
aim_at_datagrams(void)
{
	char here[64];

	setenv("TMPDIR", getcwd(here, sizeof(here)), 1);
	aim("unixgram:sock");
}

/* It removes its file, as after SIGTERM; or its successor does, after SIGKILL. No
 * frame has to be sent to notice either. */
TEST(a_datagram_daemon_that_ends_and_restarts_is_dialled_at_once, .count = 4)
{
	bool proven = _i / 2, leaves_file = _i % 2;
	int fd = bound_datagrams("sock");

	aim_at_datagrams();
	start();
	for (uint64_t generation = 1; generation <= 10; generation++) {
		datagrams_serve(fd, generation);
		if (proven)
			prove(fd);
		wake_while_up(); /* its file is watched */
		close(fd);
		unlink("sock");
		if (!leaves_file)
			expect_lost(generation, proven, "peer closed");
		if (!leaves_file && proven)
			expect(LINK_EVENT_DIAL_FAILED);
		fd = bound_datagrams("sock");
		if (leaves_file)
			expect_lost(generation, proven, "peer closed");
	}
	expect_up(11);
	close(fd);
}

/* It is frozen, or doesn't care: what is at the path is the daemon. */
TEST(a_datagram_daemon_whose_file_is_replaced_is_left, .count = 2)
{
	int fd = bound_datagrams("sock"), next;

	aim_at_datagrams();
	start();
	datagrams_serve(fd, 1);
	wake_while_up();
	unlink("sock");
	if (_i == 1) { /* as long as no other is there, it may go on */
		wake_while_up();
		wake_while_up();
		ck_assert_int_eq(look().state, LINK_UP);
		prove(fd);
	}
	next = bound_datagrams("sock");
	expect_lost(1, _i, "another socket is at the daemon's path");
	datagrams_serve(next, 2);
	close(fd);
	close(next);
}

TEST(a_reload_leads_from_a_stream_to_datagrams_and_back)
{
	struct stand_in stream = daemon_at("stream");
	int fd = bound_datagrams("sock");

	aim("unix:stream");
	start();
	daemon_serve(&stream, 1);
	aim_at_datagrams();
	reload();
	expect_lost(1, PROVEN, "the network endpoint was changed");
	datagrams_serve(fd, 2);
	prove(fd);
	daemon_hang_up(&stream);
	aim("unix:stream");
	reload();
	expect_lost(2, PROVEN, "the network endpoint was changed");
	daemon_serve(&stream, 3);
	daemon_kill(&stream);
	close(fd);
}

/* ---- reloads ---- */

TEST(another_endpoint_ends_the_generation_and_is_dialled_at_once)
{
	struct stand_in first = daemon_at("sock"), second = daemon_at("other");

	start();
	daemon_serve(&first, 1);
	aim("unix:other");
	reload();
	expect_lost(1, PROVEN, "the network endpoint was changed");
	expect_up(2);
	daemon_kill(&first);
	daemon_kill(&second);
}

TEST(another_endpoint_is_dialled_at_once_from_the_backoff_and_watched)
{
	struct stand_in second;

	start();
	expect(LINK_EVENT_DIAL_FAILED);
	aim("unix:other");
	reload();
	expect(LINK_EVENT_DIAL_FAILED);
	second = daemon_at("other");
	expect_up(1);
	daemon_kill(&second);
}

/* The new reconnect.max applies to the present generation. */
TEST(other_settings_leave_the_connection_alone)
{
	struct stand_in daemon = daemon_at("sock");

	start();
	expect_up(1);
	daemon_accept(&daemon);
	settings.timing.min_ms = 1;
	settings.timing.max_ms = 20;
	reload();
	while (!look().proven)
		sched_yield();
	daemon_hang_up(&daemon);
	expect_lost(1, PROVEN, "peer closed");
	daemon_kill(&daemon);
}

TEST(a_reload_drops_a_daemon_that_is_no_longer_trusted)
{
	struct stand_in daemon = daemon_at("sock");

	settings.timing.min_ms = settings.timing.max_ms = 10;
	settings.user = STRANGER;
	ck_assert_int_eq(chmod(".", 01777), 0);
	atomic_store(&user_at_the_other_end, STRANGER);
	start();
	daemon_serve(&daemon, 1);
	reload();
	wake_while_up();
	ck_assert_int_eq(look().state, LINK_UP);
	settings.user = 0;
	reload();
	expect_lost(1, PROVEN, STRANGER_REFUSED);
	ck_assert_int_eq(expect(LINK_EVENT_DIAL_FAILED).error, EPERM);
	ck_assert_str_eq(
	    expect(LINK_EVENT_DIAL_FAILED).reason, STRANGER_REFUSED);
	atomic_store(&user_at_the_other_end, 0);
	expect_up(2);
	daemon_kill(&daemon);
}

/* ---- a daemon that is started ---- */

/* It runs this script, whose socket is descriptor 3. */
static void
aim_at_script(const char *script)
{
	char endpoint[300];

	snprintf(endpoint, sizeof(endpoint), "exec:sh -c '%s' {fd}", script);
	aim(endpoint);
}

static pid_t
running(void)
{
	struct daemon_view view;

	daemon_look(&fwd.daemon, &view);
	return view.pid;
}

static void
expect_daemon(uint64_t starts, const char *last_exit)
{
	struct daemon_view view;

	daemon_look(&fwd.daemon, &view);
	ck_assert_uint_eq(view.starts, starts);
	ck_assert_str_eq(view.last_exit, last_exit);
}

static void
await_proof(void)
{
	while (!look().proven)
		sched_yield();
}

/* Stops fwd-link; no process is left, not even as a zombie. */
static void
stop_and_expect_no_process(void)
{
	stop();
	ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1);
}

TEST(a_daemon_that_is_killed_is_reaped_and_started_at_once)
{
	aim_at_script("echo hello >&3; exec sleep 1000 >&3");
	start();
	for (uint64_t generation = 1; generation < 4; generation++) {
		pid_t pid;

		ck_assert_uint_eq(expect_up(generation).dials, 1);
		await_proof();
		expect_daemon(generation, generation > 1 ? "signal 9" : "");
		pid = running();
		ck_assert_int_eq(kill(pid, SIGKILL), 0);
		expect_lost(
		    generation, PROVEN, "the daemon was killed by signal 9");
		ck_assert_int_eq(kill(pid, 0), -1); /* reaped */
	}
	expect_up(4);
	stop_and_expect_no_process();
}

/* The backoff is too long for a second start. */
TEST(a_daemon_that_exits_at_once_is_a_failed_dial, .count = 2)
{
	static const char *const reasons[] = {
		"the daemon exited with status 3",
		"the daemon exited with status 0 (it must stay in the "
		"foreground)",
	};

	aim_at_script(_i == 0 ? "exit 3" : "sleep 1000 & exit 0");
	start();
	expect_up(1);
	expect_lost(1, UNPROVEN, reasons[_i]);
	ck_assert_str_eq(look().last_error, reasons[_i]);
	expect_daemon(1, _i == 0 ? "status 3" : "status 0");
	ck_assert_int_eq(running(), 0);
	stop_and_expect_no_process();
}

TEST(a_program_that_does_not_exist_is_a_failed_dial)
{
	aim("exec:./nothing {fd}");
	start();
	ck_assert_str_eq(expect(LINK_EVENT_DAEMON_FAILED).reason,
	    "can't run \"./nothing\": No such file or directory");
	expect_daemon(0, "");
	stop_and_expect_no_process();
}

/* It exits before it listens, or never listens. */
TEST(a_daemon_without_its_socket_is_reported_and_ended, .count = 2)
{
	aim(_i == 0 ? "exec:sh -c 'exit 3' {socket}"
		    : "exec:sh -c 'exec sleep 1000' {socket}");
	start();
	if (_i == 1) {
		expect(LINK_EVENT_DIAL_FAILED);
		ck_assert_int_gt(running(), 0);
		clock_skip(SUPERVISOR_START_MS);
		fwd_link_wake(&fwd);
	}
	ck_assert_str_eq(expect(LINK_EVENT_DAEMON_FAILED).reason,
	    _i == 0 ? "the daemon exited with status 3"
		    : "the daemon did not listen on its socket within 10 s");
	while (running() > 0)
		sched_yield();
	expect_daemon(1, _i == 0 ? "status 3" : "signal 15");
	stop_and_expect_no_process();
}

/* It has closed its connection, or another thread has given that up, perhaps for a
 * daemon that is stopped. */
TEST(a_daemon_without_its_generation_is_ended, .count = 2)
{
	aim_at_script(_i == 0 ? "echo >&3; exec sleep 1000 3>&-"
			      : "echo >&3; kill -STOP $$");
	start();
	expect_up(1);
	await_proof();
	if (_i == 1)
		link_fail(&shared, 1, "no answer");
	expect_lost(1, PROVEN,
	    _i == 0 ? "peer closed; the daemon was killed by signal 15"
		    : "no answer; the daemon was killed by signal 15");
	expect_up(2);
	stop_and_expect_no_process();
}

TEST(a_daemon_that_ignores_sigterm_is_killed, .count = 2)
{
	aim_at_script("trap \"\" TERM; echo >&3; while :; do sleep 1000; done");
	start();
	expect_up(1);
	await_proof();
	if (_i == 0) { /* within the stop's second */
		stop_and_expect_no_process();
		return;
	}
	aim("unix:sock");
	reload();
	clock_skip(SUPERVISOR_TERMINATE_MS);
	doorbell_ring(&shared.bell);
	expect(LINK_EVENT_DAEMON_KILLED);
	expect_lost(1, PROVEN,
	    "the network endpoint was changed; the daemon was killed by signal "
	    "9");
	stop_and_expect_no_process();
}

/* ---- stopping and interrupting ---- */

/* In the backoff at a path, while up, while a name server does not answer. */
TEST(it_stops_at_once_in_every_state, .count = 4)
{
	struct stand_in daemon = { .listener = -1 };

	if (_i == 2)
		daemon = daemon_at("sock");
	if (_i == 3)
		aim("tcp:hangs.test:7000");
	start();
	if (_i == 1)
		expect(LINK_EVENT_DIAL_FAILED);
	if (_i == 2)
		expect_up(1);
	if (_i == 3)
		lookups_await_question(1);
	stop();
	if (_i == 2)
		daemon_kill(&daemon);
}

/* Frames of the guest ring the link's bell. A SYN that found no room is repeated
 * after a second, and the same dial must still be waiting for it. */
TEST(only_a_stop_or_a_reload_interrupts_a_dial, .count = 2)
{
	char port[6], endpoint[32];
	int listener = listening_tcp(AF_INET, 0, port), fds[16];
	size_t count = fill_backlog(listener, fds, 16);

	snprintf(endpoint, sizeof(endpoint), "tcp:127.0.0.1:%s", port);
	aim(endpoint);
	start();
	await_dials(1);
	doorbell_ring(&shared.bell);
	if (_i == 0) {
		ck_assert_int_eq(listen(listener, 16), 0);
		ck_assert_uint_eq(expect_up(1).dials, 1);
	} else {
		reload(); /* does not count as a failed dial */
		await_dials(2);
		stop();
		expect_nothing_more();
	}
	close_all(fds, count);
	close(listener);
}

static struct doorbell hung, mended;

static void
hang(void *context, int fd, bool datagrams)
{
	(void)context, (void)fd, (void)datagrams;
	doorbell_ring(&hung);
	wait_readable(mended.fds[0], -1, INT64_MAX);
}

TEST(a_stop_does_not_wait_for_a_call_that_hangs)
{
	struct stand_in daemon = daemon_at("sock");
	int64_t stopped_ms;

	ck_assert_int_eq(doorbell_init(&hung), 0);
	ck_assert_int_eq(doorbell_init(&mended), 0);
	hooks.on_connected = hang;
	start();
	wait_readable(hung.fds[0], -1, INT64_MAX);
	stopped_ms = clock_now_ms();
	link_stop(&shared);
	ck_assert(!fwd_link_join(&fwd));
	ck_assert_int_lt(clock_now_ms() - stopped_ms, 700);
	doorbell_ring(&mended);
	stop();
	expect_nothing_more();
	daemon_kill(&daemon);
	doorbell_destroy(&hung);
	doorbell_destroy(&mended);
}

/* ---- clients ---- */

static int
call(void)
{
	return connected_unix(SOCK_STREAM, "sock");
}

static void
listen_at_sock(void)
{
	unlink("sock");
	aim("listen-unix:sock");
	settings.listen_fd = listening_unix("sock", 20);
	fcntl(settings.listen_fd, F_SETFL, O_NONBLOCK);
}

static int
first_client(void)
{
	int client;

	listen_at_sock();
	start();
	client = call();
	expect_up(1);
	return client;
}

static void
expect_hung_up(int fd)
{
	char byte;

	ck_assert_int_eq(read(fd, &byte, 1), 0);
	close(fd);
}

#define CLIENTS 20

TEST(the_newest_client_is_served_at_most_every_ten_milliseconds)
{
	int64_t began_ms = clock_now_ms();
	int clients[CLIENTS];

	listen_at_sock();
	for (int i = 0; i < CLIENTS; i++)
		clients[i] = call();
	start();
	expect_up(1);
	for (uint64_t generation = 2; generation <= CLIENTS; generation++) {
		expect_lost(
		    generation - 1, UNPROVEN, "replaced by a new client");
		expect_up(generation);
	}
	ck_assert_int_ge(
	    clock_now_ms() - began_ms, (CLIENTS - 1) * RECONNECT_SPACING_MS);
	close_all(clients, CLIENTS);
}

/* Once it waited for the end of a generation that the stop had already ended. */
TEST(a_client_that_connects_during_a_stop_is_closed)
{
	int first;

	hooks.refusal = stop_at_the_second;
	first = first_client();
	expect_hung_up(call());
	stop();
	expect_nothing_more();
	close(first);
}

TEST(a_client_that_cannot_be_accepted_is_reported_and_accepted_later)
{
	int client = first_client();

	close(client);
	expect(LINK_EVENT_LOST);
	client = dup(0); /* the lowest that is free */
	close(client);
	limit_descriptors(client + 1);
	client = call();
	ck_assert_int_eq(expect(LINK_EVENT_ACCEPT_FAILED).error, EMFILE);
	limit_descriptors(1000);
	expect_up(2);
	close(client);
}

TEST(a_client_that_may_not_connect_is_refused_now_and_after_a_reload)
{
	int client = first_client();

	atomic_store(&closed_to_all, true);
	expect_hung_up(call());
	expect_refused("closed");
	prove(client);
	reload();
	expect_lost(1, PROVEN, "the client is no longer in network.allow");
	close(client);
}

/* ---- where the present client is probed before another takes its place ---- */

static int
first_of_those_probed(bool that_answers)
{
	hooks.probe = probe;
	atomic_store(&answers, that_answers);
	return first_client();
}

TEST(a_client_that_answers_keeps_its_place)
{
	int first = first_of_those_probed(true);

	for (unsigned count = 1; count <= 3; count++) {
		int other = call();

		expect_refused("the present client answers");
		expect_hung_up(other);
		ck_assert_uint_eq(atomic_load(&probes), count);
	}
	prove(first);
	close(first);
	expect_lost(1, PROVEN, "peer closed");
}

/* After a second without an answer, or at once if the present one is gone. */
TEST(a_client_that_does_not_answer_loses_its_place, .count = 2)
{
	int64_t began_ms = clock_now_ms();
	char hello[5];
	int first, second;

	atomic_store(&ends_when_probed, _i == 1);
	first = first_of_those_probed(false);
	second = call();
	expect_lost(1, UNPROVEN, _i ? "it ended" : "replaced by a new client");
	expect_up(2);
	if (_i == 0)
		ck_assert_int_ge(clock_now_ms() - began_ms, 1000);
	ck_assert_uint_eq(atomic_load(&probes), _i ? 1 : LISTENER_PROBES);
	ck_assert_int_eq(recv(second, hello, 5, MSG_WAITALL), 5);
	close(first);
	close(second);
}

/* network.allow may have changed, so the client has to connect again. */
TEST(a_candidate_is_dropped_by_a_reload_and_by_the_stop)
{
	int first = first_of_those_probed(false), second = call();

	while (atomic_load(&probes) == 0)
		sched_yield();
	reload();
	expect_hung_up(second);
	atomic_store(&probes, 0);
	second = call();
	while (atomic_load(&probes) == 0)
		sched_yield();
	stop();
	expect_hung_up(second);
	close(first);
}

/* ---- time ---- */

/* Neither the backoff nor the watch would find the daemon in time. */
TEST(after_a_suspend_the_daemon_is_dialled_at_once)
{
	struct stand_in daemon;

	settings.watch = false;
	start();
	expect(LINK_EVENT_DIAL_FAILED);
	clock_sleep(60000);
	ck_assert_uint_eq(expect(LINK_EVENT_DIAL_FAILED).dials, 2);
	daemon = daemon_at("sock");
	clock_sleep(60000);
	ck_assert_uint_eq(expect_up(1).dials, 3);
	daemon_kill(&daemon);
}

/* Woken by the system, or by anything else if the system doesn't report it. */
TEST(after_a_suspend_the_keepalive_is_told_once, .count = 2)
{
	struct stand_in daemon = daemon_at("sock");

	if (_i == 0)
		ck_assert_int_eq(pipe_open(resume_pipe), 0);
	start();
	daemon_serve(&daemon, 1);
	wake_while_up();
	ck_assert_uint_eq(atomic_load(&resumes), 0);
	clock_sleep(60000);
	if (_i == 0)
		ck_assert_int_eq(write(resume_pipe[1], "x", 1), 1);
	else
		wake_while_up();
	while (atomic_load(&resumes) == 0)
		sched_yield();
	wake_while_up();
	wake_while_up();
	ck_assert_uint_eq(atomic_load(&resumes), 1);
	daemon_kill(&daemon);
	if (_i == 0)
		close(resume_pipe[1]);
}

TEST(a_long_outage_is_reported_with_its_last_error, .count = 2)
{
	struct link_event event;

	if (_i == 1)
		listen_at_sock();
	start();
	if (_i == 0)
		expect(LINK_EVENT_DIAL_FAILED);
	clock_skip(RECONNECT_LONG_OUTAGE_MS);
	reload(); /* as if the backoff had taken so long */
	event = expect(LINK_EVENT_LONG_OUTAGE);
	ck_assert_str_eq(event.reason, _i == 0 ? strerror(ENOENT) : "");
	ck_assert_int_ge(event.outage_ms, RECONNECT_LONG_OUTAGE_MS);
	ck_assert_uint_eq(event.dials, _i == 0);
}

/* ---- many forwarders on a host ---- */

static _Atomic pid_t pretended;

/* Another process each time. */
pid_t
getpid(void)
{
	pid_t pid = atomic_load(&pretended);
	pid_t (*real)(void) = dlsym(RTLD_NEXT, "getpid");

	return pid ? pid : real();
}

TEST(forwarders_started_in_the_same_millisecond_differ_in_jitter)
{
	uint32_t random[2];

	clock_stop(1000000);
	for (int i = 0; i < 2; i++) {
		listen_at_sock(); /* takes no jitter */
		atomic_store(&pretended, 1000 + i);
		start();
		stop();
		atomic_store(&pretended, 0);
		random[i] = fwd.machine.random;
	}
	ck_assert_uint_ne(random[0], random[1]);
}
