/*
 * corebench: what the core costs a polling worker, without any NIC. Frames of N flows stand in
 * buffers as a driver would hand them out, a burst at a time; the same loop runs once with the
 * relay in it and once with a MAC swap, in turns, and the fastest round of each counts. What is
 * printed is nanoseconds per packet, so their difference is what relaying adds.
 *
 *   corebench [--ipv6] [--flows N] [--room N] [--random] [--huge] [--rounds N]
 *
 * --room: flows that the tables are made for, if there are fewer.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "tables.h"

#include "dataplane/core/burst.h"

#define FRAME_ROOM 128
#define FRAME_SIZE 2048
#define FRAMES     4096 /* as many as a NIC's ring with its pool: more than L1, less than L2 */
#define BURST      32
#define ROUND      (1u << 20)

struct bench {
	struct bench_tables tables;
	struct tp_host host;
	uint32_t interfaces[TP_INTERFACES_MAX];
	uint8_t *frames;
};

static void make_host(struct bench *b)
{
	b->interfaces[0] = BENCH_IFINDEX;
	b->host = tp_host_over(&b->tables.memory, b->interfaces, 0);
	b->host.now_ns = tp_clock_now_ns();
	b->host.ticks = tp_ticks(b->host.now_ns);
	b->frames = mmap(NULL, (size_t)FRAMES * FRAME_SIZE, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	bench_must(b->frames != MAP_FAILED, "frames");
	madvise(b->frames, (size_t)FRAMES * FRAME_SIZE, MADV_HUGEPAGE);
}

static void make_burst(struct bench *b, uint32_t first, struct tp_packet pkts[BURST])
{
	const uint32_t len = b->tables.ipv6 ? BENCH_IPV6_LEN : BENCH_FRAME_LEN;

	for (uint32_t i = 0; i < BURST; i++) {
		uint8_t *room = b->frames + (size_t)((first + i) % FRAMES) * FRAME_SIZE;

		bench_frame(&b->tables, room + FRAME_ROOM, len);
		pkts[i] = (struct tp_packet){.data = room + FRAME_ROOM,
			.end = room + FRAME_ROOM + len,
			.room = room,
			.room_end = room + FRAME_SIZE,
			.ingress = BENCH_IFINDEX};
	}
}

static __attribute__((noinline)) void relay(struct bench *b, struct tp_packet pkts[BURST])
{
	enum tp_verdict verdicts[BURST] TP_UNSET;

	tp_relay_burst(&b->host, pkts, verdicts, BURST);
	for (uint32_t i = 0; i < BURST; i++)
		bench_must(verdicts[i] == TP_RELAYED, "a packet was not relayed");
}

static __attribute__((noinline)) void swap(struct bench *b, struct tp_packet pkts[BURST])
{
	for (uint32_t i = 0; i < BURST; i++) {
		uint8_t mac[6];

		memcpy(mac, pkts[i].data, 6);
		memmove(pkts[i].data, pkts[i].data + 6, 6);
		memcpy(pkts[i].data + 6, mac, 6);
	}
}

static double run(struct bench *b, void (*work)(struct bench *, struct tp_packet *))
{
	struct tp_packet pkts[BURST];
	uint64_t begin = tp_clock_now_ns();

	for (uint32_t done = 0; done < ROUND; done += BURST) {
		make_burst(b, done, pkts);
		work(b, pkts);
	}
	return (double)(tp_clock_now_ns() - begin) / ROUND;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"flows", required_argument, NULL, 'f'},
		{"room", required_argument, NULL, 'm'}, {"random", no_argument, NULL, 'r'},
		{"huge", no_argument, NULL, 'h'}, {"ipv6", no_argument, NULL, '6'},
		{"rounds", required_argument, NULL, 'n'}, {0}};
	static struct bench b = {.tables = {.flows = 1, .state = 1}};
	double relayed = 1e9, swapped = 1e9;
	int option, rounds = 20;
	bool huge = false;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == 'f')
			b.tables.flows = (uint32_t)strtoul(optarg, NULL, 10);
		else if (option == 'm')
			b.tables.room = (uint32_t)strtoul(optarg, NULL, 10);
		else if (option == 'r')
			b.tables.random = true;
		else if (option == 'h')
			huge = true;
		else if (option == '6')
			b.tables.ipv6 = true;
		else if (option == 'n')
			rounds = atoi(optarg);
		else
			return 2;
	}
	bench_must(b.tables.flows > 0 && b.tables.flows <= 8u << 20, "flows");
	bench_tables_make(&b.tables, huge);
	make_host(&b);
	for (int i = 0; i < rounds; i++) {
		double r = run(&b, relay), s = run(&b, swap);

		relayed = r < relayed ? r : relayed;
		swapped = s < swapped ? s : swapped;
	}
	printf("{\"flows\": %u, \"relay_ns\": %.1f, \"swap_ns\": %.1f, \"added_ns\": %.1f}\n",
		b.tables.flows, relayed, swapped, relayed - swapped);
	return 0;
}
