/* Frames of datagrams: written and read back, and what is not taken. */
#include "tests/perf/frame.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

static const struct frame_macs macs = {{2, 0, 0, 0, 0, 1}, {2, 0, 0, 0, 0, 2}};

static struct tp_addr parsed(const char *text)
{
	struct tp_addr a;

	if (tp_addr_parse(text, &a) < 0)
		fail_msg("%s", text);
	return a;
}

/* RFC 768 and 1071 by hand: the words of this frame add up to what is written. */
static void test_known(void **state)
{
	static const uint8_t wanted[] = {2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0, 0, 31,
		0, 0, 0x40, 0, 64, 17, 0x6e, 0xcb, 10, 0, 0, 1, 192, 0, 2, 2, 0, 7, 0, 9, 0, 11,
		0x6f, 0x62, 'a', 'b', 'c'};
	struct tp_addr from = parsed("10.0.0.1:7"), to = parsed("192.0.2.2:9");
	uint8_t frame[FRAME_MAX];

	assert_int_equal(frame_write(frame, &macs, &from, &to, (const uint8_t *)"abc", 3), 45);
	assert_memory_equal(frame, wanted, sizeof(wanted));
}

static void test_back(void **state)
{
	static const struct {
		const char *from, *to;
		size_t len, padding;
	} rows[] = {
		{"192.0.2.1:1024", "198.51.100.255:65535", 0, 18},
		{"192.0.2.1:1024", "198.51.100.255:65535", 1, 0},
		{"192.0.2.1:1024", "198.51.100.255:65535", 1472, 0},
		{"[2001:db8::1]:1", "[2001:db8::2]:3478", 7, 0},
		{"[2001:db8::1]:1", "[2001:db8::2]:3478", 1452, 0},
	};
	uint8_t frame[FRAME_MAX], data[FRAME_MAX];

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 7);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct tp_addr from = parsed(rows[i].from), to = parsed(rows[i].to);
		size_t len = frame_write(frame, &macs, &from, &to, data, rows[i].len);
		struct frame_datagram d;

		assert_int_equal(len, frame_headers_len((enum tp_family)from.family) + rows[i].len);
		assert_true(frame_read(frame, len + rows[i].padding, &d));
		assert_true(tp_addr_equal(&d.from, &from) && tp_addr_equal(&d.to, &to));
		assert_int_equal(d.len, rows[i].len);
		assert_memory_equal(d.data, data, d.len);
		assert_int_equal(
			frame_write(frame, &macs, &from, &to, data, FRAME_MAX - len + d.len + 1),
			0);
	}
}

/* Every header byte matters, but for MAC addresses and what checksums do not cover in IPv6. */
static void test_not_taken(void **state)
{
	static const char *const ends[][2] = {{"192.0.2.1:1024", "198.51.100.2:3478"},
		{"[2001:db8::1]:1024", "[2001:db8::2]:3478"}};
	uint8_t frame[FRAME_MAX], data[20] = "data";

	for (size_t i = 0; i < 2; i++) {
		struct tp_addr from = parsed(ends[i][0]), to = parsed(ends[i][1]);
		size_t len = frame_write(frame, &macs, &from, &to, data, sizeof(data));
		struct frame_datagram d;

		for (size_t cut = 0; cut < len; cut++)
			assert_false(frame_read(frame, cut, &d));
		for (size_t at = 12; at < len; at++) {
			bool is_free = i == 1 && (at == 21 || (at > 14 && at < 20));

			frame[at] ^= 0x10;
			if (frame_read(frame, len, &d) != is_free)
				fail_msg("byte %zu of %s", at, ends[i][0]);
			frame[at] ^= 0x10;
		}
	}
}

/* Over IPv4 a checksum may be left out; over IPv6 it may not. */
static void test_no_checksum(void **state)
{
	struct tp_addr from4 = parsed("192.0.2.1:1"), to4 = parsed("192.0.2.2:2");
	struct tp_addr from6 = parsed("[2001:db8::1]:1"), to6 = parsed("[2001:db8::2]:2");
	uint8_t frame[FRAME_MAX], data[4] = {0};
	struct frame_datagram d;
	size_t len = frame_write(frame, &macs, &from4, &to4, data, sizeof(data));

	frame[40] = frame[41] = 0;
	assert_true(frame_read(frame, len, &d));
	len = frame_write(frame, &macs, &from6, &to6, data, sizeof(data));
	frame[60] = frame[61] = 0;
	assert_false(frame_read(frame, len, &d));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_known),
		cmocka_unit_test(test_back),
		cmocka_unit_test(test_not_taken),
		cmocka_unit_test(test_no_checksum),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
