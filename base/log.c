#include "base/log.h"

#include "base/clock.h"
#include "base/log_writer.h"
#include "base/sync.h"
#include "base/text.h"
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* Room behind a cut message for "...", suppressed=N and name=NAME. */
#define TAIL_BYTES (40 + LOG_NAME_BYTES)
/* How long what is still unwritten may delay the end of the process. */
#define FINISH_MS 200

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

/* Lock order: log_writer.c's, then this one. */
static struct {
	struct mutex lock;
	char tail[8 + LOG_NAME_BYTES] GUARDED; /* " name=NAME", or empty */
} naming = { .lock = { PTHREAD_MUTEX_INITIALIZER } };

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

void
log_set_name(const char *name)
{
	mutex_lock(&naming.lock);
	if (*name != '\0')
		snprintf(naming.tail, sizeof(naming.tail), " name=%s", name);
	else
		naming.tail[0] = '\0';
	mutex_unlock(&naming.lock);
}

static void
add_head(struct text *line, enum log_level level, enum log_subsystem subsystem)
{
	if (to_journal)
		text_add(line, "<%d>", levels[level].journal);
	else
		text_add_time(line);
	text_add(line, "%s%s %s: ", to_journal ? "" : " ", levels[level].name,
	    subsystems[subsystem]);
}

static void
add_tail(struct text *line)
{
	mutex_lock(&naming.lock);
	text_add(line, "%s\n", naming.tail);
	mutex_unlock(&naming.lock);
}

/* Whether a value needs no quotes: without them it ends at a blank. */
static bool
is_bare(const char *value)
{
	uint32_t character;

	if (value[strcspn(value, " \"\\=")] != '\0')
		return false;
	while (*value != '\0') {
		value += utf8_next(value, &character);
		if (character == UTF8_INVALID || utf8_is_control(character))
			return false;
	}
	return true;
}

/* What the string is, the format says by the character before it. */
static void
add_string(struct text *line, const char *string, char before)
{
	if (before == '"') {
		text_add_escaped(line, string, text_quoted);
	} else if (before != '=' || is_bare(string)) {
		text_add_escaped(line, string, text_visible);
	} else {
		text_add_bytes(line, "\"", 1);
		text_add_escaped(line, string, text_quoted);
		text_add_bytes(line, "\"", 1);
	}
}

/* Adds the argument of the conversion at `format`, behind its %, and returns
 * what follows: for one that log.h does not name, the end, because the types
 * of the arguments after it are unknown. */
static const char *
add_argument(struct text *line, const char *format, char before, va_list *from)
{
	int longs = 0;

	for (; *format == 'l' || *format == 'z'; format++)
		longs++;
	if (*format == 's')
		add_string(line, va_arg(*from, const char *), before);
	else if (*format == 'd')
		text_add(line, "%lld",
		    longs == 0   ? va_arg(*from, int)
		    : longs == 1 ? va_arg(*from, long)
				 : va_arg(*from, long long));
	else if (*format == 'u')
		text_add(line, "%llu",
		    longs == 0   ? va_arg(*from, unsigned)
		    : longs == 1 ? va_arg(*from, unsigned long)
				 : va_arg(*from, unsigned long long));
	else
		return "";
	return format + 1;
}

static void
add_message(struct text *line, const char *format, va_list *arguments)
{
	char before = '\0';

	while (*format != '\0') {
		const char *at = format;

		if (*at == '%')
			format = add_argument(line, at + 1, before, arguments);
		else
			text_add_bytes(line, format++, 1);
		before = *at;
	}
}

/* The whole line is put together on the stack. */
__attribute__((format(printf, 4, 0))) static void
compose(enum log_level level, enum log_subsystem subsystem, unsigned suppressed,
    const char *format, va_list *arguments)
{
	char bytes[LOG_LINE_BYTES + 1];
	struct text line = text_in(bytes, sizeof(bytes) - TAIL_BYTES);
	int saved = errno;

	add_head(&line, level, subsystem);
	add_message(&line, format, arguments);
	line.capacity = sizeof(bytes);
	if (line.cut) {
		line.cut = false;
		text_add(&line, "...");
	}
	if (suppressed > 0)
		text_add(&line, " suppressed=%u", suppressed);
	add_tail(&line);
	log_writer_put(line.bytes, line.length);
	errno = saved;
}

static size_t
compose_lost(char *bytes, unsigned long long count)
{
	struct text line = text_in(bytes, LOG_LINE_BYTES + 1);

	add_head(&line, LOG_LEVEL_WARN, LOG_SERVICE);
	text_add(&line, "lost %llu line%s of this log: nobody read it", count,
	    count == 1 ? "" : "s");
	add_tail(&line);
	return line.length;
}

int
log_start(void)
{
	return log_writer_start(compose_lost);
}

void
log_finish(void)
{
	log_writer_finish(FINISH_MS);
}

void
log_line(
    enum log_level level, enum log_subsystem subsystem, const char *format, ...)
{
	va_list arguments;

	if (level > log_get_level())
		return;
	va_start(arguments, format);
	compose(level, subsystem, 0, format, &arguments);
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

void
log_limited(struct log_limit *limit, enum log_level level,
    enum log_subsystem subsystem, const char *format, ...)
{
	unsigned suppressed;
	va_list arguments;

	if (level > log_get_level() ||
	    !log_limit_pass(limit, clock_now_ms(), &suppressed))
		return;
	va_start(arguments, format);
	compose(level, subsystem, suppressed, format, &arguments);
	va_end(arguments);
}
