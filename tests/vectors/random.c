/*
 * Random packets: valid ones, most of them then damaged, and noise. Native core and BPF program
 * must agree in verdict, bytes and counters, and whoever runs it, the laws hold: what passes is
 * untouched, and a checksum that leaves is right exactly if it came in right.
 *
 * usage: vectors_random [packets [seed]] runs both; with "native" in front the native core alone,
 * and the same packets once more in bursts as a polling worker takes them: what packets share there
 * must not show.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "senders.h"
#include "wire.h"

static uint64_t state;

static uint32_t draw(uint32_t below)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (uint32_t)((state >> 16) % below);
}

static bool one_in(uint32_t n)
{
	return draw(n) == 0;
}

static uint16_t draw_port(void)
{
	static const uint16_t ports[] = {PORT_PERMISSION, PORT_LAPSED, PORT_UNGRANTED, PORT_SLOW,
		PORT_CHANNEL_OVER, PORT_EVERYTHING_OVER, PORT_CLOSED};

	return ports[draw(sizeof(ports) / sizeof(ports[0]))];
}

static void draw_probe(struct probe *out)
{
	static const size_t sizes[] = {EMPTY, 1, 2, 3, 5, 64, 160, 1024, 1200, 1440, 1480};
	static const uint8_t extensions[] = {0, 43, 44, 60, 6};

	*out = (struct probe){.from = one_in(2) ? CLIENT : PEER};
	out->lane = world_lane_at(draw((uint32_t)world_lanes()))->channel;
	if (one_in(2))
		out->lane = WORLD_CHANNEL;
	if (out->from == PEER && one_in(6))
		out->port = draw_port();
	out->size = one_in(3) ? 1 + draw(1500) : sizes[draw(sizeof(sizes) / sizeof(sizes[0]))];
	out->frame.vlan[0] = one_in(4) ? (uint16_t)(1 + draw(0xffff)) : 0;
	out->frame.vlan_type = one_in(4) ? 0x88a8 : 0;
	out->frame.tos = (uint8_t)draw(256);
	out->frame.ttl = (uint8_t)draw(256);
	out->frame.id = (uint16_t)draw(65536);
	out->frame.fragment = one_in(2) ? 0x4000 : one_in(20) ? (uint16_t)draw(65536) : 0;
	out->frame.label = draw(1 << 20);
	out->frame.options = one_in(30) ? (uint8_t)(1 + draw(10)) : 0;
	out->frame.extension = extensions[draw(sizeof(extensions))];
	out->frame.padding = out->from == CLIENT && one_in(2) ? (uint8_t)draw(5) : 0;
	out->frame.padding_byte = (uint8_t)draw(256);
	out->frame.trailer = one_in(3) ? draw(30) : 0;
	out->frame.checksum = one_in(8) ? (enum frame_checksum)draw(3) : CHECKSUM_GOOD;
	out->frame.wrong_ip_checksum = one_in(20);
}

static enum tp_family draw_family(void)
{
	return one_in(2) ? TP_IPV4 : TP_IPV6;
}

/* What a sender's message may consist of: nearly always what clients send. */
static const char *draw_attributes(void)
{
	static const char *const lists[] = {"DX", "XDF", "XND", "SXDF", "XDS", "OXDO", "XDf", "XDU",
		"XxD", "XDd", "X", "D", "XDM", "XDFS", "XOOODOOO", "XOOODOOOO", "iD", "XDe", "LXD"};

	return one_in(2) ? NULL : lists[draw(sizeof(lists) / sizeof(lists[0]))];
}

/* A packet of the senders: both wrappings, across the families, round. */
static void draw_way(struct way *out)
{
	static const size_t sizes[] = {EMPTY, 1, 2, 3, 64, 172, 1000, 1232, 1252, 1400, 1424};

	*out = (struct way){
		.who = (enum sender)draw(SENDERS),
		.down = one_in(2),
		.client = draw_family(),
		.relay = draw_family(),
		.channel = one_in(2),
		.whom = (enum sender)draw(SENDERS + 1),
		.whom_client = draw_family(),
		.size = one_in(3) ? 1 + draw(1450) : sizes[draw(sizeof(sizes) / sizeof(sizes[0]))],
		.frame.tos = (uint8_t)draw(256),
		.frame.ttl = (uint8_t)(one_in(8) ? draw(4) : draw(256)),
		.frame.id = (uint16_t)draw(65536),
		.frame.fragment = one_in(2) ? 0x4000 : 0,
		.frame.label = draw(1 << 20),
		.frame.vlan[0] = one_in(8) ? (uint16_t)(1 + draw(0xffff)) : 0,
		.frame.trailer = one_in(6) ? draw(30) : 0,
		.frame.checksum = one_in(8) ? (enum frame_checksum)draw(3) : CHECKSUM_GOOD,
		.frame.wrong_ip_checksum = one_in(20),
		.frame.attributes = draw_attributes(),
		.frame.padding_byte = (uint8_t)draw(256),
	};
	out->round = !out->down && out->who >= SENDER_ROUND && !one_in(3);
	if (out->round && out->whom == SENDER_NOBODY)
		out->port = draw_port();
	if (out->channel && !out->down && one_in(3))
		out->frame.padding = (uint8_t)draw(5);
}

/* Values at which code tends to turn. */
static uint16_t draw_odd_value(const struct frame *frame)
{
	static const uint16_t values[] = {0, 1, 7, 8, 19, 20, 27, 28, 0x3fff, 0x4000, 0x4001,
		0x4fff, 0x5000, 0x7fff, 0x8000, 0xfffe, 0xffff, 0x0800, 0x86dd, 0x8100, 0x88a8};
	uint32_t pick = draw(sizeof(values) / sizeof(values[0]) + 2);

	if (pick < sizeof(values) / sizeof(values[0]))
		return values[pick];
	return (uint16_t)(frame->len - draw(64));
}

static void damage(struct frame *frame)
{
	size_t headers = frame->len < 90 ? frame->len : 90;

	switch (draw(6)) {
	case 0:
		frame->bytes[draw((uint32_t)headers)] = (uint8_t)draw(256);
		break;
	case 1:
		frame->bytes[draw((uint32_t)headers)] ^= (uint8_t)(1 << draw(8));
		break;
	case 2:
		frame_put16(frame, (draw((uint32_t)headers - 1) & ~1u), draw_odd_value(frame));
		break;
	case 3:
		frame->len = draw((uint32_t)frame->len + 1);
		break;
	case 4: {
		size_t len = draw((uint32_t)headers + 1);

		frame->len = len; /* inside the headers */
		break;
	}
	case 5:
		for (uint32_t more = draw(8); more > 0; more--)
			frame->bytes[frame->len++] = (uint8_t)draw(256);
		break;
	}
}

static void make_noise(struct frame *out)
{
	out->len = draw(200);
	for (size_t i = 0; i < out->len; i++)
		out->bytes[i] = (uint8_t)draw(256);
	if (out->len >= 16 && one_in(2)) {
		frame_put16(out, 12, one_in(2) ? 0x0800 : 0x86dd);
		out->bytes[14] = frame_get16(out, 12) == 0x0800 ? 0x45 : 0x60;
	}
}

static void make(struct frame *out)
{
	struct frame_spec spec;
	struct probe probe;
	struct way way;

	if (one_in(20)) {
		make_noise(out);
		return;
	}
	if (one_in(2)) {
		draw_way(&way);
		way_build(&way, &spec, out);
	} else {
		draw_probe(&probe);
		probe_build(&probe, draw_family(), &spec, out);
	}
	for (uint32_t n = one_in(3) ? 1 + draw(3) : 0; n > 0 && out->len > 1; n--)
		damage(out);
}

static bool lawful(const struct frame *in, const struct outcome *got)
{
	struct frame before = *in, after = got->frame;

	switch (tp_verdict_fate(got->verdict)) {
	case TP_FATE_PASS:
		if (got->output)
			break;
		return frame_equal(in, &got->frame);
	case TP_FATE_DROP:
		return true;
	case TP_FATE_SEND:
		break;
	}
	return frame_locate(&before) && frame_locate(&after) &&
	       frame_ip_checksum_ok(&before) == frame_ip_checksum_ok(&after) &&
	       (!got->output || frame_ip_checksum_ok(&after)) &&
	       frame_udp_checksum_kept(&before, &after);
}

static bool agree(struct bpf_runner *bpf, const struct world *world, const struct frame *in,
	const struct outcome *native)
{
	static struct outcome got;

	if (!bpf_run(bpf, world, in, &got))
		return bpf_copy_world(bpf, world), true;
	/* Adding up whole packets is left to the kernel there. */
	if (got.verdict == TP_UNSUMMED && native->verdict == TP_RELAYED)
		return bpf_copy_world(bpf, world), frame_equal(&got.frame, in);
	return got.verdict == native->verdict && frame_equal(&got.frame, &native->frame) &&
	       bpf_counters_equal(bpf, world);
}

/* The same of a worker; what it drops nobody sees. */
static bool agree_by_wire(struct wire_runner *wire, const struct world *world,
	const struct frame *in, const struct outcome *native)
{
	static struct outcome got;

	if (!wire_run(wire, world, in, &got))
		return wire_copy_world(wire, world), true;
	if (got.verdict == WIRE_STEERED)
		return wire_copy_world(wire, world),
		       tp_verdict_fate(native->verdict) == TP_FATE_PASS &&
			       frame_equal(&got.frame, in);
	return got.verdict == native->verdict && wire_frame_equal(&got, native) &&
	       wire_counters_equal(wire, world);
}

#define COUNTERS (sizeof(struct tp_worker_counters) / sizeof(uint64_t))

/* All that is counted; of the flows a sum in which each slot has a weight of its own. */
struct counted {
	uint64_t words[COUNTERS + 1];
};

static struct counted count_all(const struct world *world)
{
	struct tp_worker_counters totals = tp_table_totals(world->table);
	struct counted out = {0};

	memcpy(out.words, &totals, sizeof(totals));
	for (uint32_t slot = 0; slot < tp_table_slots(world->table); slot++) {
		struct tp_flow_counters flow = world_counted(&world->memory, slot);

		out.words[COUNTERS] += (slot + 1) * (flow.packets << 32) + flow.bytes * (slot + 1);
	}
	return out;
}

static bool counted_twice(
	const struct counted *before, const struct counted *once, const struct counted *twice)
{
	for (size_t i = 0; i <= COUNTERS; i++) {
		if (once->words[i] - before->words[i] != twice->words[i] - once->words[i])
			return false;
	}
	return true;
}

/* Up to TP_BURST packets one by one, and what came of them. */
struct batch {
	struct frame frames[TP_BURST];
	struct outcome alone[TP_BURST], together[TP_BURST];
	uint32_t count;
	struct counted before;
};

static void add_to_batch(
	const struct world *world, struct batch *batch, const struct frame *in, struct outcome *got)
{
	if (batch->count == 0)
		batch->before = count_all(world);
	native_run(world, in, HEADROOM, got);
	batch->frames[batch->count] = *in;
	batch->alone[batch->count++] = *got;
}

/* NULL, or the packet that fared otherwise in company; the first one where it is the counters. */
static const struct frame *run_batch(const struct world *world, struct batch *batch)
{
	struct counted once = count_all(world), twice;
	uint32_t count = batch->count;

	batch->count = 0;
	native_run_burst(world, batch->frames, count, HEADROOM, batch->together);
	for (uint32_t i = 0; i < count; i++) {
		const struct outcome *a = &batch->alone[i], *b = &batch->together[i];

		if (a->verdict != b->verdict || a->output != b->output ||
			!frame_equal(&a->frame, &b->frame) ||
			(a->verdict == TP_RELAYED && a->egress != b->egress))
			return &batch->frames[i];
	}
	twice = count_all(world);
	return counted_twice(&batch->before, &once, &twice) ? NULL : &batch->frames[0];
}

/* From here on a packet without a flow may have one that found no slot. */
static void lose_a_flow(const struct world *world, struct bpf_runner *bpf, struct wire_runner *wire)
{
	struct tp_config *config = world->memory.regions[TP_REGION_CONFIG];

	config->unplaced = 1;
	if (bpf)
		bpf_copy_world(bpf, world);
	if (wire)
		wire_copy_world(wire, world);
}

static int give_up(unsigned long packet, const struct frame *in, const struct outcome *got)
{
	printf("FAILED at packet %lu, verdict %d:\n", packet, got->verdict);
	for (size_t i = 0; i < in->len; i++)
		printf("%02x%s", in->bytes[i], i % 32 == 31 ? "\n" : " ");
	printf("\n0 passed, 1 failed, 0 skipped\n");
	return 1;
}

static void print_verdicts(const struct world *world)
{
	static const char *const names[] = {
#define X(name, text, fate, meaning) text,
		TP_VERDICTS(X)
#undef X
	};
	struct tp_worker_counters totals = tp_table_totals(world->table);

	totals.verdicts[TP_RELAYED] = tp_worker_direction(&totals, TP_CLIENT_TO_PEER).packets +
				      tp_worker_direction(&totals, TP_PEER_TO_CLIENT).packets;
	for (int i = 0; i < TP_VERDICT_COUNT; i++)
		printf("  %-18s %lu\n", names[i], (unsigned long)totals.verdicts[i]);
}

int main(int argc, char **argv)
{
	bool alone = argc > 1 && strcmp(argv[1], "native") == 0;
	unsigned long packets = argc > 1 + alone ? strtoul(argv[1 + alone], NULL, 0) : 100000;
	static struct outcome native;
	static struct batch batch;
	const struct frame *odd = NULL;
	const char *reason = "asked for";
	struct bpf_runner *bpf = NULL;
	struct wire_runner *wire = NULL;
	struct world world;
	struct frame in = {.len = 0};
	bool whole;

	state = argc > 2 + alone ? strtoull(argv[2 + alone], NULL, 0) : 0x7475726e;
	printf("seed %#lx, %lu packets\n", (unsigned long)state, packets);
	if (!alone && !the_wire)
		bpf = bpf_open(&reason);
	world_create(&world, bpf ? bpf_redirect_ifindex(bpf) : 2);
	world.outputs = the_wire != NULL;
	if (!alone && the_wire)
		wire = wire_open(&world, &reason);
	if (bpf) {
		bpf_load(bpf, &world);
		bpf_copy_world(bpf, &world);
	} else if (wire) {
		wire_copy_world(wire, &world);
	} else {
		printf("the native core alone: %s\n", reason);
	}

	for (unsigned long i = 0; i < packets; i++) {
		if (i == packets / 2)
			lose_a_flow(&world, bpf, wire);
		if (batch.count == 0 || !one_in(3)) /* else another one of a train */
			make(&in);
		else if (in.len > 1 && one_in(4))
			damage(&in);
		if (alone && batch.count == 0)
			world.outputs = one_in(2);
		if (alone)
			add_to_batch(&world, &batch, &in, &native);
		else
			native_run(&world, &in, HEADROOM, &native);
		if (!lawful(&in, &native) || (bpf && !agree(bpf, &world, &in, &native)) ||
			(wire && !agree_by_wire(wire, &world, &in, &native)))
			return give_up(i, &in, &native);
		if (batch.count == TP_BURST ||
			(batch.count && (one_in(TP_BURST) || i + 1 == packets / 2)))
			odd = run_batch(&world, &batch);
		if (odd)
			return give_up(i, odd, &native);
	}
	print_verdicts(&world);
	whole = wire_close(wire);
	bpf_close(bpf);
	world_destroy(&world);
	printf("%d passed, %d failed, %d skipped\n", whole, !whole, !bpf && !wire && !alone);
	return !whole;
}
