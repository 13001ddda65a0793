/* Once the thread fwd-log runs, only it calls write(), which may block: on a
 * stopped terminal or a full pipe. Lines are added to one buffer while it
 * writes those of the other; then it exchanges the two. A line that doesn't fit
 * is lost whole, and so are those after it until the exchange; the next buffer
 * begins with a line that reports how many were lost.
 *
 *      state     fwd-log                            log_line()
 *      ABSENT    isn't started                      writes the line itself
 *      IDLE      waits for a line                   adds it to the buffer
 *      WRITING   writes the lines of one buffer     adds it to the other */
#include "base/log.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/sync.h"
#include "base/text.h"

/* Some 600 lines: more than the worst second of debug lines. */
#define BUFFER_BYTES (64 * 1024)
/* Room after a cut message for "...", suppressed=N and name=NAME. */
#define TAIL_BYTES (40 + LOG_NAME_BYTES)

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

static struct buffer {
	char bytes[BUFFER_BYTES];
	size_t used; /* whole lines */
} buffers[2];

static struct {
	struct mutex lock; /* taken last, and never held across write() */
	struct condition changed;
	enum { ABSENT, IDLE, WRITING } state GUARDED;
	struct buffer *filling GUARDED;
	unsigned long long lost GUARDED;       /* lines, not yet reported */
	char name[8 + LOG_NAME_BYTES] GUARDED; /* " name=NAME", or empty */
} shared = { .lock = { PTHREAD_MUTEX_INITIALIZER }, .filling = &buffers[0] };

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

bool
log_is_journal(void)
{
	return is_standard_error(getenv("JOURNAL_STREAM"));
}

void
log_open(enum log_level level)
{
	signal(SIGPIPE, SIG_IGN);
	to_journal = log_is_journal();
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
	mutex_lock(&shared.lock);
	snprintf(shared.name, sizeof(shared.name), "%s%s",
	    *name ? " name=" : "", name);
	mutex_unlock(&shared.lock);
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

/* Whether a value needs no quotes. An unquoted value ends at a blank. */
static bool
is_bare(const char *value)
{
	char bytes[LOG_LINE_BYTES];
	struct text quoted = text_in(bytes, sizeof(bytes));

	text_add_escaped(&quoted, value, text_quoted);
	return strcmp(bytes, value) == 0 && !strpbrk(value, " =");
}

/* The character before %s in the format selects the escapes. */
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

/* Adds the argument of the conversion at format, which is after the %, and
 * returns the rest of the format. That is "" after a conversion that log.h
 * doesn't name, because the types of further arguments are unknown. */
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

__attribute__((format(printf, 5, 0))) static void
compose(struct text *line, enum log_level level, enum log_subsystem subsystem,
    unsigned suppressed, const char *format, va_list *arguments)
    NEEDS(shared.lock)
{
	line->capacity -= TAIL_BYTES;
	add_head(line, level, subsystem);
	add_message(line, format, arguments);
	line->capacity += TAIL_BYTES;
	if (line->cut) {
		line->cut = false;
		text_add(line, "...");
	}
	if (suppressed > 0)
		text_add(line, " suppressed=%u", suppressed);
	text_add(line, "%s\n", shared.name);
}

/* Waits until standard error takes more; another process that shares it may
 * have set O_NONBLOCK. Returns false if poll() failed. */
static bool
wait_for_room(void)
{
	struct pollfd error = { .fd = STDERR_FILENO, .events = POLLOUT };

	return poll(&error, 1, -1) > 0;
}

/* Writes the line with one write() if standard error takes it whole, so that it
 * doesn't mix with the output of other processes. */
static void
write_line(const char *line, size_t length)
{
	while (length > 0) {
		ssize_t n = write(STDERR_FILENO, line, length);

		if (n > 0) {
			line += n;
			length -= (size_t)n;
		} else if (n == 0 ||
			   (errno != EINTR &&
			       (errno != EAGAIN || !wait_for_room()))) {
			return;
		}
	}
}

static void
add_line(const struct text *line) NEEDS(shared.lock)
{
	struct buffer *to = shared.filling;

	if (shared.lost > 0 || line->length > BUFFER_BYTES - to->used) {
		shared.lost++;
		return;
	}
	memcpy(to->bytes + to->used, line->bytes, line->length);
	to->used += line->length;
}

static void
report_lost(void) NEEDS(shared.lock)
{
	char bytes[LOG_LINE_BYTES + 1];
	struct text line = text_in(bytes, sizeof(bytes));

	if (shared.lost == 0)
		return;
	add_head(&line, LOG_LEVEL_WARN, LOG_SERVICE);
	text_add(&line, "lost %llu log line%s: standard error was blocked%s\n",
	    shared.lost, shared.lost == 1 ? "" : "s", shared.name);
	shared.lost = 0;
	add_line(&line);
}

/* Waits for lines. Returns their buffer, and fills `empty` from then on. */
static struct buffer *
exchange(struct buffer *empty)
{
	struct buffer *full;

	mutex_lock(&shared.lock);
	shared.state = IDLE;
	condition_wake_all(&shared.changed);
	while (shared.filling->used == 0)
		condition_wait(
		    &shared.changed, &shared.lock, CONDITION_NO_DEADLINE);
	shared.state = WRITING;
	full = shared.filling;
	empty->used = 0;
	shared.filling = empty;
	report_lost();
	mutex_unlock(&shared.lock);
	return full;
}

static void *
run(void *second)
{
	struct buffer *buffer = second;

	thread_name("fwd-log");
	for (;;) {
		const char *end;

		buffer = exchange(buffer);
		end = buffer->bytes;
		while (end < buffer->bytes + buffer->used) {
			const char *line = end;

			end = strchr(line, '\n') + 1;
			write_line(line, (size_t)(end - line));
		}
	}
	return NULL;
}

/* The thread blocks all signals. With SIGTTOU blocked it can write to the
 * terminal from the background without stopping the process. */
int
log_start(void)
{
	sigset_t all, before;
	pthread_t thread;
	int error;

	condition_init(&shared.changed);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	mutex_lock(&shared.lock);
	error = pthread_create(&thread, NULL, run, &buffers[1]);
	if (error == 0) {
		shared.state = IDLE;
		error = pthread_detach(thread);
	}
	mutex_unlock(&shared.lock);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	errno = error;
	return error == 0 ? 0 : -1;
}

void
log_finish(void)
{
	int64_t deadline_ms = clock_now_ms() + LOG_FINISH_MS;

	mutex_lock(&shared.lock);
	while ((shared.state == WRITING || shared.filling->used > 0) &&
	       clock_now_ms() < deadline_ms)
		condition_wait(&shared.changed, &shared.lock, deadline_ms);
	mutex_unlock(&shared.lock);
}

/* A token bucket, kept as the time at which it is full again: each line that
 * passes moves that time by a second, up to `burst` seconds from now. It is one
 * atomic value, so any thread may call. */
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

/* limit may be NULL. */
__attribute__((format(printf, 4, 0))) static void
emit(struct log_limit *limit, enum log_level level,
    enum log_subsystem subsystem, const char *format, va_list *arguments)
{
	char bytes[LOG_LINE_BYTES + 1];
	struct text line = text_in(bytes, sizeof(bytes));
	unsigned suppressed = 0;
	int saved = errno;
	bool absent;

	if (level > log_get_level() ||
	    (limit && !log_limit_pass(limit, clock_now_ms(), &suppressed)))
		return;
	mutex_lock(&shared.lock);
	compose(&line, level, subsystem, suppressed, format, arguments);
	absent = shared.state == ABSENT;
	if (!absent) {
		add_line(&line);
		condition_wake_all(&shared.changed);
	}
	mutex_unlock(&shared.lock);
	if (absent)
		write_line(line.bytes, line.length);
	errno = saved;
}

void
log_line(
    enum log_level level, enum log_subsystem subsystem, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	emit(NULL, level, subsystem, format, &arguments);
	va_end(arguments);
}

void
log_limited(struct log_limit *limit, enum log_level level,
    enum log_subsystem subsystem, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	emit(limit, level, subsystem, format, &arguments);
	va_end(arguments);
}
