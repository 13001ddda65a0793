/* The rules of keepalive.h, without a clock: time is a number here. */
#include "keepalive/keepalive.h"

#include "tests/support/suite.h"
#include <stdlib.h>

#define GENERATION 7
#define NO_BYTE INT64_MIN
#define MINUTE 60000

static struct keepalive ka;
static struct keepalive_seen seen;

/* A connection that began at 0, to a peer that has answered once. */
static void
start(int64_t interval_ms, unsigned count)
{
	keepalive_init(&ka, interval_ms, count);
	keepalive_start(&ka, GENERATION, 0);
	seen = (struct keepalive_seen){
		.reader_waiting = true,
		.answered_generation = GENERATION,
		.last_byte_ms = NO_BYTE,
	};
}

/* ck_assert() costs two system calls even if all is well: too many for a check
 * that is made millions of times. */
static void
must(bool promise_kept)
{
	if (!promise_kept)
		ck_abort();
}

static enum keepalive_verdict
check_at(int64_t now_ms)
{
	enum keepalive_verdict verdict = keepalive_check(&ka, now_ms, &seen);

	must(keepalive_due(&ka) > now_ms);
	if (verdict == KEEPALIVE_PROBE)
		keepalive_sent(&ka, now_ms);
	return verdict;
}

/* Sleeps as a caller would, to the next verdict that isn't WAIT. */
static enum keepalive_verdict
next(int64_t *now_ms)
{
	enum keepalive_verdict verdict = KEEPALIVE_WAIT;

	while (verdict == KEEPALIVE_WAIT && keepalive_due(&ka) < 1000000)
		verdict = check_at(*now_ms = keepalive_due(&ka));
	return verdict;
}

static void
expect(enum keepalive_verdict verdict, int64_t at_ms)
{
	int64_t now_ms = -1;

	ck_assert_int_eq(next(&now_ms), verdict);
	ck_assert_int_eq(now_ms, at_ms);
}

TEST(five_and_five_probe_every_five_seconds_and_give_up_at_thirty)
{
	start(5000, 5);
	expect(KEEPALIVE_PROBE, 5000);
	expect(KEEPALIVE_PROBE, 10000);
	expect(KEEPALIVE_PROBE, 15000);
	expect(KEEPALIVE_PROBE, 20000);
	expect(KEEPALIVE_PROBE, 25000);
	expect(KEEPALIVE_DEAD, 30000);
	ck_assert_uint_eq(ka.unanswered, 5);
	ck_assert_int_eq(30000 - ka.quiet_since_ms, 30000);
}

TEST(one_and_one_probe_at_one_second_and_give_up_at_two)
{
	start(1000, 1);
	expect(KEEPALIVE_PROBE, 1000);
	expect(KEEPALIVE_DEAD, 2000);
}

TEST(nothing_is_due_a_millisecond_early)
{
	start(5000, 5);
	ck_assert_int_eq(check_at(4999), KEEPALIVE_WAIT);
	ck_assert_int_eq(keepalive_due(&ka), 5000);
	for (int64_t t = 5000; t <= 25000; t += 5000) {
		ck_assert_int_eq(check_at(t), KEEPALIVE_PROBE);
		ck_assert_int_eq(check_at(t + 4999), KEEPALIVE_WAIT);
	}
	ck_assert_int_eq(check_at(30000), KEEPALIVE_DEAD);
}

TEST(small_delays_of_every_tick_do_not_add_up)
{
	start(5000, 5);
	for (int64_t t = 5000; t <= 25000; t += 5000)
		ck_assert_int_eq(check_at(t + 37), KEEPALIVE_PROBE);
	expect(KEEPALIVE_DEAD, 30000);
}

TEST(death_is_said_once)
{
	start(1000, 1);
	expect(KEEPALIVE_PROBE, 1000);
	expect(KEEPALIVE_DEAD, 2000);
	ck_assert_int_eq(keepalive_due(&ka), KEEPALIVE_NEVER);
	ck_assert_int_eq(keepalive_check(&ka, 2000, &seen), KEEPALIVE_WAIT);
	ck_assert_int_eq(keepalive_check(&ka, 9000, &seen), KEEPALIVE_WAIT);
}

TEST(a_second_check_at_the_same_time_changes_nothing)
{
	start(5000, 1);
	for (int64_t t = 5000; t <= 10000; t += 5000) {
		int64_t due_ms;

		ck_assert_int_ne(
		    keepalive_check(&ka, t, &seen), KEEPALIVE_WAIT);
		due_ms = keepalive_due(&ka);
		ck_assert_int_eq(
		    keepalive_check(&ka, t, &seen), KEEPALIVE_WAIT);
		ck_assert_int_eq(keepalive_due(&ka), due_ms);
		keepalive_sent(&ka, t);
	}
}

TEST(a_byte_at_the_last_millisecond_saves_the_connection)
{
	start(5000, 5);
	for (int64_t t = 5000; t <= 25000; t += 5000)
		expect(KEEPALIVE_PROBE, t);
	seen.last_byte_ms = 29999;
	ck_assert_int_eq(check_at(30000), KEEPALIVE_WAIT);
	expect(KEEPALIVE_PROBE, 34999);
	ck_assert_uint_eq(ka.unanswered, 1);
}

TEST(a_byte_at_the_moment_of_death_saves_the_connection)
{
	start(1000, 1);
	expect(KEEPALIVE_PROBE, 1000);
	seen.last_byte_ms = 2000;
	ck_assert_int_eq(check_at(2000), KEEPALIVE_WAIT);
	expect(KEEPALIVE_PROBE, 3000);
	expect(KEEPALIVE_DEAD, 4000);
}

/* The machine is told of bytes, not of frames: half of one is as good. */
TEST(half_a_frame_is_a_sign_of_life)
{
	start(5000, 5);
	expect(KEEPALIVE_PROBE, 5000);
	seen.last_byte_ms = 5200;
	expect(KEEPALIVE_PROBE, 10200);
	ck_assert_uint_eq(ka.unanswered, 1);
	for (int64_t t = 15200; t <= 30200; t += 5000)
		expect(KEEPALIVE_PROBE, t);
	expect(KEEPALIVE_DEAD, 35200);
}

TEST(death_is_counted_from_the_last_byte_though_nobody_looked_then)
{
	start(5000, 5);
	seen.last_byte_ms = 3210;
	for (int64_t t = 8210; t <= 28210; t += 5000)
		expect(KEEPALIVE_PROBE, t);
	expect(KEEPALIVE_DEAD, 33210);
}

TEST(traffic_costs_one_look_an_interval_and_no_probe)
{
	unsigned looks = 0;

	start(5000, 5);
	while (keepalive_due(&ka) < 100000) {
		int64_t now_ms = keepalive_due(&ka);

		seen.last_byte_ms = now_ms - 1;
		ck_assert_int_eq(check_at(now_ms), KEEPALIVE_WAIT);
		looks++;
	}
	ck_assert_uint_le(looks, 20);
}

TEST(a_byte_whose_time_was_stored_late_does_not_hasten_the_next_probe)
{
	start(5000, 5);
	expect(KEEPALIVE_PROBE, 5000);
	seen.last_byte_ms = 1000;
	ck_assert_int_eq(check_at(6000), KEEPALIVE_WAIT);
	expect(KEEPALIVE_PROBE, 10000);
}

TEST(a_reader_that_is_blocked_on_the_guest_proves_nothing)
{
	start(5000, 5);
	seen.reader_waiting = false;
	for (int64_t t = 5000; t <= 25000; t += 5000)
		expect(KEEPALIVE_PROBE, t);
	for (int64_t t = 30000; t <= 90000; t += 5000)
		ck_assert_int_eq(check_at(t), KEEPALIVE_WAIT);
	seen.reader_waiting = true;
	expect(KEEPALIVE_DEAD, 95000);
}

TEST(a_reader_that_comes_back_to_an_answer_forgives)
{
	start(5000, 5);
	seen.reader_waiting = false;
	for (int64_t t = 5000; t <= 25000; t += 5000)
		expect(KEEPALIVE_PROBE, t);
	ck_assert_int_eq(check_at(30000), KEEPALIVE_WAIT);
	seen.reader_waiting = true;
	seen.last_byte_ms = 31000;
	expect(KEEPALIVE_PROBE, 36000);
}

TEST(a_reader_that_was_blocked_all_along_is_no_proof_of_no_answer)
{
	start(1000, 1);
	seen.answered_generation = 0;
	seen.reader_waiting = false;
	expect(KEEPALIVE_PROBE, 1000);
	ck_assert_int_eq(check_at(2000), KEEPALIVE_WAIT);
	seen.reader_waiting = true;
	expect(KEEPALIVE_UNARMED, 3000);
}

TEST(an_old_generation_cannot_condemn_a_new_one)
{
	start(5000, 5);
	for (int64_t t = 5000; t <= 25000; t += 5000)
		expect(KEEPALIVE_PROBE, t);
	keepalive_start(&ka, GENERATION + 1, 29999);
	ck_assert_int_eq(check_at(30000), KEEPALIVE_WAIT);
	for (int64_t t = 34999; t <= 54999; t += 5000)
		expect(KEEPALIVE_PROBE, t);
	ck_assert_uint_eq(ka.generation, GENERATION + 1);
}

TEST(an_answer_on_an_old_generation_does_not_arm_a_new_one)
{
	start(1000, 1);
	keepalive_start(&ka, GENERATION + 1, 0);
	expect(KEEPALIVE_PROBE, 1000);
	expect(KEEPALIVE_UNARMED, 2000);
}

TEST(a_byte_of_an_old_generation_does_not_count_for_a_new_one)
{
	start(5000, 5);
	seen.last_byte_ms = 9000;
	keepalive_start(&ka, GENERATION + 1, 10000);
	expect(KEEPALIVE_PROBE, 15000);
	ck_assert_int_eq(ka.quiet_since_ms, 10000);
}

TEST(a_new_generation_is_told_again_that_its_peer_never_answers)
{
	start(1000, 1);
	for (uint64_t generation = 1; generation < 4; generation++) {
		seen.answered_generation = 0;
		keepalive_start(&ka, generation, 0);
		expect(KEEPALIVE_PROBE, 1000);
		expect(KEEPALIVE_UNARMED, 2000);
	}
}

TEST(a_connection_that_ended_is_left_alone)
{
	start(1000, 1);
	keepalive_stop(&ka);
	ck_assert_int_eq(keepalive_due(&ka), KEEPALIVE_NEVER);
	ck_assert_int_eq(keepalive_check(&ka, 5000, &seen), KEEPALIVE_WAIT);
}

TEST(nothing_is_watched_before_the_first_generation)
{
	keepalive_init(&ka, 1000, 1);
	ck_assert_int_eq(keepalive_due(&ka), KEEPALIVE_NEVER);
	ck_assert_int_eq(keepalive_check(&ka, 5000, &seen), KEEPALIVE_WAIT);
}

TEST(a_sleep_of_100_s_gives_one_probe_and_no_death)
{
	start(5000, 5);
	ck_assert_int_eq(check_at(103000), KEEPALIVE_PROBE);
	ck_assert_int_eq(check_at(103000), KEEPALIVE_WAIT);
	ck_assert_int_eq(check_at(107999), KEEPALIVE_WAIT);
	for (int64_t t = 108000; t <= 123000; t += 5000)
		expect(KEEPALIVE_PROBE, t);
	expect(KEEPALIVE_DEAD, 128000);
}

TEST(the_count_goes_on_where_the_sleep_broke_it_off)
{
	start(5000, 5);
	expect(KEEPALIVE_PROBE, 5000);
	expect(KEEPALIVE_PROBE, 10000);
	ck_assert_int_eq(check_at(112000), KEEPALIVE_PROBE);
	expect(KEEPALIVE_PROBE, 117000);
	expect(KEEPALIVE_PROBE, 122000);
	expect(KEEPALIVE_DEAD, 127000);
}

TEST(waking_from_a_long_sleep_probes_before_giving_up)
{
	start(5000, 5);
	for (int64_t t = 5000; t <= 25000; t += 5000)
		expect(KEEPALIVE_PROBE, t);
	ck_assert_int_eq(check_at(127000), KEEPALIVE_PROBE);
	expect(KEEPALIVE_DEAD, 132000);
}

TEST(a_host_that_dozes_off_again_and_again_never_gives_up)
{
	start(1000, 1);
	for (int64_t t = 60000; t < 6000000; t += 60000)
		ck_assert_int_eq(check_at(t), KEEPALIVE_PROBE);
}

TEST(a_probe_has_three_quarters_of_its_interval_to_be_answered)
{
	start(1000, 1);
	ck_assert_int_eq(check_at(1250), KEEPALIVE_PROBE);
	expect(KEEPALIVE_DEAD, 2000);
	start(1000, 1);
	ck_assert_int_eq(check_at(1251), KEEPALIVE_PROBE);
	expect(KEEPALIVE_DEAD, 2251);
}

TEST(an_interval_of_0_never_probes_and_never_dies)
{
	start(0, 5);
	ck_assert_int_eq(keepalive_due(&ka), KEEPALIVE_NEVER);
	for (int64_t t = 0; t < 10000000; t += 100000) {
		seen.last_byte_ms = t - 50000;
		ck_assert_int_eq(
		    keepalive_check(&ka, t, &seen), KEEPALIVE_WAIT);
	}
	ck_assert_int_eq(keepalive_due(&ka), KEEPALIVE_NEVER);
}

TEST(a_peer_that_never_answers_is_mentioned_once_and_asked_once_a_minute)
{
	start(5000, 5);
	seen.answered_generation = 0;
	for (int64_t t = 5000; t <= 25000; t += 5000)
		expect(KEEPALIVE_PROBE, t);
	expect(KEEPALIVE_UNARMED, 30000);
	for (int64_t t = 25000 + MINUTE; t < 800000; t += MINUTE)
		expect(KEEPALIVE_PROBE, t);
}

TEST(other_hosts_bytes_do_not_bring_an_unarmed_peer_more_probes)
{
	unsigned probes = 0, told = 0;

	start(5000, 5);
	seen.answered_generation = 0;
	for (int64_t t = 0; t < 60 * MINUTE; t += 100) {
		enum keepalive_verdict verdict = check_at(t);

		if (t > MINUTE && t % 7000 == 0)
			seen.last_byte_ms = t;
		probes += t > MINUTE && verdict == KEEPALIVE_PROBE;
		told += verdict == KEEPALIVE_UNARMED;
		must(verdict != KEEPALIVE_DEAD);
	}
	ck_assert_uint_eq(told, 1);
	ck_assert_uint_le(probes, 60);
	ck_assert_uint_ge(probes, 50);
}

TEST(the_minute_is_kept_though_every_tick_is_a_little_late)
{
	unsigned probes = 0;

	start(5000, 5);
	seen.answered_generation = 0;
	for (int64_t t = 5000; t < 60 * MINUTE; t += 5000)
		probes += check_at(t + t % 7) == KEEPALIVE_PROBE;
	ck_assert_uint_eq(probes, 5 + 59);
}

TEST(an_interval_over_a_minute_keeps_its_own_pace_unarmed)
{
	start(300000, 1);
	seen.answered_generation = 0;
	expect(KEEPALIVE_PROBE, 300000);
	expect(KEEPALIVE_UNARMED, 600000);
	expect(KEEPALIVE_PROBE, 900000);
}

TEST(a_late_answer_arms_and_the_next_silence_is_found_in_time)
{
	start(5000, 5);
	seen.answered_generation = 0;
	for (int64_t t = 5000; t <= 25000; t += 5000)
		expect(KEEPALIVE_PROBE, t);
	expect(KEEPALIVE_UNARMED, 30000);
	expect(KEEPALIVE_PROBE, 85000);
	seen.answered_generation = GENERATION;
	seen.last_byte_ms = 85002;
	for (int64_t t = 90002; t <= 110002; t += 5000)
		expect(KEEPALIVE_PROBE, t);
	expect(KEEPALIVE_DEAD, 115002);
}

TEST(a_probe_that_could_not_be_sent_is_not_counted)
{
	start(5000, 5);
	for (int64_t t = 5000; t <= 500000; t += 5000)
		ck_assert_int_eq(
		    keepalive_check(&ka, t, &seen), KEEPALIVE_PROBE);
	for (int64_t t = 505000; t <= 525000; t += 5000)
		expect(KEEPALIVE_PROBE, t);
	expect(KEEPALIVE_DEAD, 530000);
}

TEST(a_probe_that_could_not_be_sent_proves_no_peer_silent)
{
	start(5000, 5);
	seen.answered_generation = 0;
	for (int64_t t = 5000; t <= 500000; t += 5000)
		ck_assert_int_eq(
		    keepalive_check(&ka, t, &seen), KEEPALIVE_PROBE);
}

TEST(new_settings_begin_with_a_whole_interval)
{
	start(5000, 5);
	for (int64_t t = 5000; t <= 25000; t += 5000)
		expect(KEEPALIVE_PROBE, t);
	keepalive_init(&ka, 1000, 1);
	keepalive_start(&ka, GENERATION, 26000);
	expect(KEEPALIVE_PROBE, 27000);
	expect(KEEPALIVE_DEAD, 28000);
}

/* The same rules the slow way: looks every millisecond, divides the silence,
 * less what was slept through, by the interval. */
struct reference {
	int64_t interval_ms;
	unsigned count;
	int64_t last_byte_ms, overslept_ms, probed_ms;
	int64_t ticks; /* since the last byte */
	unsigned unanswered;
	bool told;
};

static enum keepalive_verdict
reference_decide(struct reference *r, int64_t now_ms, bool late, bool armed,
    bool reader_waiting)
{
	if (r->told && !armed)
		return now_ms - r->probed_ms >= MINUTE - r->interval_ms / 4
			   ? KEEPALIVE_PROBE
			   : KEEPALIVE_WAIT;
	if (late || r->unanswered < r->count)
		return KEEPALIVE_PROBE;
	if (!reader_waiting)
		return KEEPALIVE_WAIT;
	if (armed)
		return KEEPALIVE_DEAD;
	r->told = true;
	return KEEPALIVE_UNARMED;
}

static enum keepalive_verdict
reference_check(struct reference *r, int64_t now_ms, int64_t last_byte_ms,
    bool armed, bool reader_waiting)
{
	int64_t silence_ms, late_ms;

	if (last_byte_ms > r->last_byte_ms) {
		r->last_byte_ms = last_byte_ms;
		r->overslept_ms = r->ticks = r->unanswered = 0;
	}
	silence_ms = now_ms - r->last_byte_ms - r->overslept_ms;
	if (silence_ms / r->interval_ms <= r->ticks)
		return KEEPALIVE_WAIT;
	r->ticks++;
	late_ms = silence_ms - r->ticks * r->interval_ms;
	if (late_ms > r->interval_ms / 4)
		r->overslept_ms += late_ms;
	return reference_decide(
	    r, now_ms, late_ms > r->interval_ms / 4, armed, reader_waiting);
}

static uint32_t
pseudo_random(uint32_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 17;
	*state ^= *state << 5;
	return *state;
}

/* A world in which everything happens that can, as the seed has it. */
struct world {
	uint32_t seed;
	uint32_t one_byte_in, one_sleep_in; /* ms */
	int64_t now_ms, awake_ms, probed_ms;
	unsigned deaths, probes;
	bool eager; /* checks every millisecond, not only when due */
};

static bool
one_in(struct world *w, uint32_t n)
{
	return pseudo_random(&w->seed) % n == 0;
}

static void
let_things_happen(struct world *w, struct reference *r)
{
	if (one_in(w, w->one_byte_in)) {
		seen.last_byte_ms = w->now_ms;
		if (one_in(w, 3))
			seen.answered_generation = ka.generation;
	}
	if (one_in(w, 5000))
		seen.reader_waiting = !seen.reader_waiting;
	if (one_in(w, w->one_sleep_in))
		w->awake_ms =
		    w->now_ms + pseudo_random(&w->seed) % (4 * r->interval_ms);
}

static void
begin(struct world *w, struct reference *r)
{
	keepalive_start(&ka, ka.generation + 1, w->now_ms);
	*r = (struct reference){ .interval_ms = r->interval_ms,
		.count = r->count,
		.last_byte_ms = w->now_ms,
		.probed_ms = w->now_ms };
	w->probed_ms = w->now_ms;
}

static void
obey(struct world *w, struct reference *r, enum keepalive_verdict verdict)
{
	bool armed = seen.answered_generation == ka.generation;
	int64_t three_quarters_ms = r->interval_ms - r->interval_ms / 4;

	if (verdict == KEEPALIVE_PROBE && !one_in(w, 8)) {
		must(w->now_ms - w->probed_ms >= three_quarters_ms);
		w->probed_ms = r->probed_ms = w->now_ms;
		w->probes++;
		r->unanswered++;
		keepalive_sent(&ka, w->now_ms);
	}
	if (verdict == KEEPALIVE_DEAD) {
		must(armed && seen.reader_waiting);
		must(ka.unanswered >= r->count);
		must(w->now_ms - w->probed_ms >= three_quarters_ms);
		w->deaths++;
		begin(w, r);
	}
}

static void
live(struct world *w, struct reference *r, int64_t end_ms)
{
	begin(w, r);
	for (; w->now_ms < end_ms; w->now_ms++) {
		enum keepalive_verdict verdict = KEEPALIVE_WAIT;
		bool armed;

		if (w->now_ms < w->awake_ms)
			continue;
		let_things_happen(w, r);
		armed = seen.answered_generation == ka.generation;
		if (w->eager || w->now_ms >= keepalive_due(&ka)) {
			verdict = keepalive_check(&ka, w->now_ms, &seen);
			must(keepalive_due(&ka) > w->now_ms);
		}
		must(verdict == reference_check(r, w->now_ms, seen.last_byte_ms,
				    armed, seen.reader_waiting));
		obey(w, r, verdict);
	}
}

TEST(whatever_happens_it_agrees_with_a_slow_reference, .count = 48,
    .seconds = 60)
{
	static const uint32_t intervals[] = { 100, 997, 5000, 70000 };
	struct world w = {
		.seed = 2463534242u + 7919u * (uint32_t)_i,
		.eager = _i % 2,
	};
	struct reference r = {
		.interval_ms = intervals[_i / 2 % 4],
		.count = 1 + (unsigned)_i % 6,
	};
	uint32_t interval_ms = (uint32_t)r.interval_ms;

	start(r.interval_ms, r.count);
	w.one_byte_in = interval_ms * (1 + (uint32_t)_i % 5);
	w.one_sleep_in = _i % 3 ? interval_ms * 10 : 1000000000;
	live(&w, &r, 100 * (int64_t)interval_ms + 10 * MINUTE);
	ck_assert_uint_gt(w.probes, 0);
}
