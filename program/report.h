/* Gathers what `forwarder status` tells from the parts that know it. */
#ifndef PROGRAM_REPORT_H
#define PROGRAM_REPORT_H

#include "program/copy.h"
#include "program/status.h"

struct report {
	const struct config *config;
	struct copy *copy;
	int64_t started_ms;
};

void report_fill(const struct report *report, struct status *out);

#endif
