#include "base/log.h"
#include "base/text.h"

#include "tests/support/suite.h"
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#define STAMP                                                                  \
	"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}[.][0-9]{3}Z "

static int heard;  /* the file that standard error goes to */
static int before; /* standard error as it was */
static char said[1 << 20];

static void
setup(void)
{
	FILE *file = tmpfile();

	ck_assert_ptr_nonnull(file);
	heard = fileno(file);
	fcntl(heard, F_SETFL, O_APPEND);
	before = dup(STDERR_FILENO);
	dup2(heard, STDERR_FILENO);
	unsetenv("JOURNAL_STREAM");
	log_open(LOG_LEVEL_INFO);
}

static void
teardown(void)
{
	dup2(before, STDERR_FILENO);
}

static const char *
what_was_said(void)
{
	ssize_t n = pread(heard, said, sizeof(said) - 1, 0);

	ck_assert_int_ge(n, 0);
	said[n] = '\0';
	return said;
}

static void
assert_matches(const char *string, const char *pattern)
{
	regex_t regex;
	int result;

	ck_assert_int_eq(regcomp(&regex, pattern, REG_EXTENDED | REG_NOSUB), 0);
	result = regexec(&regex, string, 0, NULL, 0);
	regfree(&regex);
	ck_assert_msg(result == 0, "\"%s\" is not like %s", string, pattern);
}

FIXTURE(setup, teardown)

TEST(a_line_has_a_time_stamp_a_level_and_a_subsystem)
{
	log_line(LOG_LEVEL_WARN, LOG_LINK,
	    "lost reason=\"%s\" generation=%d up=12m3s", "peer closed", 3);
	assert_matches(what_was_said(),
	    STAMP "warn link: lost reason=\"peer closed\" generation=3 "
		  "up=12m3s\n$");
}

static void
pretend_journal(long long inode_offset)
{
	struct stat st;
	char stream[64];

	fstat(STDERR_FILENO, &st);
	snprintf(stream, sizeof(stream), "%lld:%lld", (long long)st.st_dev,
	    (long long)st.st_ino + inode_offset);
	setenv("JOURNAL_STREAM", stream, 1);
	log_open(LOG_LEVEL_DEBUG);
}

TEST(under_the_journal_a_line_starts_with_its_priority)
{
	pretend_journal(0);
	log_line(LOG_LEVEL_ERROR, LOG_GUEST, "a");
	log_line(LOG_LEVEL_WARN, LOG_KEEPALIVE, "b");
	log_line(LOG_LEVEL_INFO, LOG_CONTROL, "c");
	log_line(LOG_LEVEL_DEBUG, LOG_SERVICE, "d");
	ck_assert_str_eq(what_was_said(),
	    "<3>error guest: a\n<4>warn keepalive: b\n"
	    "<6>info control: c\n<7>debug service: d\n");
}

TEST(a_journal_that_is_not_our_standard_error_changes_nothing)
{
	pretend_journal(1);
	log_line(LOG_LEVEL_INFO, LOG_CONFIG, "read");
	assert_matches(what_was_said(), STAMP "info config: read\n$");
}

TEST(what_a_peer_says_cannot_forge_a_line)
{
	log_line(LOG_LEVEL_INFO, LOG_GUEST, "peer=%s",
	    "a\n<3>error link: lost\r\x1b[2J\x7f\xff");
	assert_matches(what_was_said(),
	    STAMP "info guest: peer=\"a\\\\x0a<3>error link: "
		  "lost\\\\x0d\\\\x1b\\[2J\\\\x7f\\\\xff\"\n$");
}

static const struct {
	const char *value, *said;
} values[] = {
	{ "/tmp/vm1.sock", "=/tmp/vm1.sock \"/tmp/vm1.sock\" /tmp/vm1.sock 7" },
	{ "", "= \"\"  7" },
	{ "a mac=b", "=\"a mac=b\" \"a mac=b\" a mac=b 7" },
	{ "a=b", "=\"a=b\" \"a=b\" a=b 7" },
	{ "a\"b", "=\"a\\\"b\" \"a\\\"b\" a\"b 7" },
	{ "a\\", "=\"a\\\\\" \"a\\\\\" a\\ 7" },
	{ "\xc3\xa4\x7f",
	    "=\"\xc3\xa4\\x7f\" \"\xc3\xa4\\x7f\" \xc3\xa4\\x7f 7" },
};

TEST(a_value_cannot_forge_another_key, .count = LENGTH(values))
{
	const char *value = values[_i].value, *line;

	log_line(LOG_LEVEL_INFO, LOG_GUEST, "=%s \"%s\" %s %d", value, value,
	    value, 7);
	line = strstr(what_was_said(), "guest: ");
	ck_assert_ptr_nonnull(line);
	said[strlen(said) - 1] = '\0';
	ck_assert_str_eq(line + 7, values[_i].said);
}

TEST(every_number_the_header_names_is_written)
{
	log_line(LOG_LEVEL_INFO, LOG_GUEST, "%d %u %ld %lu %lld %llu %zu", -1,
	    UINT_MAX, LONG_MIN, ULONG_MAX, LLONG_MIN, ULLONG_MAX, SIZE_MAX);
	assert_matches(what_was_said(),
	    "guest: -1 4294967295 -9223372036854775808 18446744073709551615 "
	    "-9223372036854775808 18446744073709551615 "
	    "18446744073709551615\n$");
}

TEST(a_name_ends_every_line_once_it_is_set)
{
	struct log_limit limit = { .burst = 1, .suppressed = 2 };

	log_set_name("vm1");
	log_limited(&limit, LOG_LEVEL_INFO, LOG_GUEST, "found peer=%s", "/a");
	log_set_name("");
	log_line(LOG_LEVEL_INFO, LOG_GUEST, "gone");
	assert_matches(what_was_said(),
	    "found peer=/a suppressed=2 name=vm1\n.*info guest: gone\n$");
}

TEST(a_line_too_long_is_cut_and_still_ends)
{
	char word[5000];
	struct log_limit limit = { .burst = 1, .suppressed = 7 };
	const char *line;

	memset(word, 'x', sizeof(word));
	word[sizeof(word) - 1] = '\0';
	log_limited(&limit, LOG_LEVEL_WARN, LOG_GUEST, "%s", word);
	line = what_was_said();
	ck_assert_uint_le(strlen(line), LOG_LINE_BYTES);
	assert_matches(line, "x[.]{3} suppressed=7\n$");
}

TEST(what_is_below_the_level_is_silent)
{
	log_line(LOG_LEVEL_DEBUG, LOG_LINK, "dialling");
	ck_assert_str_eq(what_was_said(), "");
	log_set_level(LOG_LEVEL_DEBUG);
	ck_assert_int_eq(log_get_level(), LOG_LEVEL_DEBUG);
	log_line(LOG_LEVEL_DEBUG, LOG_LINK, "dialling");
	assert_matches(what_was_said(), "debug link: dialling\n$");
}

TEST(a_closed_standard_error_harms_nothing)
{
	close(STDERR_FILENO);
	errno = ENOTTY;
	log_line(LOG_LEVEL_ERROR, LOG_LINK, "unheard");
	ck_assert_int_eq(errno, ENOTTY);
}

TEST(a_full_disk_harms_nothing)
{
	int full = open("/dev/full", O_WRONLY);

	if (full < 0)
		return;
	dup2(full, STDERR_FILENO);
	errno = 0;
	log_line(LOG_LEVEL_ERROR, LOG_LINK, "unheard");
	ck_assert_int_eq(errno, 0);
}

TEST(a_reader_that_went_away_does_not_end_the_program)
{
	int ends[2];

	ck_assert_int_eq(pipe(ends), 0);
	dup2(ends[1], STDERR_FILENO);
	close(ends[0]);
	log_line(LOG_LEVEL_ERROR, LOG_LINK, "unheard");
}

/* As much as it takes: what is written after that has to wait. */
static void
fill(int fd)
{
	char filling[4096];

	memset(filling, '#', sizeof(filling));
	filling[sizeof(filling) - 1] = '\n';
	fcntl(fd, F_SETFL, O_NONBLOCK);
	while (write(fd, filling, sizeof(filling)) > 0)
		;
	fcntl(fd, F_SETFL, 0);
}

/* A full pipe, or a terminal that nobody reads, becomes standard error.
 * Returns the descriptor to read. */
static int
open_pipe(void)
{
	int ends[2];

	ck_assert_int_eq(pipe(ends), 0);
	fill(ends[1]);
	dup2(ends[1], STDERR_FILENO);
	close(ends[1]);
	return ends[0];
}

static int
open_terminal(void)
{
	int reader = posix_openpt(O_RDWR | O_NOCTTY), terminal;
	struct termios raw;

	ck_assert_int_ge(reader, 0);
	ck_assert_int_eq(grantpt(reader), 0);
	ck_assert_int_eq(unlockpt(reader), 0);
	terminal = open(ptsname(reader), O_RDWR | O_NOCTTY);
	ck_assert_int_ge(terminal, 0);
	tcgetattr(terminal, &raw);
	raw.c_oflag &= ~(tcflag_t)OPOST;
	tcsetattr(terminal, TCSANOW, &raw);
	fill(terminal);
	dup2(terminal, STDERR_FILENO);
	close(terminal);
	return reader;
}

static int (*const unread[])(void) = { open_pipe, open_terminal };

/* Reads on until `last` is among it, and skips what filled the descriptor. */
static const char *
read_more_until(int fd, const char *last)
{
	size_t length = strlen(said);
	char *start;

	while (!strstr(said, last) || said[length - 1] != '\n') {
		ssize_t n = read(fd, said + length, sizeof(said) - 1 - length);

		ck_assert_int_gt(n, 0);
		length += (size_t)n;
		said[length] = '\0';
	}
	start = strrchr(said, '#');
	return start ? start + strspn(start, "#\n") : said;
}

static const char *
read_until(int fd, const char *last)
{
	said[0] = '\0';
	return read_more_until(fd, last);
}

#define LINES 5000 /* several times the buffer */

/* Every line is there, whole and in order, or counted where it is missing. */
static void
assert_whole_or_counted(const char *lines)
{
	int next = 0, lost, number;

	for (; *lines != '\0'; lines = strchr(lines, '\n') + 1) {
		const char *what = strstr(lines, ": ");

		ck_assert_ptr_nonnull(what);
		if (sscanf(what, ": lost %d lines of", &lost) == 1) {
			next += lost;
		} else {
			ck_assert_int_eq(
			    sscanf(what, ": line %d of many", &number), 1);
			ck_assert_int_eq(number, next++);
		}
	}
	ck_assert_int_eq(next, LINES + 1);
}

TEST(what_nobody_reads_delays_nothing_and_is_counted, .count = 2)
{
	int reader = unread[_i]();

	ck_assert_int_eq(log_start(), 0);
	for (int i = 0; i < LINES; i++)
		log_line(LOG_LEVEL_INFO, LOG_LINK, "line %d of many", i);
	/* Reported when there is room, not with the next line. */
	read_until(reader, " lost ");
	log_line(LOG_LEVEL_INFO, LOG_LINK, "line %d of many", LINES);
	assert_whole_or_counted(read_more_until(reader, "line 5000 of many\n"));
	close(reader);
}

TEST(an_end_waits_for_the_log_but_not_for_ever, .count = 2)
{
	int reader = unread[_i]();

	ck_assert_int_eq(log_start(), 0);
	log_line(LOG_LEVEL_INFO, LOG_LINK, "last");
	log_finish();
	read_until(reader, "last\n");
	log_line(LOG_LEVEL_INFO, LOG_LINK, "after");
	log_finish();
	read_until(reader, "after\n");
	close(reader);
}

TEST(a_reader_that_shares_a_nonblocking_descriptor_gets_every_line)
{
	int reader = open_pipe();

	fcntl(STDERR_FILENO, F_SETFL, O_NONBLOCK);
	ck_assert_int_eq(log_start(), 0);
	for (int i = 0; i < 10; i++)
		log_line(LOG_LEVEL_INFO, LOG_LINK, "line %d of few", i);
	log_finish(); /* gives it the time to be refused */
	read_until(reader, "line 9 of few\n");
	for (int i = 0; i < 10; i++) {
		char line[32];

		snprintf(line, sizeof(line), "line %d of few", i);
		ck_assert_ptr_nonnull(strstr(said, line));
	}
	close(reader);
}

static void *
say_much(void *name)
{
	for (int i = 0; i < 200; i++)
		log_line(LOG_LEVEL_INFO, LOG_LINK, "this is %s line %d",
		    (const char *)name, i);
	return NULL;
}

static int
count_lines(const char *text)
{
	int count = 0;

	while ((text = strchr(text, '\n')) != NULL) {
		count++;
		text++;
	}
	return count;
}

/* Without and with the thread that writes. */
TEST(lines_of_several_threads_never_mix, .count = 2)
{
	static char names[4][2] = { "a", "b", "c", "d" };
	pthread_t threads[4];
	int lines = 0;

	if (_i > 0)
		ck_assert_int_eq(log_start(), 0);
	for (int i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, say_much, names[i]);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	while (log_finish(), what_was_said(), count_lines(said) < 800)
		;
	for (char *line = strtok(said, "\n"); line != NULL;
	     line = strtok(NULL, "\n"), lines++)
		assert_matches(
		    line, STAMP "info link: this is [a-d] line [0-9]+$");
	ck_assert_int_eq(lines, 800);
}

TEST(repeats_are_counted_not_repeated)
{
	struct log_limit limit = { .burst = 3 };
	unsigned suppressed = 99;

	for (int i = 0; i < 3; i++) {
		ck_assert(log_limit_pass(&limit, 50000, &suppressed));
		ck_assert_uint_eq(suppressed, 0);
	}
	for (int i = 0; i < 10; i++)
		ck_assert(!log_limit_pass(&limit, 50000 + i, &suppressed));
	ck_assert(!log_limit_pass(&limit, 50999, &suppressed));
	ck_assert(log_limit_pass(&limit, 51000, &suppressed));
	ck_assert_uint_eq(suppressed, 11);
	ck_assert(!log_limit_pass(&limit, 51001, &suppressed));
	ck_assert(log_limit_pass(&limit, 52000, &suppressed));
	ck_assert_uint_eq(suppressed, 1);
}

TEST(after_a_quiet_time_a_burst_passes_again_and_no_more)
{
	struct log_limit limit = { .burst = 2 };
	unsigned suppressed;
	int passed = 0;

	for (int i = 0; i < 5; i++)
		log_limit_pass(&limit, 1000, &suppressed);
	for (int i = 0; i < 100; i++)
		passed += log_limit_pass(&limit, 1000000, &suppressed);
	ck_assert_int_eq(passed, 2);
}

TEST(right_after_the_start_of_the_clock_a_burst_passes)
{
	struct log_limit limit = { .burst = 2 };
	unsigned suppressed;

	ck_assert(log_limit_pass(&limit, 0, &suppressed));
	ck_assert(log_limit_pass(&limit, 0, &suppressed));
	ck_assert(!log_limit_pass(&limit, 0, &suppressed));
}

static struct log_limit shared = { .burst = 5 };
static _Atomic unsigned passed_in_all, suppressed_in_all;

static void *
try_to_pass(void *unused)
{
	unsigned suppressed;

	(void)unused;
	for (int i = 0; i < 1000; i++) {
		if (!log_limit_pass(&shared, 7000, &suppressed))
			continue;
		passed_in_all++;
		suppressed_in_all += suppressed;
	}
	return NULL;
}

TEST(threads_that_share_a_limit_share_one_burst)
{
	pthread_t threads[4];
	unsigned suppressed;

	for (int i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, try_to_pass, NULL);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	ck_assert_uint_eq(passed_in_all, 5);
	ck_assert(log_limit_pass(&shared, 8000, &suppressed));
	ck_assert_uint_eq(suppressed + suppressed_in_all, 3995);
}

TEST(what_was_held_back_is_told_with_the_next_line)
{
	struct log_limit limit = { .burst = 1, .suppressed = 41 };

	log_limited(&limit, LOG_LEVEL_WARN, LOG_GUEST, "slow");
	assert_matches(
	    what_was_said(), STAMP "warn guest: slow suppressed=41\n$");
}

TEST(a_line_below_the_level_uses_up_nothing)
{
	struct log_limit limit = { .burst = 1 };

	log_limited(&limit, LOG_LEVEL_DEBUG, LOG_GUEST, "slow");
	log_limited(&limit, LOG_LEVEL_WARN, LOG_GUEST, "slow");
	assert_matches(what_was_said(), STAMP "warn guest: slow\n$");
}

static const struct {
	int64_t ms;
	const char *said;
} durations[] = {
	{ -5, "0ms" },
	{ 0, "0ms" },
	{ 12, "12ms" },
	{ 999, "999ms" },
	{ 1000, "1s" },
	{ 4321, "4s" },
	{ 59999, "59s" },
	{ 60000, "1m0s" },
	{ 723000, "12m3s" },
	{ 7500000, "2h5m" },
	{ 86399999, "23h59m" },
	{ 86400000, "1d0h" },
	{ INT64_MAX, "106751991167d7h" },
};

TEST(durations_are_short, .count = LENGTH(durations))
{
	char buffer[TEXT_DURATION_BYTES];

	ck_assert_str_eq(
	    text_duration(buffer, durations[_i].ms), durations[_i].said);
}
