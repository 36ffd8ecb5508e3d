/* Percentiles of a histogram, for the tools that print what they measured. No state. */
#include "percentiles.h"

#include <stdbool.h>

static const char *const asked[] = {
	"50", "75", "90", "95", "99", "99.5", "99.9", "99.95", "99.99", "100"};

/* In hundredths of a percent. */
static const unsigned parts[] = {5000, 7500, 9000, 9500, 9900, 9950, 9990, 9995, 9999, 10000};

static uint64_t sum(const uint64_t counts[HISTOGRAM_SLOTS])
{
	uint64_t total = 0;

	for (uint32_t i = 0; i < HISTOGRAM_SLOTS; i++)
		total += counts[i];
	return total;
}

uint64_t percentile_of(const uint64_t counts[HISTOGRAM_SLOTS], unsigned part)
{
	uint64_t total = sum(counts), rank = (total * part + 9999) / 10000, seen = 0;
	uint32_t i = 0;

	if (!total)
		return 0;
	for (; i + 1 < HISTOGRAM_SLOTS; i++) {
		seen += counts[i];
		if (seen >= rank)
			break;
	}
	return histogram_value(i);
}

void percentiles_print(FILE *out, const uint64_t counts[HISTOGRAM_SLOTS])
{
	bool any = sum(counts) > 0;

	fputc('{', out);
	for (size_t i = 0; any && i < sizeof(parts) / sizeof(parts[0]); i++)
		fprintf(out, "%s\"%s\": %llu", i ? ", " : "", asked[i],
			(unsigned long long)percentile_of(counts, parts[i]));
	fputc('}', out);
}
