#include "status/rates.h"

#include <stdlib.h>
#include <string.h>

void
rates_answer(struct text *t, const struct status *s)
{
	text_add(t, "%s %llu %llu %llu %llu %llu %llu %llu %llu %llu\n",
	    s->network.state, s->network.outages, s->pid, s->uptime_ms,
	    s->guest_to_network.frames, s->guest_to_network.bytes,
	    status_sum(s, "guest_to_network.drops"), s->network_to_guest.frames,
	    s->network_to_guest.bytes, status_sum(s, "network_to_guest.drops"));
	status_section(t, s, "network");
	status_section(t, s, "guest_to_network.drops");
	status_section(t, s, "network_to_guest.drops");
}

const char *
rates_parse(struct rates_sample *sample, const char *answer)
{
	status_number *const numbers[] = { &sample->outages, &sample->pid,
		&sample->uptime_ms, sample->up, sample->up + 1, sample->up + 2,
		sample->down, sample->down + 1, sample->down + 2 };
	size_t n = strcspn(answer, " ");
	char *end;

	if (n >= sizeof(sample->state))
		return NULL;
	memcpy(sample->state, answer, n);
	sample->state[n] = '\0';
	answer += n;
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		*numbers[i] = strtoull(answer, &end, 10);
		if (end == answer)
			return NULL;
		answer = end;
	}
	return *answer == '\n' ? answer + 1 : NULL;
}

static status_number
per_second(status_number before, status_number now, status_number ms)
{
	return ms > 0 && now > before ? (now - before) * 1000 / ms : 0;
}

static void
add_flow(struct text *t, const char *label, const status_number *before,
    const status_number *now, status_number ms)
{
	status_number rates[RATES_COUNTERS];

	for (int i = 0; i < RATES_COUNTERS; i++)
		rates[i] = per_second(before[i], now[i], ms);
	text_add(t, "%s %8llu frames/s %8.1f Mbit/s %6llu dropped/s", label,
	    rates[RATES_FRAMES], (double)rates[RATES_BYTES] * 8 / 1e6,
	    rates[RATES_DROPS]);
}

void
rates_add(struct text *t, const struct rates_sample *before,
    const struct rates_sample *now, const char *separator)
{
	static const struct rates_sample start;
	status_number ms;

	if (before->pid != now->pid || before->uptime_ms > now->uptime_ms)
		before = &start;
	ms = now->uptime_ms - before->uptime_ms;
	add_flow(t, "guest->network", before->up, now->up, ms);
	text_add(t, "%s", separator);
	add_flow(t, "network->guest", before->down, now->down, ms);
	text_add(t, "\n");
}
