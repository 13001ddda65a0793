/* Each test reads as a transcript: time, whether the present peer was heard,
 * what to do. */
#include "reconnect/candidate.h"

#include "tests/support/suite.h"

#define CAME_MS 1000000

static struct candidate candidate;

static void
come(void)
{
	candidate_come(&candidate, CAME_MS);
}

static enum candidate_verdict
silent_at(int64_t ms)
{
	return candidate_check(&candidate, CAME_MS + ms, false);
}

static enum candidate_verdict
heard_at(int64_t ms)
{
	return candidate_check(&candidate, CAME_MS + ms, true);
}

TEST(a_peer_that_is_silent_for_a_second_loses_its_place)
{
	come();
	for (int tick = 200; tick < 1000; tick += 200) {
		ck_assert_int_eq(silent_at(tick - 1), CANDIDATE_WAIT);
		ck_assert_int_eq(silent_at(tick), CANDIDATE_ASK);
		ck_assert_int_eq(silent_at(tick), CANDIDATE_WAIT);
	}
	ck_assert_int_eq(silent_at(999), CANDIDATE_WAIT);
	ck_assert(candidate_waits(&candidate));
	ck_assert_int_eq(silent_at(1000), CANDIDATE_ADMIT);
	ck_assert(!candidate_waits(&candidate));
}

TEST(a_peer_that_was_heard_keeps_its_place)
{
	for (int tick = 200; tick <= 1000; tick += 200) {
		come();
		for (int before = 200; before < tick; before += 200)
			ck_assert_int_eq(silent_at(before), CANDIDATE_ASK);
		ck_assert_int_eq(heard_at(tick - 1), CANDIDATE_WAIT);
		ck_assert_int_eq(heard_at(tick), CANDIDATE_REFUSE);
		ck_assert(!candidate_waits(&candidate));
	}
}

/* However fast they come: a peer answers so many PINGs a second and no more. */
TEST(asks_are_never_closer_than_a_tick)
{
	int64_t asked_ms = 0;
	unsigned asks = 0;

	candidate = (struct candidate){ 0 };
	for (int64_t now_ms = CAME_MS; now_ms < CAME_MS + 10000; now_ms++) {
		bool asks_now = false;

		if (candidate_waits(&candidate))
			asks_now = candidate_check(&candidate, now_ms,
				       now_ms % 3000 < 1500) == CANDIDATE_ASK;
		if (!candidate_waits(&candidate)) {
			candidate_come(&candidate, now_ms);
			asks_now = true;
		}
		if (!asks_now)
			continue;
		ck_assert_int_ge(now_ms - asked_ms, CANDIDATE_TICK_MS);
		asked_ms = now_ms;
		asks++;
	}
	ck_assert_uint_eq(asks, 50);
}

/* The host was suspended, or too busy: the answer had no time to come. */
TEST(a_late_tick_asks_and_decides_nothing)
{
	come();
	for (int tick = 200; tick < 1000; tick += 200)
		ck_assert_int_eq(silent_at(tick), CANDIDATE_ASK);
	ck_assert_int_eq(silent_at(3600000), CANDIDATE_ASK);
	ck_assert_int_eq(silent_at(3600199), CANDIDATE_WAIT);
	ck_assert_int_eq(silent_at(3600200), CANDIDATE_ADMIT);

	come();
	ck_assert_int_eq(silent_at(400), CANDIDATE_ASK); /* doesn't count */
	for (int tick = 600; tick < 1400; tick += 200)
		ck_assert_int_eq(silent_at(tick), CANDIDATE_ASK);
	ck_assert_int_eq(silent_at(1400), CANDIDATE_ADMIT);
}
