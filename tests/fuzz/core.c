/*
 * dataplane/core over plain memory: frames as they come, and frames of the vectors' world with
 * bytes overwritten. Buffers end where the frame ends, so ASan sees every byte too far.
 */
#include "fuzz.h"

#include "tests/vectors/senders.h"

#define RUNS_PER_WORLD 200000 /* its flows live for an hour */
#define REDIRECT       2

static struct world *the_world(void)
{
	static struct world world;
	static unsigned long runs;

	if (runs++ % RUNS_PER_WORLD == 0) {
		if (world.table)
			world_destroy(&world);
		world_create(&world, REDIRECT);
	}
	return &world;
}

static void take_probe(struct feed *feed, struct probe *out)
{
	static const uint16_t ports[] = {0, 0, 0, PORT_PERMISSION, PORT_LAPSED, PORT_UNGRANTED,
		PORT_SLOW, PORT_CHANNEL_OVER, PORT_EVERYTHING_OVER, PORT_CLOSED};
	static const uint8_t extensions[] = {0, 0, 43, 44, 60, 6};
	uint8_t flags = feed_u8(feed);

	*out = (struct probe){.from = flags & 1 ? CLIENT : PEER};
	out->lane = world_lane_at(feed_u8(feed) % world_lanes())->channel;
	if (out->from == PEER)
		out->port = ports[feed_u8(feed) % COUNT(ports)];
	out->size = 1 + feed_u16(feed) % 1500;
	if (flags & 2)
		out->frame.vlan[0] = feed_u16(feed);
	out->frame.ttl = flags & 4 ? feed_u8(feed) : 64;
	out->frame.tos = flags & 4 ? feed_u8(feed) : 0;
	out->frame.fragment = flags & 8 ? feed_u16(feed) : 0x4000;
	if (flags & 16) {
		out->frame.options = feed_u8(feed) % 11;
		out->frame.extension = extensions[feed_u8(feed) % sizeof(extensions)];
	}
	if (flags & 32) {
		out->frame.padding = feed_u8(feed) % 5;
		out->frame.trailer = feed_u8(feed) % 32;
	}
	out->frame.checksum = flags & 64 ? feed_u8(feed) % 3 : CHECKSUM_GOOD;
}

static enum tp_family take_family(uint8_t bit)
{
	return bit ? TP_IPV6 : TP_IPV4;
}

/* Indications, across the families, round. */
static void take_way(struct feed *feed, struct way *out)
{
	static const char *const attributes[] = {NULL, "DX", "XDF", "XNSD", "OXDO", "XxDd", "XDf",
		"XDU", "D", "X", "XDM", "XDFS", "XOOODOOOO", "iD", "XDe", "LXD"};
	uint8_t flags = feed_u8(feed), families = feed_u8(feed);

	*out = (struct way){
		.who = feed_u8(feed) % SENDERS,
		.down = flags & 1,
		.channel = flags & 2,
		.round = (flags & 5) == 4,
		.whom = feed_u8(feed) % SENDERS,
		.client = take_family(families & 1),
		.relay = take_family(families & 2),
		.whom_client = take_family(families & 4),
		.size = 1 + feed_u16(feed) % 1450,
		.frame.fragment = flags & 8 ? 0x4000 : 0,
		.frame.ttl = flags & 16 ? feed_u8(feed) : 64,
		.frame.padding = flags & 32 ? feed_u8(feed) % 5 : 0,
		.frame.trailer = flags & 64 ? feed_u8(feed) % 32 : 0,
		.frame.checksum = flags & 128 ? feed_u8(feed) % 3 : CHECKSUM_GOOD,
		.frame.attributes = attributes[feed_u8(feed) % COUNT(attributes)],
	};
	if (out->down || !out->channel)
		out->frame.padding = 0;
}

/* Three bytes a change: where, and what stands there then. */
static void overwrite(struct feed *feed, struct frame *frame)
{
	while (feed->len >= 3) {
		size_t at = feed_u8(feed);

		if (at == 0xff)
			frame->len -= feed_u8(feed) % (frame->len + 1);
		else if (at + 1 < frame->len)
			frame_put16(frame, at, feed_u16(feed));
		else
			feed_u16(feed);
	}
}

static void make_frame(struct feed *feed, uint8_t mode, struct frame *out)
{
	enum tp_family family = mode & 1 ? TP_IPV6 : TP_IPV4;
	struct frame_spec spec;
	struct probe probe;
	struct way way;

	if (mode & 2) {
		out->len = feed->len < FRAME_MAX ? feed->len : FRAME_MAX;
		memcpy(out->bytes, feed->bytes, out->len);
		return;
	}
	if (mode & 8) {
		take_way(feed, &way);
		way_build(&way, &spec, out);
	} else {
		take_probe(feed, &probe);
		probe_build(&probe, family, &spec, out);
	}
	overwrite(feed, out);
}

static void check_relayed(const struct frame *in, const struct outcome *got)
{
	struct frame before = *in, after = got->frame;

	MUST(got->frame.len <= in->len + HEADROOM + TAILROOM);
	MUST(got->output || got->egress == WORLD_INGRESS || got->egress == REDIRECT);
	MUST(frame_locate(&before) && frame_locate(&after));
	MUST(frame_ip_checksum_ok(&before) == frame_ip_checksum_ok(&after));
	MUST(!got->output || frame_ip_checksum_ok(&after));
	MUST(frame_udp_checksum_kept(&before, &after));
	MUST(frame_get16(&after, after.l4) != 0 && frame_get16(&after, after.l4 + 2) != 0);
	MUST(after.l4 + frame_get16(&after, after.l4 + 4) <= after.len);
	MUST(after.payload <= after.len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct outcome got;
	static struct frame in;
	struct feed feed = {data, size};
	uint8_t mode = feed_u8(&feed);
	struct world *world = the_world();

	world->outputs = mode & 16;
	make_frame(&feed, mode, &in);
	native_run(world, &in, mode & 4 ? (size_t)(mode >> 4) & ~(size_t)1 : HEADROOM, &got);
	MUST((unsigned)got.verdict < TP_VERDICT_COUNT);
	MUST(world->outputs || !got.output);
	if (tp_verdict_fate(got.verdict) == TP_FATE_PASS && !got.output)
		MUST(frame_equal(&in, &got.frame));
	if (got.verdict == TP_RELAYED || got.output)
		check_relayed(&in, &got);
	return 0;
}
