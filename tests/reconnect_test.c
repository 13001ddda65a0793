/* Each test is a transcript: the time and the event; then the state, the action,
 * the time of the next action, and how long the next dial retries a refusal. */
#include "reconnect/reconnect.h"

#include "base/clock.h"
#include "tests/support/suite.h"

#define NEVER RECONNECT_NEVER
#define WINDOW RECONNECT_WINDOW_MS

enum {
	TICK = RECONNECT_TICK,
	DIAL_FAILED = RECONNECT_DIAL_FAILED,
	INTERRUPTED = RECONNECT_INTERRUPTED,
	CONNECTED = RECONNECT_CONNECTED,
	PROOF = RECONNECT_PROOF,
	LOST = RECONNECT_LOST,
	APPEARED = RECONNECT_APPEARED,
	RESUMED = RECONNECT_RESUMED,
	RELOADED = RECONNECT_RELOADED,
	MOVED = RECONNECT_MOVED,

	WAITING = RECONNECT_WAITING,
	DIALLING = RECONNECT_DIALLING,
	LISTENING = RECONNECT_LISTENING,
	FRESH = RECONNECT_FRESH,
	UNPROVEN = RECONNECT_UNPROVEN,
	PROVEN = RECONNECT_PROVEN,

	DIAL = RECONNECT_DIAL,
	PROVE = RECONNECT_PROVE,
	SETTLED = RECONNECT_REPORT_SETTLED,
	LONG_OUTAGE = RECONNECT_REPORT_LONG_OUTAGE,
};

struct row {
	int64_t ms;
	int event, state;
	unsigned action;
	int64_t wake_ms, retry_window_ms;
};

static struct reconnect machine;

static void
start(int64_t min_ms, int64_t max_ms, unsigned jitter_percent)
{
	const struct reconnect_settings settings = { .min_ms = min_ms,
		.max_ms = max_ms,
		.jitter_percent = jitter_percent };

	reconnect_init(&machine, &settings, 1, 0);
}

static void
play(const struct row *rows, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		const struct row *row = &rows[i];
		unsigned action = reconnect_step(
		    &machine, (enum reconnect_event)row->event, row->ms);
		int64_t wake_ms = reconnect_wake_ms(&machine);

		if ((int)machine.state != row->state || action != row->action ||
		    wake_ms != row->wake_ms ||
		    machine.retry_window_ms != row->retry_window_ms)
			ck_abort_msg("row %zu: state %d, action %u, wake %jd, "
				     "window %jd",
			    i, machine.state, action, (intmax_t)wake_ms,
			    (intmax_t)machine.retry_window_ms);
	}
}

#define TRANSCRIPT(...)                                                        \
	play((const struct row[]){ __VA_ARGS__ },                              \
	    sizeof((const struct row[]){ __VA_ARGS__ }) / sizeof(struct row))

/* Up since 1000 and proven. */
#define UP_AND_PROVEN                                                          \
	{ 1000, TICK, DIALLING, DIAL, NEVER, WINDOW },                         \
	    { 1000, CONNECTED, FRESH, 0, 1100, 0 },                            \
	{                                                                      \
		1050, PROOF, PROVEN, SETTLED, NEVER, 0                         \
	}

static void
set_up(void)
{
	start(100, 2000, 0);
}

FIXTURE(set_up, NULL)

TEST(failed_dials_are_repeated_at_growing_intervals)
{
	TRANSCRIPT({ 0, TICK, DIALLING, DIAL, NEVER, WINDOW },
	    { 50, DIAL_FAILED, WAITING, 0, 150, 0 },
	    { 149, TICK, WAITING, 0, 150, 0 },
	    { 150, TICK, DIALLING, DIAL, NEVER, 0 },
	    { 151, DIAL_FAILED, WAITING, 0, 351, 0 },
	    { 351, TICK, DIALLING, DIAL, NEVER, 0 },
	    { 351, DIAL_FAILED, WAITING, 0, 751, 0 });
	ck_assert_uint_eq(machine.dials, 3);
}

TEST(after_a_proven_loss_a_dial_is_due_at_once_and_the_backoff_starts_over)
{
	TRANSCRIPT({ 0, TICK, DIALLING, DIAL, NEVER, WINDOW },
	    { 0, DIAL_FAILED, WAITING, 0, 100, 0 },
	    { 100, TICK, DIALLING, DIAL, NEVER, 0 },
	    { 100, CONNECTED, FRESH, 0, 200, 0 },
	    { 150, PROOF, PROVEN, SETTLED, NEVER, 0 },
	    { 9000, TICK, PROVEN, 0, NEVER, 0 },
	    { 9000, LOST, WAITING, 0, 9000, WINDOW },
	    { 9000, TICK, DIALLING, DIAL, NEVER, WINDOW },
	    { 9050, DIAL_FAILED, WAITING, 0, 9150, 0 });
	ck_assert_uint_eq(machine.dials, 1);
}

TEST(a_generation_without_proof_of_life_was_a_failed_dial)
{
	TRANSCRIPT({ 0, TICK, DIALLING, DIAL, NEVER, WINDOW },
	    { 0, DIAL_FAILED, WAITING, 0, 100, 0 },
	    { 100, TICK, DIALLING, DIAL, NEVER, 0 },
	    { 100, CONNECTED, FRESH, 0, 200, 0 },
	    { 101, LOST, WAITING, 0, 301, 0 },
	    { 301, TICK, DIALLING, DIAL, NEVER, 0 },
	    { 301, CONNECTED, FRESH, 0, 401, 0 },
	    { 401, TICK, UNPROVEN, SETTLED, 2301, 0 },
	    { 402, LOST, WAITING, 0, 802, 0 });
	ck_assert_uint_eq(machine.dials, 3);
}

/* The dial ended in the backlog of a daemon that was exiting. */
TEST(a_path_that_appears_while_unproven_is_dialled_at_once_after_the_loss)
{
	TRANSCRIPT({ 0, TICK, DIALLING, DIAL, NEVER, WINDOW },
	    { 0, CONNECTED, FRESH, 0, 100, 0 },
	    { 30, APPEARED, FRESH, 0, 100, WINDOW },
	    { 40, LOST, WAITING, 0, 40, WINDOW },
	    { 40, TICK, DIALLING, DIAL, NEVER, WINDOW },
	    { 40, CONNECTED, FRESH, 0, 140, 0 },
	    { 41, LOST, WAITING, 0, 241, 0 });
}

TEST(a_byte_at_any_time_or_age_proves_a_generation)
{
	TRANSCRIPT(UP_AND_PROVEN, { 1051, PROOF, PROVEN, 0, NEVER, 0 },
	    { 2000, LOST, WAITING, 0, 2000, WINDOW },
	    { 2000, TICK, DIALLING, DIAL, NEVER, WINDOW },
	    { 2000, CONNECTED, FRESH, 0, 2100, 0 },
	    { 2099, TICK, FRESH, 0, 2100, 0 },
	    { 2100, TICK, UNPROVEN, SETTLED, 4000, 0 },
	    { 2101, PROOF, PROVEN, 0, NEVER, 0 },
	    { 3000, LOST, WAITING, 0, 3000, WINDOW },
	    { 3000, TICK, DIALLING, DIAL, NEVER, WINDOW },
	    { 3000, CONNECTED, FRESH, 0, 3100, 0 },
	    { 3100, TICK, UNPROVEN, SETTLED, 5000, 0 },
	    { 4999, TICK, UNPROVEN, 0, 5000, 0 },
	    { 5000, TICK, UNPROVEN, PROVE, 5000, 0 },
	    { 5000, PROOF, PROVEN, 0, NEVER, 0 });
}

TEST(age_can_prove_a_generation_before_it_has_settled)
{
	start(1, 20, 0);
	TRANSCRIPT({ 0, TICK, DIALLING, DIAL, NEVER, WINDOW },
	    { 0, CONNECTED, FRESH, 0, 20, 0 },
	    { 20, TICK, FRESH, PROVE, 20, 0 },
	    { 20, PROOF, PROVEN, SETTLED, NEVER, 0 });
}

/* A dial that failed just before must not delay this one. */
TEST(a_path_that_appears_is_dialled_at_once_and_the_backoff_goes_on)
{
	TRANSCRIPT({ 0, TICK, DIALLING, DIAL, NEVER, WINDOW },
	    { 0, DIAL_FAILED, WAITING, 0, 100, 0 },
	    { 1, APPEARED, WAITING, 0, 1, WINDOW },
	    { 1, TICK, DIALLING, DIAL, NEVER, WINDOW },
	    { 51, DIAL_FAILED, WAITING, 0, 251, 0 },
	    { 300, APPEARED, WAITING, 0, 251, WINDOW });
}

/* Once each chmod() of a path that refuses caused a dial. */
TEST(a_path_that_appears_over_and_over_is_dialled_with_the_spacing)
{
	for (int64_t now_ms = 0; now_ms < 1000; now_ms++) {
		reconnect_step(&machine, RECONNECT_APPEARED, now_ms);
		if (reconnect_step(&machine, RECONNECT_TICK, now_ms) == 0)
			continue;
		reconnect_step(&machine, RECONNECT_DIAL_FAILED, now_ms);
		reconnect_step(&machine, RECONNECT_APPEARED, now_ms);
	}
	ck_assert_uint_ge(machine.dials, 90);
	ck_assert_uint_le(machine.dials, 100 + 1);
}

TEST(an_interrupted_dial_has_not_failed)
{
	TRANSCRIPT({ 0, TICK, DIALLING, DIAL, NEVER, WINDOW },
	    { 7, INTERRUPTED, WAITING, 0, 0, WINDOW },
	    { 7, TICK, DIALLING, DIAL, NEVER, WINDOW },
	    { 7, DIAL_FAILED, WAITING, 0, 107, 0 });
}

TEST(after_a_suspend_a_dial_is_due_at_once_from_the_start_of_the_backoff)
{
	TRANSCRIPT({ 0, TICK, DIALLING, DIAL, NEVER, WINDOW },
	    { 0, DIAL_FAILED, WAITING, 0, 100, 0 },
	    { 100, TICK, DIALLING, DIAL, NEVER, 0 },
	    { 100, DIAL_FAILED, WAITING, 0, 300, 0 },
	    { 120, RESUMED, WAITING, 0, 120, 0 },
	    { 120, TICK, DIALLING, DIAL, NEVER, 0 },
	    { 120, DIAL_FAILED, WAITING, 0, 220, 0 });
}

TEST(new_settings_take_effect_at_once)
{
	TRANSCRIPT({ 0, TICK, DIALLING, DIAL, NEVER, WINDOW },
	    { 0, DIAL_FAILED, WAITING, 0, 100, 0 });
	machine.settings.min_ms = 3;
	machine.settings.max_ms = 30;
	TRANSCRIPT({ 20, RELOADED, WAITING, 0, 20, 0 },
	    { 20, TICK, DIALLING, DIAL, NEVER, 0 },
	    { 20, DIAL_FAILED, WAITING, 0, 30, 0 },
	    { 21, MOVED, WAITING, 0, 30, WINDOW },
	    { 30, TICK, DIALLING, DIAL, NEVER, WINDOW },
	    { 30, CONNECTED, FRESH, 0, 60, 0 });
	machine.settings.max_ms = 40;
	TRANSCRIPT({ 31, RELOADED, FRESH, 0, 70, 0 },
	    { 32, MOVED, FRESH, 0, 70, WINDOW },
	    { 50, LOST, WAITING, 0, 50, WINDOW });
}

TEST(an_outage_of_ten_seconds_is_reported_once)
{
	TRANSCRIPT({ 0, TICK, DIALLING, DIAL, NEVER, WINDOW },
	    { 9990, DIAL_FAILED, WAITING, 0, 10000, 0 },
	    { 9999, TICK, WAITING, 0, 10000, 0 },
	    { 10000, TICK, WAITING, LONG_OUTAGE, 10090, 0 },
	    { 10090, TICK, DIALLING, DIAL, NEVER, 0 },
	    { 30000, DIAL_FAILED, WAITING, 0, 30200, 0 },
	    { 30200, TICK, DIALLING, DIAL, NEVER, 0 },
	    /* The outage goes on. */
	    { 30200, CONNECTED, FRESH, 0, 30300, 0 },
	    { 30200, LOST, WAITING, 0, 30600, 0 },
	    { 50000, RELOADED, WAITING, 0, 30600, 0 },
	    { 50000, TICK, DIALLING, DIAL, NEVER, 0 },
	    { 50000, DIAL_FAILED, WAITING, 0, 50100, 0 },
	    /* With a new endpoint the ten seconds start over. */
	    { 50050, MOVED, WAITING, 0, 50050, WINDOW },
	    { 60050, TICK, WAITING, LONG_OUTAGE, 50050, WINDOW },
	    { 60050, TICK, DIALLING, DIAL, NEVER, WINDOW },
	    { 60050, CONNECTED, FRESH, 0, 60150, 0 },
	    { 60050, PROOF, PROVEN, SETTLED, NEVER, 0 },
	    /* As they do with a new outage. */
	    { 60100, LOST, WAITING, 0, 60100, WINDOW },
	    { 60100, TICK, DIALLING, DIAL, NEVER, WINDOW },
	    { 70050, DIAL_FAILED, WAITING, 0, 70100, 0 },
	    { 70100, TICK, WAITING, LONG_OUTAGE, 70150, 0 });
}

TEST(where_clients_connect_nothing_is_dialled)
{
	machine.settings.listens = true;
	TRANSCRIPT({ 0, MOVED, LISTENING, 0, 10000, WINDOW },
	    { 10000, TICK, LISTENING, LONG_OUTAGE, NEVER, WINDOW },
	    { 10001, CONNECTED, FRESH, 0, 10101, 0 },
	    { 10002, PROOF, PROVEN, SETTLED, NEVER, 0 },
	    { 10003, LOST, LISTENING, 0, 20003, WINDOW },
	    { 10004, CONNECTED, FRESH, 0, 10104, 0 },
	    { 10005, LOST, LISTENING, 0, 20003, 0 },
	    { 10006, CONNECTED, FRESH, 0, 10106, 0 });
	ck_assert_uint_eq(machine.dials, 2);
	machine.settings.listens = false;
	TRANSCRIPT({ 10007, MOVED, FRESH, 0, 10106, WINDOW },
	    { 10007, LOST, WAITING, 0, 10016, WINDOW });
}

/* No delay is shorter than the spacing. */
static const struct {
	int64_t min_ms, max_ms, delays[6];
} backoffs[] = {
	{ 100, 2000, { 100, 200, 400, 800, 1600, 2000 } },
	{ 1, 30, { 10, 10, 10, 10, 16, 30 } },
	{ 1, 1, { 10, 10, 10, 10, 10, 10 } },
	{ 100, 199, { 100, 199, 199, 199, 199, 199 } },
	{ 100, 201, { 100, 200, 201, 201, 201, 201 } },
	{ 600000, 600000, { 600000, 600000, 600000, 600000, 600000, 600000 } },
};

TEST(the_delay_doubles_up_to_max, .count = LENGTH(backoffs))
{
	start(backoffs[_i].min_ms, backoffs[_i].max_ms, 0);
	for (int i = 0; i < 6; i++) {
		reconnect_step(&machine, RECONNECT_DIAL_FAILED, 0);
		ck_assert_int_eq(machine.due_ms, backoffs[_i].delays[i]);
	}
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
	{ 21, 50, 11 },
	{ 600000, 50, 300000 },
};

/* One of 50,001 numbers gives the shortest delay, one the longest. Jitter does not
 * change the next delay. */
TEST(every_delay_is_within_its_jitter_and_both_ends_are_reached,
    .count = LENGTH(jitters))
{
	int64_t longest_ms = 0, shortest_ms = INT64_MAX;

	start(jitters[_i].delay_ms, jitters[_i].delay_ms,
	    jitters[_i].jitter_percent);
	for (int i = 0; i < 1000000; i++) {
		reconnect_step(&machine, RECONNECT_DIAL_FAILED, 0);
		longest_ms = later(longest_ms, machine.due_ms);
		shortest_ms = earlier(shortest_ms, machine.due_ms);
	}
	ck_assert_int_eq(longest_ms, jitters[_i].delay_ms);
	ck_assert_int_eq(shortest_ms, jitters[_i].shortest_ms);
}

/* Random events in random order. */
TEST(no_sequence_of_events_brings_two_connections_closer, .count = 8)
{
	static const enum reconnect_event others[] = { RECONNECT_APPEARED,
		RECONNECT_RESUMED, RECONNECT_RELOADED, RECONNECT_MOVED };
	uint64_t luck = (uint64_t)_i;
	int64_t now_ms = 0, last_ms = -RECONNECT_SPACING_MS;

	start(1, 20, 50);
	for (int i = 0; i < 20000; i++) {
		now_ms += suite_random(&luck) % 8;
		if (reconnect_step(&machine, RECONNECT_TICK, now_ms) ==
		    RECONNECT_DIAL) {
			ck_assert_int_ge(
			    now_ms, last_ms + RECONNECT_SPACING_MS);
			last_ms = now_ms;
			reconnect_step(&machine, RECONNECT_CONNECTED, now_ms);
			if (suite_random(&luck) % 2)
				reconnect_step(
				    &machine, RECONNECT_PROOF, now_ms);
			reconnect_step(&machine, RECONNECT_LOST, now_ms);
		} else {
			reconnect_step(
			    &machine, others[suite_random(&luck) % 4], now_ms);
		}
		ck_assert_int_le(machine.due_ms - now_ms, 20);
	}
}
