#include "base/log.h"

#include <limits.h>
#include <regex.h>
#include <sys/syscall.h>

#include "tests/support/suite.h"

#define STAMP                                                                  \
	"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}[.][0-9]{3}Z "

static int file;   /* standard error goes there */
static int before; /* the original standard error */
static char logged[1 << 20];
static unsigned interrupts; /* write() calls to interrupt */

ssize_t
write(int fd, const void *bytes, size_t n)
{
	if (interrupts > 0) {
		interrupts--;
		errno = EINTR;
		return -1;
	}
	return syscall(SYS_write, fd, bytes, n);
}

static void
set_up(void)
{
	FILE *stream = tmpfile();

	ck_assert_ptr_nonnull(stream);
	file = fileno(stream);
	fcntl(file, F_SETFL, O_APPEND);
	before = dup(STDERR_FILENO);
	dup2(file, STDERR_FILENO);
	unsetenv("JOURNAL_STREAM");
	log_open(LOG_LEVEL_INFO);
}

static void
tear_down(void)
{
	dup2(before, STDERR_FILENO);
}

static const char *
read_log(void)
{
	ssize_t n = pread(file, logged, sizeof(logged) - 1, 0);

	ck_assert_int_ge(n, 0);
	logged[n] = '\0';
	return logged;
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

FIXTURE(set_up, tear_down)

TEST(a_line_has_a_time_stamp_a_level_and_a_subsystem)
{
	log_line(LOG_LEVEL_WARN, LOG_LINK,
	    "lost reason=\"%s\" generation=%d up=12m3s", "peer closed", 3);
	assert_matches(read_log(),
	    STAMP "warn link: lost reason=\"peer closed\" generation=3 "
		  "up=12m3s\n$");
}

/* JOURNAL_STREAM may be that of a parent. */
TEST(under_the_journal_a_line_starts_with_its_priority, .count = 2)
{
	char stream[64];
	struct stat st;

	fstat(STDERR_FILENO, &st);
	snprintf(stream, sizeof(stream), "%lld:%lld", (long long)st.st_dev,
	    (long long)st.st_ino + _i);
	setenv("JOURNAL_STREAM", stream, 1);
	log_open(LOG_LEVEL_DEBUG);
	log_line(LOG_LEVEL_ERROR, LOG_GUEST, "a");
	log_line(LOG_LEVEL_WARN, LOG_KEEPALIVE, "b");
	log_line(LOG_LEVEL_INFO, LOG_CONTROL, "c");
	log_line(LOG_LEVEL_DEBUG, LOG_SERVICE, "d");
	if (_i == 1)
		assert_matches(read_log(), STAMP "error guest: a\n");
	else
		ck_assert_str_eq(read_log(),
		    "<3>error guest: a\n<4>warn keepalive: b\n"
		    "<6>info control: c\n<7>debug service: d\n");
}

static const struct {
	const char *value, *logged;
} values[] = {
	{ "/tmp/vm1.sock", "=/tmp/vm1.sock \"/tmp/vm1.sock\" /tmp/vm1.sock 7" },
	{ "", "= \"\"  7" },
	{ "a mac=b", "=\"a mac=b\" \"a mac=b\" a mac=b 7" },
	{ "a=b", "=\"a=b\" \"a=b\" a=b 7" },
	{ "a\"b", "=\"a\\\"b\" \"a\\\"b\" a\"b 7" },
	{ "a\\", "=\"a\\\\\" \"a\\\\\" a\\ 7" },
	{ "a\n<3>b\r\x1b[2J\xff", "=\"a\\x0a<3>b\\x0d\\x1b[2J\\xff\" "
				  "\"a\\x0a<3>b\\x0d\\x1b[2J\\xff\" "
				  "a\\x0a<3>b\\x0d\\x1b[2J\\xff 7" },
	{ "\xc3\xa4\x7f",
	    "=\"\xc3\xa4\\x7f\" \"\xc3\xa4\\x7f\" \xc3\xa4\\x7f 7" },
};

TEST(a_value_cannot_forge_a_line_or_a_key, .count = LENGTH(values))
{
	const char *value = values[_i].value, *line;

	log_line(LOG_LEVEL_INFO, LOG_GUEST, "=%s \"%s\" %s %d", value, value,
	    value, 7);
	line = strstr(read_log(), "guest: ");
	ck_assert_ptr_nonnull(line);
	logged[strlen(logged) - 1] = '\0';
	ck_assert_str_eq(line + 7, values[_i].logged);
}

TEST(every_counter_in_the_header_is_written)
{
	log_line(LOG_LEVEL_INFO, LOG_GUEST, "%d %u %ld %lu %lld %llu %zu", -1,
	    UINT_MAX, LONG_MIN, ULONG_MAX, LLONG_MIN, ULLONG_MAX, SIZE_MAX);
	assert_matches(read_log(),
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
	assert_matches(read_log(),
	    "found peer=/a suppressed=2 name=vm1\n.*info guest: gone\n$");
}

TEST(a_line_that_is_too_long_is_cut_and_ends_with_a_newline)
{
	char word[5000];
	struct log_limit limit = { .burst = 1, .suppressed = 7 };
	const char *line;

	memset(word, 'x', sizeof(word));
	word[sizeof(word) - 1] = '\0';
	log_limited(&limit, LOG_LEVEL_WARN, LOG_GUEST, "%s", word);
	line = read_log();
	ck_assert_uint_le(strlen(line), LOG_LINE_BYTES);
	assert_matches(line, "x[.]{3} suppressed=7\n$");
}

TEST(lines_below_the_level_are_not_logged_and_do_not_count_as_repeats)
{
	struct log_limit limit = { .burst = 1 };

	log_limited(&limit, LOG_LEVEL_DEBUG, LOG_LINK, "dialling");
	log_line(LOG_LEVEL_DEBUG, LOG_LINK, "dialling");
	ck_assert_str_eq(read_log(), "");
	log_limited(&limit, LOG_LEVEL_WARN, LOG_GUEST, "slow");
	assert_matches(read_log(), STAMP "warn guest: slow\n$");
	log_set_level(LOG_LEVEL_DEBUG);
	ck_assert_int_eq(log_get_level(), LOG_LEVEL_DEBUG);
	log_line(LOG_LEVEL_DEBUG, LOG_LINK, "dialling");
	assert_matches(read_log(), "debug link: dialling\n$");
}

/* Closed, a full disk, a reader that went away. */
TEST(a_standard_error_that_refuses_lines_does_no_harm, .count = 3)
{
	int full = open("/dev/full", O_WRONLY), ends[2];

	ck_assert_int_eq(pipe(ends), 0);
	close(ends[0]);
	if (_i == 0)
		close(STDERR_FILENO);
	else
		dup2(_i == 1 ? full : ends[1], STDERR_FILENO);
	errno = ENOTTY;
	log_line(LOG_LEVEL_ERROR, LOG_LINK, "unheard");
	ck_assert_int_eq(errno, ENOTTY);
}

TEST(an_interrupted_write_is_repeated)
{
	interrupts = 2;
	log_line(LOG_LEVEL_INFO, LOG_LINK, "up");
	assert_matches(read_log(), STAMP "info link: up\n$");
}

/* A full pipe becomes standard error. Returns the descriptor to read. */
static int
open_pipe(void)
{
	char filling[4096];
	int ends[2];

	memset(filling, '#', sizeof(filling));
	filling[sizeof(filling) - 1] = '\n';
	ck_assert_int_eq(pipe(ends), 0);
	fcntl(ends[1], F_SETFL, O_NONBLOCK);
	while (write(ends[1], filling, sizeof(filling)) > 0)
		;
	fcntl(ends[1], F_SETFL, 0);
	dup2(ends[1], STDERR_FILENO);
	close(ends[1]);
	return ends[0];
}

/* Reads on until `last` is among it, and skips what filled the descriptor. */
static const char *
read_until(int fd, const char *last)
{
	size_t length = strlen(logged);
	char *start;

	while (!strstr(logged, last) || logged[length - 1] != '\n') {
		ssize_t n =
		    read(fd, logged + length, sizeof(logged) - 1 - length);

		ck_assert_int_gt(n, 0);
		length += (size_t)n;
		logged[length] = '\0';
	}
	start = strrchr(logged, '#');
	return start ? start + strspn(start, "#\n") : logged;
}

#define LINES 5000 /* several times the buffer */

/* Every line is there, whole and in order, or counted as lost. */
static void
assert_whole_or_counted(const char *lines)
{
	int next = 0, lost, number;

	for (; *lines != '\0'; lines = strchr(lines, '\n') + 1) {
		const char *what = strstr(lines, ": ");

		ck_assert_ptr_nonnull(what);
		if (sscanf(what, ": lost %d log line", &lost) == 1) {
			next += lost;
		} else {
			ck_assert_int_eq(
			    sscanf(what, ": line %d of many", &number), 1);
			ck_assert_int_eq(number, next++);
		}
	}
	ck_assert_int_eq(next, LINES + 1);
}

TEST(lines_that_are_not_read_cause_no_delay_and_are_counted)
{
	int reader = open_pipe();

	ck_assert_int_eq(log_start(), 0);
	for (int i = 0; i < LINES; i++)
		log_line(LOG_LEVEL_INFO, LOG_LINK, "line %d of many", i);
	/* Reported when there is room, not with the next line. */
	read_until(reader, " lost ");
	log_line(LOG_LEVEL_INFO, LOG_LINK, "line %d of many", LINES);
	assert_whole_or_counted(read_until(reader, "line 5000 of many\n"));
	close(reader);
}

/* Another process that shares standard error may have set O_NONBLOCK. */
TEST(the_exit_waits_for_the_log_but_not_for_ever, .count = 2)
{
	int reader = open_pipe(), next = 0;

	fcntl(STDERR_FILENO, F_SETFL, _i == 1 ? O_NONBLOCK : 0);
	ck_assert_int_eq(log_start(), 0);
	for (int i = 0; i < 10; i++)
		log_line(LOG_LEVEL_INFO, LOG_LINK, "line=%d", i);
	log_finish(); /* nobody reads */
	read_until(reader, "line=9\n");
	for (char *at = logged; (at = strstr(at, "line=")); next++)
		ck_assert_int_eq(atoi(at += strlen("line=")), next);
	ck_assert_int_eq(next, 10);
	log_line(LOG_LEVEL_INFO, LOG_LINK, "after");
	log_finish();
	read_until(reader, "after\n");
	close(reader);
}

static void *
log_much(void *name)
{
	for (int i = 0; i < 200; i++)
		log_line(LOG_LEVEL_INFO, LOG_LINK, "this is %s line %d",
		    (const char *)name, i);
	return NULL;
}

static void
run_four(void *(*run)(void *))
{
	static char names[4][2] = { "a", "b", "c", "d" };
	pthread_t threads[4];

	for (int i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, run, names[i]);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
}

/* Without and with the thread that writes. */
TEST(lines_of_several_threads_never_mix, .count = 2)
{
	int lines = 0;

	if (_i > 0)
		ck_assert_int_eq(log_start(), 0);
	run_four(log_much);
	log_line(LOG_LEVEL_INFO, LOG_LINK, "this is e line 0");
	do
		log_finish();
	while (!strstr(read_log(), "e line 0\n"));
	for (char *line = strtok(logged, "\n"); line != NULL;
	     line = strtok(NULL, "\n"), lines++)
		assert_matches(
		    line, STAMP "info link: this is [a-e] line [0-9]+$");
	ck_assert_int_eq(lines, 801);
}

/* A second gives one line; burst is 2. */
static const struct {
	int64_t now_ms;
	int lines, passed;
	unsigned suppressed; /* in front of the last that passed */
} history[] = {
	{ 0, 2, 2, 0 }, /* at the start of the clock */
	{ 0, 5, 0, 0 },
	{ 999, 6, 0, 0 },
	{ 1000, 1, 1, 11 },
	{ 1001, 1, 0, 0 },
	{ 2000, 1, 1, 1 },
	{ 1000000, 100, 2, 0 },
	{ 1001000, 1, 1, 98 },
};

TEST(repeats_are_counted_and_not_repeated)
{
	struct log_limit limit = { .burst = 2 };

	for (int row = 0; row < LENGTH(history); row++) {
		unsigned suppressed = 0;
		int passed = 0;

		for (int i = 0; i < history[row].lines; i++)
			passed += log_limit_pass(
			    &limit, history[row].now_ms, &suppressed);
		ck_assert_int_eq(passed, history[row].passed);
		ck_assert_uint_eq(suppressed, history[row].suppressed);
	}
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
	unsigned suppressed;

	run_four(try_to_pass);
	ck_assert_uint_eq(passed_in_all, 5);
	ck_assert(log_limit_pass(&shared, 8000, &suppressed));
	ck_assert_uint_eq(suppressed + suppressed_in_all, 3995);
}
