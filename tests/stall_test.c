#include "forwarder/stall.h"

#include "tests/support/suite.h"

#define LIMIT_MS 100

static struct stall stall;
static int64_t now_ms = 3000000000; /* of a host that runs for weeks */

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

TEST(time_spent_waiting_is_available_again_after_a_second)
{
	static const struct {
		int64_t at_ms, wait_ms, left_ms; /* after the wait */
	} steps[] = {
		{ 0, 0, LIMIT_MS },
		{ 0, 30, 70 },
		{ 530, 70, 0 },
		{ 1030, 0, 0 },
		{ 1130, 0, 30 },
		{ 1600, 0, 30 },
		{ 1700, 0, LIMIT_MS },
		{ 2000, 5000, 0 }, /* and no debt */
		{ 8100, LIMIT_MS, 0 },
		{ 24 * 60 * 60 * 1000, 0, LIMIT_MS },
	};
	int64_t began_ms = now_ms;

	for (int i = 0; i < LENGTH(steps); i++) {
		now_ms = began_ms + steps[i].at_ms;
		if (steps[i].wait_ms > 0)
			wait_ms(steps[i].wait_ms);
		ck_assert_int_eq(left_ms(), steps[i].left_ms);
	}
	ck_assert_int_eq(stall_left_us(&stall, 0, now_ms * 1000), 0);
}

TEST(waits_shorter_than_a_millisecond_add_up)
{
	int64_t now_us = now_ms * 1000;

	for (int i = 0; i < 200; i++)
		stall_spend(&stall, 250, now_us += 250);
	ck_assert_int_eq(stall_left_us(&stall, LIMIT_MS * 1000, now_us), 50000);
}

#define TIMES 4096

/* Whatever the guest does: waits of any length at any time. */
TEST(the_waits_of_any_second_stay_within_the_limit)
{
	static int64_t began[TIMES], ended[TIMES];
	uint64_t luck = 1;

	for (int i = 0; i < TIMES; i++) {
		int64_t most = left_ms(), waited = 0;

		began[i] = now_ms;
		wait_ms(most == 0 ? 0 : suite_random(&luck) % (most + 1));
		ended[i] = now_ms;
		/* In the second before the wait's end. */
		for (int j = i; j >= 0 && ended[j] > now_ms - 1000; j--)
			waited += began[j] > now_ms - 1000
				      ? ended[j] - began[j]
				      : ended[j] - (now_ms - 1000);
		ck_assert_int_le(waited, LIMIT_MS);
		now_ms += suite_random(&luck) % 60;
	}
}
