/*
 * dataplane/engine/dpdk/burst.c on frames as only some ports hand them out: a port whose receive
 * function is the test's, in front of EAL's pool and rings.
 */
#include "dataplane/engine/dpdk/dpdk.h"

#include <rte_eal.h>
#include <rte_ether.h>
#include <stdio.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#define LEN 60
#define TAG 0x6064

static struct tp_backend backend;
static struct dpdk_worker state;
static struct rte_mbuf *waiting;

static uint16_t receive(void *queue, struct rte_mbuf **out, uint16_t most)
{
	if (!waiting || most == 0)
		return 0;
	out[0] = waiting;
	waiting = NULL;
	return 1;
}

/* Its bytes count up, so that a moved one shows. */
static struct rte_mbuf *frame_with(uint64_t flags)
{
	struct rte_mbuf *frame = rte_pktmbuf_alloc(backend.pool);
	uint8_t *bytes;

	assert_non_null(frame);
	bytes = (uint8_t *)rte_pktmbuf_append(frame, LEN);
	assert_non_null(bytes);
	for (int i = 0; i < LEN; i++)
		bytes[i] = (uint8_t)i;
	frame->ol_flags = flags;
	frame->vlan_tci = TAG;
	return frame;
}

/* How many frames the core gets; *pkt is the first. */
static uint32_t take(struct rte_mbuf *frame, struct tp_packet pkts[TP_BURST])
{
	struct tp_frame frames[TP_BURST];
	uint32_t n;

	waiting = frame;
	n = dpdk_receive(&backend, 0, pkts, frames);
	assert_null(waiting);
	if (n)
		dpdk_release(&backend, 0, frames, n);
	return n;
}

static uint32_t passed(void)
{
	struct rte_mbuf *frame;
	uint32_t n = 0;

	for (; rte_ring_dequeue(backend.exception.to_kernel, (void **)&frame) == 0; n++)
		rte_pktmbuf_free(frame);
	return n;
}

static void assert_no_buffer_is_out(void)
{
	assert_int_equal(rte_mempool_in_use_count(backend.pool), 0);
}

static void test_plain_frame(void **unused)
{
	struct tp_packet pkts[TP_BURST];

	assert_int_equal(take(frame_with(0), pkts), 1);
	assert_int_equal(pkts[0].end - pkts[0].data, LEN);
	assert_int_equal(pkts[0].data[12], 12);
	assert_int_equal(passed(), 0);
	assert_no_buffer_is_out();
}

static void test_tag_is_put_back(void **unused)
{
	static const uint8_t tag[] = {0x81, 0x00, TAG >> 8, TAG & 0xff, 12, 13};
	uint64_t flags = RTE_MBUF_F_RX_VLAN | RTE_MBUF_F_RX_VLAN_STRIPPED;
	struct tp_packet pkts[TP_BURST];

	assert_int_equal(take(frame_with(flags), pkts), 1);
	assert_int_equal(pkts[0].end - pkts[0].data, LEN + 4);
	assert_memory_equal(pkts[0].data + 12, tag, sizeof(tag));
	assert_int_equal(passed(), 0);
	assert_no_buffer_is_out();
}

/* Without its tag it would be a frame of another network, to the core and to the kernel. */
static void test_lost_tag(void **unused)
{
	uint64_t one = RTE_MBUF_F_RX_VLAN | RTE_MBUF_F_RX_VLAN_STRIPPED;
	uint64_t two = one | RTE_MBUF_F_RX_QINQ | RTE_MBUF_F_RX_QINQ_STRIPPED;
	struct tp_packet pkts[TP_BURST];
	struct rte_mbuf *frame = frame_with(one);

	/* No room in front. */
	assert_non_null(rte_pktmbuf_prepend(frame, rte_pktmbuf_headroom(frame)));
	assert_int_equal(take(frame, pkts), 0);
	assert_int_equal(passed(), 0);
	assert_int_equal(state.tagless, 1);
	assert_int_equal(take(frame_with(two), pkts), 0);
	assert_int_equal(passed(), 0);
	assert_int_equal(state.tagless, 2);
	assert_int_equal(state.irregular, 0);
	assert_no_buffer_is_out();
}

static void test_bad_sum_is_the_kernels_to_judge(void **unused)
{
	struct tp_packet pkts[TP_BURST];

	assert_int_equal(take(frame_with(RTE_MBUF_F_RX_L4_CKSUM_BAD), pkts), 0);
	assert_int_equal(passed(), 1);
	assert_int_equal(state.irregular, 1);
	assert_no_buffer_is_out();
}

static int set_up(void **unused)
{
	static void *queues[1], *callbacks[1];
	struct rte_eth_fp_ops *port = &rte_eth_fp_ops[0];

	port->rx_pkt_burst = receive;
	port->rxq.data = queues;
	port->rxq.clbk = callbacks;
	backend.workers = 1;
	backend.states = &state;
	backend.ports_count = 1;
	backend.ports[0] = (struct dpdk_port){.rx_queues = 1, .is.ifindex = 7};
	backend.pool = rte_pktmbuf_pool_create(
		"frames", 63, 0, 0, RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
	backend.exception.to_kernel = rte_ring_create("to_kernel", 64, SOCKET_ID_ANY, 0);
	backend.ports[0].from_kernel = rte_ring_create("from_kernel", 64, SOCKET_ID_ANY, 0);
	return backend.pool && backend.exception.to_kernel && backend.ports[0].from_kernel ? 0 : -1;
}

int main(void)
{
	static char *arguments[] = {"test", "--no-pci", "--no-huge", "-m", "64", "--no-telemetry",
		"--no-shconf", "--log-level=3", NULL};
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain_frame),
		cmocka_unit_test(test_tag_is_put_back),
		cmocka_unit_test(test_lost_tag),
		cmocka_unit_test(test_bad_sum_is_the_kernels_to_judge),
	};

	if (rte_eal_init(8, arguments) < 0) {
		printf("EAL does not start\n");
		return 1;
	}
	return cmocka_run_group_tests(tests, set_up, NULL);
}
