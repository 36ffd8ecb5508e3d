/* What the bench sends when: rates, rows, orders, calls. */
#include "base/clock.h"
#include "tests/perf/bench/schedule.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#define ROOM 64

static struct schedule begin(struct schedule_settings settings)
{
	struct schedule s;

	if (!settings.row)
		settings.row = 1;
	settings.seed = 42;
	assert_int_equal(schedule_begin(&s, &settings), 0);
	return s;
}

/* All that is due by then. */
static uint64_t take(struct schedule *s, uint64_t elapsed_ns, struct packet_due *out, uint64_t room)
{
	uint64_t count = 0;
	unsigned got;

	do {
		got = schedule_next(s, elapsed_ns, out + count,
			room - count < ROOM ? (unsigned)(room - count) : ROOM);
		count += got;
	} while (got && count < room);
	return count;
}

static void test_rate(void **state)
{
	static const struct {
		uint64_t rate, elapsed_ns, count;
	} rows[] = {
		{1000, 0, 1},
		{1000, TP_NS_PER_MS - 1, 1},
		{1000, TP_NS_PER_MS, 2},
		{1000, TP_NS_PER_S, 1001},
		{1, TP_NS_PER_S - 1, 1},
		{3, TP_NS_PER_S, 4},
	};
	static struct packet_due due[2000];

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct schedule s = begin(
			(struct schedule_settings){.rate = rows[i].rate, .flows = 3, .size = 100});

		if (take(&s, rows[i].elapsed_ns, due, 2000) != rows[i].count)
			fail_msg("rate %llu", (unsigned long long)rows[i].rate);
		assert_int_equal(schedule_next(&s, rows[i].elapsed_ns, due, ROOM), 0);
		assert_int_equal(due[0].size, 100);
		schedule_end(&s);
	}
}

static void test_turns(void **state)
{
	struct packet_due due[ROOM];
	struct schedule s =
		begin((struct schedule_settings){.rate = 0, .flows = 3, .size = 100, .row = 2});

	assert_int_equal(schedule_next(&s, 0, due, 5), 5);
	assert_int_equal(schedule_next(&s, 0, due + 5, 4), 4);
	for (uint32_t i = 0; i < 9; i++)
		assert_int_equal(due[i].flow, i / 2 % 3);
	schedule_end(&s);
}

/* Every flow comes about as often as the others, and not in turns. */
static void test_random(void **state)
{
	struct schedule s = begin(
		(struct schedule_settings){.rate = 0, .flows = 10, .size = 100, .random = true});
	static struct packet_due due[10000];
	unsigned seen[10] = {0}, turns = 0;

	assert_int_equal(take(&s, 0, due, 10000), 10000);
	for (unsigned i = 0; i < 10000; i++) {
		seen[due[i].flow]++;
		turns += i && due[i].flow == (due[i - 1].flow + 1) % 10;
	}
	for (unsigned i = 0; i < 10; i++)
		assert_in_range(seen[i], 850, 1150);
	assert_in_range(turns, 850, 1150);
	schedule_end(&s);
}

struct call {
	unsigned audio, video;
};

static void count(struct call calls[20], const struct packet_due *due)
{
	struct call *c = &calls[due->flow];

	if (due->size <= 172) {
		assert_in_range(due->size, 160, 172);
		c->audio++;
	} else {
		assert_in_range(due->size, 1000, 1200);
		c->video++;
	}
}

static void test_calls(void **state)
{
	struct schedule s = begin((struct schedule_settings){.mix = MIX_RTP, .flows = 20});
	static struct packet_due due[8000];
	struct call calls[20] = {0};
	uint64_t all = take(&s, TP_NS_PER_S - 1, due, 8000), half;

	for (uint64_t i = 0; i < all; i++)
		count(calls, &due[i]);
	for (unsigned i = 0; i < 20; i++) {
		assert_int_equal(calls[i].audio, 50);
		assert_in_range(calls[i].video, 90, 180);
	}
	assert_in_range(all, 20 * 170, 20 * 200);
	schedule_end(&s);

	/* Spread over the time; and a frame that does not fit is not cut short. */
	s = begin((struct schedule_settings){.mix = MIX_RTP, .flows = 20});
	half = take(&s, TP_NS_PER_S / 2 - 1, due, 8000);
	assert_in_range(half, all * 45 / 100, all * 55 / 100);
	schedule_end(&s);
	s = begin((struct schedule_settings){.mix = MIX_RTP, .flows = 20});
	half = 0;
	while (schedule_next(&s, TP_NS_PER_S - 1, due, 1) == 1)
		half++;
	assert_int_equal(half, all);
	schedule_end(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rate),
		cmocka_unit_test(test_turns),
		cmocka_unit_test(test_random),
		cmocka_unit_test(test_calls),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
