/*
 * stagecost: where the time of a packet goes. The common path is run up to one of its stages, over
 * and over on frames of flows in the table; what a stage adds to the one before is its cost. Once
 * as the XDP program (BPF_PROG_TEST_RUN, no network), once compiled for the processor, packet by
 * packet as XDP does it. Stages take turns; of all rounds the fastest counts, since everything else
 * on a shared machine only adds. Moving a frame's head is measured there and back. Processors work
 * on several packets at a time: where memory is waited for, a stage shows also what the ones before
 * it left to wait for, and the sum says more than its parts. Needs root.
 *
 *   stagecost [--flows N] [--room N] [--random] [--rounds N]
 *
 * --room: flows that the tables are made for, if there are fewer.
 */
#include <bpf/bpf.h>
#include <getopt.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <x86intrin.h>
#endif

#include "base/clock.h"
#include "maps.h"
#include "stages.skel.h"
#include "tables.h"

#include "stages.h"

#define REPEAT    (1 << 20)
#define FRAME_LEN 214 /* 172 bytes of data: RTP, 20 ms of G.711 */
#define ROOM      256
#define BUFFER    2048
#define AHEAD     8 /* frames that wait in buffers */
#define LOOPBACK  1 /* the interface by which test runs come in */

static const char *const names[STAGES] = {"the frame itself", "parse", "hash", "look-up", "checks",
	"headers made", "head moved, twice", "headers written", "counters"};

struct cost {
	double ns[STAGES]; /* up to this stage */
};

static struct bench_tables tables = {.flows = 1, .state = 1};
static struct stages_bpf *programs;
static uint8_t *heads; /* by flow, in the order in which they are used */

/* ---- as XDP */

static struct bpf_program *program_of(int stage)
{
	struct bpf_program *const by_stage[STAGES] = {programs->progs.stage_frame,
		programs->progs.stage_parse, programs->progs.stage_hash, programs->progs.stage_find,
		programs->progs.stage_check, programs->progs.stage_make, programs->progs.stage_room,
		programs->progs.stage_write, programs->progs.stage_count};

	return by_stage[stage];
}

static void load(void)
{
	size_t size = ((size_t)tables.flows * BENCH_FRAME_LEN + 4095) & ~(size_t)4095;

	programs = stages_bpf__open();
	bench_must(programs != NULL, "open");
	bpf_program__set_autoload(programs->progs.turnpike, false);
	bench_must(maps_size(programs->obj, &tables.memory) == 0, "size");
	bench_must(bpf_map__set_max_entries(programs->maps.heads, tables.flows) == 0, "size");
	programs->rodata->layout = tp_layout_hash();
	bench_must(stages_bpf__load(programs) == 0, "load");
	bench_must(maps_fill(programs->obj, &tables.memory) == 0, "fill");
	heads = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED,
		bpf_map__fd(programs->maps.heads), 0);
	bench_must(heads != MAP_FAILED, "heads");
	for (uint32_t i = 0; i < tables.flows; i++)
		bench_frame(&tables, heads + (size_t)i * BENCH_FRAME_LEN, FRAME_LEN);
	programs->bss->last_head = tables.flows - 1;
}

static double run_program(int stage)
{
	static uint8_t frame[FRAME_LEN];
	LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = frame, .data_size_in = FRAME_LEN,
		.repeat = REPEAT);

	bench_must(
		bpf_prog_test_run_opts(bpf_program__fd(program_of(stage)), &options) == 0, "run");
	bench_must(options.retval == XDP_TX, names[stage]);
	return options.duration; /* whole ns: by the clock it ends when the scheduler comes by */
}

/* ---- compiled */

static struct tp_host host;
static uint8_t buffers[AHEAD][BUFFER];
static uint32_t next_head, next_buffer;

static inline void put_head(void)
{
	memcpy(buffers[next_buffer] + ROOM, heads + (size_t)next_head * BENCH_FRAME_LEN,
		BENCH_FRAME_LEN);
	next_head = next_head == tables.flows - 1 ? 0 : next_head + 1;
	next_buffer = (next_buffer + 1) % AHEAD;
}

/*
 * Takes the oldest frame that was put there and puts another one: what a NIC has written is older
 * than the last stores, for which a load waits that takes from two of them.
 */
static inline struct tp_packet take_frame(void)
{
	uint8_t *room;

	put_head();
	room = buffers[next_buffer];
	return (struct tp_packet){.data = room + ROOM,
		.end = room + ROOM + FRAME_LEN,
		.room = room,
		.room_end = room + BUFFER,
		.ingress = LOOPBACK};
}

#define NATIVE(name, last)                                                                         \
	static __attribute__((noinline)) bool native_##name(void)                                  \
	{                                                                                          \
		struct tp_packet pkt = take_frame();                                               \
                                                                                                   \
		return stage_run(&host, &pkt, last);                                               \
	}

NATIVE(frame, STAGE_FRAME)
NATIVE(parse, STAGE_PARSE)
NATIVE(hash, STAGE_HASH)
NATIVE(find, STAGE_FIND)
NATIVE(check, STAGE_CHECK)
NATIVE(make, STAGE_MAKE)
NATIVE(room, STAGE_ROOM)
NATIVE(write, STAGE_WRITE)
NATIVE(count, STAGE_COUNT)

static double run_native(int stage)
{
	static bool (*const by_stage[STAGES])(void) = {native_frame, native_parse, native_hash,
		native_find, native_check, native_make, native_room, native_write, native_count};
	uint64_t begin;

	for (int i = 0; i < AHEAD; i++)
		put_head();
	begin = tp_clock_now_ns();
	for (int i = 0; i < REPEAT; i++)
		bench_must(by_stage[stage](), names[stage]);
	return (double)(tp_clock_now_ns() - begin) / REPEAT;
}

static void make_host(void)
{
	static uint32_t interfaces[TP_INTERFACES_MAX] = {LOOPBACK};

	host = tp_host_over(&tables.memory, interfaces, 0);
	host.now_ns = tp_clock_now_ns();
	host.ticks = tp_ticks(host.now_ns);
}

/* ---- both */

static void measure(struct cost *cost, double (*run)(int stage))
{
	for (int stage = 0; stage < STAGES; stage++) {
		double ns = run(stage);

		if (cost->ns[stage] == 0 || ns < cost->ns[stage])
			cost->ns[stage] = ns;
	}
}

/* Cycles of the counter that never changes its pace, a nanosecond; 0: there is none. */
static double cycles_per_ns(void)
{
#if defined(__x86_64__)
	uint64_t begin_ns = tp_clock_now_ns(), begin = __rdtsc();

	while (tp_clock_now_ns() - begin_ns < 50 * TP_NS_PER_MS)
		;
	return (double)(__rdtsc() - begin) / (double)(tp_clock_now_ns() - begin_ns);
#else
	return 0;
#endif
}

static void print(const struct cost *xdp, const struct cost *native)
{
	double pace = cycles_per_ns();

	printf("%u flow%s%s: nanoseconds a packet (cycles at %.2f GHz)\n", tables.flows,
		tables.flows == 1 ? "" : "s", tables.random ? " in random order" : "", pace);
	printf("%-20s %16s %16s\n", "", "XDP", "compiled");
	for (int i = 0; i < STAGES; i++) {
		double x = xdp->ns[i] - (i ? xdp->ns[i - 1] : 0);
		double n = native->ns[i] - (i ? native->ns[i - 1] : 0);

		printf("%-20s %7.1f (%5.0f) %7.1f (%5.0f)\n", names[i], x, x * pace, n, n * pace);
	}
	printf("%-20s %7.1f          %7.1f\n", "all but the frame",
		xdp->ns[STAGES - 1] - xdp->ns[0], native->ns[STAGES - 1] - native->ns[0]);
}

static void parse_options(int argc, char **argv, int *rounds)
{
	static const struct option options[] = {{"flows", required_argument, NULL, 'f'},
		{"random", no_argument, NULL, 'r'}, {"room", required_argument, NULL, 'm'},
		{"rounds", required_argument, NULL, 'n'}, {0}};
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == 'f')
			tables.flows = (uint32_t)strtoul(optarg, NULL, 10);
		else if (option == 'm')
			tables.room = (uint32_t)strtoul(optarg, NULL, 10);
		else if (option == 'r')
			tables.random = true;
		else if (option == 'n')
			*rounds = atoi(optarg);
		else
			exit(2);
	}
	bench_must(tables.flows > 0 && tables.flows <= 4u << 20 && *rounds > 0, "options");
}

int main(int argc, char **argv)
{
	struct tp_next_hop hop = {.ifindex = LOOPBACK,
		.destination = {2, 0, 0, 0, 0, 1},
		.source = {2, 0, 0, 0, 0, 2},
		.mtu = 1500};
	struct cost xdp = {0}, native = {0};
	int rounds = 10;
	cpu_set_t one;

	parse_options(argc, argv, &rounds);
	CPU_ZERO(&one);
	CPU_SET(1 % (size_t)sysconf(_SC_NPROCESSORS_ONLN), &one);
	bench_must(sched_setaffinity(0, sizeof(one), &one) == 0, "core");
	bench_tables_make(&tables, false);
	tp_table_set_next_hop_record(tables.table, 1, &hop);
	load();
	make_host();
	for (int i = 0; i < rounds; i++) {
		measure(&xdp, run_program);
		measure(&native, run_native);
	}
	print(&xdp, &native);
	stages_bpf__destroy(programs);
	return 0;
}
