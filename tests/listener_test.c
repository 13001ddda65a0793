#include "reconnect/listener.h"

#include <netinet/in.h>
#include <netinet/tcp.h>

#include "tests/support/suite.h"

static const char *const endpoints[] = { "listen-unix:sock",
	"listen-tcp:127.0.0.1:1" };

static struct listener listener;
static struct unix_file file;
static unsigned descriptors_before;

static void
open_one(const char *text)
{
	struct endpoint endpoint;
	struct error error;
	int fd;

	ck_assert_int_eq(endpoint_parse(&endpoint, text, &error), 0);
	strcpy(endpoint.port, "0"); /* one that is free */
	fd = listener_open(&endpoint, &file, &error);
	ck_assert_msg(fd >= 0, "%s", error.text);
	listener_replace(&listener, fd);
}

static void
set_up(void)
{
	scratch_enter();
	descriptors_before = open_descriptors();
}

static void
tear_down(void)
{
	listener_replace(&listener, -1);
	ck_assert_uint_eq(open_descriptors(), descriptors_before);
	scratch_leave();
}

/* The command after `--` inherits neither a listener nor a client. */
static bool
is_closed_on_exec(int fd)
{
	return fcntl(fd, F_GETFD) & FD_CLOEXEC;
}

static int
call(void)
{
	struct sockaddr_storage address = { 0 };
	socklen_t length = sizeof(address);
	int fd;

	ck_assert_int_eq(
	    getsockname(listener.fd, (struct sockaddr *)&address, &length), 0);
	fd = socket(address.ss_family, SOCK_STREAM, 0);
	ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, length), 0);
	return fd;
}

FIXTURE(set_up, tear_down)

TEST(a_listener_is_private_not_inherited_and_never_blocks, .count = 2)
{
	struct sockaddr_storage client;
	struct stat status;

	open_one(endpoints[_i]);
	ck_assert_int_eq(fstatat(AT_FDCWD, "sock", &status, 0), -_i);
	ck_assert(_i || status.st_mode == (S_IFSOCK | 0600));
	ck_assert(is_closed_on_exec(listener.fd));
	/* The client may have hung up between poll() and accept(). */
	ck_assert_int_eq(listener_accept(&listener, &client, 1000), -1);
	ck_assert_int_eq(errno, EAGAIN);
	ck_assert(listener_accepts(&listener, 1000));
}

TEST(a_client_is_blocking_not_inherited_and_has_tcp_nodelay, .count = 2)
{
	struct sockaddr_storage client;
	int caller, fd, prompt = 1;
	socklen_t length = sizeof(prompt);

	open_one(endpoints[_i]);
	caller = call();
	fd = listener_accept(&listener, &client, 0);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
	ck_assert(is_closed_on_exec(fd));
	ck_assert_int_eq(client.ss_family, _i ? AF_INET : AF_UNIX);
	if (_i)
		ck_assert_int_eq(
		    getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &prompt, &length),
		    0);
	ck_assert_int_ne(prompt, 0);
	close(fd);
	close(caller);
}

TEST(out_of_descriptors_it_pauses_for_a_second)
{
	struct sockaddr_storage client;
	int caller, before;

	open_one(endpoints[0]);
	caller = call();
	before = limit_descriptors(caller + 1); /* the lowest that was free */
	ck_assert_int_eq(listener_accept(&listener, &client, 5000), -1);
	ck_assert_int_eq(errno, EMFILE);
	limit_descriptors(before);
	ck_assert(!listener_accepts(&listener, 5999));
	ck_assert_int_eq(listener_wake_ms(&listener, 5999), 6000);
	ck_assert(listener_accepts(&listener, 6000));
	ck_assert_int_eq(listener_wake_ms(&listener, 6000), INT64_MAX);
	close(caller);
}

/* ---- the verdict, as transcripts ---- */

#define CAME_MS 1000000

static void
come(void)
{
	static const struct sockaddr_storage nobody;

	listener_drop(&listener);
	listener.state = LISTENER_OPEN;
	listener_hold(&listener, open("/dev/null", O_RDONLY), &nobody, CAME_MS);
}

static void
leave(void)
{
	close(listener_release(&listener));
	ck_assert_int_eq(listener.state, LISTENER_OPEN);
	listener.state = LISTENER_CLOSED; /* it was never opened */
}

static enum listener_verdict
silent_at(int64_t ms)
{
	return listener_judge(&listener, CAME_MS + ms, false);
}

static enum listener_verdict
heard_at(int64_t ms)
{
	return listener_judge(&listener, CAME_MS + ms, true);
}

TEST(a_client_that_is_silent_for_a_second_loses_its_place)
{
	come();
	for (int tick = 200; tick < 1000; tick += 200) {
		ck_assert_int_eq(
		    listener_wake_ms(&listener, CAME_MS), CAME_MS + tick);
		ck_assert_int_eq(silent_at(tick - 1), LISTENER_WAIT);
		ck_assert_int_eq(silent_at(tick), LISTENER_PROBE);
		ck_assert_int_eq(silent_at(tick), LISTENER_WAIT);
		ck_assert(!listener_accepts(&listener, CAME_MS + 5000));
	}
	ck_assert_int_eq(silent_at(999), LISTENER_WAIT);
	ck_assert_int_eq(silent_at(1000), LISTENER_ADMIT);
	leave();
}

TEST(a_client_that_sent_something_keeps_its_place)
{
	for (int tick = 200; tick <= 1000; tick += 200) {
		come();
		for (int before = 200; before < tick; before += 200)
			ck_assert_int_eq(silent_at(before), LISTENER_PROBE);
		ck_assert_int_eq(heard_at(tick - 1), LISTENER_WAIT);
		ck_assert_int_eq(heard_at(tick), LISTENER_REFUSE);
		leave();
	}
}

/* A peer answers at most ten PINGs a second. */
TEST(a_candidate_that_is_dropped_still_keeps_the_next_one_waiting)
{
	open_one(endpoints[0]);
	listener_hold(&listener, open("/dev/null", O_RDONLY),
	    &(struct sockaddr_storage){ 0 }, CAME_MS);
	listener_drop(&listener);
	ck_assert_int_eq(listener.state, LISTENER_OPEN);
	ck_assert(!listener_accepts(&listener, CAME_MS + 199));
	ck_assert_int_eq(listener_wake_ms(&listener, CAME_MS), CAME_MS + 200);
	ck_assert(listener_accepts(&listener, CAME_MS + 200));
}

/* The host was suspended, or too busy: the answer had no time to arrive. */
TEST(a_late_tick_only_probes_again)
{
	come();
	for (int tick = 200; tick < 1000; tick += 200)
		ck_assert_int_eq(silent_at(tick), LISTENER_PROBE);
	ck_assert_int_eq(silent_at(3600000), LISTENER_PROBE);
	ck_assert_int_eq(silent_at(3600199), LISTENER_WAIT);
	ck_assert_int_eq(silent_at(3600200), LISTENER_ADMIT);
	leave();

	come();
	ck_assert_int_eq(
	    silent_at(400), LISTENER_PROBE); /* late: does not count */
	for (int tick = 600; tick < 1400; tick += 200)
		ck_assert_int_eq(silent_at(tick), LISTENER_PROBE);
	ck_assert_int_eq(silent_at(1400), LISTENER_ADMIT);
	leave();
}
