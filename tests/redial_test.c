#include "reconnect/redial.h"

#include <check.h>

#include "tests/support/suite.h"

/* Takes the whole jitter of 25 % off: the soonest that is possible. */
#define SOONEST 25000
#define LATEST 0

static struct redial redial;

/* A daemon that was up for a minute until now. */
static void
set_up(void)
{
	redial_init(&redial, 0, 100, 2000, 25);
	redial_connected(&redial, 0);
}

TEST(the_first_dial_is_due_at_once)
{
	redial_init(&redial, 5000, 100, 2000, 25);
	ck_assert_int_eq(redial.due_ms, 5000);
}

TEST(a_failed_dial_backs_off)
{
	static const int64_t delays_ms[] = { 100, 200, 400, 800, 1600, 2000,
		2000 };
	int64_t now_ms = 7000;

	redial_init(&redial, now_ms, 100, 2000, 25);
	for (int i = 0; i < 7; i++) {
		redial_failed(&redial, now_ms, LATEST);
		ck_assert_int_eq(redial.due_ms, now_ms + delays_ms[i]);
		now_ms = redial.due_ms + 3;
	}
}

TEST(a_proven_loss_is_dialled_at_once)
{
	set_up();
	redial_lost(&redial, 60000, true, LATEST);
	ck_assert_int_eq(redial.due_ms, 60000);
	redial_failed(&redial, 60000, LATEST);
	ck_assert_int_eq(redial.due_ms, 60100);
}

TEST(a_proven_loss_starts_the_backoff_over)
{
	redial_init(&redial, 0, 100, 2000, 25);
	for (int i = 0; i < 8; i++)
		redial_failed(&redial, 0, LATEST);
	redial_connected(&redial, 10000);
	redial_lost(&redial, 20000, true, LATEST);
	redial_failed(&redial, 20000, LATEST);
	ck_assert_int_eq(redial.due_ms, 20100);
}

TEST(a_connect_alone_does_not_start_the_backoff_over)
{
	redial_init(&redial, 0, 100, 2000, 25);
	redial_failed(&redial, 0, LATEST);
	redial_failed(&redial, 100, LATEST);
	redial_connected(&redial, 300);
	redial_lost(&redial, 301, false, LATEST);
	ck_assert_int_eq(redial.due_ms, 701);
}

TEST(two_connections_are_never_closer_than_the_spacing)
{
	set_up();
	redial_connected(&redial, 60000);
	redial_lost(&redial, 60003, true, LATEST);
	ck_assert_int_eq(redial.due_ms, 60010);
	redial_appeared(&redial, 60004);
	ck_assert_int_eq(redial.due_ms, 60010);
	redial_resumed(&redial, 60005);
	ck_assert_int_eq(redial.due_ms, 60010);
}

TEST(even_a_backoff_of_a_millisecond_keeps_the_spacing)
{
	redial_init(&redial, 0, 1, 1, 50);
	redial_connected(&redial, 1000);
	redial_lost(&redial, 1000, false, 50000);
	ck_assert_int_eq(redial.due_ms, 1010);
}

TEST(a_path_that_appears_is_dialled_at_once_and_the_backoff_stays)
{
	redial_init(&redial, 0, 100, 2000, 25);
	redial_failed(&redial, 0, LATEST);
	redial_failed(&redial, 100, LATEST);
	redial_appeared(&redial, 150);
	ck_assert_int_eq(redial.due_ms, 150);
	redial_failed(&redial, 150, LATEST);
	ck_assert_int_eq(redial.due_ms, 550);
}

TEST(a_path_that_appears_never_puts_a_dial_off)
{
	redial_init(&redial, 0, 100, 2000, 25);
	redial_failed(&redial, 0, LATEST);
	redial_appeared(&redial, 500);
	ck_assert_int_eq(redial.due_ms, 100);
}

/* The dial that failed a moment before the daemon came was no dial to it. */
TEST(a_path_that_appears_right_after_a_failed_dial_is_dialled_at_once)
{
	redial_init(&redial, 0, 100, 2000, 25);
	redial_failed(&redial, 100, LATEST);
	redial_appeared(&redial, 101);
	ck_assert_int_eq(redial.due_ms, 101);
}

/* Each chmod() of a path that can't be dialled was a dial. */
TEST(a_path_that_appears_over_and_over_is_dialled_with_the_spacing)
{
	unsigned dials = 0;

	redial_init(&redial, 0, 100, 2000, 25);
	for (int64_t now_ms = 0; now_ms < 1000; now_ms++) {
		redial_appeared(&redial, now_ms);
		if (redial.due_ms > now_ms)
			continue;
		dials++;
		redial_failed(&redial, now_ms, LATEST);
		redial_appeared(&redial, now_ms);
	}
	ck_assert_uint_ge(dials, 90);
	ck_assert_uint_le(dials, 100 + 1);
}

TEST(even_failed_dials_of_a_backoff_of_a_millisecond_keep_the_spacing)
{
	redial_init(&redial, 0, 1, 1, 50);
	redial_failed(&redial, 1000, 50000);
	ck_assert_int_eq(redial.due_ms, 1010);
}

TEST(after_a_suspend_the_dial_is_made_at_once_from_the_backoffs_start)
{
	redial_init(&redial, 0, 100, 2000, 25);
	for (int i = 0; i < 8; i++)
		redial_failed(&redial, 0, LATEST);
	ck_assert_int_eq(redial.due_ms, 2000);
	redial_resumed(&redial, 300);
	ck_assert_int_eq(redial.due_ms, 300);
	redial_failed(&redial, 300, LATEST);
	ck_assert_int_eq(redial.due_ms, 400);
}

/* How many connections a daemon gets that accepts and then ends each of them
 * after life_ms, within the first `until_ms`. */
static unsigned
connections(int64_t until_ms, int64_t life_ms, bool proven, uint32_t random)
{
	unsigned count = 0;

	redial_init(&redial, 0, 100, 2000, 25);
	while (redial.due_ms < until_ms) {
		int64_t now_ms = redial.due_ms;

		count++;
		redial_connected(&redial, now_ms);
		redial_lost(&redial, now_ms + life_ms, proven, random);
		ck_assert_int_ge(redial.due_ms, now_ms + REDIAL_SPACING_MS);
	}
	return count;
}

TEST(a_peer_that_accepts_and_closes_is_dialled_ten_times_in_five_seconds)
{
	ck_assert_uint_le(connections(5000, 0, false, SOONEST), 10);
	ck_assert_uint_le(connections(5000, 0, false, LATEST), 10);
}

TEST(a_daemon_that_sends_a_byte_and_dies_does_not_spin_us)
{
	ck_assert_uint_eq(connections(1000, 0, true, SOONEST), 100);
	ck_assert_uint_eq(connections(1000, 3, true, SOONEST), 100);
	ck_assert_uint_eq(connections(1000, 20, true, SOONEST), 50);
}

/* Whatever happens in whatever order. */
TEST(no_history_brings_two_connections_closer, .count = 8)
{
	uint64_t luck = (uint64_t)_i;
	int64_t now_ms = 0, last_ms = -REDIAL_SPACING_MS;

	redial_init(&redial, now_ms, 1, 20, 50);
	for (int i = 0; i < 20000; i++) {
		now_ms += suite_random(&luck) % 8;
		if (redial.due_ms <= now_ms) {
			ck_assert_int_ge(now_ms, last_ms + REDIAL_SPACING_MS);
			redial_connected(&redial, last_ms = now_ms);
			redial_lost(&redial, now_ms, suite_random(&luck) % 2,
			    suite_random(&luck));
		} else if (suite_random(&luck) % 2) {
			redial_appeared(&redial, now_ms);
		} else {
			redial_resumed(&redial, now_ms);
		}
		ck_assert_int_le(redial.due_ms - now_ms, 20);
	}
}
