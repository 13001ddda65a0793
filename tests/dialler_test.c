#include "reconnect/dialler.h"

#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/wait.h"
#include "tests/support/hanging_lookup.h"
#include "tests/support/listener.h"
#include "tests/support/settable_clock.h"
#include "tests/support/settable_user.h"
#include "tests/support/suite.h"

/* So long that only something else than the backoff can end a wait. */
#define LONG_MS (10 * 60 * 1000)

static struct link shared;
static struct dialler dialler;
static struct dialler_settings settings;
static unsigned descriptors_before;

/* What the dialler reported, to be read one after the other. */
static struct {
	pthread_mutex_t lock;
	pthread_cond_t more;
	struct link_event events[1000];
	char reasons[1000][LINK_REASON_BYTES];
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

static bool
is_on_the_way(enum link_event_kind kind)
{
	return kind == LINK_EVENT_DIAL_FAILED || kind == LINK_EVENT_SETTLED;
}

/* The next event; failed dials on the way, and connections that settle, only
 * where they are what is expected. */
static struct link_event
expect(enum link_event_kind kind)
{
	struct link_event event = next_event();

	while (event.kind != kind && is_on_the_way(event.kind))
		event = next_event();
	ck_assert_int_eq(event.kind, kind);
	return event;
}

static struct link_event
expect_up(uint64_t generation, bool again)
{
	struct link_event event = expect(LINK_EVENT_UP);

	ck_assert_uint_eq(event.generation, generation);
	ck_assert_int_eq(event.again, again);
	ck_assert_uint_ge(event.dials, 1);
	ck_assert_int_ge(event.outage_ms, 0);
	return event;
}

static void
expect_end(enum link_event_kind kind, uint64_t generation, const char *reason)
{
	struct link_event event = expect(kind);

	ck_assert_uint_eq(event.generation, generation);
	ck_assert_str_eq(event.reason, reason);
	ck_assert_int_ge(event.up_ms, 0);
}

static void
expect_end_of_candidate(const char *reason)
{
	struct link_event event = expect(LINK_EVENT_CLIENT_REFUSED);

	ck_assert_str_eq(event.reason, reason);
	ck_assert_int_eq(event.client->sa_family, AF_UNIX);
}

static void
expect_no_more_events(void)
{
	pthread_mutex_lock(&record.lock);
	ck_assert_uint_eq(record.read, record.written);
	pthread_mutex_unlock(&record.lock);
}

/* Says hello, and sees to it that nobody else could have before. */
static void
greet(void *context, int fd)
{
	struct link_view view;

	ck_assert_ptr_eq(context, &record);
	ck_assert(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	ck_assert_int_eq(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
	link_look(&shared, &view);
	ck_assert_int_ne(view.state, LINK_UP);
	(void)!send(fd, "hello", 5, MSG_NOSIGNAL);
}

static atomic_uint tended;

static int64_t
tend_nothing(void *context, uint64_t generation, int64_t now_ms)
{
	(void)generation;
	(void)now_ms;
	ck_assert_ptr_eq(context, &record);
	atomic_fetch_add(&tended, 1);
	return INT64_MAX;
}

/* Makes the thread look, while up, and waits until it is about to sleep. */
static void
wake_while_up(void)
{
	unsigned before = atomic_load(&tended);

	doorbell_ring(&shared.bell);
	while (atomic_load(&tended) == before)
		sched_yield();
}

static struct dialler_hooks hooks = { .context = &record,
	.event = on_event,
	.greet = greet,
	.tend = tend_nothing };

/* As fwd-down does: the first byte is proof of life, the end is reported. */
static void *
read_always(void *argument)
{
	struct loan loan;
	char bytes[64];

	(void)argument;
	while (link_borrow_next(&shared, &loan) == LINK_READY) {
		while (read(loan.fd, bytes, sizeof(bytes)) > 0)
			link_heard(&shared, loan.generation);
		link_fail(&shared, loan.generation, "peer closed");
		link_return(&loan);
	}
	return NULL;
}

static pthread_t reader;
static bool started;

static void
aim(const char *endpoint)
{
	struct error why;

	ck_assert_int_eq(endpoint_parse(&settings.endpoint, endpoint, &why), 0);
}

static void
set_up(void)
{
	signal(SIGPIPE, SIG_IGN);
	clock_stop(0);
	scratch_enter();
	descriptors_before = open_descriptors();
	settings = (struct dialler_settings){ .min_ms = LONG_MS,
		.max_ms = LONG_MS,
		.watch = true,
		.listen_fd = -1 };
	aim("unix:sock");
}

static void
start(void)
{
	started = true;
	ck_assert_int_eq(link_init(&shared, settings.max_ms), 0);
	ck_assert_int_eq(
	    dialler_start(&dialler, &shared, &settings, &hooks), 0);
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
	dialler_join(&dialler);
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

/* A daemon of our own making. */
struct daemon {
	int listener, peer;
};

static struct daemon
daemon_start(const char *path)
{
	return (struct daemon){ listening_unix(path, 5), -1 };
}

static void
daemon_accept(struct daemon *daemon)
{
	char hello[5];

	daemon->peer = accept(daemon->listener, NULL, NULL);
	ck_assert_int_ge(daemon->peer, 0);
	ck_assert_int_eq(recv(daemon->peer, hello, 5, MSG_WAITALL), 5);
	ck_assert_mem_eq(hello, "hello", 5);
}

static bool
is_proven(void)
{
	struct link_view view;

	link_look(&shared, &view);
	return view.proven;
}

static void
daemon_prove(struct daemon *daemon)
{
	ck_assert_int_eq(send(daemon->peer, "x", 1, MSG_NOSIGNAL), 1);
	while (!is_proven())
		sched_yield();
}

static void
daemon_hang_up(struct daemon *daemon)
{
	close(daemon->peer);
	daemon->peer = -1;
}

/* The listener goes first: nobody is dialled into its backlog any more. */
static void
daemon_kill(struct daemon *daemon, const char *path)
{
	unlink(path);
	close(daemon->listener);
	if (daemon->peer >= 0)
		close(daemon->peer);
}

static uint64_t
outages(void)
{
	struct link_view view;

	link_look(&shared, &view);
	return view.outages;
}

FIXTURE(set_up, tear_down)

TEST(a_daemon_that_is_there_is_dialled_at_once)
{
	struct daemon daemon = daemon_start("sock");
	struct link_event event;

	start();
	event = expect_up(1, false);
	ck_assert_uint_eq(event.dials, 1);
	daemon_accept(&daemon);
	daemon_kill(&daemon, "sock");
}

TEST(a_daemon_absent_at_start_is_dialled_when_it_appears)
{
	struct daemon daemon;
	struct link_event event;

	start();
	event = next_event();
	ck_assert_int_eq(event.kind, LINK_EVENT_DIAL_FAILED);
	ck_assert_str_eq(event.reason, strerror(ENOENT));
	daemon = daemon_start("sock");
	event = expect_up(1, false);
	ck_assert_uint_ge(event.dials, 2);
	daemon_accept(&daemon);
	ck_assert_uint_eq(outages(), 0);
	daemon_kill(&daemon, "sock");
}

TEST(a_daemon_that_restarts_at_once_is_dialled_at_once)
{
	struct daemon daemon = daemon_start("sock");

	start();
	for (uint64_t generation = 1; generation <= 10; generation++) {
		expect_up(generation, false);
		daemon_accept(&daemon);
		daemon_prove(&daemon);
		daemon_kill(&daemon, "sock");
		daemon = daemon_start("sock");
		expect_end(LINK_EVENT_LOST, generation, "peer closed");
	}
	expect_up(11, false);
	ck_assert_uint_eq(outages(), 10);
	daemon_kill(&daemon, "sock");
}

TEST(a_daemon_that_restarts_late_is_dialled_when_it_appears)
{
	struct daemon daemon = daemon_start("sock");

	start();
	expect_up(1, false);
	daemon_accept(&daemon);
	daemon_prove(&daemon);
	daemon_kill(&daemon, "sock");
	expect_end(LINK_EVENT_LOST, 1, "peer closed");
	expect(LINK_EVENT_DIAL_FAILED);
	daemon = daemon_start("sock");
	expect_up(2, false);
	daemon_kill(&daemon, "sock");
}

TEST(a_daemon_that_hangs_up_and_listens_on_is_dialled_at_once)
{
	struct daemon daemon = daemon_start("sock");

	start();
	for (uint64_t generation = 1; generation <= 5; generation++) {
		struct link_event event = expect_up(generation, false);

		ck_assert_uint_eq(event.dials, 1);
		daemon_accept(&daemon);
		daemon_prove(&daemon);
		daemon_hang_up(&daemon);
		expect_end(LINK_EVENT_LOST, generation, "peer closed");
	}
	daemon_kill(&daemon, "sock");
}

/* The backlog takes the dial, dies, and then the next daemon appears. */
TEST(a_backlog_that_dies_is_no_outage)
{
	struct daemon daemon = daemon_start("sock");

	start();
	expect_up(1, false);
	daemon_accept(&daemon);
	daemon_prove(&daemon);
	daemon_hang_up(&daemon);
	expect_end(LINK_EVENT_LOST, 1, "peer closed");
	expect_up(2, false); /* nobody accepted it */
	daemon_kill(&daemon, "sock");
	expect(LINK_EVENT_UNPROVEN);
	daemon = daemon_start("sock");
	expect_up(3, true);
	/* It has not spoken, and can't be proven by age in this test. */
	ck_assert_uint_eq(expect(LINK_EVENT_SETTLED).generation, 3);
	daemon_accept(&daemon);
	daemon_prove(&daemon);
	ck_assert_uint_eq(outages(), 1);
	daemon_kill(&daemon, "sock");
	expect_end(LINK_EVENT_LOST, 3, "peer closed");
	ck_assert_uint_eq(outages(), 2);
}

/* The next daemon appears while the dead one's backlog is still open. */
TEST(a_path_that_appears_before_the_backlog_died_is_not_missed)
{
	struct daemon old = daemon_start("sock"), new;

	start();
	expect_up(1, false);
	unlink("sock");
	new = daemon_start("sock");
	close(old.listener);
	expect(LINK_EVENT_UNPROVEN);
	expect_up(2, true);
	daemon_accept(&new);
	daemon_kill(&new, "sock");
}

/* Accepts and closes at once until end_ms; says how often. */
static unsigned
close_whatever_comes(const struct daemon *daemon, int64_t end_ms)
{
	struct pollfd dialled = { .fd = daemon->listener, .events = POLLIN };
	unsigned count = 0;

	while (poll(&dialled, 1, wait_timeout(end_ms)) > 0) {
		close(accept(daemon->listener, NULL, NULL));
		count++;
	}
	return count;
}

TEST(a_daemon_that_accepts_and_closes_is_dialled_with_backoff)
{
	struct daemon daemon = daemon_start("sock");
	int64_t began_ms = clock_now_ms();
	unsigned dials;

	settings.min_ms = 100;
	settings.max_ms = 2000;
	settings.jitter_percent = 25;
	start();
	dials = close_whatever_comes(&daemon, began_ms + 500);
	ck_assert_uint_ge(dials, 1);
	ck_assert_uint_le(dials, 3); /* at 0, 75 and 225 ms; then at 525 */
	ck_assert_uint_eq(outages(), 0);
	daemon_kill(&daemon, "sock");
	stop();
	/* Told as failed dials, or as generations that never lived. */
	while (record.read < record.written)
		ck_assert_int_ne(next_event().kind, LINK_EVENT_LOST);
}

TEST(a_daemon_that_sends_a_byte_and_dies_does_not_spin_us)
{
	struct daemon daemon = daemon_start("sock");
	int64_t began_ms = clock_now_ms();

	start();
	for (uint64_t generation = 1; generation <= 20; generation++) {
		daemon_accept(&daemon);
		ck_assert_int_eq(send(daemon.peer, "x", 1, MSG_NOSIGNAL), 1);
		daemon_hang_up(&daemon);
		expect_up(generation, false);
		expect_end(LINK_EVENT_LOST, generation, "peer closed");
	}
	ck_assert_int_ge(clock_now_ms() - began_ms, 19 * REDIAL_SPACING_MS);
	ck_assert_uint_eq(outages(), 20);
	daemon_kill(&daemon, "sock");
}

/* Copy threads borrow the moment the link is up; the greeting is before. */
static void *
write_always(void *argument)
{
	struct loan loan;

	(void)argument;
	while (link_borrow(&shared, &loan, LINK_WHILE_HELD) == LINK_READY) {
		if (send(loan.fd, "frame", 5, MSG_NOSIGNAL) != 5)
			link_fail(&shared, loan.generation, "broken pipe");
		link_return(&loan);
	}
	return NULL;
}

TEST(the_greeting_comes_before_any_frame)
{
	struct daemon daemon = daemon_start("sock");
	pthread_t writer;

	start();
	ck_assert_int_eq(pthread_create(&writer, NULL, write_always, NULL), 0);
	for (int i = 0; i < 10; i++) {
		daemon_accept(&daemon); /* reads it */
		daemon_prove(&daemon);
		daemon_hang_up(&daemon);
	}
	daemon_kill(&daemon, "sock");
	link_stop(&shared);
	pthread_join(writer, NULL);
}

static void
say_nothing(void *context, int fd)
{
	(void)context;
	(void)fd;
}

/* What it has written is still read, and it is proof of life. */
TEST(a_daemon_that_writes_and_dies_before_it_is_greeted_was_there)
{
	struct daemon daemon = daemon_start("sock");

	hooks.greet = say_nothing;
	start();
	for (uint64_t generation = 1; generation <= 5; generation++) {
		int peer = accept(daemon.listener, NULL, NULL);

		ck_assert_int_eq(send(peer, "x", 1, MSG_NOSIGNAL), 1);
		close(peer);
		expect_up(generation, false);
		expect_end(LINK_EVENT_LOST, generation, "peer closed");
	}
	daemon_kill(&daemon, "sock");
}

TEST(without_a_watch_the_backoff_finds_the_daemon)
{
	struct daemon daemon;

	settings.min_ms = 1;
	settings.max_ms = 20;
	settings.watch = false;
	start();
	for (int i = 0; i < 5; i++)
		expect(LINK_EVENT_DIAL_FAILED);
	daemon = daemon_start("sock");
	expect_up(1, false);
	daemon_kill(&daemon, "sock");
}

/* As main() does, which has files of its own to watch. */
static struct file_watch others;
static atomic_bool over;

static void *
read_others_events(void *unused)
{
	while (!atomic_load(&over))
		(void)file_watch_deleted(&others);
	return unused;
}

TEST(a_path_that_another_thread_was_told_of_is_dialled_at_once)
{
	struct doorbell bell;
	struct daemon daemon;
	pthread_t thread;

	ck_assert_int_eq(doorbell_init(&bell), 0);
	file_watch_init(&others, &bell);
	ck_assert_int_eq(file_watch_file(&others, "."), 0);
	ck_assert_int_eq(
	    pthread_create(&thread, NULL, read_others_events, NULL), 0);
	start();
	for (unsigned generation = 1; generation <= 20; generation++) {
		expect(LINK_EVENT_DIAL_FAILED);
		daemon = daemon_start("sock");
		expect_up(generation, false);
		daemon_accept(&daemon);
		daemon_prove(&daemon);
		daemon_kill(&daemon, "sock");
		expect_end(LINK_EVENT_LOST, generation, "peer closed");
	}
	atomic_store(&over, true);
	pthread_join(thread, NULL);
	file_watch_destroy(&others);
	doorbell_destroy(&bell);
}

static void
limit_descriptors(rlim_t number)
{
	struct rlimit limit;

	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = number;
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

/* What came while nothing was watched is found, too. */
TEST(a_watch_that_was_refused_is_told_once_and_armed_later)
{
	struct link_event event;
	struct daemon daemon;

	aim("tcp:127.0.0.1:1");
	start();
	expect(LINK_EVENT_DIAL_FAILED);
	daemon = daemon_start("sock");
	limit_descriptors(3);
	aim("unix:sock");
	dialler_configure(&dialler, &settings);
	event = expect(LINK_EVENT_UNWATCHED);
	ck_assert_str_eq(event.reason, strerror(EMFILE));
	ck_assert_int_eq(event.error, EMFILE);
	expect(LINK_EVENT_DIAL_FAILED);
	dialler_configure(&dialler, &settings);
	expect(LINK_EVENT_DIAL_FAILED);
	limit_descriptors(1000);
	expect_up(1, false);
	daemon_kill(&daemon, "sock");
}

/* The system gives a user only so many. */
TEST(nothing_is_taken_to_watch_where_there_is_no_path)
{
	aim("tcp:127.0.0.1:1");
	start();
	expect(LINK_EVENT_DIAL_FAILED);
	stop();
	ck_assert_int_eq(file_watch_fd(&dialler.watch), -1);
}

TEST(another_endpoint_ends_the_present_generation)
{
	struct daemon first = daemon_start("sock");
	struct daemon second = daemon_start("other");

	start();
	expect_up(1, false);
	daemon_accept(&first);
	daemon_prove(&first);
	aim("unix:other");
	dialler_configure(&dialler, &settings);
	expect_end(LINK_EVENT_LOST, 1, "the network endpoint was changed");
	expect_up(2, false);
	daemon_accept(&second);
	daemon_kill(&first, "sock");
	daemon_kill(&second, "other");
}

TEST(another_endpoint_is_dialled_at_once_from_an_unproven_one)
{
	struct daemon first = daemon_start("sock");
	struct daemon second = daemon_start("other");

	start();
	expect_up(1, false);
	aim("unix:other");
	dialler_configure(&dialler, &settings);
	expect_end(LINK_EVENT_UNPROVEN, 1, "the network endpoint was changed");
	expect_up(2, true);
	daemon_kill(&first, "sock");
	daemon_kill(&second, "other");
}

TEST(another_endpoint_is_dialled_at_once_from_the_backoff)
{
	struct daemon second = daemon_start("other");

	start();
	expect(LINK_EVENT_DIAL_FAILED);
	aim("unix:other");
	dialler_configure(&dialler, &settings);
	expect_up(1, false);
	daemon_kill(&second, "other");
}

TEST(another_endpoint_is_watched)
{
	struct daemon second;

	start();
	expect(LINK_EVENT_DIAL_FAILED);
	aim("unix:other");
	dialler_configure(&dialler, &settings);
	expect(LINK_EVENT_DIAL_FAILED);
	second = daemon_start("other");
	expect_up(1, false);
	daemon_kill(&second, "other");
}

TEST(other_settings_leave_the_connection_alone)
{
	struct daemon daemon = daemon_start("sock");

	start();
	expect_up(1, false);
	daemon_accept(&daemon);
	daemon_prove(&daemon);
	settings.min_ms = 1;
	settings.max_ms = 20;
	dialler_configure(&dialler, &settings);
	wake_while_up();
	daemon_hang_up(&daemon);
	expect_end(LINK_EVENT_LOST, 1, "peer closed");
	daemon_kill(&daemon, "sock");
}

/* Told once however often it is dialled, and once more after a reload. */
TEST(a_daemon_that_may_not_answer_any_more_is_let_go_on_a_reload)
{
	struct daemon daemon = daemon_start("sock");

	settings.min_ms = settings.max_ms = 10;
	settings.user = STRANGER;
	ck_assert_int_eq(listen(daemon.listener, 1000), 0);
	ck_assert_int_eq(chmod(".", 01777), 0);
	atomic_store(&user_at_the_other_end, STRANGER);
	start();
	expect_up(1, false);
	daemon_accept(&daemon);
	daemon_prove(&daemon);
	dialler_configure(&dialler, &settings);
	wake_while_up();
	expect_no_more_events();
	settings.user = 0;
	for (int i = 0; i < 2; i++) {
		dialler_configure(&dialler, &settings);
		if (i == 0)
			expect_end(LINK_EVENT_LOST, 1, STRANGER_REFUSED);
		expect_end(LINK_EVENT_DISTRUSTED, 1, STRANGER_REFUSED);
		for (int dials = 0; dials < 3; dials++) {
			struct link_event event = next_event();

			ck_assert_int_eq(event.kind, LINK_EVENT_DIAL_FAILED);
			ck_assert_str_eq(event.reason, STRANGER_REFUSED);
		}
	}
	atomic_store(&user_at_the_other_end, 0);
	expect_up(2, false);
	daemon_kill(&daemon, "sock");
}

TEST(it_stops_while_up_and_quiet)
{
	struct daemon daemon = daemon_start("sock");

	start();
	expect_up(1, false);
	stop();
	daemon_kill(&daemon, "sock");
}

TEST(it_stops_in_the_backoff)
{
	start();
	expect(LINK_EVENT_DIAL_FAILED);
}

TEST(it_stops_before_it_began)
{
	start();
}

TEST(it_stops_in_front_of_a_full_backlog)
{
	int listener = listening_unix("sock", 0), fds[16];
	size_t count = fill_backlog(listener, fds, 16);

	start();
	expect(LINK_EVENT_DIAL_FAILED);
	stop();
	close_all(fds, count);
	close(listener);
}

static void
greet_and_stop(void *context, int fd)
{
	link_stop(&shared);
	greet(context, fd);
}

TEST(a_connection_that_comes_after_the_stop_is_not_told)
{
	struct daemon daemon = daemon_start("sock");

	hooks.greet = greet_and_stop;
	start();
	daemon_accept(&daemon);
	stop();
	expect_no_more_events();
	daemon_kill(&daemon, "sock");
}

static bool
admit_the_first_and_stop(void *context, const struct sockaddr *client)
{
	struct link_view view;

	(void)context;
	(void)client;
	link_look(&shared, &view);
	if (view.state == LINK_UP)
		link_stop(&shared);
	return true;
}

static void
call_with(int fd, const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	ck_assert_int_eq(
	    connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
}

static int
call(const char *path)
{
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	call_with(fd, path);
	return fd;
}

static void
listen_on(const char *path)
{
	char endpoint[32];

	snprintf(endpoint, sizeof(endpoint), "listen-unix:%s", path);
	aim(endpoint);
	settings.listen_fd = listening_unix(path, 5);
	fcntl(settings.listen_fd, F_SETFL, O_NONBLOCK);
}

/* It looked for the end of a generation that the stop had ended untold. */
TEST(a_client_that_comes_as_it_stops_is_turned_away)
{
	int first, second;
	char byte;

	listen_on("sock");
	hooks.admit = admit_the_first_and_stop;
	start();
	first = call("sock");
	expect_up(1, false);
	second = call("sock");
	ck_assert_int_eq(read(second, &byte, 1), 0);
	stop();
	expect_no_more_events();
	close(first);
	close(second);
}

static int64_t
processor_ms(void)
{
	struct timespec used;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
	return used.tv_sec * 1000 + used.tv_nsec / 1000000;
}

/* accept() fails and the client still waits: poll() returned at once. */
TEST(a_client_that_cannot_be_let_in_spins_nobody_and_is_told_once)
{
	struct rlimit before, none;
	struct link_event event;
	int64_t used_ms;
	int client;

	listen_on("sock");
	start();
	client = socket(AF_UNIX, SOCK_STREAM, 0);
	getrlimit(RLIMIT_NOFILE, &before);
	none = before;
	none.rlim_cur = (rlim_t)client + 1; /* the lowest that was free */
	setrlimit(RLIMIT_NOFILE, &none);
	call_with(client, "sock");
	event = expect(LINK_EVENT_ACCEPT_FAILED);
	ck_assert_str_eq(event.reason, strerror(EMFILE));
	used_ms = processor_ms();
	ck_assert_int_eq(wait_readable(-1, client, clock_now_ms() + 1500), -1);
	ck_assert_int_eq(errno, ETIMEDOUT);
	ck_assert_int_lt(processor_ms() - used_ms, 500);
	expect_no_more_events();
	setrlimit(RLIMIT_NOFILE, &before);
	expect_up(1, false);
	close(client);
}

TEST(a_listener_that_is_told_to_stop_is_closed_and_can_come_back)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX,
		.sun_path = "sock" };
	int first, late, second;

	listen_on("sock");
	start();
	first = call("sock");
	expect_up(1, false);
	dialler_stop_listening(&dialler);
	late = socket(AF_UNIX, SOCK_STREAM, 0);
	ck_assert_int_eq(
	    connect(late, (struct sockaddr *)&address, sizeof(address)), -1);
	ck_assert_int_eq(errno, ECONNREFUSED);
	ck_assert_int_eq(send(first, "x", 1, MSG_NOSIGNAL), 1);
	while (!is_proven())
		sched_yield();
	unlink("sock");
	listen_on("sock");
	dialler_configure(&dialler, &settings);
	second = call("sock");
	expect_end(LINK_EVENT_LOST, 1, "another client took its place");
	expect_up(2, false);
	close(first);
	close(late);
	close(second);
}

static atomic_bool closed_to_all;

static bool
admit_while_open(void *context, const struct sockaddr *client)
{
	ck_assert_ptr_eq(context, &record);
	ck_assert_int_eq(client->sa_family, AF_UNIX);
	return !closed_to_all;
}

TEST(a_client_who_may_not_come_in_any_more_is_shown_out_on_a_reload)
{
	int client;

	listen_on("sock");
	hooks.admit = admit_while_open;
	start();
	client = call("sock");
	expect_up(1, false);
	settings.listen_fd = -1;
	closed_to_all = true;
	dialler_configure(&dialler, &settings);
	expect_end(
	    LINK_EVENT_UNPROVEN, 1, "the client is not in allow any more");
	close(client);
}

/* ---- where the present client is asked before another takes its place ---- */

static atomic_uint asks;
static atomic_bool answers, ends_when_asked;

static bool
ask(void *context, uint64_t generation)
{
	ck_assert_ptr_eq(context, &record);
	ck_assert_uint_ge(generation, 1);
	if (ends_when_asked)
		link_fail(&shared, generation, "it ended");
	atomic_fetch_add(&asks, 1);
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

static int
first_of_those_asked(bool that_answers)
{
	int first;

	hooks.ask = ask;
	hooks.alive = is_alive;
	atomic_store(&asks, 0);
	atomic_store(&answers, that_answers);
	listen_on("sock");
	start();
	first = call("sock");
	expect_up(1, false);
	return first;
}

static void
await_ask(void)
{
	while (atomic_load(&asks) == 0)
		sched_yield();
}

static void
expect_hung_up(int fd)
{
	char byte;

	ck_assert_int_eq(read(fd, &byte, 1), 0);
	close(fd);
}

TEST(a_client_that_answers_keeps_its_place)
{
	int first = first_of_those_asked(true);

	for (unsigned count = 1; count <= 3; count++) {
		int other = call("sock");

		expect_end_of_candidate("the present one answers");
		expect_hung_up(other);
		ck_assert_uint_eq(atomic_load(&asks), count);
	}
	ck_assert_int_eq(send(first, "x", 1, MSG_NOSIGNAL), 1);
	while (!is_proven())
		sched_yield();
	close(first);
	expect_end(LINK_EVENT_LOST, 1, "peer closed");
}

TEST(a_client_that_answers_nothing_for_a_second_loses_its_place)
{
	int64_t began_ms = clock_now_ms();
	int first = first_of_those_asked(false), second = call("sock");
	char hello[5];

	expect_end(LINK_EVENT_UNPROVEN, 1, "another client took its place");
	expect_up(2, true);
	ck_assert_int_ge(clock_now_ms() - began_ms, 1000);
	ck_assert_uint_ge(atomic_load(&asks), CANDIDATE_ASKS);
	ck_assert_int_eq(recv(second, hello, 5, MSG_WAITALL), 5);
	close(first);
	close(second);
}

TEST(a_client_need_not_wait_for_one_that_is_gone)
{
	int first, second;

	atomic_store(&ends_when_asked, true);
	first = first_of_those_asked(false);
	second = call("sock");
	expect_end(LINK_EVENT_UNPROVEN, 1, "it ended");
	expect_up(2, true);
	ck_assert_uint_eq(atomic_load(&asks), 1);
	close(first);
	close(second);
}

/* Who may come in may have changed: it has to call again. */
TEST(a_client_that_waits_is_let_go_by_a_reload_and_by_the_end)
{
	int first = first_of_those_asked(false), second = call("sock");

	await_ask();
	settings.listen_fd = -1;
	dialler_configure(&dialler, &settings);
	expect_hung_up(second);
	atomic_store(&asks, 0);
	second = call("sock");
	await_ask();
	stop();
	expect_hung_up(second);
	expect_no_more_events();
	close(first);
}

/* Until after the next tick. */
static int64_t
tend_slowly_once(void *context, uint64_t generation, int64_t now_ms)
{
	static atomic_bool done;

	(void)context;
	(void)generation;
	(void)now_ms;
	if (atomic_load(&asks) == 1 && !atomic_exchange(&done, true))
		poll(NULL, 0, CANDIDATE_TICK_MS + 20);
	return INT64_MAX;
}

TEST(a_tick_that_passes_while_tending_is_not_slept_through)
{
	int first, second;

	hooks.tend = tend_slowly_once;
	first = first_of_those_asked(true);
	second = call("sock");
	expect_end_of_candidate("the present one answers");
	expect_hung_up(second);
	close(first);
}

/* A dial that hangs is told by nothing but its count. */
static void
await_dial(void)
{
	struct link_view view = { 0 };

	while (view.dials == 0) {
		sched_yield();
		link_look(&shared, &view);
	}
}

/* Poll has seen the client, then the listener is closed by a reload. */
static int64_t
tend_and_move(void *context, uint64_t generation, int64_t now_ms)
{
	if (atomic_load(&tended) == 0) {
		int client = socket(AF_UNIX, SOCK_STREAM, 0);

		call_with(client, "sock");
		close(client);
		aim("unix:other");
		settings.listen_fd = -1;
		dialler_configure(&dialler, &settings);
	}
	return tend_nothing(context, generation, now_ms);
}

TEST(a_client_that_waited_at_a_closed_listener_is_no_failure)
{
	int client = socket(AF_UNIX, SOCK_STREAM, 0);

	hooks.tend = tend_and_move;
	listen_on("sock");
	start();
	call_with(client, "sock");
	expect_up(1, false);
	expect_end(LINK_EVENT_UNPROVEN, 1, "the network endpoint was changed");
	ck_assert_int_eq(next_event().kind, LINK_EVENT_DIAL_FAILED);
	close(client);
}

TEST(it_stops_while_a_host_is_silent)
{
	char port[6], endpoint[32];
	int listener = listening_tcp(AF_INET, 0, port), fds[16];
	size_t count = fill_backlog(listener, fds, 16);

	snprintf(endpoint, sizeof(endpoint), "tcp:127.0.0.1:%s", port);
	aim(endpoint);
	start();
	await_dial();
	stop();
	close_all(fds, count);
	close(listener);
}

/* The bell rings with whatever the guest teaches; the second try of a SYN that
 * found no room, a second later, has to find the same dial. */
TEST(the_links_bell_interrupts_no_dial)
{
	char port[6], endpoint[32];
	int listener = listening_tcp(AF_INET, 0, port), fds[16];
	size_t count = fill_backlog(listener, fds, 16);

	snprintf(endpoint, sizeof(endpoint), "tcp:127.0.0.1:%s", port);
	aim(endpoint);
	start();
	await_dial();
	for (int i = 0; i < 1000; i++) {
		doorbell_ring(&shared.bell);
		sched_yield();
	}
	ck_assert_int_eq(listen(listener, 16), 0);
	ck_assert_uint_eq(expect_up(1, false).dials, 1);
	close_all(fds, count);
	close(listener);
}

TEST(it_stops_while_a_name_server_is_silent)
{
	aim("tcp:hangs.test:7000");
	start();
	lookups_await_question(1);
}

/* The number behind `field:` in a thread's status, of the thread that has
 * that name; -1 where the system has no such files. */
static long
status_of_thread(const char *name, const char *field)
{
	DIR *tasks = opendir("/proc/self/task");
	struct dirent *task;
	long value = -1;

	while (tasks && (task = readdir(tasks))) {
		char path[300], line[128], its_name[32] = "";
		FILE *status;

		snprintf(path, sizeof(path), "/proc/self/task/%s/status",
		    task->d_name);
		status = fopen(path, "r");
		while (status && fgets(line, sizeof(line), status)) {
			sscanf(line, "Name: %31s", its_name);
			if (!strcmp(its_name, name) &&
			    !strncmp(line, field, strlen(field)))
				value = strtol(strchr(line, ':') + 1, NULL, 10);
		}
		if (status)
			fclose(status);
	}
	if (tasks)
		closedir(tasks);
	return value;
}

TEST(up_and_proven_it_never_wakes)
{
	static const char field[] = "voluntary_ctxt_switches";
	struct daemon daemon = daemon_start("sock");
	long before;

	settings.min_ms = 1;
	settings.max_ms = 20;
	start();
	expect_up(1, false);
	while (!is_proven())
		sched_yield();
	poll(NULL, 0, 100); /* on its way to sleep */
	before = status_of_thread("fwd-link", field);
	poll(NULL, 0, 1000);
	ck_assert_int_eq(status_of_thread("fwd-link", field), before);
	expect_no_more_events();
	daemon_kill(&daemon, "sock");
}

/* ---- a host that sleeps ---- */

/* Neither backoff nor watch would find the daemon. */
TEST(a_daemon_is_dialled_at_once_when_the_host_wakes_up)
{
	struct daemon daemon;

	settings.watch = false;
	start();
	expect(LINK_EVENT_DIAL_FAILED);
	daemon = daemon_start("sock");
	clock_sleep(60000);
	expect_up(1, false);
	daemon_kill(&daemon, "sock");
}

/* Once, whatever becomes of it; a new outage is another one. */
TEST(an_outage_of_ten_seconds_is_told_once_with_its_last_error)
{
	struct link_event event;
	struct daemon daemon;

	settings.min_ms = settings.max_ms = 20;
	start();
	ck_assert_int_eq(next_event().kind, LINK_EVENT_DIAL_FAILED);
	clock_skip(9000);
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(next_event().kind, LINK_EVENT_DIAL_FAILED);
	clock_skip(1000);
	event = expect(LINK_EVENT_LONG_OUTAGE);
	ck_assert_str_eq(event.reason, strerror(ENOENT));
	ck_assert_int_eq(event.error, ENOENT);
	ck_assert_int_ge(event.outage_ms, 10000);
	ck_assert_uint_ge(event.dials, 2);
	clock_skip(60000);
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(next_event().kind, LINK_EVENT_DIAL_FAILED);
	daemon = daemon_start("sock");
	expect_up(1, false);
	daemon_accept(&daemon);
	daemon_prove(&daemon);
	daemon_kill(&daemon, "sock");
	expect_end(LINK_EVENT_LOST, 1, "peer closed");
	clock_skip(10000);
	expect(LINK_EVENT_LONG_OUTAGE);
}

/* Not at once, with the error of the endpoint before. */
TEST(another_endpoint_has_ten_seconds_of_its_own)
{
	start();
	expect(LINK_EVENT_DIAL_FAILED);
	clock_skip(10000);
	expect(LINK_EVENT_LONG_OUTAGE);
	aim("unix:other");
	dialler_configure(&dialler, &settings);
	ck_assert_int_eq(next_event().kind, LINK_EVENT_DIAL_FAILED);
	clock_skip(10000);
	ck_assert_int_ge(expect(LINK_EVENT_LONG_OUTAGE).outage_ms, 20000);
}

TEST(a_listener_that_nobody_calls_for_ten_seconds_is_told_once)
{
	listen_on("sock");
	start();
	clock_skip(10000);
	dialler_configure(&dialler, &settings); /* as if it had slept so long */
	expect(LINK_EVENT_LONG_OUTAGE);
}

TEST(waking_up_once_starts_the_backoff_over_once)
{
	int64_t slept_ms;

	settings.min_ms = settings.max_ms = 100;
	settings.watch = false;
	start();
	expect(LINK_EVENT_DIAL_FAILED);
	slept_ms = clock_now_ms();
	clock_sleep(60000);
	/* One that was due anyway, one at once, and then as ever. */
	for (int i = 0; i < 5; i++)
		expect(LINK_EVENT_DIAL_FAILED);
	ck_assert_int_ge(clock_now_ms() - slept_ms, 3 * 100);
}

/* ---- what a daemon may take its time for ---- */

static void
await_dials(uint64_t dials)
{
	struct link_view view = { 0 };

	while (view.dials < dials) {
		sched_yield();
		link_look(&shared, &view);
	}
}

/* Bound before the loss and so unseen by the watch, listening after it. */
TEST(after_a_proven_loss_a_path_that_refuses_is_tried_for_a_while)
{
	struct daemon old = daemon_start("sock"), next;
	struct link_event event;

	start();
	expect_up(1, false);
	daemon_accept(&old);
	daemon_prove(&old);
	wake_while_up();
	wake_while_up(); /* nothing is watched any more */
	unlink("sock");
	next = (struct daemon){ bound_unix("sock"), -1 };
	clock_stop(clock_now_ms() + 1000); /* patience lasts, now */
	daemon_hang_up(&old);
	expect_end(LINK_EVENT_LOST, 1, "peer closed");
	await_dials(2);
	ck_assert_int_eq(listen(next.listener, 5), 0);
	event = next_event();
	ck_assert_int_eq(event.kind, LINK_EVENT_UP);
	ck_assert_uint_eq(event.generation, 2);
	close(old.listener);
	daemon_kill(&next, "sock");
}

/* ---- clients ---- */

static void
listen_at_sock(int backlog)
{
	aim("listen-unix:sock");
	settings.listen_fd = listening_unix("sock", backlog);
	fcntl(settings.listen_fd, F_SETFL, O_NONBLOCK);
}

#define CLIENTS 20

TEST(clients_that_come_at_once_are_taken_ten_milliseconds_apart)
{
	static const char reason[] = "another client took its place";
	int64_t began_ms = clock_now_ms();
	int clients[CLIENTS];

	listen_at_sock(CLIENTS);
	for (int i = 0; i < CLIENTS; i++)
		clients[i] = call("sock");
	start();
	expect_up(1, false);
	for (uint64_t generation = 2; generation <= CLIENTS; generation++) {
		expect_end(LINK_EVENT_UNPROVEN, generation - 1, reason);
		expect_up(generation, true);
	}
	ck_assert_int_ge(
	    clock_now_ms() - began_ms, (CLIENTS - 1) * REDIAL_SPACING_MS);
	close_all(clients, CLIENTS);
}

static atomic_int client_delays;

static void
greet_without_delay(void *context, int fd)
{
	int prompt = 0;
	socklen_t length = sizeof(prompt);

	ck_assert_int_eq(
	    getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &prompt, &length), 0);
	atomic_store(&client_delays, !prompt);
	greet(context, fd);
}

TEST(what_a_tcp_client_is_sent_is_never_held_back)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int client = socket(AF_INET, SOCK_STREAM, 0);
	char port[6], endpoint[32];

	settings.listen_fd = listening_tcp(AF_INET, 5, port);
	fcntl(settings.listen_fd, F_SETFL, O_NONBLOCK);
	snprintf(endpoint, sizeof(endpoint), "listen-tcp:127.0.0.1:%s", port);
	aim(endpoint);
	atomic_store(&client_delays, -1);
	hooks.greet = greet_without_delay;
	start();
	address.sin_port = htons((uint16_t)strtoul(port, NULL, 10));
	ck_assert_int_eq(
	    connect(client, (struct sockaddr *)&address, sizeof(address)), 0);
	expect_up(1, false);
	ck_assert_int_eq(atomic_load(&client_delays), 0);
	close(client);
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

#define FORWARDERS 16

TEST(forwarders_that_start_in_the_same_millisecond_have_other_jitter)
{
	uint32_t luck[FORWARDERS];

	clock_stop(1000000);
	for (int i = 0; i < FORWARDERS; i++) {
		listen_at_sock(5); /* takes no jitter from its luck */
		atomic_store(&pretended, 1000 + i);
		start();
		stop();
		atomic_store(&pretended, 0);
		luck[i] = dialler.random;
		for (int j = 0; j < i; j++)
			ck_assert_uint_ne(luck[i], luck[j]);
		unlink("sock");
	}
}
