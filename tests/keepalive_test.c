/* The rules of keepalive.h, as transcripts: time is a number here. */
#include "keepalive/keepalive.h"

#include "tests/support/suite.h"

#define GENERATION 7
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
		.last_byte_ms = INT64_MIN,
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
	return verdict;
}

static enum keepalive_verdict
check_and_send(int64_t now_ms)
{
	enum keepalive_verdict verdict = check_at(now_ms);

	if (verdict == KEEPALIVE_PROBE)
		keepalive_sent(&ka, now_ms);
	return verdict;
}

/* Sleeps as a caller would, until an action is due. */
static bool
next_is(enum keepalive_verdict expected, int64_t at_ms)
{
	enum keepalive_verdict verdict = KEEPALIVE_WAIT;
	int64_t now_ms = -1;

	while (verdict == KEEPALIVE_WAIT && keepalive_due(&ka) < 1000000)
		verdict = check_and_send(now_ms = keepalive_due(&ka));
	return verdict == expected && now_ms == at_ms;
}

/* Returns whether a step of a transcript went as expected. */
static bool
step(const char *word, int64_t t)
{
	enum keepalive_verdict verdict;

	if (strcmp(word, "probe") == 0)
		return next_is(KEEPALIVE_PROBE, t);
	if (strcmp(word, "no-answer") == 0)
		return next_is(KEEPALIVE_NO_ANSWER, t);
	if (strcmp(word, "death") == 0)
		return next_is(KEEPALIVE_DEATH, t);
	if (strcmp(word, "not-back") == 0)
		return next_is(KEEPALIVE_NOT_BACK, t);
	if (strcmp(word, "late") == 0) /* checked then, not when it is due */
		return check_and_send(t) == KEEPALIVE_PROBE;
	if (strncmp(word, "resumed", 7) == 0) {
		seen.resumed = true;
		verdict = word[7] ? check_at(t) : check_and_send(t);
		seen.resumed = false;
		return verdict == KEEPALIVE_PROBE;
	}
	if (strcmp(word, "unsent") == 0)
		return check_at(t) == KEEPALIVE_PROBE;
	if (strcmp(word, "wait") == 0)
		return check_at(t) == KEEPALIVE_WAIT;
	if (strcmp(word, "idle") == 0)
		return keepalive_check(&ka, t, &seen) == KEEPALIVE_WAIT &&
		       keepalive_due(&ka) == KEEPALIVE_NEVER;
	if (strcmp(word, "byte") == 0)
		seen.last_byte_ms = t;
	else if (strcmp(word, "answered") == 0)
		seen.answered_generation = (uint64_t)t;
	else if (strcmp(word, "reader") == 0)
		seen.reader_waiting = t != 0;
	else if (strcmp(word, "start") == 0)
		keepalive_start(&ka, ka.generation + 1, t);
	else
		ck_abort_msg("no such step: %s", word);
	return true;
}

/* "probe 5000-25000 death 30000": words, and times in ms; a range has a step of
 * one interval. */
static void
play(const char *promise, int64_t interval_ms, unsigned count,
    const char *transcript)
{
	char text[512], word[16] = "";

	start(interval_ms, count);
	snprintf(text, sizeof(text), "%s", transcript);
	for (char *at = strtok(text, " "); at; at = strtok(NULL, " ")) {
		long long t, last = INT64_MAX;
		int times = sscanf(at, "%lld-%lld", &t, &last);

		if (times < 1)
			snprintf(word, sizeof(word), "%s", at);
		for (int i = 0; i < times && t <= last; t += interval_ms) {
			ck_assert_msg(step(word, t), "%s: not so: %s %lld",
			    promise, word, t);
			i += times == 1;
		}
	}
}

static const struct {
	const char *promise;
	int64_t interval_ms;
	unsigned count;
	const char *transcript;
} transcripts[] = {
	{ "five and five probe every five seconds and give up at thirty", 5000,
	    5, "probe 5000-25000 death 30000" },
	{ "one and one probe at one second and give up at two", 1000, 1,
	    "probe 1000 death 2000" },
	{ "nothing is due a millisecond early", 5000, 5,
	    "wait 4999 probe 5000 wait 9999 probe 10000-25000 wait 29999 "
	    "death 30000" },
	{ "small delays of every tick do not add up", 5000, 5,
	    "late 5037-25037 death 30000" },
	{ "death is said once", 1000, 1,
	    "probe 1000 death 2000 idle 2000 idle 9000" },
	{ "a byte at the last millisecond saves the connection", 5000, 5,
	    "probe 5000-25000 byte 29999 wait 30000 probe 34999-54999 death "
	    "59999" },
	{ "a byte at the moment of death saves the connection", 1000, 1,
	    "probe 1000 byte 2000 wait 2000 probe 3000 death 4000" },
	{ "a byte after a probe starts the count again", 5000, 5,
	    "probe 5000 byte 5200 probe 10200-30200 death 35200" },
	{ "death is counted from the last byte though nobody looked then", 5000,
	    5, "byte 3210 probe 8210-28210 death 33210" },
	{ "a byte whose time was stored late does not hasten the next probe",
	    5000, 5, "probe 5000 byte 1000 wait 6000 probe 10000" },
	{ "a reader that is blocked on the guest proves nothing", 5000, 5,
	    "reader 0 probe 5000-25000 wait 30000-90000 reader 1 death "
	    "95000" },
	{ "a byte that a blocked reader reads late counts", 5000, 5,
	    "reader 0 probe 5000-25000 wait 30000 reader 1 byte 31000 probe "
	    "36000" },
	{ "a reader that was blocked all along is no proof of no answer", 1000,
	    1,
	    "answered 0 reader 0 probe 1000 wait 2000 reader 1 no-answer "
	    "3000" },
	{ "an old generation cannot condemn a new one", 5000, 5,
	    "probe 5000-25000 answered 8 start 29999 wait 30000 probe "
	    "34999-54999 death 59999" },
	{ "an answer on an old generation does not arm a new one", 1000, 1,
	    "start 0 probe 1000 no-answer 2000" },
	{ "a byte of an old generation does not count for a new one", 5000, 5,
	    "byte 9000 start 10000 probe 15000" },
	{ "a new generation is reported again as never answering", 1000, 1,
	    "start 0 probe 1000 no-answer 2000 start 0 probe 1000 no-answer "
	    "2000" },
	{ "a sleep of 100 s gives one probe and no death", 5000, 5,
	    "late 103000 wait 103000 wait 107999 probe 108000-123000 death "
	    "128000" },
	{ "the count goes on where the sleep broke it off", 5000, 5,
	    "probe 5000 10000 late 112000 probe 117000 122000 death 127000" },
	{ "waking from a long sleep probes before giving up", 5000, 5,
	    "probe 5000-25000 late 127000 death 132000" },
	{ "a probe has three quarters of its interval to be answered", 1000, 1,
	    "late 1250 death 2000" },
	{ "a probe that is later still has a whole interval", 1000, 1,
	    "late 1251 death 2251" },
	{ "an interval of 0 never probes and never dies", 0, 5,
	    "idle 0 byte 100 idle 100000 idle 10000000" },
	{ "a peer that never answers is reported once and asked once a minute",
	    5000, 5,
	    "answered 0 probe 5000-25000 no-answer 30000 probe 85000 145000 "
	    "205000 265000" },
	{ "a late answer arms and the next silence is found in time", 5000, 5,
	    "answered 0 probe 5000-25000 no-answer 30000 probe 85000 "
	    "answered 7 byte 85002 probe 90002-110002 death 115002" },
	{ "a probe that could not be sent is not counted", 5000, 5,
	    "unsent 5000-500000 probe 505000-525000 death 530000" },
	{ "a probe that could not be sent proves no peer silent", 5000, 5,
	    "answered 0 unsent 5000-500000" },
	{ "a second check at the same time changes nothing", 5000, 1,
	    "unsent 5000 wait 5000 late 10000 wait 10000 death 15000" },
	{ "after a resume a peer that does not answer at once is dead", 5000, 5,
	    "probe 5000 resumed 6000 not-back 7000 idle 7000" },
	{ "a byte after a resume is an answer, in the same millisecond, too",
	    5000, 1,
	    "resumed 1000 byte 1000 wait 1001 probe 6000 death 11000" },
	{ "a byte from before a resume is no answer", 5000, 1,
	    "resumed 1000 byte 999 not-back 2000" },
	{ "a probe that cannot be sent after a resume proves nothing", 5000, 5,
	    "resumed-unsent 1000 unsent 2000 unsent 3000 probe 4000 "
	    "not-back 5000" },
	{ "a reader that is blocked after a resume proves nothing", 5000, 5,
	    "resumed 1000 reader 0 wait 2000 wait 3000 reader 1 not-back "
	    "4000" },
	{ "a late check after a resume probes once more", 5000, 5,
	    "resumed 1000 late 2251 not-back 3251" },
	{ "a second resume gives the peer another second", 5000, 5,
	    "resumed 1000 resumed 1900 not-back 2900" },
	{ "a resume probes a peer that never answered, and does not cut it",
	    5000, 1,
	    "answered 0 resumed 1000 no-answer 6000 resumed 8000 probe "
	    "68000" },
	{ "an answer after a resume arms a peer that was not", 5000, 1,
	    "answered 0 resumed 1000 answered 7 byte 1001 probe 6001 death "
	    "11001" },
	{ "an interval over a minute keeps its own pace", 300000, 1,
	    "answered 0 probe 300000 no-answer 600000 probe 900000" },
};

TEST(every_promise_is_kept, .count = LENGTH(transcripts))
{
	play(transcripts[_i].promise, transcripts[_i].interval_ms,
	    transcripts[_i].count, transcripts[_i].transcript);
}

TEST(traffic_causes_one_check_per_interval_and_no_probe)
{
	unsigned looks = 0;

	start(5000, 5);
	for (; keepalive_due(&ka) < 100000; looks++) {
		int64_t now_ms = keepalive_due(&ka);

		seen.last_byte_ms = now_ms - 1;
		ck_assert_int_eq(check_at(now_ms), KEEPALIVE_WAIT);
	}
	ck_assert_uint_le(looks, 20);
}

TEST(a_connection_that_ended_is_left_alone)
{
	start(1000, 1);
	keepalive_stop(&ka);
	ck_assert(step("idle", 5000));
	keepalive_init(&ka, 1000, 1); /* as before the first one */
	ck_assert(step("idle", 5000));
}

TEST(repeated_short_suspends_never_end_a_connection)
{
	start(1000, 1);
	for (int64_t t = MINUTE; t < 100 * MINUTE; t += MINUTE)
		ck_assert(step("late", t));
}

TEST(bytes_of_other_hosts_cause_no_extra_probes_of_a_silent_peer)
{
	unsigned probes = 0, reports = 0;

	start(5000, 5);
	seen.answered_generation = 0;
	for (int64_t t = 0; t < 60 * MINUTE; t += 100) {
		enum keepalive_verdict verdict = check_and_send(t);

		if (t > MINUTE && t % 7000 == 0)
			seen.last_byte_ms = t;
		probes += t > MINUTE && verdict == KEEPALIVE_PROBE;
		reports += verdict == KEEPALIVE_NO_ANSWER;
		must(verdict != KEEPALIVE_DEATH);
	}
	ck_assert_uint_eq(reports, 1);
	ck_assert_uint_le(probes, 60);
	ck_assert_uint_ge(probes, 50);
}

TEST(late_ticks_do_not_add_up)
{
	unsigned probes = 0;

	start(5000, 5);
	seen.answered_generation = 0;
	for (int64_t t = 5000; t < 60 * MINUTE; t += 5000)
		probes += check_and_send(t + t % 7) == KEEPALIVE_PROBE;
	ck_assert_uint_eq(probes, 5 + 59);
}

TEST(new_settings_begin_with_a_whole_interval)
{
	play("", 5000, 5, "probe 5000-25000");
	keepalive_init(&ka, 1000, 1);
	keepalive_start(&ka, GENERATION, 26000);
	ck_assert(step("probe", 27000) && step("death", 28000));
}
