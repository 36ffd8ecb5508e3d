/* What was measured, as text and as JSON on stdout. */
#pragma once

#include "options.h"

#include <stdio.h>

struct making {
	unsigned count; /* of allocations */
	double seconds;
	const uint64_t *answers; /* ns, HISTOGRAM_SLOTS */
	double cpu_ns, rss;      /* of the watched process, what was added */
};

struct report {
	const struct options *options;
	const struct making *making;
	const struct outcome *outcomes;
	unsigned count;
	uint64_t highest; /* of a search; 0: even the lowest rate lost too much */
	unsigned lost;    /* allocations that could not be renewed */
};

/* CPU of the watched process per relayed packet, ns. */
double outcome_cost(const struct outcome *outcome);

void report_begin(const struct options *o);
void report_step(const struct options *o, const struct outcome *outcome);
/* What there is to say behind the steps. */
void report_end(const struct report *report);
void report_json(const struct report *report);

void report_making(const struct options *o, const struct making *making);
