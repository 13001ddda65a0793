/* What a reload may change under the copy threads: each value is read afresh
 * for each batch. One writer, main(). */
#ifndef FORWARDER_TUNING_H
#define FORWARDER_TUNING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tuning {
	_Atomic int64_t stall_ms;
	_Atomic uint32_t max_frame; /* bytes */
	_Atomic size_t write_batch; /* bytes, 0: one frame a write */
	atomic_bool announce;
};

#endif
