#include "base/pulse.h"

#include "tests/support/suite.h"

enum {
	STAYS = -1,
	RUN = PULSE_RUNNING,
	REST = PULSE_RESTING,
	WAIT = PULSE_WAITING
};

/* Before each look: where the thread went, and whether its event has happened. */
static const struct {
	const char *name;
	struct {
		int place;
		bool event, frozen;
	} looks[6];
} scripts[] = {
	{ "an idle thread may rest for ever",
	    { { REST, false, false }, { STAYS, false, false },
		{ STAYS, false, false }, { STAYS, false, false } } },
	{ "a thread that rests although its event has happened is frozen",
	    { { REST, true, false }, { STAYS, true, false },
		{ STAYS, true, true }, { STAYS, true, true } } },
	{ "an event that happens between two looks starts the interval",
	    { { REST, false, false }, { STAYS, false, false },
		{ STAYS, true, false }, { STAYS, true, false },
		{ STAYS, true, true } } },
	{ "an event that is over starts it again",
	    { { REST, true, false }, { STAYS, true, false },
		{ STAYS, false, false }, { STAYS, true, false },
		{ STAYS, true, false }, { STAYS, true, true } } },
	{ "each beat starts it again",
	    { { REST, true, false }, { STAYS, true, false },
		{ REST, true, false }, { STAYS, true, false },
		{ STAYS, true, true } } },
	{ "a thread that runs without a beat is frozen",
	    { { RUN, false, false }, { STAYS, false, false },
		{ STAYS, false, true } } },
	{ "a thread that runs on is not frozen",
	    { { RUN, false, false }, { RUN, false, false },
		{ RUN, false, false }, { RUN, false, false } } },
	{ "a thread may wait for ever",
	    { { WAIT, true, false }, { STAYS, true, false },
		{ STAYS, true, false }, { STAYS, true, false } } },
	{ "one that has waited is watched again",
	    { { WAIT, true, false }, { STAYS, true, false },
		{ RUN, true, false }, { STAYS, true, false },
		{ STAYS, true, true } } },
	{ "a thread that recovers is not frozen any more",
	    { { RUN, false, false }, { STAYS, false, false },
		{ STAYS, false, true }, { REST, false, false },
		{ STAYS, true, false } } },
};

TEST(scripts_of_looks, .count = LENGTH(scripts))
{
	struct pulse_watch watch = { 0 };
	struct pulse pulse = { 0 };

	for (int i = 0; i < LENGTH(scripts[_i].looks); i++) {
		int place = scripts[_i].looks[i].place;

		if (place != STAYS)
			pulse_enter(&pulse, (enum pulse_place)place);
		ck_assert_msg(pulse_is_frozen(
				  &watch, &pulse, scripts[_i].looks[i].event) ==
				  scripts[_i].looks[i].frozen,
		    "%s: look %d", scripts[_i].name, i + 1);
	}
}

TEST(a_thread_that_never_started_is_frozen)
{
	struct pulse_watch watch = { 0 };
	struct pulse pulse = { 0 };

	ck_assert(!pulse_is_frozen(&watch, &pulse, false));
	ck_assert(!pulse_is_frozen(&watch, &pulse, false));
	ck_assert(pulse_is_frozen(&watch, &pulse, false));
}
