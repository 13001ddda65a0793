#include "reconnect/listen.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/suite.h"

static const char *const endpoints[] = { "listen-unix:sock",
	"listen-tcp:127.0.0.1:1" };

static struct unix_file file;

static int
opened(const char *text)
{
	struct endpoint endpoint;
	char why[256];
	struct error fault;
	int fd;

	ck_assert_int_eq(endpoint_parse(&endpoint, text, &fault), 0);
	strcpy(endpoint.port, "0"); /* one that is free */
	fd = listen_open(&endpoint, &file, why, sizeof(why));
	ck_assert_msg(fd >= 0, "%s", why);
	return fd;
}

/* The command after `--` inherits neither. */
static bool
is_closed_on_exec(int fd)
{
	return fcntl(fd, F_GETFD) & FD_CLOEXEC;
}

FIXTURE(scratch_enter, scratch_leave)

TEST(a_listener_is_not_inherited, .count = 2)
{
	int fd = opened(endpoints[_i]);

	ck_assert(is_closed_on_exec(fd));
	close(fd);
}

/* Who called may have hung up between poll() and accept(). */
TEST(a_listener_that_nobody_calls_does_not_block, .count = 2)
{
	struct sockaddr_storage client;
	int fd = opened(endpoints[_i]);

	ck_assert_int_eq(listen_accept(fd, &client), -1);
	ck_assert_int_eq(errno, EAGAIN);
	close(fd);
}

TEST(a_client_blocks_and_is_not_inherited, .count = 2)
{
	int fd = opened(endpoints[_i]), caller, taken;
	struct sockaddr_storage address = { 0 }, client;
	socklen_t length = sizeof(address);

	ck_assert_int_eq(
	    getsockname(fd, (struct sockaddr *)&address, &length), 0);
	caller = socket(address.ss_family, SOCK_STREAM, 0);
	ck_assert_int_eq(
	    connect(caller, (struct sockaddr *)&address, length), 0);
	taken = listen_accept(fd, &client);
	ck_assert_int_ge(taken, 0);
	ck_assert_int_eq(fcntl(taken, F_GETFL) & O_NONBLOCK, 0);
	ck_assert(is_closed_on_exec(taken));
	ck_assert_int_eq(client.ss_family, address.ss_family);
	close(taken);
	close(caller);
	close(fd);
}
