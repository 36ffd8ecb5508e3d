/* Two writers of one flow (dataplane/core/count.h): packets of a permission come by several queues.
 */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "dataplane/core/lookup.h"

#include "dataplane/core/count.h"
#include "dataplane/core/host_native.h"

#define DATA      100
#define CARRIED   256 /* packets, and then they go to the detail */
#define ROUNDS    20000
#define FULL_FLOW (CARRIED * (TP_RECENT_PACKET + DATA))

static struct tp_flow flow;
static struct tp_flow_detail detail;
static struct tp_host host = {.flows = &flow, .details = &detail};

static void start(uint32_t recent)
{
	flow.recent = recent;
	detail = (struct tp_flow_detail){0};
}

static void assert_counted(uint64_t packets)
{
	struct tp_flow_counters counted = tp_flow_counted(&detail, flow.recent);

	assert_int_equal(counted.packets, packets);
	assert_int_equal(counted.bytes, packets * DATA);
	assert_int_equal(flow.recent & TP_RECENT_CARRIES, detail.carries * TP_RECENT_CARRIES);
}

static void test_one_writer(void **state)
{
	start(0);
	for (uint32_t i = 1; i <= 3 * CARRIED + 10; i++) {
		tp_count_flow(&host, &flow, 0, DATA);
		assert_counted(i);
	}
	assert_int_equal(detail.carries, 3);
}

/* It had read the word before the other one carried it over, and writes it afterwards. */
static void test_late_writer(void **state)
{
	start(0);
	for (uint32_t i = 1; i <= CARRIED; i++)
		tp_count_flow(&host, &flow, 0, DATA);
	assert_int_equal(detail.carries, 1);
	flow.recent = FULL_FLOW - TP_RECENT_PACKET - DATA;
	tp_count_flow(&host, &flow, 0, DATA);
	assert_counted(CARRIED);
	for (uint32_t i = 1; i <= CARRIED; i++)
		tp_count_flow(&host, &flow, 0, DATA);
	assert_counted(2 * CARRIED);
}

static int turn;

/* Meets the other thread: the first to come waits for the second. */
static void meet(int round)
{
	__atomic_fetch_add(&turn, 1, __ATOMIC_SEQ_CST);
	while (__atomic_load_n(&turn, __ATOMIC_SEQ_CST) < 2 * round)
		sched_yield();
}

static void *carry(void *arg)
{
	for (int i = 0; i < ROUNDS; i++) {
		meet(2 * i + 1);
		tp_carry_over(&host, &flow, 0);
		meet(2 * i + 2);
	}
	return NULL;
}

/* Both saw that it is time. */
static void test_both_at_once(void **state)
{
	pthread_t other;

	turn = 0;
	start(FULL_FLOW);
	assert_int_equal(pthread_create(&other, NULL, carry, NULL), 0);
	for (int i = 0; i < ROUNDS; i++) {
		start(FULL_FLOW);
		meet(2 * i + 1);
		tp_carry_over(&host, &flow, 0);
		meet(2 * i + 2);
		assert_counted(CARRIED);
	}
	assert_int_equal(pthread_join(other, NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_writer),
		cmocka_unit_test(test_late_writer),
		cmocka_unit_test(test_both_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
