/* That the kernel took the options of tcp.h. What they do to a silent peer is
 * shown by the integration tests. */
#include "keepalive/tcp.h"

#include <netinet/in.h>
#include <netinet/tcp.h>

#include "tests/support/suite.h"

#ifdef __APPLE__
#define IDLE_OPTION TCP_KEEPALIVE
#define LIMIT_OPTION TCP_RXT_CONNDROPTIME
#define LIMIT_UNITS 1
#else
#define IDLE_OPTION TCP_KEEPIDLE
#define LIMIT_OPTION TCP_USER_TIMEOUT
#define LIMIT_UNITS 1000
#endif

static const struct tcp_settings none = { 0, 5, 3 };
static int fd;

static void
set_up(void)
{
	fd = socket(AF_INET, SOCK_STREAM, 0);
}

static void
tear_down(void)
{
	close(fd);
}

static int
option(int level, int name)
{
	int value = -1;
	socklen_t length = sizeof(value);

	ck_assert_int_eq(getsockopt(fd, level, name, &value, &length), 0);
	return value;
}

FIXTURE(set_up, tear_down)

static const struct tcp_settings settings[] = {
	{ 15, 5, 3 }, { 7200, 7200, 100 }, /* the largest */
};

TEST(the_kernel_gets_the_keepalive_options, .count = LENGTH(settings))
{
	const struct tcp_settings *s = &settings[_i];

	ck_assert_int_eq(tcp_keepalive_set(fd, s), 0);
	ck_assert_int_ne(option(SOL_SOCKET, SO_KEEPALIVE), 0);
	ck_assert_int_eq(option(IPPROTO_TCP, IDLE_OPTION), s->idle_s);
	ck_assert_int_eq(option(IPPROTO_TCP, TCP_KEEPINTVL), s->interval_s);
	ck_assert_int_eq(option(IPPROTO_TCP, TCP_KEEPCNT), s->count);
	ck_assert_int_eq(option(IPPROTO_TCP, LIMIT_OPTION),
	    (s->idle_s + s->interval_s * s->count) * LIMIT_UNITS);
	ck_assert_int_eq(tcp_keepalive_set(fd, &none), 0); /* and no more */
	ck_assert_int_eq(option(SOL_SOCKET, SO_KEEPALIVE), 0);
	ck_assert_int_eq(option(IPPROTO_TCP, LIMIT_OPTION), 0);
}

TEST(an_idle_time_of_0_keeps_the_systems_default)
{
	int idle_s = option(IPPROTO_TCP, IDLE_OPTION);
	int interval_s = option(IPPROTO_TCP, TCP_KEEPINTVL);

	ck_assert_int_eq(tcp_keepalive_set(fd, &none), 0);
	ck_assert_int_eq(option(IPPROTO_TCP, IDLE_OPTION), idle_s);
	ck_assert_int_eq(option(IPPROTO_TCP, TCP_KEEPINTVL), interval_s);
}

TEST(a_refusal_is_returned)
{
	static const struct tcp_settings absurd = { -1, 5, 3 };

	ck_assert_int_eq(tcp_keepalive_set(fd, &absurd), -1);
	ck_assert_int_eq(errno, EINVAL);
	ck_assert_int_eq(tcp_keepalive_set(-1, &settings[0]), -1);
	ck_assert_int_eq(errno, EBADF);
}
