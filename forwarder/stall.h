/* How long a guest has held the network back lately: the waits of the last
 * second, summed up. Pure: the caller reads the clock and waits.
 *
 * A second is cut into slices. A wait counts in the slice in which it ended, and
 * a slice counts until it lies a whole second back. So the waits of any one
 * second never add up to more than the limit; what is spent comes back a slice
 * late at most. */
#ifndef FORWARDER_STALL_H
#define FORWARDER_STALL_H

#include <stdint.h>

/* One more than make a second. */
#define STALL_SLICES 11

/* All zero at first. */
struct stall {
	int64_t slice; /* the newest there is, since the clock's zero */
	int64_t spent_us[STALL_SLICES];
};

/* What is left at now_us of limit_us in a second; 0 if more was spent. now_us
 * never goes back. */
int64_t stall_left_us(struct stall *stall, int64_t limit_us, int64_t now_us);

/* A wait ended at now_us. */
void stall_spend(struct stall *stall, int64_t waited_us, int64_t now_us);

#endif
