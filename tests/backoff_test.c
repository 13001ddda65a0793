#include "reconnect/backoff.h"

#include <check.h>

#include "tests/support/suite.h"

/* With this "random" number nothing is taken off. */
#define WHOLE 0

static const struct {
	int64_t min_ms, max_ms, delays[8];
} tables[] = {
	{ 100, 2000, { 100, 200, 400, 800, 1600, 2000, 2000, 2000 } },
	{ 1, 60, { 1, 2, 4, 8, 16, 32, 60, 60 } },
	{ 1, 1, { 1, 1, 1, 1, 1, 1, 1, 1 } },
	{ 100, 100, { 100, 100, 100, 100, 100, 100, 100, 100 } },
	{ 100, 199, { 100, 199, 199, 199, 199, 199, 199, 199 } },
	{ 100, 200, { 100, 200, 200, 200, 200, 200, 200, 200 } },
	{ 100, 201, { 100, 200, 201, 201, 201, 201, 201, 201 } },
	{ 300000, 600000,
	    { 300000, 600000, 600000, 600000, 600000, 600000, 600000,
		600000 } },
	{ INT64_MAX / 2, INT64_MAX,
	    { INT64_MAX / 2, INT64_MAX - 1, INT64_MAX, INT64_MAX, INT64_MAX,
		INT64_MAX, INT64_MAX, INT64_MAX } },
	{ INT64_MAX, INT64_MAX,
	    { INT64_MAX, INT64_MAX, INT64_MAX, INT64_MAX, INT64_MAX, INT64_MAX,
		INT64_MAX, INT64_MAX } },
};

TEST(the_delay_doubles_up_to_max, .count = LENGTH(tables))
{
	struct backoff backoff;

	backoff_init(&backoff, tables[_i].min_ms, tables[_i].max_ms, 0);
	for (int i = 0; i < 8; i++)
		ck_assert_int_eq(
		    backoff_next(&backoff, WHOLE), tables[_i].delays[i]);
}

TEST(jitter_shortens_this_delay_and_not_the_next)
{
	struct backoff backoff;

	backoff_init(&backoff, 100, 2000, 25);
	ck_assert_int_eq(backoff_next(&backoff, 25000), 75);
	ck_assert_int_eq(backoff_next(&backoff, 25000), 150);
	ck_assert_int_eq(backoff_next(&backoff, WHOLE), 400);
}

static const struct {
	int64_t delay_ms;
	unsigned jitter_percent;
	int64_t shortest_ms;
} jitters[] = {
	{ 100, 0, 100 },
	{ 100, 1, 99 },
	{ 100, 25, 75 },
	{ 100, 50, 50 },
	{ 2000, 25, 1500 },
	{ 1, 50, 1 },
	{ 2, 50, 1 },
	{ 3, 50, 2 },
	{ 600000, 50, 300000 },
	{ INT64_MAX, 0, INT64_MAX },
	{ INT64_MAX, 50, INT64_MAX / 2 + 1 },
};

/* The numbers repeat after 50,001 of them at most. */
TEST(every_delay_is_within_its_jitter_and_both_ends_are_reached,
    .count = LENGTH(jitters))
{
	int64_t longest_ms = jitters[_i].delay_ms;
	int64_t shortest_ms = jitters[_i].shortest_ms;
	bool longest = false, shortest = false;

	for (uint32_t random = 0; random < 60000; random++) {
		struct backoff backoff;
		int64_t delay_ms;

		backoff_init(&backoff, longest_ms, longest_ms,
		    jitters[_i].jitter_percent);
		delay_ms = backoff_next(&backoff, random);
		if (delay_ms < shortest_ms || delay_ms > longest_ms)
			ck_abort_msg(
			    "%u gives %jd ms", random, (intmax_t)delay_ms);
		longest |= delay_ms == longest_ms;
		shortest |= delay_ms == shortest_ms;
	}
	ck_assert(longest);
	ck_assert(shortest);
}

TEST(no_random_number_is_too_large)
{
	struct backoff backoff;

	for (uint32_t random = UINT32_MAX; random > UINT32_MAX - 60000;
	     random--) {
		int64_t delay_ms;

		backoff_init(&backoff, 100, 2000, 25);
		delay_ms = backoff_next(&backoff, random);
		ck_assert_int_ge(delay_ms, 75);
		ck_assert_int_le(delay_ms, 100);
	}
}

/* A hundred forwarders whose daemon restarts must not dial in step. */
TEST(even_the_first_delay_is_spread)
{
	bool seen[101] = { false };
	unsigned kinds = 0;
	uint64_t luck = 1;

	for (int i = 0; i < 2000; i++) {
		struct backoff backoff;

		backoff_init(&backoff, 100, 2000, 25);
		seen[backoff_next(&backoff, suite_random(&luck))] = true;
	}
	for (int i = 0; i <= 100; i++)
		kinds += seen[i];
	ck_assert_uint_ge(kinds, 25);
}

TEST(a_reset_starts_over_from_min)
{
	struct backoff backoff;

	backoff_init(&backoff, 100, 2000, 0);
	for (int i = 0; i < 8; i++)
		backoff_next(&backoff, WHOLE);
	backoff_reset(&backoff);
	ck_assert_int_eq(backoff_next(&backoff, WHOLE), 100);
	ck_assert_int_eq(backoff_next(&backoff, WHOLE), 200);
}
