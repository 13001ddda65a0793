/* The rates of `forwarder status --watch`. The server answers with a line of
 * counters and then text; the client computes rates from two such lines. */
#ifndef STATUS_RATES_H
#define STATUS_RATES_H

#include "status/status.h"

enum { RATES_FRAMES, RATES_BYTES, RATES_DROPS, RATES_COUNTERS };

struct rates_sample {
	char state[16];
	status_number outages, pid, uptime_ms;
	status_number up[RATES_COUNTERS], down[RATES_COUNTERS];
};

/* Adds the server's answer to the request "status watch". */
void rates_answer(struct text *t, const struct status *s);

/* Parses such an answer. Returns the text in it, or NULL if it is malformed. */
const char *rates_parse(struct rates_sample *sample, const char *answer);

/* Adds the rates in both directions, with a separator between them. They are
 * averages since the start if `before` is zeroed or from another process. */
void rates_add(struct text *t, const struct rates_sample *before,
    const struct rates_sample *now, const char *separator);

#endif
