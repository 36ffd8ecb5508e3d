#include "runner.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/bpf.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "turnpike.skel.h"

struct bpf_runner {
	struct turnpike_bpf *skeleton;
	struct tp_memory memory; /* the maps */
	struct tp_worker_counters *worker;
	uint32_t redirect_ifindex;
};

static void must(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "bpf: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* One CPU, whose counters are then compared. */
static int stay_on_one_cpu(void)
{
	int cpu = sched_getcpu();
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET((size_t)cpu, &set);
	must(sched_setaffinity(0, sizeof(set), &set) == 0, "sched_setaffinity");
	return cpu;
}

struct bpf_runner *bpf_open(const char **reason)
{
	struct bpf_runner *runner;

	if (geteuid() != 0) {
		*reason = "needs root";
		return NULL;
	}
	runner = calloc(1, sizeof(*runner));
	must(runner != NULL, "memory");
	must(unshare(CLONE_NEWNET) == 0, "network namespace");
	must(system("ip link add vectors0 type veth peer name vectors1") == 0, "veth");
	runner->redirect_ifindex = if_nametoindex("vectors0");
	must(runner->redirect_ifindex != 0, "vectors0");
	return runner;
}

uint32_t bpf_redirect_ifindex(const struct bpf_runner *runner)
{
	return runner->redirect_ifindex;
}

static struct bpf_map *map_of(struct bpf_runner *runner, const char *name)
{
	struct bpf_map *map = bpf_object__find_map_by_name(runner->skeleton->obj, name);
	char section[64];

	if (!map) {
		snprintf(section, sizeof(section), ".data.%s", name);
		map = bpf_object__find_map_by_name(runner->skeleton->obj, section);
	}
	must(map != NULL, name);
	return map;
}

static size_t map_size(const struct tp_region_shape *region)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	return ((size_t)region->element_size * region->count + page - 1) / page * page;
}

static void map_regions(struct bpf_runner *runner)
{
	for (int i = 0; i < TP_REGIONS; i++) {
		const struct tp_region_shape *region = &runner->memory.shape.regions[i];
		struct bpf_map *map = map_of(runner, region->name);

		must(bpf_map__value_size(map) == region->element_size, region->name);
		runner->memory.regions[i] = mmap(NULL, map_size(region), PROT_READ | PROT_WRITE,
			MAP_SHARED, bpf_map__fd(map), 0);
		must(runner->memory.regions[i] != MAP_FAILED, region->name);
	}
}

static void set_interfaces(struct bpf_runner *runner, const struct world *world)
{
	int fd = bpf_map__fd(runner->skeleton->maps.interfaces);

	for (uint32_t i = 0; i < TP_INTERFACES_MAX; i++)
		if (world->interfaces[i])
			must(bpf_map_update_elem(fd, &i, &world->interfaces[i], 0) == 0,
				"interfaces");
}

void bpf_load(struct bpf_runner *runner, const struct world *world)
{
	struct tp_worker_counters *workers;
	int cpu = stay_on_one_cpu();

	runner->memory.shape = world->memory.shape;
	runner->skeleton = turnpike_bpf__open();
	must(runner->skeleton != NULL, "open");
	for (int i = 0; i < TP_REGIONS; i++)
		must(bpf_map__set_max_entries(map_of(runner, world->memory.shape.regions[i].name),
			     world->memory.shape.regions[i].count) == 0,
			"size");
	runner->skeleton->rodata->layout = tp_layout_hash();
	must(turnpike_bpf__load(runner->skeleton) == 0, "load");
	map_regions(runner);
	set_interfaces(runner, world);
	must((uint32_t)cpu < world->memory.shape.workers, "counters of this CPU");
	workers = runner->memory.regions[TP_REGION_WORKERS];
	runner->worker = &workers[cpu];
}

void bpf_copy_world(struct bpf_runner *runner, const struct world *world)
{
	const struct tp_worker_counters *native = world->memory.regions[TP_REGION_WORKERS];

	for (int i = 0; i < TP_REGIONS; i++) {
		const struct tp_region_shape *region = &world->memory.shape.regions[i];

		if (i != TP_REGION_WORKERS)
			memcpy(runner->memory.regions[i], world->memory.regions[i],
				(size_t)region->element_size * region->count);
	}
	*runner->worker = *native;
}

/* The one counter that moved. */
static enum tp_verdict counted(
	const struct tp_worker_counters *before, const struct tp_worker_counters *after)
{
	enum tp_verdict verdict = TP_VERDICT_COUNT;
	uint64_t relayed = 0;

	for (int i = 0; i < TP_DIRECTIONS; i++)
		relayed += tp_worker_direction(after, i).packets -
			   tp_worker_direction(before, i).packets;
	if (relayed - (after->hairpins - before->hairpins) == 1)
		verdict = TP_RELAYED;
	for (int i = 0; i < TP_VERDICT_CELLS; i++) {
		uint64_t n = after->verdicts[i] - before->verdicts[i];

		if (n == 0)
			continue;
		must(n == 1 && verdict == TP_VERDICT_COUNT, "one verdict per packet");
		verdict = (enum tp_verdict)i;
	}
	must(verdict != TP_VERDICT_COUNT, "a verdict for every packet");
	return verdict;
}

static bool fits(enum tp_verdict verdict, uint32_t action)
{
	switch (tp_verdict_fate(verdict)) {
	case TP_FATE_SEND:
		return action == XDP_TX || action == XDP_REDIRECT;
	case TP_FATE_PASS:
		return action == XDP_PASS;
	case TP_FATE_DROP:
		return action == XDP_DROP;
	}
	return false;
}

bool bpf_run(struct bpf_runner *runner, const struct world *world, const struct frame *in,
	struct outcome *out)
{
	struct tp_worker_counters before = *runner->worker;
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = in->bytes,
		.data_size_in = (uint32_t)in->len, .data_out = out->frame.bytes,
		.data_size_out = FRAME_MAX, .repeat = 1);

	if (in->len < 14)
		return false;
	must(bpf_prog_test_run_opts(bpf_program__fd(runner->skeleton->progs.turnpike), &opts) == 0,
		"test run");
	out->frame.len = opts.data_size_out;
	out->verdict = counted(&before, runner->worker);
	must(fits(out->verdict, opts.retval), "action of the verdict");
	if (out->verdict == TP_RELAYED)
		frame_forget_random(in, &out->frame, out->transaction);
	out->egress = opts.retval == XDP_REDIRECT ? world->interfaces[3] : WORLD_INGRESS;
	return true;
}

bool bpf_counters_equal(const struct bpf_runner *runner, const struct world *world)
{
	bool equal = true;

	for (uint32_t slot = 0; slot < tp_table_slots(world->table); slot++)
		equal &= world_counted_equally(&runner->memory, &world->memory, slot);
	return equal && memcmp(runner->worker, world->memory.regions[TP_REGION_WORKERS],
				sizeof(*runner->worker)) == 0;
}

void bpf_close(struct bpf_runner *runner)
{
	if (!runner)
		return;
	for (int i = 0; i < TP_REGIONS; i++)
		if (runner->memory.regions[i])
			munmap(runner->memory.regions[i],
				map_size(&runner->memory.shape.regions[i]));
	turnpike_bpf__destroy(runner->skeleton);
	free(runner);
}
