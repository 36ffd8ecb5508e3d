/*
 * Every way through the relay that is not a bound channel within one family: indications, one
 * family to the other, round from client to client, and bandwidth limits. As in rows.c each packet
 * runs through the native core and, as root, the loaded BPF program or a worker: same verdict, same
 * bytes, same counters. What should leave is built here a second time, without the core.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "senders.h"
#include "wire.h"

static struct world world;
static struct bpf_runner *bpf;
static struct wire_runner *wire;
static unsigned passed, failed, through_bpf, through_wire;

static const enum tp_family families[] = {TP_IPV4, TP_IPV6};

struct row {
	const char *name;
	enum tp_verdict want;
	struct way way;
	bool unplaced, no_room;
	bool limit;                /* there is a bandwidth limit, of the limited senders */
	bool spent[TP_DIRECTIONS]; /* and they have used it up */
	enum tp_verdict bpf;       /* instead of TP_RELAYED: the kernel has to do it */
	enum tp_verdict output;    /* instead of `want`, of a host that outputs */
};

#define V4  .client = TP_IPV4, .relay = TP_IPV4
#define V6  .client = TP_IPV6, .relay = TP_IPV6
#define TO6 .client = TP_IPV4, .relay = TP_IPV6
#define TO4 .client = TP_IPV6, .relay = TP_IPV4
#define ROUND(to)                                                                                  \
	V4, .who = SENDER_ROUND, .round = true, .whom = SENDER_##to, .whom_client = TP_IPV4
#define WITH(list) .frame.attributes = (list)

/* clang-format off */
static const struct row rows[] = {
	/* the message */
	{"data before the address", TP_RELAYED, {V4, WITH("DX")}},
	{"data before the address, odd", TP_RELAYED, {V4, WITH("DX"), .size = 3}},
	{"data before the address, odd, IPv6", TP_RELAYED, {V6, WITH("DX"), .size = 161}},
	{"data before the address, a fingerprint", TP_RELAYED, {V4, WITH("DXF")}},
	{"data before the address, a fingerprint, odd, IPv6", TP_RELAYED, {V6, WITH("DXF"), .size = 5}},
	{"data before the address, a wrong fingerprint", TP_MALFORMED, {V4, WITH("DXf")}},
	{"data before the address, empty", TP_RELAYED, {V4, WITH("DX"), .size = EMPTY}},
	{"data twice, no address", TP_INCOMPLETE, {V4, WITH("DD"), .size = 4}},
	{"the address twice, no data", TP_INCOMPLETE, {V4, WITH("XX")}},
	{"software, in front", TP_RELAYED, {V4, WITH("SXD")}},
	{"software, between", TP_RELAYED, {V6, WITH("XSD"), .size = 3}},
	{"software behind odd data", TP_RELAYED, {V4, WITH("XDS"), .size = 3}},
	{"software behind odd data, IPv6", TP_RELAYED, {V6, WITH("DSX"), .size = 1}},
	{"an optional attribute nobody knows", TP_RELAYED, {V4, WITH("OXDO")}},
	{"eight attributes", TP_RELAYED, {V4, WITH("XOOODOOO")}},
	{"nine attributes", TP_CONTROL, {V4, WITH("XOOODOOOO")}},
	{"a fingerprint", TP_RELAYED, {V4, WITH("XDF")}},
	{"a fingerprint behind odd data", TP_RELAYED, {V6, WITH("XDF"), .size = 161}},
	{"a fingerprint of a large packet", TP_RELAYED, {V4, WITH("XDF"), .size = 1400}},
	{"a fingerprint, software", TP_RELAYED, {V4, WITH("XSDF")}},
	{"a wrong fingerprint", TP_MALFORMED, {V4, WITH("XDf")}},
	{"a wrong fingerprint, nothing granted", TP_UNBOUND, {V4, WITH("XDf"), .peer = "203.0.113.10"}},
	{"a fingerprint that is not the last", TP_CONTROL, {V4, WITH("XDFS")}},
	{"two fingerprints", TP_CONTROL, {V4, WITH("XDFF")}},
	{"message integrity", TP_CONTROL, {V4, WITH("XDM")}},
	{"unknown and required", TP_UNKNOWN_ATTRIBUTE, {V4, WITH("XDU")}},
	{"unknown and required, in front", TP_UNKNOWN_ATTRIBUTE, {V6, WITH("UXD")}},
	{"unknown and required, nothing else", TP_UNKNOWN_ATTRIBUTE, {V4, WITH("U")}},
	{"no attributes", TP_INCOMPLETE, {V4, WITH("")}},
	{"no data", TP_INCOMPLETE, {V4, WITH("X")}},
	{"no address", TP_INCOMPLETE, {V4, WITH("D")}},
	{"no address, empty data", TP_INCOMPLETE, {V4, WITH("D"), .size = EMPTY}},
	{"two addresses", TP_RELAYED, {V4, WITH("XxD")}},
	{"two data", TP_RELAYED, {V4, WITH("XDd")}},
	{"two data, two addresses", TP_RELAYED, {V6, WITH("DXxd"), .size = 7}},
	{"an address of no family's length", TP_INCOMPLETE, {V4, WITH("iD")}},
	{"an address of no family's length, IPv6", TP_INCOMPLETE, {V6, WITH("iD")}},
	{"an attribute beyond the message", TP_MALFORMED, {V4, WITH("XDe")}},
	{"much software", TP_CONTROL, {V4, WITH("LXD")}},
	{"much software, behind", TP_CONTROL, {V4, WITH("XDL")}},
	{"an address of family 3", TP_INCOMPLETE, {V4, .patch = {1, PAYLOAD, 25, 3}}},
	{"an address of family 2 in 8 bytes", TP_INCOMPLETE, {V4, .patch = {1, PAYLOAD, 25, 2}}},
	{"the byte before the family does not matter", TP_RELAYED, {V4, .frame.checksum = CHECKSUM_NONE, .patch = {1, PAYLOAD, 24, 7}}},
	{"a message length of four more", TP_MALFORMED, {V4, .patch = {2, PAYLOAD, 2, 28 + 0}}},
	{"a message length that is not in fours", TP_MALFORMED, {V4, .patch = {2, PAYLOAD, 2, 25}}},
	{"data beyond the message", TP_MALFORMED, {V4, .patch = {2, PAYLOAD, 34, 0xffff}}},
	{"data one beyond the message", TP_MALFORMED, {V4, .size = 4, .patch = {2, PAYLOAD, 34, 5}}},
	{"no cookie", TP_CONTROL, {V4, .patch = {2, PAYLOAD, 6, 0xa443}}},
	{"a Send request", TP_CONTROL, {V4, .patch = {2, PAYLOAD, 0, 0x0006}}},
	{"a Data indication from a client", TP_CONTROL, {V4, .patch = {2, PAYLOAD, 0, 0x0017}}},
	{"a Send with the first bit set", TP_CONTROL, {V4, .patch = {2, PAYLOAD, 0, 0x8016}}},

	/* the grant */
	{"any port of the peer", TP_RELAYED, {V4, .port = 1}},
	{"port 0", TP_FORBIDDEN, {V4, .patch = {2, PAYLOAD, 26, 0x2112}}},
	{"another peer", TP_UNBOUND, {V4, .peer = "203.0.113.10"}},
	{"another peer, some flows unplaced", TP_UNBOUND, {V4, .peer = "203.0.113.10"}, .unplaced = true},
	{"another peer, IPv6", TP_UNBOUND, {V6, .peer = "2001:db8:a::a"}},
	{"a peer that passes for an IPv4 one", TP_FORBIDDEN, {V6, .peer = "::ffff:203.0.113.9"}},
	{"the permission is over", TP_EXPIRED, {V4, .who = SENDER_LAPSED}},
	{"the permission is over, channel's data is not", TP_RELAYED, {V4, .who = SENDER_LAPSED, .channel = true}},
	{"the permission is over, down", TP_EXPIRED, {V6, .who = SENDER_LAPSED, .down = true}},
	{"no next hop", TP_NO_NEXT_HOP, {V4, .who = SENDER_UNROUTED}},
	{"no next hop, down", TP_NO_NEXT_HOP, {V6, .who = SENDER_UNROUTED, .down = true}},
	{"no next hop, don't fragment", TP_NO_NEXT_HOP, {V4, .who = SENDER_UNROUTED, WITH("XND")}},
	{"no next hop, and DF does not matter", TP_NO_NEXT_HOP, {V4, .who = SENDER_UNROUTED, .channel = true, .frame.fragment = 0x4000, .frame.tos = 0xb9}},
	{"no next hop, odd data, trailer", TP_NO_NEXT_HOP, {V4, .who = SENDER_UNROUTED, .down = true, .size = 7, .frame.trailer = 9, .frame.vlan = {0x2005}}},
	{"no next hop, a wrong checksum", TP_NO_NEXT_HOP, {V6, .who = SENDER_UNROUTED, .frame.checksum = CHECKSUM_WRONG}},
	{"no next hop, no checksum", TP_NO_NEXT_HOP, {TO6, .who = SENDER_UNROUTED, .frame.checksum = CHECKSUM_NONE}},
	{"no next hop, a fingerprint", TP_NO_NEXT_HOP, {V4, .who = SENDER_UNROUTED, WITH("XDF")}},
	{"no next hop, a wrong fingerprint", TP_NO_NEXT_HOP, {V4, .who = SENDER_UNROUTED, WITH("XDf")}, .output = TP_MALFORMED},
	{"no next hop, a wrong header checksum", TP_NO_NEXT_HOP, {V4, .who = SENDER_UNROUTED, .frame.wrong_ip_checksum = true}, .output = TP_BAD_CHECKSUM},
	{"too big, don't fragment", TP_TOO_BIG, {V4, .who = SENDER_SMALL, WITH("XND"), .size = 1300}},
	{"no next hop into the other family", TP_NO_NEXT_HOP, {TO6, .who = SENDER_UNROUTED, .channel = true}},
	{"TTL 1", TP_TTL_EXPIRED, {V4, .frame.ttl = 1}},
	{"TTL 2", TP_RELAYED, {TO4, .frame.ttl = 2}},
	{"hop limit 1, down", TP_TTL_EXPIRED, {TO4, .down = true, .frame.ttl = 1}},
	{"a wrong header checksum stays wrong", TP_RELAYED, {V4, .frame.wrong_ip_checksum = true}},
	{"a wrong header checksum stays wrong, down", TP_RELAYED, {V4, .down = true, .frame.wrong_ip_checksum = true}},
	{"a wrong header checksum, bound for IPv6", TP_BAD_CHECKSUM, {TO6, .frame.wrong_ip_checksum = true}},
	{"a wrong header checksum, bound for IPv6, down", TP_BAD_CHECKSUM, {TO4, .down = true, .frame.wrong_ip_checksum = true}},

	/* fragmentation */
	{"don't fragment, the attribute", TP_RELAYED, {V4, WITH("XND")}},
	{"the attribute, both", TP_RELAYED, {V4, WITH("NXD"), .frame.fragment = 0x4000}},
	{"the attribute means nothing over IPv6", TP_RELAYED, {V6, WITH("XND")}},
	{"the attribute means nothing towards IPv4", TP_RELAYED, {TO4, WITH("XND")}},
	{"the attribute means nothing towards IPv6", TP_TOO_BIG, {TO6, WITH("XND"), .size = 1233}},

	/* zero checksums */
	{"no checksum stays none", TP_RELAYED, {V4, .frame.checksum = CHECKSUM_NONE}},
	{"no checksum stays none, down", TP_RELAYED, {V4, .down = true, .frame.checksum = CHECKSUM_NONE}},
	{"no checksum towards IPv6", TP_RELAYED, {TO6, .frame.checksum = CHECKSUM_NONE}, .bpf = TP_UNSUMMED},
	{"no checksum towards IPv6, odd", TP_RELAYED, {TO6, .channel = true, .size = 161, .frame.checksum = CHECKSUM_NONE}, .bpf = TP_UNSUMMED},
	{"no checksum towards IPv6, down", TP_RELAYED, {TO4, .down = true, .size = 3, .frame.checksum = CHECKSUM_NONE}, .bpf = TP_UNSUMMED},
	{"no checksum towards IPv6, channel, down", TP_RELAYED, {TO4, .down = true, .channel = true, .frame.checksum = CHECKSUM_NONE}, .bpf = TP_UNSUMMED},

	/* room */
	{"no room for the indication", TP_NO_ROOM, {V4, .down = true}, .no_room = true},
	{"no room for the padding alone", TP_NO_ROOM, {V4, .down = true, .size = 1}, .no_room = true},
	{"no room for the larger header", TP_NO_ROOM, {TO6, .channel = true}, .no_room = true},
	{"a Send makes its own", TP_RELAYED, {TO6}, .no_room = true},

	/* bandwidth limits */
	{"within the limit", TP_RELAYED, {V4, .who = SENDER_LIMITED}, .limit = true},
	{"within the limit, down", TP_RELAYED, {V6, .who = SENDER_LIMITED, .down = true}, .limit = true},
	{"within the limit on a channel", TP_RELAYED, {V4, .who = SENDER_LIMITED, .channel = true}, .limit = true},
	{"within the limit on a channel, down", TP_RELAYED, {V6, .who = SENDER_LIMITED, .channel = true, .down = true}, .limit = true},
	{"over the limit", TP_POLICED, {V4, .who = SENDER_LIMITED}, .limit = true, .spent = {true, false}},
	{"over the limit, down", TP_POLICED, {V6, .who = SENDER_LIMITED, .down = true}, .limit = true, .spent = {false, true}},
	{"over the limit on a channel", TP_POLICED, {V4, .who = SENDER_LIMITED, .channel = true}, .limit = true, .spent = {true, false}},
	{"over the limit on a channel, down", TP_POLICED, {V4, .who = SENDER_LIMITED, .channel = true, .down = true}, .limit = true, .spent = {false, true}},
	{"over the limit into the other family", TP_POLICED, {TO6, .who = SENDER_LIMITED, .channel = true}, .limit = true, .spent = {true, false}},
	{"over the limit the other way only", TP_RELAYED, {V4, .who = SENDER_LIMITED}, .limit = true, .spent = {false, true}},
	{"over the limit, but too big comes first", TP_TOO_BIG, {V4, .who = SENDER_LIMITED, .down = true, .size = 1440}, .limit = true, .spent = {false, true}, .output = TP_POLICED},
	{"within the limit, but too big", TP_TOO_BIG, {V4, .who = SENDER_LIMITED, .down = true, .size = 1440}, .limit = true},
	{"over a limit that was taken away", TP_RELAYED, {V4, .who = SENDER_LIMITED}, .spent = {true, true}},
	{"of others' limits nobody knows", TP_RELAYED, {V4}, .limit = true, .spent = {true, true}},
	{"round: within the limit there", TP_RELAYED, {ROUND(ROUND_LIMITED), .channel = true}, .limit = true},
	{"round: over the limit there", TP_POLICED, {ROUND(ROUND_LIMITED), .channel = true}, .limit = true, .spent = {false, true}},
	{"round: over the limit there, the other way", TP_RELAYED, {ROUND(ROUND_LIMITED), .channel = true}, .limit = true, .spent = {true, false}},
	{"round: over the limit here", TP_POLICED, {V4, .who = SENDER_ROUND_LIMITED, .round = true, .whom = SENDER_ROUND_DATA, .whom_client = TP_IPV4}, .limit = true, .spent = {true, false}},

	/* round */
	{"round: TTL 2", TP_TTL_EXPIRED, {ROUND(ROUND_DATA), .frame.ttl = 2}},
	{"round: TTL 3", TP_RELAYED, {ROUND(ROUND_DATA), .frame.ttl = 3}},
	{"round: back to oneself", TP_FORBIDDEN, {ROUND(ROUND)}},
	{"round: back to oneself on a channel", TP_FORBIDDEN, {ROUND(ROUND), .channel = true}},
	{"round: of no permission there", TP_NO_FLOW, {ROUND(PLAIN)}},
	{"round: of no permission there, some flows unplaced", TP_UNPLACED, {ROUND(PLAIN)}, .unplaced = true},
	{"round: the permission there is over", TP_EXPIRED, {ROUND(ROUND_LAPSED)}},
	{"round: the permission here is over", TP_EXPIRED, {V4, .who = SENDER_ROUND_LAPSED, .round = true, .whom = SENDER_ROUND, .whom_client = TP_IPV4}},
	{"round: the permission here is over, the channel lives", TP_EXPIRED, {ROUND(ROUND_LAPSED), .channel = true}},
	{"round: a relay that nobody has", TP_SLOW_PORT, {ROUND(NOBODY), .port = PORT_CLOSED}},
	{"round: a relay that the control plane serves", TP_SLOW_PORT, {ROUND(NOBODY), .port = PORT_SLOW}},
	{"round: a relay that granted nothing", TP_NO_FLOW, {ROUND(NOBODY), .port = PORT_UNGRANTED}},
	{"round: don't fragment goes round too", TP_RELAYED, {ROUND(ROUND_DATA), WITH("XND")}},
	{"round: fingerprint", TP_RELAYED, {ROUND(ROUND_DATA), WITH("XDF")}},
	{"round: a wrong fingerprint", TP_MALFORMED, {ROUND(ROUND_DATA), WITH("XDf")}},
	{"round: a wrong checksum stays wrong", TP_RELAYED, {ROUND(ROUND_CHANNEL), .channel = true, .frame.checksum = CHECKSUM_WRONG}},
	{"round: no checksum stays none", TP_RELAYED, {ROUND(ROUND_DATA), .frame.checksum = CHECKSUM_NONE}},
	{"round: a wrong header checksum stays wrong", TP_RELAYED, {ROUND(ROUND_DATA), .frame.wrong_ip_checksum = true}},
	{"round: too big there", TP_TOO_BIG, {ROUND(ROUND_DATA), .channel = true, .size = 1450}},
	{"round: no room", TP_NO_ROOM, {ROUND(ROUND_DATA), .channel = true}, .no_room = true},
	{"from the wire no relay of ours sends", TP_BAD_SOURCE, {.who = SENDER_ROUND, V4, .down = true, .peer = "192.0.2.2"}},
};
/* clang-format on */

static enum tp_verdict wanted(const struct row *row)
{
	return world.outputs && row->output ? row->output : row->want;
}

/* Rewritten for the kernel's IP output. */
static bool is_output(const struct row *row)
{
	enum tp_verdict want = wanted(row);

	return world.outputs && (want == TP_TOO_BIG || want == TP_NO_NEXT_HOP);
}

static enum tp_family family_in(const struct way *way)
{
	return way->down ? way->relay : way->client;
}

static enum tp_family family_out(const struct way *way)
{
	return way->round ? way->whom_client : way->down ? way->client : way->relay;
}

static bool complain(const char *what, const struct outcome *got, const struct frame *want)
{
	printf("  %s: verdict %d, %zu bytes, want %zu\n", what, got->verdict, got->frame.len,
		want->len);
	for (size_t i = 0; i < want->len && i < got->frame.len; i++)
		if (want->bytes[i] != got->frame.bytes[i])
			printf("  byte %zu: %02x, want %02x\n", i, got->frame.bytes[i],
				want->bytes[i]);
	return false;
}

static enum tp_pair pair(enum tp_family in, enum tp_family out)
{
	return tp_pair_of(in == TP_IPV4, out == TP_IPV4);
}

static void add(struct tp_flow_counters *counters, size_t len)
{
	counters->packets++;
	counters->bytes += len;
}

/* What the counters of the worker have to be then. */
static struct tp_worker_counters expect_counters(
	const struct row *row, const struct frame_spec *spec, struct tp_worker_counters c)
{
	const struct way *way = &row->way;

	c.outputs += is_output(row);
	if (wanted(row) != TP_RELAYED)
		c.verdicts[wanted(row)]++;
	if (wanted(row) != TP_RELAYED && !is_output(row))
		return c;
	if (!way->down)
		add(&c.relayed[TP_CLIENT_TO_PEER][pair(way->client, way->relay)], spec->data_len);
	if (way->down || way->round)
		add(&c.relayed[TP_PEER_TO_CLIENT][pair(way->relay, family_out(way))],
			spec->data_len);
	c.hairpins += way->round;
	return c;
}

/* One flow each way, of the allocations whose packet it is. */
static bool flows_counted(const struct row *row, const struct tp_flow_counters *before, size_t len)
{
	const struct tp_flow *flows = world.memory.regions[TP_REGION_FLOWS];
	const struct tp_flow_detail *details = world.memory.regions[TP_REGION_DETAILS];
	uint32_t up = sender_relay_port(row->way.who, row->way.client);
	uint32_t down =
		row->way.round ? sender_relay_port(row->way.whom, row->way.whom_client) : up;
	unsigned ups = 0, downs = 0;

	for (uint32_t i = 0; i < tp_table_slots(world.table); i++) {
		struct tp_flow_counters now = world_counted(&world.memory, i);
		uint8_t kind = flows[i].key.kind;
		bool is_up = kind == TP_FLOW_CHANNEL || kind == TP_FLOW_CLIENT;

		if (now.packets == before[i].packets)
			continue;
		if (now.packets != before[i].packets + 1 || now.bytes != before[i].bytes + len)
			return false;
		if (details[i].allocation != (is_up ? up : down))
			return false;
		ups += is_up;
		downs += !is_up;
	}
	if (wanted(row) != TP_RELAYED && !is_output(row))
		return ups + downs == 0;
	return ups == !row->way.down && downs == (row->way.down || row->way.round);
}

static bool checksums_fit(const struct frame_spec *spec, struct frame *frame)
{
	bool made = spec->checksum == CHECKSUM_NONE;

	if (!frame_locate(frame) || frame_ip_checksum_ok(frame) == spec->wrong_ip_checksum)
		return false;
	if (made && frame->bytes[frame->l3] >> 4 == 4)
		return frame_get16(frame, frame->l4 + 6) == 0;
	return frame_udp_checksum_ok(frame) == (spec->checksum != CHECKSUM_WRONG);
}

static bool run_native(const struct row *row, const struct frame_spec *spec, const struct frame *in,
	struct outcome *native)
{
	static struct tp_flow_counters before[8192];
	static struct frame want;
	struct tp_worker_counters totals = tp_table_totals(world.table), after;
	uint32_t egress = 0;

	want = *in;
	for (uint32_t i = 0; i < tp_table_slots(world.table); i++)
		before[i] = world_counted(&world.memory, i);
	native_run(&world, in, row->no_room ? 0 : HEADROOM, native);
	if (native->verdict != wanted(row) || native->output != is_output(row))
		return complain("native", native, in);
	totals = expect_counters(row, spec, totals);
	after = tp_table_totals(world.table);
	if (memcmp(&totals, &after, sizeof(totals)) != 0 ||
		!flows_counted(row, before, spec->data_len))
		return complain("native: counters", native, in);
	if (wanted(row) == TP_RELAYED || native->output) {
		way_expect(&row->way, &world, spec, native->output, &want, &egress);
		if ((!native->output && egress != native->egress) ||
			!checksums_fit(spec, &native->frame))
			return complain("native: checksums or egress", native, &want);
	}
	if (tp_verdict_fate(wanted(row)) != TP_FATE_DROP && !frame_equal(&native->frame, &want))
		return complain("native: bytes", native, &want);
	return true;
}

static bool run_bpf(const struct row *row, const struct frame *in, const struct outcome *native)
{
	static struct outcome got;

	if (!bpf_run(bpf, &world, in, &got))
		return true;
	through_bpf++;
	if (row->bpf)
		return got.verdict == row->bpf && frame_equal(&got.frame, in);
	if (got.verdict != native->verdict || !frame_equal(&got.frame, &native->frame))
		return complain("BPF", &got, &native->frame);
	if (got.verdict == TP_RELAYED && got.egress != native->egress)
		return complain("BPF: egress", &got, &native->frame);
	return bpf_counters_equal(bpf, &world) || complain("BPF: counters", &got, &native->frame);
}

static bool run_wire(const struct frame *in, const struct outcome *native)
{
	static struct outcome got;

	if (!wire_run(wire, &world, in, &got))
		return true;
	through_wire++;
	if (got.verdict == WIRE_STEERED)
		return (tp_verdict_fate(native->verdict) == TP_FATE_PASS &&
			       frame_equal(&got.frame, in)) ||
		       complain("steering", &got, in);
	if (got.verdict != native->verdict || !wire_frame_equal(&got, native))
		return complain(the_wire->name, &got, &native->frame);
	if (got.verdict == TP_RELAYED && got.egress != native->egress)
		return complain("egress", &got, &native->frame);
	return wire_counters_equal(wire, &world) || complain("counters", &got, &native->frame);
}

/* 1 Mbit/s, and 20 ms ahead of it. */
static void set_limit(const struct row *row)
{
	struct tp_config *config = world.memory.regions[TP_REGION_CONFIG];
	struct tp_policer *policers = world.memory.regions[TP_REGION_POLICERS];
	uint64_t later = tp_clock_now_ns() + 3600 * TP_NS_PER_S;

	config->byte_ns = row->limit ? 8000 * 1024 : 0;
	config->backlog_ns = 20000000;
	for (int i = 0; i < TP_DIRECTIONS; i++)
		policers[SENDER_POLICER].paid_until_ns[i] = row->spent[i] ? later : 0;
}

static bool run(const struct row *row)
{
	struct tp_config *config = world.memory.regions[TP_REGION_CONFIG];
	static struct outcome native;
	struct frame_spec spec;
	static struct frame in;
	bool ok;

	way_build(&row->way, &spec, &in);
	config->unplaced = row->unplaced;
	set_limit(row);
	if (bpf && !row->no_room)
		bpf_copy_world(bpf, &world);
	if (wire && !row->no_room)
		wire_copy_world(wire, &world);
	ok = run_native(row, &spec, &in, &native);
	if (ok && bpf && !row->no_room)
		ok = run_bpf(row, &in, &native);
	if (ok && wire && !row->no_room)
		ok = run_wire(&in, &native);
	config->unplaced = 0;
	if (ok) {
		passed++;
		return true;
	}
	failed++;
	printf("FAILED: %s (who %d, %s, client IPv%d, relay IPv%d, %s, size %zu, round to %d IPv%d)\n",
		row->name, row->way.who, row->way.down ? "down" : "up", row->way.client,
		row->way.relay, row->way.channel ? "channel" : "indication", row->way.size,
		row->way.round ? (int)row->way.whom : -1, row->way.whom_client);
	return false;
}

/* All 16 ways of one sender: up and down, either wrapping, any family to any. */
static struct way nth_way(enum sender who, unsigned n)
{
	return (struct way){
		.who = who,
		.down = n & 1,
		.channel = n & 2,
		.client = families[n >> 2 & 1],
		.relay = families[n >> 3 & 1],
	};
}

/* All 32 ways round to one sender. */
static struct way nth_round(enum sender whom, unsigned n)
{
	return (struct way){
		.who = SENDER_ROUND,
		.round = true,
		.whom = whom,
		.channel = n & 1,
		.client = families[n >> 1 & 1],
		.relay = families[n >> 2 & 1],
		.whom_client = families[n >> 3 & 1],
	};
}

#define WAYS   16
#define ROUNDS 16

static bool goes_to_ipv6(const struct way *way)
{
	return family_in(way) == TP_IPV4 && family_out(way) == TP_IPV6;
}

static void run_with_checksums(struct row *row)
{
	bool v4 = family_in(&row->way) == TP_IPV4;

	row->way.frame.checksum = CHECKSUM_GOOD;
	run(row);
	row->way.frame.checksum = CHECKSUM_WRONG;
	run(row);
	row->way.frame.checksum = CHECKSUM_NONE;
	row->want = v4 ? TP_RELAYED : TP_NO_CHECKSUM;
	row->bpf = goes_to_ipv6(&row->way) ? TP_UNSUMMED : 0;
	run(row);
	row->want = TP_RELAYED;
	row->bpf = 0;
	row->way.frame.checksum = CHECKSUM_GOOD;
}

static void run_sizes(struct row *row)
{
	static const size_t sizes[] = {EMPTY, 1, 2, 3, 4, 5, 6, 7, 160, 161, 1150, 1151};

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		row->way.size = sizes[i];
		row->way.frame.fragment = i & 1 ? 0x4000 : 0;
		row->way.frame.tos = (uint8_t)(i * 21);
		row->way.frame.ttl = (uint8_t)(3 + i * 20);
		row->way.frame.trailer = i % 3 ? i * 3 : 0;
		row->way.frame.padding = !row->way.down && row->way.channel ? i & 3 : 0;
		row->way.frame.padding_byte = 0x5b;
		run_with_checksums(row);
	}
	row->way.frame = (struct frame_spec){.vlan = {0x2005}};
	row->way.size = 5;
	run(row);
	row->way.frame = (struct frame_spec){0};
}

static void run_ways(void)
{
	static const enum sender senders[] = {SENDER_PLAIN, SENDER_VLAN, SENDER_REDIRECT};
	struct row row = {"way", TP_RELAYED};

	for (size_t i = 0; i < sizeof(senders) / sizeof(senders[0]); i++)
		for (unsigned n = 0; n < WAYS; n++) {
			row.way = nth_way(senders[i], n);
			run_sizes(&row);
		}
}

static void run_rounds(void)
{
	static const enum sender senders[] = {SENDER_ROUND_DATA, SENDER_ROUND_CHANNEL};
	struct row row = {"round", TP_RELAYED};

	for (size_t i = 0; i < sizeof(senders) / sizeof(senders[0]); i++)
		for (unsigned n = 0; n < ROUNDS; n++) {
			row.way = nth_round(senders[i], n);
			run_sizes(&row);
		}
	/* Of one user, but not of one allocation. */
	row.way = nth_round(SENDER_ROUND, 0);
	row.way.whom_client = TP_IPV6;
	run(&row);
}

static size_t wrapped_len(const struct way *way, size_t size)
{
	if (!way->down && !way->round)
		return size;
	if (way->down && way->channel)
		return size + 4;
	return (way->relay == TP_IPV4 ? 36 : 48) + ((size + 3) & ~(size_t)3);
}

static size_t ip_len(enum tp_family family, size_t payload)
{
	return (family == TP_IPV4 ? 28 : 48) + payload;
}

/* The largest that the rule lets through, and one byte more of data. */
static void run_limit(struct row *row, size_t limit)
{
	size_t size = limit;

	while (ip_len(family_out(&row->way), wrapped_len(&row->way, size)) > limit)
		size--;
	row->way.size = size;
	row->want = TP_RELAYED;
	run(row);
	row->way.size = size + 1;
	row->want = TP_TOO_BIG;
	run(row);
}

static void run_mtu(void)
{
	struct row row = {"MTU"};

	for (unsigned n = 0; n < WAYS; n++) {
		bool to6, df;

		row.way = nth_way(SENDER_PLAIN, n);
		to6 = goes_to_ipv6(&row.way);
		for (df = false;; df = true) {
			row.way.frame.fragment = df ? 0x4000 : 0;
			run_limit(&row, to6 && !df ? 1280 : 1500);
			if (df)
				break;
		}
		row.way.who = SENDER_SMALL;
		run_limit(&row, 1280);
	}
}

/* DF of what was IPv6: 1260 bytes may be fragmented, 1261 not. */
static void run_atomic(void)
{
	struct row row = {"atomic", TP_RELAYED};

	for (unsigned n = 0; n < WAYS; n++) {
		row.way = nth_way(SENDER_PLAIN, n);
		if (family_in(&row.way) != TP_IPV6 || family_out(&row.way) != TP_IPV4)
			continue;
		for (row.way.size = 1150; row.way.size < 1240; row.way.size++)
			run(&row);
	}
}

/* No two indications have the same transaction. */
static void run_transactions(void)
{
	static struct outcome got[3];
	struct row row = {"transactions", TP_RELAYED, nth_way(SENDER_PLAIN, 1)};
	struct frame_spec spec;
	struct frame in;
	bool ok = true;

	way_build(&row.way, &spec, &in);
	if (bpf)
		bpf_copy_world(bpf, &world);
	for (int i = 0; i < 3; i++) {
		if (bpf)
			ok &= bpf_run(bpf, &world, &in, &got[i]);
		else
			native_run(&world, &in, HEADROOM, &got[i]);
	}
	ok &= memcmp(got[0].transaction, got[1].transaction, FRAME_TRANSACTION) != 0 &&
	      memcmp(got[1].transaction, got[2].transaction, FRAME_TRANSACTION) != 0 &&
	      memcmp(got[0].transaction, got[2].transaction, FRAME_TRANSACTION) != 0;
	printf(ok ? "" : "FAILED: transactions\n");
	*(ok ? &passed : &failed) += 1;
}

int main(void)
{
	const char *reason = NULL;

	bpf = the_wire ? NULL : bpf_open(&reason);
	world_create(&world, bpf ? bpf_redirect_ifindex(bpf) : 2);
	world.outputs = the_wire != NULL; /* whether it can be opened or not */
	if (the_wire)
		wire = wire_open(&world, &reason);
	if (bpf)
		bpf_load(bpf, &world);
	if (!bpf && !wire)
		printf("%s runs left out: %s\n", the_wire ? the_wire->name : "BPF", reason);

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		run(&rows[i]);
	run_ways();
	run_rounds();
	run_mtu();
	run_atomic();
	run_transactions();

	if (!wire_close(wire))
		failed++;
	bpf_close(bpf);
	world_destroy(&world);
	printf("%u of them through the BPF program too, %u through a worker\n", through_bpf,
		through_wire);
	printf("%u passed, %u failed, %u skipped\n", passed, failed, bpf || wire ? 0u : 1u);
	return failed || passed < 2000;
}
