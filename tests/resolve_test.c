#include "reconnect/resolve.h"

#include <arpa/inet.h>

#include "base/clock.h"
#include "tests/support/hanging_lookup.h"
#include "tests/support/suite.h"

#define FAR_AWAY_MS (60 * 60 * 1000)

static struct resolver resolver;
static struct addrinfo *found;
static struct error error;
static int way_out[2];
static unsigned descriptors_before;

static void
set_up(void)
{
	ck_assert_int_eq(pipe(way_out), 0);
	descriptors_before = open_descriptors();
}

/* An abandoned lookup frees itself, some time later. */
static void
tear_down(void)
{
	lookups_answer();
	resolver_abandon(&resolver);
	while (open_descriptors() != descriptors_before || lookups.kept > 0)
		sched_yield();
}

static int
look_up(const char *host, int64_t wait_ms)
{
	errno = 0;
	return resolve(&resolver, host, "7000", way_out[0],
	    clock_now_ms() + wait_ms, &found, &error);
}

static void
expect_loopback(void)
{
	const struct sockaddr_in *address = (void *)found->ai_addr;

	ck_assert_int_eq(found->ai_family, AF_INET);
	ck_assert_int_eq(found->ai_socktype, SOCK_STREAM);
	ck_assert_uint_eq(address->sin_addr.s_addr, htonl(INADDR_LOOPBACK));
	ck_assert_uint_eq(address->sin_port, htons(7000));
	freeaddrinfo(found);
}

FIXTURE(set_up, tear_down)

TEST(a_numeric_address_needs_no_lookup)
{
	ck_assert_int_eq(look_up("127.0.0.1", 0), 0);
	expect_loopback();
	ck_assert_ptr_null(resolver.pending);
	ck_assert_int_eq(look_up("::1", 0), 0);
	ck_assert_int_eq(found->ai_family, AF_INET6);
	freeaddrinfo(found);
}

TEST(a_missing_host_is_reported_in_words)
{
	/* A hanging lookup does not delay another one. */
	ck_assert_int_eq(look_up("hangs.test", 1), -1);
	ck_assert_int_eq(look_up("missing.test", FAR_AWAY_MS), -1);
	ck_assert_str_eq(error.text, gai_strerror(EAI_NONAME));
	ck_assert_int_ne(errno, EINTR);
	ck_assert_int_ne(errno, 0);
	ck_assert_ptr_null(resolver.pending);
}

TEST(a_lookup_ends_at_the_deadline_or_an_interrupt)
{
	int64_t asked_ms = clock_now_ms();

	ck_assert_int_eq(look_up("hangs.test", 20), -1);
	ck_assert_int_eq(errno, ETIMEDOUT);
	ck_assert_str_eq(error.text, "the name was not resolved in time");
	ck_assert_int_ge(clock_now_ms(), asked_ms + 20);
	ck_assert_int_eq(write(way_out[1], "", 1), 1);
	ck_assert_int_eq(look_up("hangs.test", FAR_AWAY_MS), -1);
	ck_assert_int_eq(errno, EINTR);
}

TEST(hanging_lookups_do_not_pile_up_and_are_resumed)
{
	unsigned descriptors;

	ck_assert_int_eq(look_up("hangs.test", 1), -1);
	descriptors = open_descriptors();
	for (int i = 0; i < 20; i++)
		ck_assert_int_eq(look_up("hangs.test", 1), -1);
	ck_assert_uint_eq(open_descriptors(), descriptors);
	lookups_answer();
	ck_assert_int_eq(look_up("hangs.test", FAR_AWAY_MS), 0);
	expect_loopback();
	ck_assert_uint_eq(lookups.asked, 1);
}

/* While it hangs, and once it has ended. */
TEST(an_abandoned_lookup_frees_itself, .count = 2)
{
	ck_assert_int_eq(look_up("hangs.test", 1), -1);
	if (_i == 1)
		lookups_answer();
	while (_i == 1 && lookups.kept == 0)
		sched_yield();
	resolver_abandon(&resolver);
	ck_assert_ptr_null(resolver.pending);
	resolver_abandon(&resolver);
}
