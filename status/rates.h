/* What `forwarder status --watch` shows: the server sends a line of counters
 * ahead of some text, the client shows the difference between two. */
#ifndef STATUS_RATES_H
#define STATUS_RATES_H

#include "status/status.h"

enum { RATES_FRAMES, RATES_BYTES, RATES_DROPS, RATES_COUNTERS };

struct rates_sample {
	char state[16];
	status_number outages, pid, uptime_ms;
	status_number up[RATES_COUNTERS], down[RATES_COUNTERS];
};

/* The server's answer. */
void rates_answer(struct text *t, const struct status *s);

/* Reads it. Returns the text in it, or NULL if it makes no sense. */
const char *rates_parse(struct rates_sample *sample, const char *answer);

/* The rates in both directions, with a separator between them: averages since
 * the start if `before` is zeroed or of another process. */
void rates_add(struct text *t, const struct rates_sample *before,
    const struct rates_sample *now, const char *separator);

#endif
