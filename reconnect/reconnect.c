#include "reconnect/reconnect.h"

#include "base/clock.h" /* earlier() and later() only */

/* xorshift32: jitter only has to differ between processes. */
static uint32_t
next_random(struct reconnect *machine)
{
	uint32_t x = machine->random;

	x ^= x << 13;
	x ^= x >> 17;
	x ^= x << 5;
	return machine->random = x;
}

static void
reset_backoff(struct reconnect *machine)
{
	machine->delay_ms = machine->settings.min_ms;
}

/* The delay doubles from min to max. Jitter only shortens it, so max is never
 * exceeded. */
static void
back_off(struct reconnect *machine, int64_t now_ms)
{
	const struct reconnect_settings *settings = &machine->settings;
	int64_t delay_ms = machine->delay_ms;
	/* in thousandths of a percent: a whole percent of 2 s is 20 ms */
	int64_t off = (int64_t)(next_random(machine) %
				(settings->jitter_percent * 1000 + 1));

	machine->delay_ms = earlier(delay_ms * 2, settings->max_ms);
	delay_ms -= delay_ms * off / 100000;
	machine->due_ms = later(now_ms + later(delay_ms, RECONNECT_SPACING_MS),
	    machine->earliest_ms);
}

/* The only place that changes the state. */
static void
enter(struct reconnect *machine, enum reconnect_state state, int64_t now_ms)
{
	if (state == RECONNECT_WAITING && machine->settings.listens)
		state = RECONNECT_LISTENING;
	if (state == RECONNECT_DIALLING ||
	    (state == RECONNECT_FRESH && machine->state == RECONNECT_LISTENING))
		machine->dials++;
	if (state == RECONNECT_FRESH) {
		machine->connected_ms = now_ms;
		machine->earliest_ms = now_ms + RECONNECT_SPACING_MS;
		machine->retry_window_ms = 0;
	}
	machine->state = state;
}

/* Makes the next dial due now, or as soon as the spacing allows. */
static void
hurry(struct reconnect *machine, int64_t now_ms)
{
	int64_t soonest_ms = later(now_ms, machine->earliest_ms);

	if (reconnect_is_up(machine) || machine->due_ms <= soonest_ms)
		return;
	machine->due_ms = soonest_ms;
	machine->earliest_ms = soonest_ms + RECONNECT_SPACING_MS;
}

static void
start_outage(struct reconnect *machine, int64_t now_ms)
{
	reset_backoff(machine);
	machine->due_ms = later(now_ms, machine->earliest_ms);
	machine->long_outage_ms = now_ms + RECONNECT_LONG_OUTAGE_MS;
	machine->retry_window_ms = RECONNECT_WINDOW_MS;
	machine->dials = 0;
}

static void
on_lost(struct reconnect *machine, int64_t now_ms)
{
	if (machine->state == RECONNECT_PROVEN)
		start_outage(machine, now_ms);
	else
		back_off(machine, now_ms);
	enter(machine, RECONNECT_WAITING, now_ms);
	if (machine->retry_window_ms > 0) /* APPEARED or MOVED while up */
		hurry(machine, now_ms);
}

static void
on_reloaded(struct reconnect *machine, int64_t now_ms)
{
	reset_backoff(machine);
	hurry(machine, now_ms);
	if (!reconnect_is_up(machine))
		enter(machine, RECONNECT_WAITING, now_ms);
}

static void
on_moved(struct reconnect *machine, int64_t now_ms)
{
	on_reloaded(machine, now_ms);
	machine->retry_window_ms = RECONNECT_WINDOW_MS;
	machine->long_outage_ms = now_ms + RECONNECT_LONG_OUTAGE_MS;
}

static enum reconnect_action
on_proof(struct reconnect *machine, int64_t now_ms)
{
	bool fresh = machine->state == RECONNECT_FRESH;

	enter(machine, RECONNECT_PROVEN, now_ms);
	return fresh ? RECONNECT_REPORT_SETTLED : RECONNECT_NOTHING;
}

static int64_t
old_ms(const struct reconnect *machine)
{
	return machine->connected_ms + machine->settings.max_ms;
}

static int64_t
settled_ms(const struct reconnect *machine)
{
	return machine->connected_ms + RECONNECT_SETTLE_MS;
}

static enum reconnect_action
tick_up(struct reconnect *machine, int64_t now_ms)
{
	if (machine->state == RECONNECT_PROVEN)
		return RECONNECT_NOTHING;
	if (now_ms >= old_ms(machine))
		return RECONNECT_PROVE;
	if (machine->state == RECONNECT_UNPROVEN ||
	    now_ms < settled_ms(machine))
		return RECONNECT_NOTHING;
	enter(machine, RECONNECT_UNPROVEN, now_ms);
	return RECONNECT_REPORT_SETTLED;
}

static enum reconnect_action
tick_down(struct reconnect *machine, int64_t now_ms)
{
	if (now_ms >= machine->long_outage_ms) {
		machine->long_outage_ms = RECONNECT_NEVER;
		return RECONNECT_REPORT_LONG_OUTAGE;
	}
	if (machine->state != RECONNECT_WAITING || now_ms < machine->due_ms)
		return RECONNECT_NOTHING;
	enter(machine, RECONNECT_DIALLING, now_ms);
	return RECONNECT_DIAL;
}

enum reconnect_action
reconnect_step(
    struct reconnect *machine, enum reconnect_event event, int64_t now_ms)
{
	switch (event) {
	case RECONNECT_TICK:
		return reconnect_is_up(machine) ? tick_up(machine, now_ms)
						: tick_down(machine, now_ms);
	case RECONNECT_DIAL_FAILED:
		machine->retry_window_ms = 0;
		back_off(machine, now_ms);
		enter(machine, RECONNECT_WAITING, now_ms);
		break;
	case RECONNECT_INTERRUPTED:
		enter(machine, RECONNECT_WAITING, now_ms);
		break;
	case RECONNECT_CONNECTED:
		enter(machine, RECONNECT_FRESH, now_ms);
		break;
	case RECONNECT_PROOF:
		return on_proof(machine, now_ms);
	case RECONNECT_LOST:
		on_lost(machine, now_ms);
		break;
	case RECONNECT_APPEARED:
		machine->retry_window_ms = RECONNECT_WINDOW_MS;
		hurry(machine, now_ms);
		break;
	case RECONNECT_RESUMED:
		reset_backoff(machine);
		hurry(machine, now_ms);
		break;
	case RECONNECT_RELOADED:
		on_reloaded(machine, now_ms);
		break;
	case RECONNECT_MOVED:
		on_moved(machine, now_ms);
		break;
	}
	return RECONNECT_NOTHING;
}

void
reconnect_init(struct reconnect *machine,
    const struct reconnect_settings *settings, uint32_t random, int64_t now_ms)
{
	*machine = (struct reconnect){ .settings = *settings,
		.random = random,
		.due_ms = now_ms,
		.earliest_ms = now_ms };
	on_moved(machine, now_ms);
}

int64_t
reconnect_wake_ms(const struct reconnect *machine)
{
	switch (machine->state) {
	case RECONNECT_WAITING:
		return earlier(machine->due_ms, machine->long_outage_ms);
	case RECONNECT_LISTENING:
		return machine->long_outage_ms;
	case RECONNECT_FRESH:
		return earlier(settled_ms(machine), old_ms(machine));
	case RECONNECT_UNPROVEN:
		return old_ms(machine);
	case RECONNECT_DIALLING:
	case RECONNECT_PROVEN:
		break;
	}
	return RECONNECT_NEVER;
}
