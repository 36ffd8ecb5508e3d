/*
 * misscount: which lines of the tables a packet touches, and how many of them a core's caches and
 * its address translation do not have, by number of flows. The core runs natively over the tables
 * and tells each element that it asks for to a model (memsim.h); packet by packet as XDP does, and
 * a burst at a time as a polling worker does. Simulated, for machines without counters: code and
 * stack, the driver's own memory, prefetching, and what processors fetch on a guess are left out.
 *
 *   misscount [--flows N] [--room N]
 *
 * --flows: else 1, 1,000, and so on to 1,000,000, in random order. --room: flows that the tables
 * are made for, if there are fewer. The geometry is that of a Zen 5 core (AMD, Software
 * Optimization Guide for the Zen 5): 48 KiB, 1 MiB and 32 MiB; 96 and 4,096 pages of either size.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void touched(const void *element);

#define TP_HOST_TOUCH(element) (touched(element), (element))

#include "base/clock.h"
#include "memsim.h"
#include "tables.h"

#include "dataplane/core/burst.h"

#define FRAME_ROOM 128
#define FRAME_SIZE 2048
#define FRAMES     128 /* in use at a time */
#define MEASURED   (1u << 20)
#define FLOWS_MAX  (4u << 20)

static const struct memsim_size zen5[MEMSIM_KINDS] = {
	[MEMSIM_L1] = {64, 12},
	[MEMSIM_L2] = {1024, 16},
	[MEMSIM_L3] = {32768, 16},
	[MEMSIM_SMALL_FIRST] = {1, 96},
	[MEMSIM_SMALL_SECOND] = {256, 16},
	[MEMSIM_HUGE_FIRST] = {1, 96},
	[MEMSIM_HUGE_SECOND] = {256, 16},
};

enum row { ROW_TAGS, ROW_RECORDS, ROW_DETAILS, ROW_HOPS, ROW_OTHERS, ROW_FRAMES, ROWS };

static const char *const names[ROWS] = {
	"tags", "records", "details", "next hops", "all packets' own", "frames"};

struct tally {
	uint64_t touched[ROWS], missed[ROWS][MEMSIM_KINDS];
};

static struct bench_tables tables;
static struct tp_host host;
static struct memsim sim;
static struct tally tally;
static uint8_t frames[FRAMES][FRAME_SIZE] __attribute__((aligned(4096)));

/* ---- what is touched */

static bool is_within(const void *element, const void *from, size_t size)
{
	return (uintptr_t)element - (uintptr_t)from < size;
}

static enum row row_of(const void *element)
{
	static const enum row rows[TP_REGIONS] = {
		[TP_REGION_CONFIG] = ROW_OTHERS,
		[TP_REGION_LOCALS] = ROW_OTHERS,
		[TP_REGION_PORTS] = ROW_OTHERS,
		[TP_REGION_BUCKETS] = ROW_TAGS,
		[TP_REGION_FLOWS] = ROW_RECORDS,
		[TP_REGION_DETAILS] = ROW_DETAILS,
		[TP_REGION_NEXT_HOPS] = ROW_HOPS,
		[TP_REGION_POLICERS] = ROW_OTHERS,
		[TP_REGION_ALLOCATIONS] = ROW_OTHERS,
		[TP_REGION_WORKERS] = ROW_OTHERS,
	};

	for (int i = 0; i < TP_REGIONS; i++) {
		const struct tp_region_shape *region = &tables.memory.shape.regions[i];

		if (is_within(element, tables.memory.regions[i],
			    (size_t)region->element_size * region->count))
			return rows[i];
	}
	return ROW_FRAMES;
}

/* An element lies in one line, or only its first one counts: the ports and the counters. */
static void touched(const void *element)
{
	enum row row = row_of(element);
	unsigned int missed = memsim_touch(&sim, (uintptr_t)element);

	tally.touched[row]++;
	for (int k = 0; k < MEMSIM_KINDS; k++)
		tally.missed[row][k] += missed >> k & 1;
}

/* ---- packets */

static struct tp_packet next_packet(uint32_t number)
{
	uint8_t *room = frames[number % FRAMES];

	bench_frame(&tables, room + FRAME_ROOM, BENCH_FRAME_LEN);
	touched(room + FRAME_ROOM);
	return (struct tp_packet){.data = room + FRAME_ROOM,
		.end = room + FRAME_ROOM + BENCH_FRAME_LEN,
		.room = room,
		.room_end = room + FRAME_SIZE,
		.ingress = BENCH_IFINDEX};
}

static void one_by_one(uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		struct tp_packet pkt = next_packet(i);

		bench_must(tp_relay(&host, &pkt) == TP_RELAYED, "a packet was not relayed");
	}
}

static void in_bursts(uint32_t count)
{
	for (uint32_t done = 0; done < count; done += TP_BURST) {
		struct tp_packet pkts[TP_BURST];
		enum tp_verdict verdicts[TP_BURST];

		for (uint32_t i = 0; i < TP_BURST; i++)
			pkts[i] = next_packet(done + i);
		tp_relay_burst(&host, pkts, verdicts, TP_BURST);
		for (uint32_t i = 0; i < TP_BURST; i++)
			bench_must(verdicts[i] == TP_RELAYED, "a packet was not relayed");
	}
}

/* ---- one number of flows */

static void print_row(const char *name, uint64_t asked, const uint64_t missed[MEMSIM_KINDS])
{
	printf("  %-17s %7.3f  ", name, (double)asked / MEASURED);
	for (int k = 0; k < MEMSIM_KINDS; k++)
		printf(k == MEMSIM_SMALL_FIRST || k == MEMSIM_HUGE_FIRST ? "  | %6.3f" : " %6.3f",
			(double)missed[k] / MEASURED);
	printf("\n");
}

static void print(const char *way)
{
	struct tally sum = {0};

	printf("%s, %u flow%s, a packet %20s\n  %17s touches  %6s %6s %6s  | %6s %6s  | %6s %6s\n",
		way, tables.flows, tables.flows == 1 ? "" : "s", "misses:", "", "L1", "L2", "L3",
		"4 KiB", "second", "2 MiB", "second");
	for (int row = 0; row < ROWS; row++) {
		sum.touched[0] += tally.touched[row];
		for (int k = 0; k < MEMSIM_KINDS; k++)
			sum.missed[0][k] += tally.missed[row][k];
		print_row(names[row], tally.touched[row], tally.missed[row]);
	}
	print_row("all", sum.touched[0], sum.missed[0]);
}

/* Caches are as they are after every flow had its turn several times. */
static void simulate(const char *way, void (*run)(uint32_t count))
{
	bench_must(memsim_open(&sim, zen5) == 0, "model");
	run((tables.flows + MEASURED) / TP_BURST * TP_BURST);
	run(3 * tables.flows / TP_BURST * TP_BURST);
	tally = (struct tally){0};
	run(MEASURED);
	print(way);
	memsim_close(&sim);
}

static void count_misses(uint32_t flows, uint32_t room)
{
	static const uint32_t interfaces[TP_INTERFACES_MAX] = {BENCH_IFINDEX};

	tables = (struct bench_tables){.flows = flows, .room = room, .random = true, .state = 1};
	bench_tables_make(&tables, true);
	host = tp_host_over(&tables.memory, interfaces, 0);
	host.now_ns = tp_clock_now_ns();
	host.ticks = tp_ticks(host.now_ns);
	simulate("packet by packet", one_by_one);
	simulate("in bursts", in_bursts);
	tp_table_destroy(tables.table);
	tp_memory_destroy_plain(&tables.memory);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"flows", required_argument, NULL, 'f'},
		{"room", required_argument, NULL, 'm'}, {0}};
	uint32_t flows = 0, room = 0;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == 'f')
			flows = (uint32_t)strtoul(optarg, NULL, 10);
		else if (option == 'm')
			room = (uint32_t)strtoul(optarg, NULL, 10);
		else
			return 2;
	}
	bench_must(flows <= FLOWS_MAX, "options");
	if (flows) {
		count_misses(flows, room);
		return 0;
	}
	count_misses(1, room);
	for (flows = 1000; flows <= 1000000; flows *= 10)
		count_misses(flows, room);
	return 0;
}
