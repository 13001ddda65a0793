/* Writes lines to standard error without making anybody wait for it.
 *
 * Lines go through a bounded buffer to a thread, fwd-log, which alone calls
 * write() and may block there for as long as it likes: on a stopped terminal,
 * on a full pipe. A line that does not fit is lost whole, and so are those
 * after it until half of the buffer is free; then a line of its own reports how
 * many there were, at the place where they are missing.
 *
 *      state     fwd-log                              log_writer_put()
 *      ABSENT    was not started                      writes the line itself
 *      IDLE      waits for a line, or is about to     puts it into the buffer
 *      WRITING   has taken a line out of the buffer   puts it into the buffer
 *
 * The lock is never held across write(). */
#ifndef BASE_LOG_WRITER_H
#define BASE_LOG_WRITER_H

#include <stddef.h>
#include <stdint.h>

/* Some 600 lines: more than the worst second of debug lines. */
#define LOG_WRITER_BYTES (64 * 1024)

/* Composes the line that reports `count` lost ones, of at most LOG_LINE_BYTES;
 * returns its length. Must not log. */
typedef size_t log_writer_report(char *line, unsigned long long count);

/* Starts the thread; nothing is allocated after that. Returns 0, or -1 with
 * errno. */
int log_writer_start(log_writer_report *report);

/* `line` is at most LOG_LINE_BYTES long and ends in a line feed. A line that
 * standard error refuses (closed, disk full) is lost. Changes errno. */
void log_writer_put(const char *line, size_t length);

/* Waits until all lines are written, patience_ms at most. */
void log_writer_finish(int64_t patience_ms);

#endif
