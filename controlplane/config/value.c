/* Numbers with units (threats R19, O06): the whole text is consumed, overflow is an error. */
#include "value.h"

#include "base/clock.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const struct value_unit no_units[] = {{"", 1}};
static const struct value_unit durations[] = {
	{" s", TP_NS_PER_S}, {" min", 60 * TP_NS_PER_S}, {" h", 3600 * TP_NS_PER_S}};
static const struct value_unit pauses[] = {{" us", 1}, {" ms", 1000}, {" s", 1000000}};
static const struct value_unit rates[] = {{"/s", 1}};
/* The first unit is that of complaints: what would be right are at least kilobits. */
static const struct value_unit bandwidths[] = {
	{" kbit/s", 1000}, {" bit/s", 1}, {" Mbit/s", 1000000}, {" Gbit/s", 1000000000}};

const struct value_kind value_count = {"a whole number", no_units, 1};
const struct value_kind value_duration = {"a time in s, min or h", durations, 3};
const struct value_kind value_pause = {"a time in us, ms or s", pauses, 3};
const struct value_kind value_per_second = {"a number per second", rates, 1};
const struct value_kind value_bandwidth = {
	"a bandwidth in bit/s, kbit/s, Mbit/s or Gbit/s", bandwidths, 4};

/* The digits at the beginning; what follows them goes to *rest. */
static int take_digits(const char *text, uint64_t *out, const char **rest)
{
	uint64_t n = 0;

	if (*text < '0' || *text > '9')
		return -EINVAL;
	for (; *text >= '0' && *text <= '9'; text++) {
		if (__builtin_mul_overflow(n, 10, &n) ||
			__builtin_add_overflow(n, (uint64_t)(*text - '0'), &n))
			return -ERANGE;
	}
	*out = n;
	*rest = text;
	return 0;
}

static const struct value_unit *find_unit(const struct value_kind *kind, const char *text)
{
	for (size_t i = 0; i < kind->units_count; i++) {
		const char *name = kind->units[i].name;

		/* "600s" is as good as "600 s" */
		if (strcmp(text, name) == 0 || (*name == ' ' && strcmp(text, name + 1) == 0))
			return &kind->units[i];
	}
	return NULL;
}

int value_parse(const struct value_kind *kind, const char *text, uint64_t min, uint64_t max,
	uint64_t *out, char error[VALUE_ERROR_SIZE])
{
	const struct value_unit *first = &kind->units[0], *unit;
	const char *rest;
	uint64_t n, value;
	int err = take_digits(text, &n, &rest);

	if (err == 0 && *rest == '\0' && *first->name) {
		snprintf(error, VALUE_ERROR_SIZE, "\"%.40s\" has no unit, write %" PRIu64 "%s",
			text, n, first->name);
		return -EINVAL;
	}
	unit = err == 0 ? find_unit(kind, rest) : NULL;
	if (err == -EINVAL || (err == 0 && !unit)) {
		snprintf(error, VALUE_ERROR_SIZE,
			"\"%.40s\" is not %s, expected %" PRIu64 "%s to %" PRIu64 "%s", text,
			kind->name, min / first->factor, first->name, max / first->factor,
			first->name);
		return -EINVAL;
	}
	if (!unit || __builtin_mul_overflow(n, unit->factor, &value) || value < min ||
		value > max) {
		snprintf(error, VALUE_ERROR_SIZE,
			"\"%.40s\" is out of range, expected %" PRIu64 "%s to %" PRIu64 "%s", text,
			min / first->factor, first->name, max / first->factor, first->name);
		return -EINVAL;
	}
	*out = value;
	return 0;
}
