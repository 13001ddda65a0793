#include "reconnect/backoff.h"

#include "tests/support/suite.h"

static const struct {
	int64_t min_ms, max_ms, delays[6];
} tables[] = {
	{ 100, 2000, { 100, 200, 400, 800, 1600, 2000 } },
	{ 1, 30, { 1, 2, 4, 8, 16, 30 } },
	{ 1, 1, { 1, 1, 1, 1, 1, 1 } },
	{ 100, 199, { 100, 199, 199, 199, 199, 199 } },
	{ 100, 200, { 100, 200, 200, 200, 200, 200 } },
	{ 100, 201, { 100, 200, 201, 201, 201, 201 } },
	{ INT64_MAX / 2, INT64_MAX,
	    { INT64_MAX / 2, INT64_MAX - 1, INT64_MAX, INT64_MAX, INT64_MAX,
		INT64_MAX } },
};

TEST(the_delay_doubles_up_to_max_and_starts_over, .count = LENGTH(tables))
{
	struct backoff backoff;

	backoff_init(&backoff, tables[_i].min_ms, tables[_i].max_ms, 0);
	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < 6; i++)
			ck_assert_int_eq(backoff_next(&backoff, UINT32_MAX),
			    tables[_i].delays[i]);
		backoff_reset(&backoff);
	}
}

TEST(jitter_shortens_this_delay_and_not_the_next)
{
	struct backoff backoff;

	backoff_init(&backoff, 100, 2000, 25);
	ck_assert_int_eq(backoff_next(&backoff, 25000), 75);
	ck_assert_int_eq(backoff_next(&backoff, 25000), 150);
	ck_assert_int_eq(backoff_next(&backoff, 0), 400);
}

static const struct {
	int64_t delay_ms;
	unsigned jitter_percent;
	int64_t shortest_ms;
} jitters[] = {
	{ 100, 0, 100 },
	{ 100, 1, 99 },
	{ 100, 25, 75 },
	{ 2000, 25, 1500 },
	{ 1, 50, 1 },
	{ 2, 50, 1 },
	{ 3, 50, 2 },
	{ 600000, 50, 300000 },
	{ INT64_MAX, 50, INT64_MAX / 2 + 1 },
};

/* The numbers repeat after 50,001 of them at most; none is too large. */
TEST(every_delay_is_within_its_jitter_and_both_ends_are_reached,
    .count = LENGTH(jitters))
{
	int64_t longest_ms = jitters[_i].delay_ms;
	int64_t shortest_ms = jitters[_i].shortest_ms;
	bool longest = false, shortest = false;

	for (uint32_t random = UINT32_MAX - 60000; random != 60000; random++) {
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
