/* Percentiles of a histogram as JSON. */
#pragma once

#include <stdint.h>
#include <stdio.h>

#include "histogram.h"

/* The value below or at which that many hundredths of a percent lie; 0 of nothing. */
uint64_t percentile_of(const uint64_t counts[HISTOGRAM_SLOTS], unsigned part);

/* Writes {"50": NS, ... "99.9": NS, "100": NS}; {} of nothing. */
void percentiles_print(FILE *out, const uint64_t counts[HISTOGRAM_SLOTS]);
