/* The classes that latencies are counted in (tests/perf), and percentiles of them. */
#include "tests/perf/percentiles.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Classes follow each other without a gap, and none is wider than a 64th of its values. */
static void classes_are_narrow(void **state)
{
	uint64_t value = 0;

	for (uint32_t i = 0; i + 1 < HISTOGRAM_SLOTS && value < UINT64_C(1) << 36; i++) {
		uint64_t last = histogram_value(i);

		assert_int_equal(histogram_index(value), i);
		assert_int_equal(histogram_index(last), i);
		assert_true((last - value) * HISTOGRAM_SUB <= value);
		value = last + 1;
	}
	assert_true(value >= UINT64_C(1) << 34);
}

static void the_last_class_takes_the_rest(void **state)
{
	assert_int_equal(histogram_index(UINT64_MAX), HISTOGRAM_SLOTS - 1);
}

static char *printed(const uint64_t counts[HISTOGRAM_SLOTS])
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	assert_non_null(out);
	percentiles_print(out, counts);
	fclose(out);
	return text;
}

static void percentiles_are_ranks(void **state)
{
	uint64_t counts[HISTOGRAM_SLOTS] = {0};
	char *text;

	for (uint32_t i = 1; i <= 100; i++)
		counts[histogram_index(i)]++;
	text = printed(counts);
	assert_string_equal(text, "{\"50\": 50, \"75\": 75, \"90\": 90, \"95\": 95, \"99\": 99, "
				  "\"99.5\": 100, \"99.9\": 100, \"99.95\": 100, "
				  "\"99.99\": 100, \"100\": 100}");
	free(text);
}

static void of_nothing_there_are_none(void **state)
{
	uint64_t counts[HISTOGRAM_SLOTS] = {0};
	char *text = printed(counts);

	assert_string_equal(text, "{}");
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(classes_are_narrow),
		cmocka_unit_test(the_last_class_takes_the_rest),
		cmocka_unit_test(percentiles_are_ranks),
		cmocka_unit_test(of_nothing_there_are_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
