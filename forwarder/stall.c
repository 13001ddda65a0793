#include "forwarder/stall.h"

#include <string.h>

#define SLICE_US (1000000 / (STALL_SLICES - 1))

/* Clears the slices that have begun since the last call. */
static void
advance(struct stall *stall, int64_t now_us)
{
	int64_t slice = now_us / SLICE_US;

	if (slice - stall->slice >= STALL_SLICES)
		memset(stall->spent_us, 0, sizeof(stall->spent_us));
	else
		for (int64_t i = stall->slice + 1; i <= slice; i++)
			stall->spent_us[i % STALL_SLICES] = 0;
	stall->slice = slice;
}

int64_t
stall_left_us(struct stall *stall, int64_t limit_us, int64_t now_us)
{
	advance(stall, now_us);
	for (int i = 0; i < STALL_SLICES; i++)
		limit_us -= stall->spent_us[i];
	return limit_us > 0 ? limit_us : 0;
}

void
stall_spend(struct stall *stall, int64_t waited_us, int64_t now_us)
{
	advance(stall, now_us);
	stall->spent_us[stall->slice % STALL_SLICES] += waited_us;
}
