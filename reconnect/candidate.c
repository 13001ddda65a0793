#include "reconnect/candidate.h"

void
candidate_come(struct candidate *candidate, int64_t now_ms)
{
	*candidate = (struct candidate){ .asks = 1,
		.since_ms = now_ms,
		.due_ms = now_ms + CANDIDATE_TICK_MS };
}

void
candidate_leave(struct candidate *candidate)
{
	candidate->asks = 0;
}

enum candidate_verdict
candidate_check(struct candidate *candidate, int64_t now_ms, bool alive)
{
	bool late = now_ms - candidate->due_ms >= CANDIDATE_TICK_MS;

	if (now_ms < candidate->due_ms)
		return CANDIDATE_WAIT;
	if (alive) {
		candidate_leave(candidate);
		return CANDIDATE_REFUSE;
	}
	if (candidate->asks == CANDIDATE_ASKS && !late) {
		candidate_leave(candidate);
		return CANDIDATE_ADMIT;
	}
	if (!late)
		candidate->asks++;
	candidate->due_ms = now_ms + CANDIDATE_TICK_MS;
	return CANDIDATE_ASK;
}
