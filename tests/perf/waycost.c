/*
 * waycost: what each way through the XDP program costs: the common one (ChannelData within one
 * family), indications, translation, hairpins. A pair of veth in a network namespace of its own: at
 * one end a generator sends one frame of the vectors' world over and over (live frames), the
 * program at the other end sends it back, a sink counts it. The kernel times runs of 32,768 frames;
 * of all runs the fastest counts, since everything else on a shared machine only adds. Ways take
 * turns, the bare bounce among them: printed is what a way costs on top of it, and how much more
 * than the ChannelData of its direction. Needs root.
 *
 *   waycost [--rounds N] [--only PART-OF-A-NAME]
 */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <getopt.h>
#include <linux/bpf.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "maps.h"
#include "tests/vectors/senders.h"
#include "turnpike.skel.h"
#include "ways.h"
#include "ways.skel.h"

#define RUN   (1 << 15)
#define BATCH 64
#define SIZE  172 /* RTP: 20 ms of G.711 */

#define V4 .client = TP_IPV4, .relay = TP_IPV4, .size = SIZE
#define ROUND(to)                                                                                  \
	V4, .who = SENDER_ROUND, .round = true, .whom = SENDER_##to, .whom_client = TP_IPV4

struct subject {
	const char *name;
	struct way way;
	bool is_bounce;
	const char *than; /* name of the one it is compared with */
	unsigned fastest; /* UINT32_MAX: not measured */
};

#define UP   "ChannelData to peer"
#define DOWN "peer to ChannelData"

static struct subject subjects[] = {
	{"bounce", {V4, .channel = true}, .is_bounce = true},
	{UP, {V4, .channel = true}},
	{DOWN, {V4, .channel = true, .down = true}},
	{"Send to peer", {V4}, .than = UP},
	{"Send with FINGERPRINT", {V4, .frame.attributes = "XDF"}, .than = UP},
	{"peer to Data", {V4, .down = true}, .than = DOWN},
	{"ChannelData, tagged", {V4, .channel = true, .frame.vlan = {5}}, .than = UP},
	{"ChannelData to IPv6",
		{.client = TP_IPV4, .relay = TP_IPV6, .size = SIZE, .channel = true}, .than = UP},
	{"Send to IPv4", {.client = TP_IPV6, .relay = TP_IPV4, .size = SIZE}, .than = UP},
	{"Data to IPv6", {.client = TP_IPV6, .relay = TP_IPV4, .size = SIZE, .down = true},
		.than = DOWN},
	{"hairpin, channels", {ROUND(ROUND_CHANNEL), .channel = true}, .than = UP},
	{"hairpin, channel to Data", {ROUND(ROUND_DATA), .channel = true}, .than = UP},
	{"hairpin, Send to Data", {ROUND(ROUND_DATA)}, .than = UP},
};

#define SUBJECTS (sizeof(subjects) / sizeof(subjects[0]))

static struct world world;
static struct turnpike_bpf *turnpike;
static struct ways_bpf *ways;

static void must(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "waycost: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void command(const char *line)
{
	must(system(line) == 0, line);
}

static void make_network(void)
{
	must(unshare(CLONE_NEWNET) == 0, "network namespace");
	command("ip link add way0 type veth peer name way1");
	command("sysctl -qw net.ipv6.conf.way0.disable_ipv6=1 net.ipv6.conf.way1.disable_ipv6=1");
	command("ip link set way0 up && ip link set way1 up");
}

/* The world's next hops lead out where the frames come in. */
static void lead_back(void)
{
	struct tp_next_hop *hops = world.memory.regions[TP_REGION_NEXT_HOPS];
	uint32_t own = if_nametoindex("way1");

	for (uint32_t i = 0; i < TP_NEXT_HOPS_MAX; i++) {
		hops[i].vlan = (tp_be16){0};
		if (hops[i].ifindex)
			hops[i].ifindex = own;
	}
}

static void load(void)
{
	turnpike = turnpike_bpf__open();
	ways = ways_bpf__open_and_load();
	must(turnpike && ways, "open");
	must(maps_size(turnpike->obj, &world.memory) == 0, "size");
	turnpike->rodata->layout = tp_layout_hash();
	must(turnpike_bpf__load(turnpike) == 0, "load");
	lead_back();
	must(maps_fill(turnpike->obj, &world.memory) == 0, "fill");
}

static void attach(const char *interface, const struct bpf_program *program)
{
	int index = (int)if_nametoindex(interface);

	bpf_xdp_detach(index, XDP_FLAGS_DRV_MODE, NULL);
	must(bpf_xdp_attach(index, bpf_program__fd(program), XDP_FLAGS_DRV_MODE, NULL) == 0,
		"attach");
}

static unsigned run(const struct frame *frame, int repeat)
{
	struct xdp_md context = {
		.ingress_ifindex = if_nametoindex("way0"), .data_end = (uint32_t)frame->len};
	LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = frame->bytes,
		.data_size_in = (uint32_t)frame->len, .ctx_in = &context,
		.ctx_size_in = sizeof(context), .repeat = repeat,
		.flags = BPF_F_TEST_XDP_LIVE_FRAMES, .batch_size = BATCH);

	must(bpf_prog_test_run_opts(bpf_program__fd(ways->progs.replay), &options) == 0, "run");
	return options.duration;
}

static void measure(struct subject *s)
{
	static struct frame frame;
	struct frame_spec spec;
	uint32_t zero = 0;
	uint64_t before = ways->bss->received;
	unsigned took;

	way_build(&s->way, &spec, &frame);
	must(frame.len >= WAYS_HEAD, "frame");
	must(bpf_map_update_elem(bpf_map__fd(ways->maps.head), &zero, frame.bytes, 0) == 0, "head");
	attach("way1", s->is_bounce ? ways->progs.bounce : turnpike->progs.turnpike);
	for (int i = 0; i < 4; i++) {
		took = run(&frame, RUN);
		s->fastest = took < s->fastest ? took : s->fastest;
	}
	usleep(20000);
	if (ways->bss->received - before < 4 * RUN * 99ull / 100) {
		fprintf(stderr, "waycost: %s: only %llu of %d came back\n", s->name,
			(unsigned long long)(ways->bss->received - before), 4 * RUN);
		exit(1);
	}
}

static unsigned cost_of(const char *name)
{
	for (size_t i = 0; i < SUBJECTS; i++)
		if (strcmp(subjects[i].name, name) == 0)
			return subjects[i].fastest;
	abort();
}

static void print_difference(const struct subject *s, const char *than)
{
	if (than && cost_of(than) != UINT32_MAX)
		printf(" %+13d", (int)(s->fastest - cost_of(than)));
	else
		printf(" %13s", "");
}

static void print(void)
{
	printf("%-26s %8s %13s %13s\n", "nanoseconds a packet", "loop", "above bounce", "more");
	for (size_t i = 0; i < SUBJECTS; i++) {
		const struct subject *s = &subjects[i];

		if (s->fastest == UINT32_MAX)
			continue;
		printf("%-26s %8u", s->name, s->fastest);
		print_difference(s, s->is_bounce ? NULL : "bounce");
		print_difference(s, s->than);
		printf("\n");
	}
}

static void measure_all(int rounds, const char *only)
{
	for (size_t i = 0; i < SUBJECTS; i++)
		subjects[i].fastest = UINT32_MAX;
	for (int round = 0; round < rounds; round++)
		for (size_t i = 0; i < SUBJECTS; i++)
			if (strstr(subjects[i].name, only))
				measure(&subjects[i]);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"rounds", required_argument, NULL, 'r'},
		{"only", required_argument, NULL, 'o'}, {0}};
	const char *only = "";
	int rounds = 10;
	cpu_set_t one;

	for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
		if (c == 'r')
			rounds = atoi(optarg);
		else if (c == 'o')
			only = optarg;
		else
			return 2;
	}
	CPU_ZERO(&one);
	CPU_SET(1 % (size_t)sysconf(_SC_NPROCESSORS_ONLN), &one);
	must(sched_setaffinity(0, sizeof(one), &one) == 0, "core");
	make_network();
	world_create(&world, 2);
	load();
	attach("way0", ways->progs.sink);
	measure_all(rounds, only);
	print();
	turnpike_bpf__destroy(turnpike);
	ways_bpf__destroy(ways);
	world_destroy(&world);
	return 0;
}
