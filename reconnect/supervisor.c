#include "reconnect/supervisor.h"

/* What time alone changes. A state without a limit waits for an event. */
static const struct {
	int64_t limit_ms;
	enum supervisor_state next;
	enum supervisor_action action;
} ticks[] = {
	[SUPERVISOR_STARTING] = { SUPERVISOR_START_MS, SUPERVISOR_TERMINATING,
	    SUPERVISOR_TERMINATE },
	[SUPERVISOR_LEAVING] = { SUPERVISOR_LEAVE_MS, SUPERVISOR_TERMINATING,
	    SUPERVISOR_TERMINATE },
	[SUPERVISOR_TERMINATING] = { SUPERVISOR_TERMINATE_MS,
	    SUPERVISOR_KILLING, SUPERVISOR_KILL },
	[SUPERVISOR_KILLING] = { 0 },
};

/* The only place that changes the state. */
static void
enter(
    struct supervisor *supervisor, enum supervisor_state state, int64_t now_ms)
{
	*supervisor = (struct supervisor){ state, now_ms };
}

int64_t
supervisor_wake_ms(const struct supervisor *supervisor)
{
	int64_t limit_ms = ticks[supervisor->state].limit_ms;

	return limit_ms > 0 ? supervisor->since_ms + limit_ms : INT64_MAX;
}

static enum supervisor_action
tick(struct supervisor *supervisor, int64_t now_ms)
{
	enum supervisor_state state = supervisor->state;

	if (now_ms < supervisor_wake_ms(supervisor))
		return SUPERVISOR_NOTHING;
	enter(supervisor, ticks[state].next, now_ms);
	return ticks[state].action;
}

enum supervisor_action
supervisor_step(
    struct supervisor *supervisor, enum supervisor_event event, int64_t now_ms)
{
	enum supervisor_state state = supervisor->state;

	switch (event) {
	case SUPERVISOR_TICK:
		return tick(supervisor, now_ms);
	case SUPERVISOR_STARTED:
		if (state == SUPERVISOR_NONE)
			enter(supervisor, SUPERVISOR_STARTING, now_ms);
		break;
	case SUPERVISOR_CONNECTED:
		if (state == SUPERVISOR_STARTING)
			enter(supervisor, SUPERVISOR_SERVING, now_ms);
		break;
	case SUPERVISOR_LOST:
		if (state == SUPERVISOR_SERVING)
			enter(supervisor, SUPERVISOR_LEAVING, now_ms);
		break;
	case SUPERVISOR_DISMISSED:
		if (state == SUPERVISOR_NONE || state >= SUPERVISOR_TERMINATING)
			break;
		enter(supervisor, SUPERVISOR_TERMINATING, now_ms);
		return SUPERVISOR_TERMINATE;
	case SUPERVISOR_EXITED:
		enter(supervisor, SUPERVISOR_NONE, now_ms);
		break;
	}
	return SUPERVISOR_NOTHING;
}
