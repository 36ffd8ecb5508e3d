/* Which relay ports the kernel would give to others. */
#include "controlplane/transport/ephemeral.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>

static void test_rows(void **state)
{
	static const struct {
		const char *range, *reserved;
		uint16_t min, max, first, last; /* first 0: none */
	} rows[] = {
		{"32768\t60999\n", "\n", 49152, 65535, 49152, 60999},
		{"32768\t60999\n", "49152-65535\n", 49152, 65535, 0, 0},
		{"32768\t60999\n", "49152-60999\n", 49152, 65535, 0, 0},
		{"32768\t60999\n", "49152-60998\n", 49152, 65535, 60999, 60999},
		{"32768\t60999\n", "49153-60999\n", 49152, 65535, 49152, 49152},
		{"32768\t60999\n", "8080,50000,50002-60999,61000\n", 49152, 65535, 49152, 50001},
		{"32768\t60999\n", "50000,49152-49999,50001-65535", 49152, 65535, 0, 0},
		{"32768\t49151\n", "", 49152, 65535, 0, 0},
		{"32768\t49152\n", "", 49152, 65535, 49152, 49152},
		{"61000\t61000\n", "", 49152, 60999, 0, 0},
		{"1024\t65535\n", "", 65535, 65535, 65535, 65535},
		{"1024\t65535\n", "65535", 65535, 65535, 0, 0},
		/* what cannot be read is the worse of what it may be */
		{"", "", 49152, 65535, 49152, 65535},
		{"32768\n", "", 49152, 65535, 49152, 65535},
		{"32768\t60999\n", "49152-", 49152, 49153, 49152, 49153},
		{"32768\t60999\n", "49152,x,49153", 49152, 49153, 49153, 49153},
		{"32768\t60999\n", "49152-99999", 49152, 49153, 49152, 49153},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct ephemeral_ports ports = {0, 0};
		bool any = ephemeral_among(
			rows[i].range, rows[i].reserved, rows[i].min, rows[i].max, &ports);

		if (any != (rows[i].first != 0) || ports.first != rows[i].first ||
			ports.last != rows[i].last)
			fail_msg("row %zu: %d, %u to %u", i, any, ports.first, ports.last);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
