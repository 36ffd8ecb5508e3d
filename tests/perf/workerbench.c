/*
 * workerbench: what a whole DPDK worker costs per packet without a cable: the loop, the back end's
 * receive and send, and the core between them, on one core. The port is one of this program: like
 * net_memif it copies frames into mbufs as they are asked for, and away as they are sent. The same
 * port's frames are also taken by a loop that swaps MAC addresses as testpmd does; both in turns,
 * the fastest round of each counts. What is printed is nanoseconds per packet.
 *
 *   workerbench EAL-ARGUMENTS -- [--flows N] [--room N] [--random] [--huge] [--size BYTES]
 * [--rounds N]
 *               [--packets N] [--only relay|swap]
 *
 * For counts of instructions: --no-huge for EAL, --only, and valgrind --tool=callgrind around it.
 */
#include <getopt.h>
#include <rte_eal.h>
#include <rte_ethdev.h>
#include <rte_malloc.h>
#include <rte_ring.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "dataplane/engine/dpdk/dpdk.h"
#include "dataplane/worker/worker.h"
#include "tables.h"

#define BUFFERS    8191
#define SLOTS      1024 /* of a ring of net_memif */
#define SLOT_SIZE  2048
#define SWAP_BURST 32
#define SIZE_MOST  1514

struct bench {
	struct bench_tables tables;
	uint8_t *frames; /* BENCH_FRAME_LEN each */
	uint8_t *sink;   /* SLOTS */
	uint32_t frames_count, size, rounds;
	uint32_t packets; /* in a round */
	bool huge, relay, swap;
	struct tp_backend backend;

	/* Of the round at hand. */
	uint32_t received, sent;
	uint64_t begin_ns, end_ns;
};

static struct bench b = {.tables = {.flows = 1, .state = 1},
	.size = BENCH_FRAME_LEN,
	.rounds = 20,
	.packets = 1u << 20,
	.relay = true,
	.swap = true};

static void take(struct rte_mbuf *mbuf)
{
	const uint8_t *from = b.frames + (size_t)(b.received % b.frames_count) * BENCH_FRAME_LEN;
	uint8_t *at = rte_pktmbuf_mtod(mbuf, uint8_t *);

	mbuf->port = 0;
	mbuf->data_len = (uint16_t)b.size;
	mbuf->pkt_len = b.size;
	memcpy(at, from, BENCH_FRAME_LEN);
	if (b.size > BENCH_FRAME_LEN)
		memcpy(at + BENCH_FRAME_LEN, b.frames, b.size - BENCH_FRAME_LEN);
	b.received++;
}

static uint16_t receive(void *queue, struct rte_mbuf **bufs, uint16_t count)
{
	if (b.received >= b.packets)
		return 0;
	if (b.received == 0)
		b.begin_ns = tp_clock_now_ns();
	for (uint16_t i = 0; i < count; i++) {
		bufs[i] = rte_pktmbuf_alloc(b.backend.pool);
		bench_must(bufs[i] != NULL, "buffers");
		take(bufs[i]);
	}
	return count;
}

static uint16_t transmit(void *queue, struct rte_mbuf **bufs, uint16_t count)
{
	for (uint16_t i = 0; i < count; i++) {
		memcpy(b.sink + (size_t)(b.sent % SLOTS) * SLOT_SIZE,
			rte_pktmbuf_mtod(bufs[i], void *), bufs[i]->data_len);
		rte_pktmbuf_free(bufs[i]);
		b.sent++;
	}
	if (b.sent >= b.packets)
		__atomic_store_n(&b.end_ns, tp_clock_now_ns(), __ATOMIC_RELEASE);
	return count;
}

static void open_port(void)
{
	struct tp_backend *backend = &b.backend;
	struct dpdk_port *port = &backend->ports[0];
	struct rte_eth_conf conf = {0};

	backend->pool = rte_pktmbuf_pool_create(
		"frames", BUFFERS, 256, 0, RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
	bench_must(backend->pool && rte_eth_dev_configure(0, 1, 1, &conf) == 0 &&
			   rte_eth_rx_queue_setup(0, 0, 64, 0, NULL, backend->pool) == 0 &&
			   rte_eth_tx_queue_setup(0, 0, 64, 0, NULL) == 0 &&
			   rte_eth_dev_start(0) == 0,
		"port 0");
	rte_eth_fp_ops[0].rx_pkt_burst = receive;
	rte_eth_fp_ops[0].tx_pkt_burst = transmit;
	port->is.ifindex = BENCH_IFINDEX;
	port->rx_queues = port->tx_queues = 1;
	port->from_kernel = rte_ring_create("kernel", 64, SOCKET_ID_ANY, 0);
	backend->ports_count = 1;
	backend->workers = 1;
	backend->states = rte_zmalloc("workers", sizeof(*backend->states), RTE_CACHE_LINE_SIZE);
	bench_must(port->from_kernel && backend->states, "memory");
}

static void make_frames(void)
{
	b.frames_count = b.tables.flows > 4096 ? 1u << 20 : 4096;
	b.frames = rte_zmalloc("frames", (size_t)b.frames_count * BENCH_FRAME_LEN, 64);
	b.sink = rte_zmalloc("sink", (size_t)SLOTS * SLOT_SIZE, 64);
	bench_must(b.frames && b.sink, "memory for frames");
	for (uint32_t i = 0; i < b.frames_count; i++)
		bench_frame(&b.tables, b.frames + (size_t)i * BENCH_FRAME_LEN, b.size);
}

static size_t interfaces(
	const struct tp_backend *backend, struct tp_engine_interface out[TP_INTERFACES_MAX])
{
	out[0] = backend->ports[0].is;
	return 1;
}

static int enter(struct tp_backend *backend, uint32_t worker)
{
	return rte_thread_register();
}

static void leave(struct tp_backend *backend, uint32_t worker)
{
	rte_thread_unregister();
}

static void begin_round(void)
{
	b.received = b.sent = 0;
	b.end_ns = 0;
}

static double ns_per_packet(void)
{
	bench_must(b.sent == b.received, "not all of what was received was sent");
	return (double)(b.end_ns - b.begin_ns) / b.sent;
}

static double relay_round(void)
{
	struct tp_backend_ops ops = tp_backend_dpdk;
	struct tp_engine_options options = {.workers = 1};
	char reason[TP_REASON_SIZE];
	struct tp_workers *workers;

	ops.interfaces = interfaces;
	ops.enter = enter;
	ops.leave = leave;
	begin_round();
	bench_must(tp_workers_start(
			   &ops, &b.backend, &b.tables.memory, &options, &workers, reason) == 0,
		"the worker does not start");
	while (!__atomic_load_n(&b.end_ns, __ATOMIC_ACQUIRE))
		rte_delay_us_sleep(1000);
	tp_workers_stop(workers);
	return ns_per_packet();
}

static void swap_burst(struct rte_mbuf **bufs, uint16_t count)
{
	for (uint16_t i = 0; i < count; i++) {
		struct rte_ether_hdr *at = rte_pktmbuf_mtod(bufs[i], struct rte_ether_hdr *);
		struct rte_ether_addr was = at->dst_addr;

		at->dst_addr = at->src_addr;
		at->src_addr = was;
	}
}

static double swap_round(void)
{
	struct rte_mbuf *bufs[SWAP_BURST];

	begin_round();
	while (!b.end_ns) {
		uint16_t count = rte_eth_rx_burst(0, 0, bufs, SWAP_BURST);

		swap_burst(bufs, count);
		rte_eth_tx_burst(0, 0, bufs, count);
	}
	return ns_per_packet();
}

static bool take_option(int option)
{
	switch (option) {
	case 'f':
		b.tables.flows = (uint32_t)strtoul(optarg, NULL, 10);
		return b.tables.flows > 0 && b.tables.flows <= 8u << 20;
	case 't':
		b.tables.room = (uint32_t)strtoul(optarg, NULL, 10);
		return b.tables.room <= 8u << 20;
	case 'r':
		b.tables.random = true;
		return true;
	case 'h':
		b.huge = true;
		return true;
	case 's':
		b.size = (uint32_t)strtoul(optarg, NULL, 10);
		return b.size >= BENCH_FRAME_LEN && b.size <= SIZE_MOST;
	case 'n':
		b.rounds = (uint32_t)strtoul(optarg, NULL, 10);
		return true;
	case 'p':
		b.packets = (uint32_t)strtoul(optarg, NULL, 10) / TP_BURST * TP_BURST;
		return b.packets > 0;
	case 'o':
		b.relay = strcmp(optarg, "relay") == 0;
		b.swap = !b.relay;
		return true;
	default:
		return false;
	}
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"flows", 1, 0, 'f'}, {"room", 1, 0, 't'},
		{"random", 0, 0, 'r'}, {"huge", 0, 0, 'h'}, {"size", 1, 0, 's'},
		{"rounds", 1, 0, 'n'}, {"packets", 1, 0, 'p'}, {"only", 1, 0, 'o'}, {0}};
	double relayed = 1e9, swapped = 1e9;
	int used = rte_eal_init(argc, argv), option;

	bench_must(used >= 0, "EAL");
	optind = 1;
	while ((option = getopt_long(argc - used, argv + used, "", options, NULL)) != -1)
		bench_must(take_option(option), "usage: see the top of workerbench.c");
	bench_tables_make(&b.tables, b.huge);
	make_frames();
	open_port();
	for (uint32_t i = 0; i < b.rounds; i++) {
		if (b.relay)
			relayed = RTE_MIN(relayed, relay_round());
		if (b.swap)
			swapped = RTE_MIN(swapped, swap_round());
	}
	printf("{\"flows\": %u, \"relay_ns\": %.1f, \"swap_ns\": %.1f, \"added_ns\": %.1f}\n",
		b.tables.flows, relayed, swapped, relayed - swapped);
	fflush(stdout);
	_exit(0);
}
