/* tests/perf/memsim.h: what a level keeps, what it lets go, and which level is asked. */
#include "tests/perf/memsim.h"

#include <errno.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define LINE(n)       ((uint64_t)(n) << MEMSIM_LINE_SHIFT)
#define SMALL_PAGE(n) ((uint64_t)(n) << 12)
#define HUGE_PAGE(n)  ((uint64_t)(n) << 21)
#define BIT(kind)     (1u << (kind))
#define CACHES        (BIT(MEMSIM_L1) | BIT(MEMSIM_L2) | BIT(MEMSIM_L3))
#define SMALL         (BIT(MEMSIM_SMALL_FIRST) | BIT(MEMSIM_SMALL_SECOND))
#define HUGES         (BIT(MEMSIM_HUGE_FIRST) | BIT(MEMSIM_HUGE_SECOND))

/* 4, 16 and 64 lines; 2 and 4 pages of either size. */
static const struct memsim_size small[MEMSIM_KINDS] = {
	{2, 2}, {4, 4}, {8, 8}, {1, 2}, {2, 2}, {1, 2}, {2, 2}};

static void open_small(struct memsim *sim)
{
	assert_int_equal(memsim_open(sim, small), 0);
}

static void test_first_touch_misses_everywhere(void **state)
{
	struct memsim sim;

	open_small(&sim);
	assert_int_equal(memsim_touch(&sim, 0), CACHES | SMALL | HUGES);
	assert_int_equal(memsim_touch(&sim, LINE(1) - 1), 0);
	assert_int_equal(memsim_touch(&sim, LINE(1)), CACHES);
	assert_int_equal(memsim_touch(&sim, SMALL_PAGE(1)), CACHES | SMALL);
	assert_int_equal(memsim_touch(&sim, HUGE_PAGE(1)), CACHES | SMALL | HUGES);
	memsim_close(&sim);
}

/* Lines 0, 2, 4 share a set of two. */
static void test_the_one_unused_for_longest_goes(void **state)
{
	struct memsim sim;

	open_small(&sim);
	memsim_touch(&sim, LINE(0));
	memsim_touch(&sim, LINE(2));
	memsim_touch(&sim, LINE(0));
	memsim_touch(&sim, LINE(4));
	assert_int_equal(memsim_touch(&sim, LINE(0)), 0);
	assert_int_equal(memsim_touch(&sim, LINE(2)), BIT(MEMSIM_L1));
	memsim_close(&sim);
}

static unsigned int count_missed(struct memsim *sim, unsigned int lines, enum memsim_kind kind)
{
	unsigned int missed = 0;

	for (unsigned int round = 0; round < 3; round++) {
		missed = 0;
		for (unsigned int i = 0; i < lines; i++)
			missed += !!(memsim_touch(sim, LINE(i)) & BIT(kind));
	}
	return missed;
}

/* Again and again in the same order: all of it stays, or what is too much takes all away. */
static void test_capacity(void **state)
{
	static const struct {
		unsigned int lines;
		enum memsim_kind kind;
		unsigned int missed;
	} rows[] = {
		{4, MEMSIM_L1, 0},
		{6, MEMSIM_L1, 6},
		{6, MEMSIM_L2, 0},
		{16, MEMSIM_L2, 0},
		{20, MEMSIM_L2, 20},
		{20, MEMSIM_L3, 0},
		{64, MEMSIM_L3, 0},
		{72, MEMSIM_L3, 72},
		{2 * 64, MEMSIM_SMALL_FIRST, 0},
		{3 * 64, MEMSIM_SMALL_FIRST, 3},
		{4 * 64, MEMSIM_SMALL_SECOND, 0},
		{6 * 64, MEMSIM_SMALL_SECOND, 6},
		{6 * 64, MEMSIM_HUGE_FIRST, 0},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct memsim sim;

		open_small(&sim);
		assert_int_equal(count_missed(&sim, rows[i].lines, rows[i].kind), rows[i].missed);
		memsim_close(&sim);
	}
}

static void test_no_entries(void **state)
{
	struct memsim_size sizes[MEMSIM_KINDS];
	struct memsim sim;

	for (int k = 0; k < MEMSIM_KINDS; k++) {
		for (int i = 0; i < MEMSIM_KINDS; i++)
			sizes[i] = small[i];
		sizes[k].ways = 0;
		assert_int_equal(memsim_open(&sim, sizes), -EINVAL);
		memsim_close(&sim);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_first_touch_misses_everywhere),
		cmocka_unit_test(test_the_one_unused_for_longest_goes),
		cmocka_unit_test(test_capacity),
		cmocka_unit_test(test_no_entries),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
