/* Whether a thread is frozen, for the service manager's watchdog.
 *
 * A thread publishes where it is, and each change counts as a beat:
 *
 *      RUNNING   it works; it must reach another place soon
 *      RESTING   it sleeps until an event, such as a frame from the guest
 *      WAITING   it waits for something that may take any time: for the link,
 *                in a write that blocks, in a dial
 *
 * main() looks at it twice in each interval of the watchdog. A thread is busy if
 * it is RUNNING, or RESTING although its event has happened. It is frozen if it
 * was busy at three looks in a row without a beat between them, so for a whole
 * interval. Looks are counted instead of time: if the whole process was stopped,
 * main() may run before the others.
 *
 * An idle thread is not woken for this. A beat is a relaxed load and store of
 * memory that the thread owns. */
#ifndef BASE_PULSE_H
#define BASE_PULSE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum pulse_place { PULSE_RUNNING, PULSE_RESTING, PULSE_WAITING };

/* Written by one thread. Initialise to zero: RUNNING. */
struct pulse {
	_Atomic uint64_t word; /* the place in the low 2 bits, then the beats */
};

static inline void
pulse_enter(struct pulse *pulse, enum pulse_place place)
{
	uint64_t word =
	    atomic_load_explicit(&pulse->word, memory_order_relaxed);

	atomic_store_explicit(
	    &pulse->word, ((word | 3) + 1) | place, memory_order_relaxed);
}

/* What main() remembers of a thread. Initialise to zero. */
struct pulse_watch {
	uint64_t word;  /* at the last look */
	unsigned looks; /* in a row that found it busy with that word */
};

/* One look. has_event: what the thread waits for while RESTING has happened.
 * Returns whether the thread is frozen. */
bool pulse_is_frozen(
    struct pulse_watch *watch, const struct pulse *pulse, bool has_event);

#endif
