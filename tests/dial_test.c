#include "reconnect/dial.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>

#include "base/clock.h"
#include "base/socket.h"
#include "tests/support/hanging_lookup.h"
#include "tests/support/listener.h"
#include "tests/support/settable_user.h"
#include "tests/support/suite.h"

static struct endpoint endpoint;
static struct resolver resolver;
static struct dial attempt = { .endpoint = &endpoint, .resolver = &resolver };
static struct error error;
static int way_out[2];
static unsigned descriptors_before;

/* The test's own socket_stream() takes the place of the system's: each try of
 * a dial makes one socket, so they can be counted, and given a port. */
static atomic_uint tries;
static uint16_t own_port; /* of 127.0.0.1; 0: any */

int
socket_stream(int family)
{
	int fd = socket(family, SOCK_STREAM, 0);
	struct sockaddr_in own = { .sin_family = AF_INET,
		.sin_port = htons(own_port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

	if (own_port)
		ck_assert_int_eq(
		    bind(fd, (struct sockaddr *)&own, sizeof(own)), 0);
	atomic_fetch_add(&tries, 1);
	return fd;
}

static void
set_up(void)
{
	scratch_enter();
	ck_assert_int_eq(pipe(way_out), 0);
	attempt.interrupt_fd = way_out[0];
	descriptors_before = open_descriptors();
}

/* However the dial ended, no descriptor is left. */
static void
tear_down(void)
{
	lookups_answer();
	resolver_abandon(&resolver);
	while (open_descriptors() != descriptors_before || lookups.kept > 0)
		sched_yield();
	scratch_leave();
}

static int
dial_to(const char *text)
{
	ck_assert_int_eq(endpoint_parse(&endpoint, text, &error), 0);
	errno = 0;
	error.text[0] = '\0';
	return dial(&attempt, &error);
}

static int
dial_port(const char *host, const char *port)
{
	char text[64];

	snprintf(text, sizeof(text), "tcp:%s:%s", host, port);
	return dial_to(text);
}

static void
expect_failure(int fd, int expected)
{
	int seen = errno;

	ck_assert_int_eq(fd, -1);
	ck_assert_msg(seen == expected, "%s instead of %s (%s)", strerror(seen),
	    strerror(expected), error.text);
	ck_assert_uint_gt(strlen(error.text), 0);
}

/* Bytes go both ways through fd and what the listener accepted. */
static void
expect_connection(int fd, int listener)
{
	int peer = accept(listener, NULL, NULL);
	char byte;

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, "a", 1), 1);
	ck_assert_int_eq(read(peer, &byte, 1), 1);
	ck_assert_int_eq(write(peer, "b", 1), 1);
	ck_assert_int_eq(read(fd, &byte, 1), 1);
	ck_assert_int_eq(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
	close(peer);
	close(fd);
}

FIXTURE(set_up, tear_down)

/* Missing; bound but not listened on; left by a dead process; no socket. */
TEST(a_path_without_a_daemon_is_an_error_at_once, .count = 4)
{
	int fd = _i == 0   ? -1
		 : _i == 3 ? open("sock", O_CREAT | O_WRONLY, 0600)
			   : bound_unix("sock");

	if (_i == 2)
		close(fd);
	expect_failure(dial_to("unix:sock"), _i ? ECONNREFUSED : ENOENT);
	ck_assert_str_eq(error.text, strerror(_i ? ECONNREFUSED : ENOENT));
	ck_assert_uint_eq(atomic_load(&tries), 1);
	if (_i % 2)
		close(fd);
}

/* A daemon that opens its socket to others by a chmod() after bind(). */
TEST(a_path_without_permission_is_retried_until_the_window_ends)
{
	int listener = listening_unix("sock", 5);
	int64_t began_ms = clock_now_ms();

	ck_assert_int_eq(chmod("sock", 0), 0);
	become(65534); /* root has every permission */
	expect_failure(dial_to("unix:sock"), EACCES);
	attempt.retry_window_ms = 20;
	expect_failure(dial_to("unix:sock"), EACCES);
	ck_assert_int_ge(clock_now_ms(), began_ms + 20);
	ck_assert_uint_ge(atomic_load(&tries), 3);
	ck_assert_uint_le(atomic_load(&tries), 40); /* fewer and fewer */
	become(0);
	close(listener);
}

/* A daemon that is starting: each step follows after a dial has met the one
 * before. */
static void
await_tries(unsigned enough)
{
	while (atomic_load(&tries) < enough)
		sched_yield();
}

static void *
start_slowly(void *argument)
{
	int *listener = argument;

	await_tries(2);
	*listener = bound_unix("sock");
	await_tries(atomic_load(&tries) + 2);
	ck_assert_int_eq(listen(*listener, 5), 0);
	return NULL;
}

TEST(a_path_is_retried_until_bind_and_then_until_listen)
{
	pthread_t thread;
	int listener, fd;

	attempt.retry_window_ms = 60 * 60 * 1000;
	ck_assert_int_eq(
	    pthread_create(&thread, NULL, start_slowly, &listener), 0);
	fd = dial_to("unix:sock");
	pthread_join(thread, NULL);
	expect_connection(fd, listener);
	ck_assert_uint_ge(atomic_load(&tries), 4);
	close(listener);
}

static void *
interrupt(void *argument)
{
	await_tries(1);
	ck_assert_int_eq(write(way_out[1], "", 1), 1);
	return argument;
}

static pthread_t
interrupt_soon(void)
{
	pthread_t thread;

	ck_assert_int_eq(pthread_create(&thread, NULL, interrupt, NULL), 0);
	return thread;
}

static void
expect_refusal(int fd, int listener, const char *why)
{
	int peer = accept(listener, NULL, NULL);
	char byte;

	expect_failure(fd, EPERM);
	ck_assert_str_eq(error.text, why);
	ck_assert_int_eq(read(peer, &byte, 1), 0);
	close(peer);
}

TEST(a_strangers_daemon_in_a_shared_folder_is_refused)
{
	int listener = listening_unix("sock", 5);

	atomic_store(&user_at_the_other_end, STRANGER);
	expect_connection(dial_to("unix:sock"), listener);
	ck_assert_int_eq(chmod(".", 01777), 0);
	expect_refusal(dial_to("unix:sock"), listener, STRANGER_REFUSED);
	attempt.user = STRANGER;
	expect_connection(dial_to("unix:sock"), listener);
	atomic_store(&user_at_the_other_end, (uid_t)-1);
	expect_refusal(dial_to("unix:sock"), listener, strerror(ENOTCONN));
	close(listener);
}

/* A blocking connect() would hang here for ever. */
TEST(a_frozen_daemons_full_backlog_is_an_error_at_once)
{
	int listener = listening_unix("sock", 0), fds[16];
	size_t count = fill_backlog(listener, fds, 16);

	attempt.retry_window_ms = 60 * 60 * 1000;
	ck_assert_int_eq(dial_to("unix:sock"), -1);
	ck_assert_ptr_nonnull(strstr(error.text, "backlog"));
	ck_assert_uint_eq(atomic_load(&tries), 1);
	close_all(fds, count);
	close(listener);
}

TEST(a_connection_to_a_port_has_tcp_nodelay, .count = 2)
{
	char port[6];
	int listener = listening_tcp(_i ? AF_INET6 : AF_INET, 5, port);
	socklen_t length = sizeof(int);
	int fd, on = 0;

	if (listener < 0)
		return; /* this host has no ::1 */
	fd = dial_port(_i ? "[::1]" : "127.0.0.1", port);
	ck_assert_int_eq(
	    getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, &length), 0);
	ck_assert_int_ne(on, 0);
	expect_connection(fd, listener);
	close(listener);
}

TEST(a_port_is_dialled_by_name)
{
	char port[6];
	int listener = listening_tcp(AF_INET, 5, port);

	lookups_answer();
	expect_connection(dial_port("hangs.test", port), listener);
	expect_connection(dial_port("hangs.test", port), listener);
	ck_assert_uint_eq(lookups.asked, 2);
	close(listener);
}

/* With a full backlog, Linux drops the SYN as a silent host would. The host is
 * 127.0.0.2 or, if there is no other address, 127.0.0.1. */
static struct {
	int listener, other, fds[16];
	size_t count;
	char port[6];
} silent;

static void
silent_host(bool has_other_address)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK + has_other_address) };

	silent.other = listening_tcp(AF_INET, 5, silent.port);
	if (!has_other_address)
		close(silent.other);
	address.sin_port = htons((uint16_t)atoi(silent.port));
	silent.listener = socket(AF_INET, SOCK_STREAM, 0);
	ck_assert_int_eq(
	    bind(silent.listener, (struct sockaddr *)&address, sizeof(address)),
	    0);
	ck_assert_int_eq(listen(silent.listener, 0), 0);
	silent.count = fill_backlog(silent.listener, silent.fds, 16);
}

static void
silent_host_close(void)
{
	close_all(silent.fds, silent.count);
	close(silent.listener);
}

TEST(a_dial_to_a_silent_host_ends_at_the_limit, .seconds = 30)
{
	int64_t began_ms = clock_now_ms();

	silent_host(false);
	expect_failure(dial_port("127.0.0.1", silent.port), ETIMEDOUT);
	ck_assert_int_ge(clock_now_ms(), began_ms + 5000);
	ck_assert_int_lt(clock_now_ms(), began_ms + 10000);
	silent_host_close();
}

/* Each address gets a share of the time. An interrupt ends the whole dial. */
TEST(a_silent_address_is_followed_by_the_next_one, .count = 2)
{
	pthread_t thread;

	silent_host(true);
	if (_i == 0) {
		expect_connection(
		    dial_port("two.test", silent.port), silent.other);
	} else {
		thread = interrupt_soon();
		expect_failure(dial_port("two.test", silent.port), EINTR);
		pthread_join(thread, NULL);
		ck_assert_uint_eq(atomic_load(&tries), 1);
	}
	silent_host_close();
	close(silent.other);
}

/* The kernel may give a dial the very port that it dials. */
TEST(an_unused_port_and_a_connection_to_itself_are_refused, .count = 2)
{
	char port[6];

	free_port(port);
	own_port = _i ? (uint16_t)strtol(port, NULL, 10) : 0;
	expect_failure(dial_port("127.0.0.1", port), ECONNREFUSED);
	ck_assert_uint_eq(atomic_load(&tries), 1);
}

TEST(an_earlier_interrupt_ends_a_dial_that_would_wait, .seconds = 30)
{
	ck_assert_int_eq(write(way_out[1], "", 1), 1);
	attempt.retry_window_ms = 60 * 60 * 1000;
	expect_failure(dial_to("unix:sock"), EINTR);
	expect_failure(dial_port("hangs.test", "7000"), EINTR);
}
