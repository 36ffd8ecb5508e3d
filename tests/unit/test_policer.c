/* Bandwidth limits (dataplane/core/policer.h) under a clock of the test's own. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/clock.h"
#include "dataplane/core/policer.h"

#define BACKLOG_NS (20 * UINT64_C(1000000))

static struct tp_config limit(uint64_t bits_per_s)
{
	return (struct tp_config){
		.byte_ns = (uint32_t)(8 * TP_NS_PER_S * 1024 / bits_per_s),
		.backlog_ns = BACKLOG_NS,
	};
}

/* Bytes that get through in a time, offered every `gap_ns`. */
static uint64_t pass(const struct tp_config *config, struct tp_policer *policer, uint64_t from_ns,
	uint64_t time_ns, uint64_t gap_ns, uint32_t len)
{
	uint64_t bytes = 0;

	for (uint64_t now = from_ns; now < from_ns + time_ns; now += gap_ns)
		if (tp_policer_allows(config, policer, TP_CLIENT_TO_PEER, now, len))
			bytes += len;
	return bytes;
}

/* At three times the limit, over one second, from the first packet on and later. */
static void test_exact(void **state)
{
	static const uint64_t rates[] = {
		1000000, 8000000, 64000000, 1000000000, UINT64_C(10000000000)};
	static const uint32_t sizes[] = {20, 172, 1200};

	for (size_t i = 0; i < 5; i++)
		for (size_t j = 0; j < 3; j++) {
			struct tp_config config = limit(rates[i]);
			struct tp_policer policer = {0};
			uint64_t gap = 8 * (uint64_t)sizes[j] * TP_NS_PER_S / rates[i] / 3;
			uint64_t want = rates[i] / 8, start = 5 * TP_NS_PER_S;

			for (int second = 0; second < 3; second++, start += TP_NS_PER_S) {
				uint64_t got = pass(&config, &policer, start, TP_NS_PER_S,
					gap ? gap : 1, sizes[j]);

				assert_in_range(got, want - want / 20, want + want / 20);
			}
		}
}

/* What is offered within the limit is let through, however it is bunched within the backlog. */
static void test_within(void **state)
{
	struct tp_config config = limit(8000000);
	struct tp_policer policer = {0};

	for (uint64_t now = TP_NS_PER_S; now < 2 * TP_NS_PER_S; now += 10000000)
		for (int i = 0; i < 10; i++)
			assert_true(
				tp_policer_allows(&config, &policer, TP_PEER_TO_CLIENT, now, 1000));
}

/* A pause earns nothing: what may come at once is the backlog. */
static void test_pause(void **state)
{
	struct tp_config config = limit(8000000);
	struct tp_policer policer = {0};
	uint64_t at = 0;

	for (int pause = 0; pause < 3; pause++) {
		uint32_t burst = 0;

		at += 3600 * TP_NS_PER_S;
		while (tp_policer_allows(&config, &policer, TP_CLIENT_TO_PEER, at, 1000))
			burst++;
		assert_int_equal(burst, 21); /* 20 ms of it, and the one that goes beyond */
	}
}

static void test_directions(void **state)
{
	struct tp_config config = limit(8000), none = {.backlog_ns = BACKLOG_NS};
	struct tp_policer policer = {0};

	assert_true(tp_policer_allows(&config, &policer, TP_CLIENT_TO_PEER, 1, 1000));
	assert_false(tp_policer_allows(&config, &policer, TP_CLIENT_TO_PEER, 2, 1));
	assert_true(tp_policer_allows(&config, &policer, TP_PEER_TO_CLIENT, 2, 1000));
	assert_true(tp_policer_allows(&none, &policer, TP_CLIENT_TO_PEER, 2, 1000));
	assert_true(tp_policer_allows(&config, NULL, TP_CLIENT_TO_PEER, 2, 1000));
}

#define THREADS 4
#define TURNS   50000

static struct tp_config shared_config;
static struct tp_policer shared;

static void *charge(void *arg)
{
	uint64_t *passed = arg;

	for (uint64_t i = 0; i < TURNS; i++)
		*passed += tp_policer_allows(
			&shared_config, &shared, TP_CLIENT_TO_PEER, TP_NS_PER_S + i * 1000, 100);
	return NULL;
}

/* Every packet that was let through is paid for, whoever else pays at the same time. */
static void test_together(void **state)
{
	pthread_t threads[THREADS];
	uint64_t passed[THREADS] = {0}, sum = 0, end = TP_NS_PER_S + TURNS * UINT64_C(1000);
	uint64_t cost;

	shared_config = limit(800000000); /* 1 us a packet */
	cost = (100 * (uint64_t)shared_config.byte_ns + 512) >> 10;
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, charge, &passed[i]), 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	for (int i = 0; i < THREADS; i++)
		sum += passed[i];
	assert_in_range(sum * cost, 1, end - TP_NS_PER_S + BACKLOG_NS + THREADS * cost);
	assert_true(shared.paid_until_ns[TP_CLIENT_TO_PEER] >= TP_NS_PER_S + sum * cost / THREADS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_exact),
		cmocka_unit_test(test_within),
		cmocka_unit_test(test_pause),
		cmocka_unit_test(test_directions),
		cmocka_unit_test(test_together),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
