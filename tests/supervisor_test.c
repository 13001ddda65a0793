#include "reconnect/supervisor.h"

#include "tests/support/suite.h"

#define NONE SUPERVISOR_NONE
#define STARTING SUPERVISOR_STARTING
#define SERVING SUPERVISOR_SERVING
#define LEAVING SUPERVISOR_LEAVING
#define TERMINATING SUPERVISOR_TERMINATING
#define KILLING SUPERVISOR_KILLING
#define STATES 6

#define TICK SUPERVISOR_TICK
#define STARTED SUPERVISOR_STARTED
#define CONNECTED SUPERVISOR_CONNECTED
#define LOST SUPERVISOR_LOST
#define DISMISSED SUPERVISOR_DISMISSED
#define EXITED SUPERVISOR_EXITED

#define TERMINATE SUPERVISOR_TERMINATE
#define KILL SUPERVISOR_KILL
#define NEVER INT64_MAX

/* ms, event, then what it leads to */
struct line {
	int64_t ms;
	enum supervisor_event event;
	enum supervisor_state next;
	enum supervisor_action action;
	int64_t wake_ms;
};

static const struct line scripts[][10] = {
	/* killed, then frozen */
	{ { 1000, STARTED, STARTING, 0, 11000 },
	    { 1001, CONNECTED, SERVING, 0, NEVER },
	    { 5000, LOST, LEAVING, 0, 5100 }, { 5001, EXITED, NONE, 0, NEVER },
	    { 5001, STARTED, STARTING, 0, 15001 },
	    { 5002, CONNECTED, SERVING, 0, NEVER },
	    { 9000, LOST, LEAVING, 0, 9100 }, { 9099, TICK, LEAVING, 0, 9100 },
	    { 9100, TICK, TERMINATING, TERMINATE, 11100 },
	    { 9102, EXITED, NONE, 0, NEVER } },
	/* it does not listen on its socket, and ignores SIGTERM */
	{ { 1000, STARTED, STARTING, 0, 11000 },
	    { 10999, TICK, STARTING, 0, 11000 },
	    { 11000, TICK, TERMINATING, TERMINATE, 13000 },
	    { 12999, TICK, TERMINATING, 0, 13000 },
	    { 13000, TICK, KILLING, KILL, NEVER },
	    { 99999, TICK, KILLING, 0, NEVER },
	    { 99999, EXITED, NONE, 0, NEVER } },
	/* another endpoint is configured */
	{ { 1000, STARTED, STARTING, 0, 11000 },
	    { 1000, CONNECTED, SERVING, 0, NEVER },
	    { 1005, DISMISSED, TERMINATING, TERMINATE, 3005 },
	    { 1006, DISMISSED, TERMINATING, 0, 3005 },
	    { 1007, LOST, TERMINATING, 0, 3005 },
	    { 3010, TICK, KILLING, KILL, NEVER },
	    { 3011, DISMISSED, KILLING, 0, NEVER },
	    { 3012, EXITED, NONE, 0, NEVER } },
};

TEST(a_daemon_is_ended_step_by_step, .count = LENGTH(scripts))
{
	struct supervisor supervisor = { 0 };

	for (const struct line *line = scripts[_i]; line->ms > 0; line++) {
		ck_assert_int_eq(
		    supervisor_step(&supervisor, line->event, line->ms),
		    line->action);
		ck_assert_int_eq(supervisor.state, line->next);
		ck_assert_int_eq(
		    supervisor_wake_ms(&supervisor), line->wake_ms);
		if (line == &scripts[_i][9])
			break;
	}
}

/* The table of the header: what each event does in each state. TICK comes before
 * its time. */
static const enum supervisor_state next[][STATES] = {
	[TICK] = { NONE, STARTING, SERVING, LEAVING, TERMINATING, KILLING },
	[STARTED] = { STARTING, STARTING, SERVING, LEAVING, TERMINATING,
	    KILLING },
	[CONNECTED] = { NONE, SERVING, SERVING, LEAVING, TERMINATING, KILLING },
	[LOST] = { NONE, STARTING, LEAVING, LEAVING, TERMINATING, KILLING },
	[DISMISSED] = { NONE, TERMINATING, TERMINATING, TERMINATING,
	    TERMINATING, KILLING },
	[EXITED] = { NONE, NONE, NONE, NONE, NONE, NONE },
};

TEST(each_event_changes_only_the_states_that_expect_it, .count = LENGTH(next))
{
	for (int state = 0; state < STATES; state++) {
		struct supervisor supervisor = { .state = state,
			.since_ms = 1000 };
		bool terminates =
		    _i == DISMISSED && state != NONE && state < TERMINATING;

		ck_assert_int_eq(supervisor_step(&supervisor, _i, 1001),
		    terminates ? TERMINATE : SUPERVISOR_NOTHING);
		ck_assert_int_eq(supervisor.state, next[_i][state]);
		ck_assert_int_eq(supervisor_is_ending(&supervisor),
		    supervisor.state >= LEAVING);
		if (supervisor.state == (enum supervisor_state)state)
			ck_assert_int_eq(
			    supervisor.since_ms, _i == EXITED ? 1001 : 1000);
	}
}
