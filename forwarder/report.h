/* Collects the status that `forwarder status` prints. */
#ifndef FORWARDER_REPORT_H
#define FORWARDER_REPORT_H

#include "forwarder/copy.h"
#include "reconnect/daemon.h"
#include "status/status.h"

struct report {
	const struct config *config;
	struct copy *copy;
	const struct daemon *daemon;
	int64_t started_ms;
};

/* Called by main() only, because report->config is main()'s and has no lock. */
void report_fill(const struct report *report, struct status *out);

#endif
