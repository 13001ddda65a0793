/* The counters of the copy threads. Each has one writer, so adding is a load
 * and a store without a locked instruction. Readers see a recent value. */
#ifndef STATUS_COUNTERS_H
#define STATUS_COUNTERS_H

#include <stdatomic.h>
#include <stdint.h>

/* Data that a copy thread writes often has cache lines of its own. */
#define CACHE_LINE_BYTES 64

typedef _Atomic uint64_t counter;

static inline void
counter_add(counter *c, uint64_t n)
{
	atomic_store_explicit(c,
	    atomic_load_explicit(c, memory_order_relaxed) + n,
	    memory_order_relaxed);
}

static inline uint64_t
counter_read(const counter *c)
{
	return atomic_load_explicit(c, memory_order_relaxed);
}

/* Written by fwd-up only. */
struct up_counters {
	counter frames, bytes; /* sent to the network, without headers */
	/* dropped, by reason */
	counter outage, oversize, runt, empty, truncated;
	counter kept; /* frames that wait for the network now (keep.h) */
};

/* Written by fwd-down only. */
struct down_counters {
	counter frames, bytes; /* sent to the guest */
	counter guest_slow, guest_absent, runt, empty, truncated, oversize;
};

#endif
