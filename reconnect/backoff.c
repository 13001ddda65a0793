#include "reconnect/backoff.h"

void
backoff_init(struct backoff *backoff, int64_t min_ms, int64_t max_ms,
    unsigned jitter_percent)
{
	*backoff = (struct backoff){ .min_ms = min_ms,
		.max_ms = max_ms,
		.jitter_percent = jitter_percent,
		.next_ms = min_ms };
}

int64_t
backoff_next(struct backoff *backoff, uint32_t random)
{
	int64_t delay_ms = backoff->next_ms;
	/* In thousandths of a percent, so that short delays are spread too. */
	int64_t off = (int64_t)(random % (backoff->jitter_percent * 1000 + 1));

	backoff->next_ms =
	    delay_ms > backoff->max_ms / 2 ? backoff->max_ms : delay_ms * 2;
	/* In two parts, so that no delay overflows. */
	return delay_ms -
	       (delay_ms / 100000 * off + delay_ms % 100000 * off / 100000);
}

void
backoff_reset(struct backoff *backoff)
{
	backoff->next_ms = backoff->min_ms;
}
