#include "base/log_writer.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/sync.h"

static struct {
	struct mutex lock;
	struct condition changed;
	enum { ABSENT, IDLE, WRITING } state GUARDED;
	log_writer_report *report GUARDED;
	unsigned long long lost GUARDED; /* lines, not yet reported */
	size_t first GUARDED;            /* index of the oldest byte */
	size_t used GUARDED;             /* bytes: whole lines */
	char buffer[LOG_WRITER_BYTES] GUARDED;
} writer = { .lock = { PTHREAD_MUTEX_INITIALIZER } };

/* Whether standard error takes more now: whoever shares it can have set
 * O_NONBLOCK. */
static bool
wait_for_room(void)
{
	struct pollfd error = { .fd = STDERR_FILENO, .events = POLLOUT };

	return poll(&error, 1, -1) > 0;
}

/* One write() a line, as long as standard error takes it whole: then it never
 * mixes with what other processes write there. No signal interrupts fwd-log. */
static void
write_line(const char *line, size_t length)
{
	while (length > 0) {
		ssize_t n = write(STDERR_FILENO, line, length);

		if (n > 0) {
			line += n;
			length -= (size_t)n;
		} else if (n == 0 || errno != EAGAIN || !wait_for_room()) {
			return;
		}
	}
}

static void
append(const char *line, size_t length) NEEDS(writer.lock)
{
	size_t end = (writer.first + writer.used) % LOG_WRITER_BYTES;
	size_t part = LOG_WRITER_BYTES - end;

	if (part > length)
		part = length;
	memcpy(writer.buffer + end, line, part);
	memcpy(writer.buffer, line + part, length - part);
	writer.used += length;
}

static void
append_or_lose(const char *line, size_t length) NEEDS(writer.lock)
{
	if (writer.lost > 0 || length > LOG_WRITER_BYTES - writer.used)
		writer.lost++;
	else
		append(line, length);
}

/* Half the buffer, so that a slow reader gets lines, not reports. */
static void
report_lost(void) NEEDS(writer.lock)
{
	char line[LOG_LINE_BYTES + 1];

	if (writer.lost == 0 || writer.used > LOG_WRITER_BYTES / 2)
		return;
	append(line, writer.report(line, writer.lost));
	writer.lost = 0;
}

static size_t
remove_line(char line[LOG_LINE_BYTES]) NEEDS(writer.lock)
{
	size_t length = 0;

	do {
		assert(length < LOG_LINE_BYTES);
		line[length] = writer.buffer[writer.first];
		writer.first = (writer.first + 1) % LOG_WRITER_BYTES;
		writer.used--;
	} while (line[length++] != '\n');
	return length;
}

static size_t
wait_for_line(char line[LOG_LINE_BYTES])
{
	size_t length;

	mutex_lock(&writer.lock);
	writer.state = IDLE;
	condition_wake_all(&writer.changed);
	while (writer.used == 0)
		condition_wait(
		    &writer.changed, &writer.lock, CONDITION_NO_DEADLINE);
	writer.state = WRITING;
	length = remove_line(line);
	report_lost();
	mutex_unlock(&writer.lock);
	return length;
}

static void *
run(void *unused)
{
	char line[LOG_LINE_BYTES];

	(void)unused;
	thread_name("fwd-log");
	for (;;)
		write_line(line, wait_for_line(line));
	return NULL;
}

/* With all signals blocked: none is for this thread, and a terminal in the
 * background (SIGTTOU) takes its lines without stopping the process. */
static int
start_thread(void)
{
	sigset_t all, before;
	pthread_t thread;
	int error;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	error = pthread_create(&thread, NULL, run, NULL);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return error == 0 ? pthread_detach(thread) : error;
}

int
log_writer_start(log_writer_report *report)
{
	int error;

	condition_init(&writer.changed);
	mutex_lock(&writer.lock);
	writer.report = report;
	error = start_thread();
	if (error == 0)
		writer.state = IDLE;
	mutex_unlock(&writer.lock);
	errno = error;
	return error == 0 ? 0 : -1;
}

void
log_writer_put(const char *line, size_t length)
{
	bool absent;

	mutex_lock(&writer.lock);
	absent = writer.state == ABSENT;
	if (!absent) {
		append_or_lose(line, length);
		condition_wake_all(&writer.changed);
	}
	mutex_unlock(&writer.lock);
	if (absent)
		write_line(line, length);
}

static bool
is_busy(void) NEEDS(writer.lock)
{
	return writer.state == WRITING || writer.used > 0;
}

void
log_writer_finish(int64_t patience_ms)
{
	int64_t deadline_ms = clock_now_ms() + patience_ms;

	mutex_lock(&writer.lock);
	while (is_busy() && clock_now_ms() < deadline_ms)
		condition_wait(&writer.changed, &writer.lock, deadline_ms);
	mutex_unlock(&writer.lock);
}
