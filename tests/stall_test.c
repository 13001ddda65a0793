#include "forwarder/stall.h"

#include "tests/support/suite.h"

#define LIMIT_MS 100

/* As the monotonic clock of a host that runs for weeks. */
#define BEGIN_MS 3000000000

static struct stall stall;
static int64_t now_ms;

static void
set_up(void)
{
	stall = (struct stall){ 0 };
	now_ms = BEGIN_MS;
}

static int64_t
left_ms(void)
{
	return stall_left_us(&stall, LIMIT_MS * 1000, now_ms * 1000) / 1000;
}

static void
wait_ms(int64_t ms)
{
	now_ms += ms;
	stall_spend(&stall, ms * 1000, now_ms * 1000);
}

FIXTURE(set_up, NULL)

TEST(all_of_it_is_there_at_first)
{
	ck_assert_int_eq(left_ms(), LIMIT_MS);
}

TEST(what_is_spent_is_missing_for_a_second_and_little_longer)
{
	wait_ms(30);
	ck_assert_int_eq(left_ms(), 70);
	now_ms += 500;
	wait_ms(70);
	ck_assert_int_eq(left_ms(), 0);
	now_ms = BEGIN_MS + 30 + 1000;
	ck_assert_int_eq(left_ms(), 0);
	now_ms += 100;
	ck_assert_int_eq(left_ms(), 30);
	now_ms = BEGIN_MS + 600 + 1000;
	ck_assert_int_eq(left_ms(), 30);
	now_ms += 100;
	ck_assert_int_eq(left_ms(), LIMIT_MS);
}

TEST(a_wait_that_took_too_long_leaves_nothing_and_no_debt)
{
	wait_ms(5000);
	ck_assert_int_eq(left_ms(), 0);
	now_ms += 1100;
	ck_assert_int_eq(left_ms(), LIMIT_MS);
}

TEST(a_long_silence_brings_all_of_it_back)
{
	wait_ms(LIMIT_MS);
	now_ms += 24 * 60 * 60 * 1000;
	ck_assert_int_eq(left_ms(), LIMIT_MS);
}

TEST(waits_shorter_than_a_millisecond_add_up)
{
	int64_t now_us = BEGIN_MS * 1000;

	for (int i = 0; i < 200; i++)
		stall_spend(&stall, 250, now_us += 250);
	ck_assert_int_eq(stall_left_us(&stall, LIMIT_MS * 1000, now_us), 50000);
}

#define TIMES 4096

/* Whatever the guest does: waits of any length at any time. */
TEST(no_second_has_more_waits_than_the_limit)
{
	static int64_t began[TIMES], ended[TIMES];
	uint64_t luck = 1;

	for (int i = 0; i < TIMES; i++) {
		int64_t most = left_ms();

		began[i] = now_ms;
		wait_ms(most == 0 ? 0 : suite_random(&luck) % (most + 1));
		ended[i] = now_ms;
		now_ms += suite_random(&luck) % 60;
	}
	for (int i = 0; i < TIMES; i++) {
		int64_t waited = 0; /* in the second before the wait's end */

		for (int j = i; j >= 0 && ended[j] > ended[i] - 1000; j--)
			waited += began[j] > ended[i] - 1000
				      ? ended[j] - began[j]
				      : ended[j] - (ended[i] - 1000);
		ck_assert_int_le(waited, LIMIT_MS);
	}
}

TEST(a_guest_that_waits_a_little_in_each_second_always_may)
{
	for (int i = 0; i < 1000; i++) {
		ck_assert_int_ge(left_ms(), 9);
		wait_ms(9);
		now_ms += 100;
	}
}

TEST(a_limit_of_zero_leaves_nothing)
{
	ck_assert_int_eq(stall_left_us(&stall, 0, 0), 0);
	ck_assert_int_eq(stall_left_us(&stall, 0, BEGIN_MS * 1000), 0);
}
