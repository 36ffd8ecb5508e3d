/* Single values of the configuration: numbers, and numbers with a unit. No state, no I/O. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define VALUE_ERROR_SIZE 256

struct value_unit {
	const char *name;
	uint64_t factor;
};

/* What a number may look like. The first unit is the one that complaints are written in. */
struct value_kind {
	const char *name; /* "a whole number" */
	const struct value_unit *units;
	size_t units_count;
};

extern const struct value_kind value_count;      /* 10 */
extern const struct value_kind value_duration;   /* 600 s, 10 min, 1 h: in nanoseconds */
extern const struct value_kind value_pause;      /* 50 us, 2 ms, 1 s: in microseconds */
extern const struct value_kind value_per_second; /* 500/s */
extern const struct value_kind value_bandwidth;  /* 8 Mbit/s: in bits a second */

/* min and max in the result's own unit. -EINVAL, and `error` says what is wrong and right. */
int value_parse(const struct value_kind *kind, const char *text, uint64_t min, uint64_t max,
	uint64_t *out, char error[VALUE_ERROR_SIZE]);
