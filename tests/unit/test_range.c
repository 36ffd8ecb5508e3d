/* Addresses in a row, by number and back. */
#include "tests/perf/range.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

static struct range make(const char *first, uint32_t addresses, uint32_t ports)
{
	struct range r = {.addresses = addresses, .ports = ports};

	if (tp_addr_parse(first, &r.first) < 0)
		fail_msg("%s", first);
	return r;
}

static void test_numbers(void **state)
{
	static const struct {
		const char *first;
		uint32_t addresses, ports, index;
		const char *text;
	} rows[] = {
		{"192.0.2.1:1024", 1, 5, 0, "192.0.2.1:1024"},
		{"192.0.2.1:1024", 1, 5, 4, "192.0.2.1:1028"},
		{"192.0.2.254:1024", 3, 5, 1, "192.0.2.255:1024"},
		{"192.0.2.254:1024", 3, 5, 2, "192.0.3.0:1024"},
		{"192.0.2.254:1024", 3, 5, 3, "192.0.2.254:1025"},
		{"[2001:db8::ffff]:65530", 2, 6, 11, "[2001:db8::1:0]:65535"},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct range r = make(rows[i].first, rows[i].addresses, rows[i].ports);
		struct tp_addr a = range_at(&r, rows[i].index);
		char text[TP_ADDR_TEXT];
		uint32_t index = 1000;

		assert_int_equal(range_check(&r), 0);
		assert_string_equal(tp_addr_text(&a, text), rows[i].text);
		assert_true(range_find(&r, &a, &index));
		assert_int_equal(index, rows[i].index);
	}
}

static void test_others(void **state)
{
	static const char *const others[] = {"192.0.2.1:1024", "192.0.2.5:1024", "192.0.2.2:1023",
		"192.0.2.2:1028", "[::ffff:192.0.2.2]:1024", "193.0.2.2:1024"};
	struct range r = make("192.0.2.2:1024", 3, 4);
	struct tp_addr a;
	uint32_t index;

	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		assert_int_equal(tp_addr_parse(others[i], &a), 0);
		if (i == 4) /* a family of its own (threat P03) */
			a.family = TP_IPV6;
		if (range_find(&r, &a, &index))
			fail_msg("%s", others[i]);
	}
}

static void test_check(void **state)
{
	static const struct {
		const char *first;
		uint32_t addresses, ports;
		bool ok;
	} rows[] = {
		{"255.255.255.254:65534", 2, 2, true},
		{"255.255.255.254:65534", 3, 2, false},
		{"255.255.255.254:65534", 2, 3, false},
		{"192.0.2.1:1", 0, 1, false},
		{"192.0.2.1:1", 1, 0, false},
		{"192.0.2.1:1024", 1, 64512, true},
		{"192.0.2.1:1024", 1, 64513, false},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct range r = make(rows[i].first, rows[i].addresses, rows[i].ports);

		if ((range_check(&r) == 0) != rows[i].ok)
			fail_msg("row %zu", i);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_others),
		cmocka_unit_test(test_check),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
