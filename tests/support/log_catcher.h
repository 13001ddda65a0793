/* Replaces the log in the program that includes this: keeps lines for the test to
 * search, instead of writing them. */
#ifndef TESTS_SUPPORT_LOG_CATCHER_H
#define TESTS_SUPPORT_LOG_CATCHER_H

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"

static struct {
	pthread_mutex_t lock;
	char text[64 * 1024]; /* the oldest lines; others are lost */
	size_t length;
	atomic_uint limited; /* calls of log_limited() */
} caught_log = { .lock = PTHREAD_MUTEX_INITIALIZER };

__attribute__((format(printf, 3, 0))) static void
log_catch(enum log_level level, enum log_subsystem subsystem,
    const char *format, va_list arguments)
{
	static const char *const levels[] = { "error", "warn", "info",
		"debug" };
	static const char *const subsystems[] = { "guest", "link", "keepalive",
		"config", "control", "service" };
	char message[LOG_LINE_BYTES], line[LOG_LINE_BYTES + 32];
	size_t length;

	vsnprintf(message, sizeof(message), format, arguments);
	length = (size_t)snprintf(line, sizeof(line), "%s %s: %s\n",
	    levels[level], subsystems[subsystem], message);
	pthread_mutex_lock(&caught_log.lock);
	if (caught_log.length + length < sizeof(caught_log.text)) {
		memcpy(caught_log.text + caught_log.length, line, length + 1);
		caught_log.length += length;
	}
	pthread_mutex_unlock(&caught_log.lock);
}

void
log_line(
    enum log_level level, enum log_subsystem subsystem, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	log_catch(level, subsystem, format, arguments);
	va_end(arguments);
}

/* Does not limit: log_test tests that. */
void
log_limited(struct log_limit *limit, enum log_level level,
    enum log_subsystem subsystem, const char *format, ...)
{
	va_list arguments;

	(void)limit;
	caught_log.limited++;
	va_start(arguments, format);
	log_catch(level, subsystem, format, arguments);
	va_end(arguments);
}

/* How often the text was logged. */
static inline unsigned
log_count(const char *text)
{
	unsigned count = 0;

	pthread_mutex_lock(&caught_log.lock);
	for (const char *at = caught_log.text; (at = strstr(at, text)); at++)
		count++;
	pthread_mutex_unlock(&caught_log.lock);
	return count;
}

#endif
