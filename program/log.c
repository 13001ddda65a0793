#include "program/log.h"

#include "program/text.h"
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* Room behind a cut message for "..." and suppressed=N. */
#define TAIL_BYTES 40

static const struct {
	const char *name;
	int journal; /* syslog(3) priority */
} levels[] = {
	[LOG_LEVEL_ERROR] = { "error", 3 },
	[LOG_LEVEL_WARN] = { "warn", 4 },
	[LOG_LEVEL_INFO] = { "info", 6 },
	[LOG_LEVEL_DEBUG] = { "debug", 7 },
};

static const char *const subsystems[] = {
	[LOG_GUEST] = "guest",
	[LOG_LINK] = "link",
	[LOG_KEEPALIVE] = "keepalive",
	[LOG_CONFIG] = "config",
	[LOG_CONTROL] = "control",
	[LOG_SERVICE] = "service",
};

static _Atomic int threshold = LOG_LEVEL_INFO; /* enum log_level */
static bool to_journal; /* set before the threads start */

/* Whether `stream`, as in sd-daemon(3) "device:inode", is standard error. */
static bool
is_standard_error(const char *stream)
{
	char own[64];
	struct stat st;

	if (stream == NULL || fstat(STDERR_FILENO, &st) < 0)
		return false;
	snprintf(own, sizeof(own), "%ju:%ju", (uintmax_t)st.st_dev,
	    (uintmax_t)st.st_ino);
	return strcmp(own, stream) == 0;
}

void
log_open(enum log_level level)
{
	signal(SIGPIPE, SIG_IGN);
	to_journal = is_standard_error(getenv("JOURNAL_STREAM"));
	log_set_level(level);
}

void
log_set_level(enum log_level level)
{
	atomic_store_explicit(&threshold, (int)level, memory_order_relaxed);
}

enum log_level
log_get_level(void)
{
	return (enum log_level)atomic_load_explicit(
	    &threshold, memory_order_relaxed);
}

/* 2026-11-21T01:30:00.123Z and a space. */
static void
add_time(struct text *line)
{
	char date[32] = "";
	struct timespec now = { 0 };
	struct tm utc;

	clock_gettime(CLOCK_REALTIME, &now);
	if (gmtime_r(&now.tv_sec, &utc) != NULL)
		strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &utc);
	text_add(line, "%s.%03ldZ ", date, now.tv_nsec / 1000000);
}

static void
add_head(struct text *line, enum log_level level, enum log_subsystem subsystem)
{
	if (to_journal)
		text_add(line, "<%d>", levels[level].journal);
	else
		add_time(line);
	text_add(line, "%s %s: ", levels[level].name, subsystems[subsystem]);
}

/* A pipe or terminal that nobody empties would block the thread that logs, and
 * with it the guest's traffic: better to lose the line. */
static void
put(const struct text *line)
{
	struct pollfd error = { .fd = STDERR_FILENO, .events = POLLOUT };
	ssize_t written;

	if (poll(&error, 1, 0) == 0)
		return;
	do
		written = write(STDERR_FILENO, line->bytes, line->length);
	while (written < 0 && errno == EINTR);
}

/* The whole line is put together on the stack, so no thread needs a lock. */
__attribute__((format(printf, 4, 0))) static void
compose(enum log_level level, enum log_subsystem subsystem, unsigned suppressed,
    const char *format, va_list arguments)
{
	char message[LOG_LINE_BYTES], bytes[LOG_LINE_BYTES + 1];
	struct text line = text_in(bytes, sizeof(bytes) - TAIL_BYTES);
	int saved = errno;

	if (vsnprintf(message, sizeof(message), format, arguments) < 0)
		message[0] = '\0';
	add_head(&line, level, subsystem);
	text_add_escaped(&line, message, text_visible);
	line.capacity = sizeof(bytes);
	if (line.cut) {
		line.cut = false;
		text_add(&line, "...");
	}
	if (suppressed > 0)
		text_add(&line, " suppressed=%u", suppressed);
	text_add(&line, "\n");
	put(&line);
	errno = saved;
}

void
log_line(
    enum log_level level, enum log_subsystem subsystem, const char *format, ...)
{
	va_list arguments;

	if (level > log_get_level())
		return;
	va_start(arguments, format);
	compose(level, subsystem, 0, format, arguments);
	va_end(arguments);
}

/* A token bucket kept as the one moment at which it is full again: a line that
 * passes moves it on by a second, and may do so as long as it stays within
 * `burst` seconds from now. One atomic value, so any thread may call. */
bool
log_limit_pass(struct log_limit *limit, int64_t now_ms, unsigned *suppressed)
{
	int64_t burst_ms =
	    (limit->burst > 0 ? limit->burst : 1) * INT64_C(1000);
	int64_t full = atomic_load(&limit->full_at_ms), next;

	do {
		next = (full > now_ms ? full : now_ms) + 1000;
		if (next - now_ms > burst_ms) {
			atomic_fetch_add(&limit->suppressed, 1);
			return false;
		}
	} while (
	    !atomic_compare_exchange_weak(&limit->full_at_ms, &full, next));
	*suppressed = atomic_exchange(&limit->suppressed, 0);
	return true;
}

static int64_t
monotonic_ms(void)
{
	struct timespec now = { 0 };

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void
log_limited(struct log_limit *limit, enum log_level level,
    enum log_subsystem subsystem, const char *format, ...)
{
	unsigned suppressed;
	va_list arguments;

	if (level > log_get_level() ||
	    !log_limit_pass(limit, monotonic_ms(), &suppressed))
		return;
	va_start(arguments, format);
	compose(level, subsystem, suppressed, format, arguments);
	va_end(arguments);
}

const char *
log_duration(char *buffer, size_t size, int64_t ms)
{
	long long s = ms / 1000, m = s / 60, h = m / 60;

	if (ms < 1000)
		snprintf(buffer, size, "%lldms", ms > 0 ? (long long)ms : 0);
	else if (m == 0)
		snprintf(buffer, size, "%llds", s);
	else if (h == 0)
		snprintf(buffer, size, "%lldm%llds", m, s % 60);
	else if (h < 24)
		snprintf(buffer, size, "%lldh%lldm", h, m % 60);
	else
		snprintf(buffer, size, "%lldd%lldh", h / 24, h % 24);
	return buffer;
}
