/* Sums the time that fwd-down has waited for the guest in the last second. Pure:
 * the caller reads the clock and waits.
 *
 * Time is divided into slices. A wait is counted in the slice in which it ends,
 * and a slice is dropped when all of it is a second old. So the waits in any one
 * second never exceed the limit, and spent time is available again after at most
 * a second and a slice. */
#ifndef FORWARDER_STALL_H
#define FORWARDER_STALL_H

#include <stdint.h>

/* Those of a second, and the one in progress. */
#define STALL_SLICES 11

/* Initialise to zero. */
struct stall {
	int64_t slice; /* number of the newest, counted from time 0 */
	int64_t spent_us[STALL_SLICES];
};

/* Returns how much of limit_us is left at now_us, or 0. now_us must not
 * decrease. */
int64_t stall_left_us(struct stall *stall, int64_t limit_us, int64_t now_us);

/* Adds a wait of waited_us that ended at now_us. */
void stall_spend(struct stall *stall, int64_t waited_us, int64_t now_us);

#endif
