/* That the kernel took the options of tcp.h. What they do to a silent peer is
 * shown by the integration tests. */
#include "keepalive/tcp.h"

#include "tests/support/suite.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#ifdef __APPLE__
#define IDLE_OPTION TCP_KEEPALIVE
#define LIMIT_OPTION TCP_RXT_CONNDROPTIME
#define LIMIT_UNITS 1
#else
#define IDLE_OPTION TCP_KEEPIDLE
#define LIMIT_OPTION TCP_USER_TIMEOUT
#define LIMIT_UNITS 1000
#endif

static const struct tcp_settings settings = { 15, 5, 3 };
static int listener, dialled, accepted;

static void
connect_a_pair(void)
{
	struct sockaddr_in address = {
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	socklen_t length = sizeof(address);

	listener = socket(AF_INET, SOCK_STREAM, 0);
	dialled = socket(AF_INET, SOCK_STREAM, 0);
	ck_assert_int_eq(
	    bind(listener, (struct sockaddr *)&address, length), 0);
	ck_assert_int_eq(listen(listener, 1), 0);
	ck_assert_int_eq(
	    getsockname(listener, (struct sockaddr *)&address, &length), 0);
	ck_assert_int_eq(
	    connect(dialled, (struct sockaddr *)&address, length), 0);
	accepted = accept(listener, NULL, NULL);
	ck_assert_int_ge(accepted, 0);
}

static void
close_the_pair(void)
{
	close(accepted);
	close(dialled);
	close(listener);
}

static int
option(int fd, int level, int name)
{
	int value = -1;
	socklen_t length = sizeof(value);

	ck_assert_int_eq(getsockopt(fd, level, name, &value, &length), 0);
	return value;
}

static void
expect_the_settings(int fd)
{
	ck_assert_int_ne(option(fd, SOL_SOCKET, SO_KEEPALIVE), 0);
	ck_assert_int_eq(option(fd, IPPROTO_TCP, IDLE_OPTION), 15);
	ck_assert_int_eq(option(fd, IPPROTO_TCP, TCP_KEEPINTVL), 5);
	ck_assert_int_eq(option(fd, IPPROTO_TCP, TCP_KEEPCNT), 3);
	ck_assert_int_eq(
	    option(fd, IPPROTO_TCP, LIMIT_OPTION), 30 * LIMIT_UNITS);
}

FIXTURE(connect_a_pair, close_the_pair)

TEST(a_dialled_connection_is_watched_by_the_kernel)
{
	ck_assert_int_eq(tcp_keepalive_set(dialled, &settings), 0);
	expect_the_settings(dialled);
}

TEST(an_accepted_connection_is_watched_by_the_kernel)
{
	ck_assert_int_eq(tcp_keepalive_set(accepted, &settings), 0);
	expect_the_settings(accepted);
}

TEST(the_limit_is_the_sum_of_all_waits)
{
	ck_assert_int_eq(tcp_limit_s(&settings), 30);
}

TEST(the_largest_settings_fit)
{
	static const struct tcp_settings largest = { 7200, 7200, 100 };

	ck_assert_int_eq(tcp_keepalive_set(dialled, &largest), 0);
	ck_assert_int_eq(option(dialled, IPPROTO_TCP, LIMIT_OPTION),
	    (7200 + 7200 * 100) * LIMIT_UNITS);
}

TEST(an_idle_time_of_0_leaves_the_system_its_own)
{
	static const struct tcp_settings none = { 0, 5, 3 };
	int idle_s = option(dialled, IPPROTO_TCP, IDLE_OPTION);
	int interval_s = option(dialled, IPPROTO_TCP, TCP_KEEPINTVL);

	ck_assert_int_eq(tcp_keepalive_set(dialled, &none), 0);
	ck_assert_int_eq(option(dialled, SOL_SOCKET, SO_KEEPALIVE), 0);
	ck_assert_int_eq(option(dialled, IPPROTO_TCP, IDLE_OPTION), idle_s);
	ck_assert_int_eq(
	    option(dialled, IPPROTO_TCP, TCP_KEEPINTVL), interval_s);
	ck_assert_int_eq(option(dialled, IPPROTO_TCP, LIMIT_OPTION), 0);
}

TEST(an_idle_time_of_0_ends_a_watch_that_was_on)
{
	static const struct tcp_settings none = { 0, 5, 3 };

	ck_assert_int_eq(tcp_keepalive_set(dialled, &settings), 0);
	ck_assert_int_eq(tcp_keepalive_set(dialled, &none), 0);
	ck_assert_int_eq(option(dialled, SOL_SOCKET, SO_KEEPALIVE), 0);
	ck_assert_int_eq(option(dialled, IPPROTO_TCP, LIMIT_OPTION), 0);
}

TEST(a_refusal_is_told)
{
	static const struct tcp_settings absurd = { -1, 5, 3 };
	int unix_socket = socket(AF_UNIX, SOCK_STREAM, 0);

	ck_assert_int_eq(tcp_keepalive_set(unix_socket, &settings), -1);
	ck_assert_int_ne(errno, 0);
	close(unix_socket);
	ck_assert_int_eq(tcp_keepalive_set(dialled, &absurd), -1);
	ck_assert_int_eq(errno, EINVAL);
	ck_assert_int_eq(tcp_keepalive_set(-1, &settings), -1);
	ck_assert_int_eq(errno, EBADF);
}
