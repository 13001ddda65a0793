#include "status/rates.h"

struct rates_sample
rates_sample(const struct status *s)
{
	return (struct rates_sample){ s->pid, s->uptime_ms,
		{ s->guest_to_network.frames, s->guest_to_network.bytes,
		    status_sum(s, "guest_to_network.drops") },
		{ s->network_to_guest.frames, s->network_to_guest.bytes,
		    status_sum(s, "network_to_guest.drops") } };
}

/* Returns what to count from: `before`, or the start of another process. */
static const struct rates_sample *
base(const struct rates_sample *before, const struct rates_sample *now)
{
	static const struct rates_sample start;

	return before->pid != now->pid || before->uptime_ms > now->uptime_ms
		   ? &start
		   : before;
}

static status_number
per_second(status_number before, status_number now, status_number ms)
{
	return ms > 0 && now > before ? (now - before) * 1000 / ms : 0;
}

static double
mbit(const status_number *before, const status_number *now, status_number ms)
{
	return (double)per_second(before[RATES_BYTES], now[RATES_BYTES], ms) *
	       8 / 1e6;
}

static void
add_flow(struct text *t, const char *label, const status_number *before,
    const status_number *now, status_number ms)
{
	text_add(t, "%s %8llu frames/s %8.1f Mbit/s %6llu dropped/s", label,
	    per_second(before[RATES_FRAMES], now[RATES_FRAMES], ms),
	    mbit(before, now, ms),
	    per_second(before[RATES_DROPS], now[RATES_DROPS], ms));
}

void
rates_add(struct text *t, const struct rates_sample *before,
    const struct rates_sample *now, const char *separator)
{
	status_number ms;

	before = base(before, now);
	ms = now->uptime_ms - before->uptime_ms;
	add_flow(t, "guest->network", before->up, now->up, ms);
	text_add(t, "%s", separator);
	add_flow(t, "network->guest", before->down, now->down, ms);
	text_add(t, "\n");
}

double
rates_mbit_up(const struct rates_sample *before, const struct rates_sample *now)
{
	before = base(before, now);
	return mbit(before->up, now->up, now->uptime_ms - before->uptime_ms);
}

double
rates_mbit_down(
    const struct rates_sample *before, const struct rates_sample *now)
{
	before = base(before, now);
	return mbit(
	    before->down, now->down, now->uptime_ms - before->uptime_ms);
}
