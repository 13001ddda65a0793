#include "base/pulse.h"

/* The first look starts an interval, which two more looks divide into halves. */
#define FROZEN_LOOKS 3

bool
pulse_is_frozen(
    struct pulse_watch *watch, const struct pulse *pulse, bool has_event)
{
	uint64_t word =
	    atomic_load_explicit(&pulse->word, memory_order_relaxed);
	enum pulse_place place = word & 3;
	bool busy =
	    place == PULSE_RUNNING || (place == PULSE_RESTING && has_event);

	if (word != watch->word || !busy)
		watch->looks = 0;
	watch->word = word;
	if (busy)
		watch->looks++;
	return watch->looks >= FROZEN_LOOKS;
}
