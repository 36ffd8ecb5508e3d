/* Who has which address: what is asked and answered on the wire, and what is not taken. */
#include "tests/perf/neighbour.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

static const uint8_t mine[FRAME_MAC_LEN] = {2, 0, 0, 0, 0, 1};
static const uint8_t yours[FRAME_MAC_LEN] = {2, 0, 0, 0, 0, 2};
static const char *const pairs[][2] = {{"192.0.2.1", "192.0.2.2"}, {"2001:db8::1", "2001:db8::2"}};

static struct tp_addr parsed(const char *text)
{
	struct tp_addr a;

	if (tp_addr_parse_ip(text, &a) < 0)
		fail_msg("%s", text);
	return a;
}

/* As RFC 826 draws it. */
static void test_known_arp(void **state)
{
	static const uint8_t wanted[60] = {255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 1, 8, 6, 0,
		1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 192, 0, 2, 1, 0, 0, 0, 0, 0, 0, 192, 0, 2,
		2};
	struct tp_addr own = parsed("192.0.2.1"), target = parsed("192.0.2.2");
	uint8_t frame[NEIGHBOUR_FRAME_MAX];

	assert_int_equal(neighbour_ask(frame, mine, &own, &target), sizeof(wanted));
	assert_memory_equal(frame, wanted, sizeof(wanted));
}

/* As RFC 4861, 4.3 draws it, with the checksum by hand. */
static void test_known_solicitation(void **state)
{
	static const uint8_t wanted[86] = {0x33, 0x33, 0xff, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x86, 0xdd,
		0x60, 0, 0, 0, 0, 32, 58, 255, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
		1, 0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 2, 135, 0, 0x1c, 0x27, 0, 0,
		0, 0, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 1, 1, 2, 0, 0, 0, 0,
		1};
	struct tp_addr own = parsed("2001:db8::1"), target = parsed("2001:db8::2");
	uint8_t frame[NEIGHBOUR_FRAME_MAX];

	assert_int_equal(neighbour_ask(frame, mine, &own, &target), sizeof(wanted));
	assert_memory_equal(frame, wanted, sizeof(wanted));
}

/* A question is understood by who has the address, and the answer by who asked. */
static void test_asked_and_told(void **state)
{
	for (size_t i = 0; i < 2; i++) {
		struct tp_addr own = parsed(pairs[i][0]), target = parsed(pairs[i][1]);
		struct neighbour_message asked, told;
		uint8_t frame[NEIGHBOUR_FRAME_MAX];
		size_t len = neighbour_ask(frame, mine, &own, &target);

		assert_true(neighbour_read(frame, len, &asked));
		assert_int_equal(asked.kind, NEIGHBOUR_ASKS);
		assert_true(tp_addr_equal(&asked.sender, &own));
		assert_true(tp_addr_equal(&asked.target, &target));
		assert_memory_equal(asked.mac, mine, sizeof(mine));

		len = neighbour_tell(frame, yours, &asked);
		assert_memory_equal(frame, mine, sizeof(mine));
		assert_memory_equal(frame + 6, yours, sizeof(yours));
		assert_true(neighbour_read(frame, len, &told));
		assert_int_equal(told.kind, NEIGHBOUR_TELLS);
		assert_true(tp_addr_equal(&told.target, &target));
		assert_memory_equal(told.mac, yours, sizeof(yours));
	}
}

/* What is cut off is not taken; nor is, over IPv6, whatever the checksum does not fit. */
static void test_broken(void **state)
{
	for (size_t i = 0; i < 2; i++) {
		struct tp_addr own = parsed(pairs[i][0]), target = parsed(pairs[i][1]);
		uint8_t frame[NEIGHBOUR_FRAME_MAX];
		size_t len = neighbour_ask(frame, mine, &own, &target), whole = i ? len : 42;
		struct neighbour_message m;

		for (size_t cut = 0; cut < whole; cut++)
			assert_false(neighbour_read(frame, cut, &m));
		for (size_t at = 22; i == 1 && at < len; at++) {
			frame[at] ^= 0x10;
			assert_false(neighbour_read(frame, len, &m));
			frame[at] ^= 0x10;
		}
		for (size_t at = 12; at < 22; at++) { /* types, lengths, what it is */
			bool is_free =
				i == 1 && at >= 14 && at < 18; /* traffic class, flow label */

			frame[at] ^= 0x08;
			if (neighbour_read(frame, len, &m) != is_free)
				fail_msg("byte %zu of %s", at, pairs[i][0]);
			frame[at] ^= 0x08;
		}
		assert_true(neighbour_read(frame, len, &m));
	}
}

/* Who looks whether an address is free has none yet, and is not answered (RFC 5227, RFC 4862). */
static void test_probes(void **state)
{
	static const char *const nobody[] = {"0.0.0.0", "::"};

	for (size_t i = 0; i < 2; i++) {
		struct tp_addr own = parsed(nobody[i]), target = parsed(pairs[i][1]);
		uint8_t frame[NEIGHBOUR_FRAME_MAX];
		struct neighbour_message m;

		assert_false(neighbour_read(frame, neighbour_ask(frame, mine, &own, &target), &m));
	}
}

/* The answer to one that was sent to us alone may be without an option (RFC 4861, 4.4); another
 * option may stand before it; one without a length ends it all. */
static void test_options(void **state)
{
	struct tp_addr own = parsed("2001:db8::1"), target = parsed("2001:db8::2");
	struct neighbour_message asked, told;
	uint8_t frame[NEIGHBOUR_FRAME_MAX], type[] = {2, 14, 2}, eights[] = {1, 1, 0};

	for (size_t i = 0; i < 3; i++) {
		uint16_t check;

		neighbour_read(frame, neighbour_ask(frame, mine, &own, &target), &asked);
		neighbour_tell(frame, yours, &asked);
		frame[78] = type[i];
		frame[79] = eights[i];
		frame[80] = 6; /* the frame's source still begins with 2 */
		memset(frame + 56, 0, 2);
		check = frame_checksum(&target, &own, 58, frame + 54, 32);
		memcpy(frame + 56, &check, sizeof(check));
		assert_true(neighbour_read(frame, sizeof(frame), &told));
		assert_int_equal(told.mac[0], i == 0 ? 6 : 2);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_known_arp),
		cmocka_unit_test(test_known_solicitation),
		cmocka_unit_test(test_asked_and_told),
		cmocka_unit_test(test_broken),
		cmocka_unit_test(test_probes),
		cmocka_unit_test(test_options),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
