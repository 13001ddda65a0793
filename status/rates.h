/* Rates, computed from two statuses of one forwarder. */
#ifndef STATUS_RATES_H
#define STATUS_RATES_H

#include "status/status.h"

enum { RATES_FRAMES, RATES_BYTES, RATES_DROPS, RATES_COUNTERS };

/* Initialise to zero: a forwarder that is just starting. */
struct rates_sample {
	status_number pid, uptime_ms;
	status_number up[RATES_COUNTERS], down[RATES_COUNTERS];
};

struct rates_sample rates_sample(const struct status *s);

/* Adds the rates in both directions, with a separator between them. They are
 * averages since the start if `before` is from another process. */
void rates_add(struct text *t, const struct rates_sample *before,
    const struct rates_sample *now, const char *separator);

/* Returns Mbit/s, guest to network or network to guest, in the same way. */
double rates_mbit_up(
    const struct rates_sample *before, const struct rates_sample *now);
double rates_mbit_down(
    const struct rates_sample *before, const struct rates_sample *now);

#endif
