/* The bench's books: what is new, what is late, what is there twice. */
#include "tests/perf/bench/track.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#define N TRACK_NEW
#define R TRACK_REORDERED
#define D TRACK_DUPLICATE
#define L TRACK_TOO_LATE

static void test_rows(void **state)
{
	static const struct {
		const char *name;
		uint64_t numbers[6];
		enum track wanted[6];
	} rows[] = {
		{"in order", {0, 1, 2, 3, 4, 5}, {N, N, N, N, N, N}},
		{"twice at once", {0, 0, 1, 1, 2, 2}, {N, D, N, D, N, D}},
		{"a gap is no reordering", {0, 5, 6, 100, 101, 1000}, {N, N, N, N, N, N}},
		{"late, then again", {0, 2, 1, 1, 2, 3}, {N, N, R, D, D, N}},
		{"the first is late", {3, 0, 0, 3, 4, 1}, {N, R, D, D, N, R}},
		{"63 behind is known", {63, 0, 0, 64, 0, 1}, {N, R, D, N, L, R}},
		{"64 behind is not", {64, 0, 0, 1, 1, 64}, {N, L, L, R, D, D}},
		{"a jump forgets all", {0, 1, 65, 1, 2, 2}, {N, N, N, L, R, D}},
		{"the largest numbers",
			{UINT64_MAX - 2, UINT64_MAX - 1, UINT64_MAX - 1, UINT64_MAX - 2, 0, 0},
			{N, N, D, D, L, L}},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct tracker tracker = {0};

		for (int k = 0; k < 6; k++) {
			if (track(&tracker, rows[i].numbers[k]) != rows[i].wanted[k])
				fail_msg("%s, packet %d", rows[i].name, k);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_rows)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
