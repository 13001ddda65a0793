/* Takes the snapshot that `forwarder status` shows from the parts that know. */
#ifndef FORWARDER_REPORT_H
#define FORWARDER_REPORT_H

#include "forwarder/copy.h"
#include "status/status.h"

struct report {
	const struct config *config;
	struct copy *copy;
	int64_t started_ms;
};

/* Main only: the configuration is its own. */
void report_fill(const struct report *report, struct status *out);

#endif
