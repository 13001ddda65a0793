/* One line per event on standard error:
 *     LEVEL SUBSYSTEM: what happened key=value ... [name=NAME]
 * with a <N> prefix under journald and a time stamp otherwise. */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* The longest line; a longer one is cut and ends in "...". */
#define LOG_LINE_BYTES 1024
/* A name in log lines and metric labels, its final zero included. */
#define LOG_NAME_BYTES 64

enum log_level {
	LOG_LEVEL_ERROR,
	LOG_LEVEL_WARN,
	LOG_LEVEL_INFO,
	LOG_LEVEL_DEBUG
};

enum log_subsystem {
	LOG_GUEST,
	LOG_LINK,
	LOG_KEEPALIVE,
	LOG_CONFIG,
	LOG_CONTROL,
	LOG_SERVICE,
};

/* Whether standard error is the journal's (JOURNAL_STREAM). */
bool log_is_journal(void);

/* Detects the journal, and ignores SIGPIPE, because the reader of the log may exit
 * first. An ignored signal stays ignored across exec, so command.c restores it. */
void log_open(enum log_level level);

/* Any thread may call these. */
void log_set_level(enum log_level level);
enum log_level log_get_level(void);

/* Ends every line with name=NAME from now on, or with nothing if name is "".
 * The configuration accepts no name that would need quotes. */
void log_set_name(const char *name);

/* Whether a name may contain the character. Names are logged unquoted. */
static inline bool
log_name_holds(char c)
{
	return c > ' ' && c <= '~' && c != '"' && c != '\\' && c != '=';
}

/* Starts a thread that writes the lines; until then log_line() writes them
 * itself. After that log_line() never blocks: lines that don't fit into a
 * buffer of 64 KiB are lost, and a line reports how many. Returns 0, or -1 with
 * errno. */
int log_start(void);

/* Waits until all lines are written, up to LOG_FINISH_MS. Call it before the
 * process ends. */
#define LOG_FINISH_MS 200
void log_finish(void);

/* Never fails, and keeps errno: a line that standard error refuses (closed,
 * disk full) is lost. The format may contain %s, %d, %u, %ld, %lu, %lld, %llu
 * and %zu, without flags, width or precision. Strings may come from outside, so
 * they are escaped:
 *     key=%s       is put in quotes if it holds a blank, a quote, = or \
 *     key=\"%s\"   has its quotes and backslashes escaped
 * Control characters become \xNN everywhere. */
void log_line(enum log_level level, enum log_subsystem subsystem,
    const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Allows `burst` lines at once, then one per second. The next line that passes
 * reports how many were suppressed (suppressed=N). Set burst, and all other
 * members to 0. Any thread may use it. */
struct log_limit {
	unsigned burst;              /* 0 counts as 1 */
	_Atomic int64_t full_at_ms;  /* when the full burst is allowed again */
	_Atomic unsigned suppressed; /* since the last line that passed */
};

void log_limited(struct log_limit *limit, enum log_level level,
    enum log_subsystem subsystem, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Returns whether a line may pass at now_ms; if so, *suppressed is how many
 * were suppressed before it. */
bool log_limit_pass(
    struct log_limit *limit, int64_t now_ms, unsigned *suppressed);

#endif
