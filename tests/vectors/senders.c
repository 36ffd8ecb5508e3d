#include "senders.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"

#define CHANNEL_TO_PEER      0x4060 /* + 1: by the IPv6 relay */
#define CHANNEL_TO_SENDER    0x4080 /* + 8 * sender, + 2: by the IPv6 relay, + 1: IPv6 client */
#define PEER_WITHOUT_CHANNEL 5001

static const uint16_t hops[SENDERS] = {
	[SENDER_PLAIN] = HOP_PLAIN,
	[SENDER_VLAN] = HOP_VLAN,
	[SENDER_REDIRECT] = HOP_REDIRECT,
	[SENDER_SMALL] = HOP_SMALL,
	[SENDER_UNROUTED] = TP_NO_NEXT_HOP_YET,
	[SENDER_LAPSED] = HOP_PLAIN,
	[SENDER_LIMITED] = HOP_PLAIN,
	[SENDER_ROUND] = HOP_PLAIN,
	[SENDER_ROUND_DATA] = HOP_VLAN,
	[SENDER_ROUND_CHANNEL] = HOP_REDIRECT,
	[SENDER_ROUND_LAPSED] = HOP_PLAIN,
	[SENDER_ROUND_LIMITED] = HOP_PLAIN,
};

static const enum tp_family families[] = {TP_IPV4, TP_IPV6};

static void must(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "senders: %s failed\n", what);
	exit(1);
}

uint16_t sender_relay_port(enum sender who, enum tp_family client)
{
	return (uint16_t)(51000 + 2 * who + (client == TP_IPV6));
}

static struct tp_addr client_of(enum sender who, enum tp_family client)
{
	struct tp_addr out = world_address(client, CLIENT);

	out.port = (uint16_t)(41000 + 2 * who + (client == TP_IPV6));
	return out;
}

static struct tp_addr relay_of(enum sender who, enum tp_family client, enum tp_family relay)
{
	struct tp_addr out = world_address(relay, RELAY);

	out.port = sender_relay_port(who, client);
	return out;
}

static uint8_t local_of(const struct world *world, const struct tp_addr *address)
{
	uint8_t local;

	must(tp_table_find_local(world->table, address, &local) == 0, "local");
	return local;
}

static struct tp_flow_side side(
	const struct world *world, struct tp_addr remote, struct tp_addr local, uint16_t channel)
{
	return (struct tp_flow_side){
		.remote = remote,
		.local = local_of(world, &local),
		.local_port = local.port,
		.channel = channel,
	};
}

static bool is_limited(enum sender who)
{
	return who == SENDER_LIMITED || who == SENDER_ROUND_LIMITED;
}

static void publish(
	struct world *world, enum sender who, enum tp_family client, struct tp_flow_spec spec)
{
	bool lapsed = spec.kind == TP_FLOW_PERMISSION &&
		      (who == SENDER_LAPSED || who == SENDER_ROUND_LAPSED);
	uint64_t now = tp_clock_now_ns();
	uint32_t slot;

	spec.allocation = sender_relay_port(who, client);
	spec.expires_ns = lapsed ? now - TP_NS_PER_S : now + 3600 * TP_NS_PER_S;
	spec.policer = is_limited(who) ? SENDER_POLICER : 0;
	must(tp_table_publish(world->table, &spec, &slot) == 0, "publish");
}

static void open_relays(struct world *world, enum sender who, enum tp_family client)
{
	struct tp_flow_spec spec = {
		.kind = TP_FLOW_CLIENT,
		.in = side(world, client_of(who, client), world_address(client, LISTENER), 0),
	};

	for (int i = 0; i < 2; i++) {
		struct tp_addr relay = relay_of(who, client, families[i]);
		uint8_t local = local_of(world, &relay);

		tp_table_set_port(world->table, local, relay.port, TP_PORT_RELAY);
		spec.relays[i] = (struct tp_relay_ref){
			.port = tp_to_be16(relay.port), .local = local, .used = 1};
	}
	publish(world, who, client, spec);
}

/* `hop`: the way to the peer; the way to the client is the sender's. */
static void permit(struct world *world, enum sender who, enum tp_family client, struct tp_addr peer,
	uint16_t hop)
{
	struct tp_addr relay = relay_of(who, client, (enum tp_family)peer.family);

	peer.port = 0;
	publish(world, who, client,
		(struct tp_flow_spec){
			.kind = TP_FLOW_PERMISSION,
			.in = side(world, peer, relay, 0),
			.out = side(
				world, client_of(who, client), world_address(client, LISTENER), 0),
			.next_hop = hops[who],
			.peer_hop = hop,
			.hairpin = hop == TP_NO_NEXT_HOP_YET && who >= SENDER_ROUND,
		});
}

static void bind_channel(struct world *world, enum sender who, enum tp_family client,
	struct tp_addr peer, uint16_t channel, bool hairpin)
{
	struct tp_addr relay = relay_of(who, client, (enum tp_family)peer.family);
	struct tp_flow_side client_side =
		side(world, client_of(who, client), world_address(client, LISTENER), channel);

	publish(world, who, client,
		(struct tp_flow_spec){
			.kind = TP_FLOW_CHANNEL,
			.in = client_side,
			.out = side(world, peer, relay, 0),
			.next_hop = hairpin ? TP_NO_NEXT_HOP_YET : hops[who],
			.hairpin = hairpin,
		});
	publish(world, who, client,
		(struct tp_flow_spec){
			.kind = TP_FLOW_PEER,
			.in = side(world, peer, relay, 0),
			.out = client_side,
			.next_hop = hops[who],
		});
}

static uint16_t channel_to(enum sender whom, enum tp_family whom_client, enum tp_family relay)
{
	return (uint16_t)(CHANNEL_TO_SENDER + 8 * whom + 2 * (relay == TP_IPV6) +
			  (whom_client == TP_IPV6));
}

static void bind_senders(
	struct world *world, enum sender who, enum tp_family client, enum sender whom)
{
	for (int i = 0; i < 4; i++) {
		enum tp_family relay = families[i / 2], whom_client = families[i % 2];

		bind_channel(world, who, client, relay_of(whom, whom_client, relay),
			channel_to(whom, whom_client, relay), true);
	}
}

static void open_sender(struct world *world, enum sender who, enum tp_family client)
{
	open_relays(world, who, client);
	for (int i = 0; i < 2; i++) {
		struct tp_addr peer = world_address(families[i], PEER);

		permit(world, who, client, peer, hops[who]);
		bind_channel(world, who, client, peer, (uint16_t)(CHANNEL_TO_PEER + i), false);
		if (who >= SENDER_ROUND)
			permit(world, who, client, world_address(families[i], RELAY),
				TP_NO_NEXT_HOP_YET);
	}
	if (who == SENDER_ROUND_CHANNEL)
		bind_senders(world, who, client, SENDER_ROUND);
	for (enum sender whom = SENDER_ROUND; who == SENDER_ROUND && whom < SENDERS; whom++)
		bind_senders(world, who, client, whom);
}

void senders_open(struct world *world)
{
	for (enum sender who = 0; who < SENDERS; who++)
		for (int i = 0; i < 2; i++)
			open_sender(world, who, families[i]);
}

static struct tp_addr peer_of(const struct way *way)
{
	struct tp_addr out = world_address(way->relay, way->round ? RELAY : PEER), named;

	if (way->round && way->whom != SENDER_NOBODY)
		out.port = sender_relay_port(way->whom, way->whom_client);
	else if (!way->channel)
		out.port = PEER_WITHOUT_CHANNEL;
	if (way->peer) {
		must(tp_addr_parse_ip(way->peer, &named) == 0, way->peer);
		out = tp_addr_with_port(&named, out.port);
	}
	if (way->port)
		out.port = way->port;
	return out;
}

static uint16_t channel_of(const struct way *way)
{
	if (way->round)
		return channel_to(way->whom, way->whom_client, way->relay);
	return (uint16_t)(CHANNEL_TO_PEER + (way->relay == TP_IPV6));
}

static void wrap_up(const struct way *way, struct frame_spec *spec)
{
	spec->source = client_of(way->who, way->client);
	spec->destination = world_address(way->client, LISTENER);
	if (way->channel) {
		spec->channel = channel_of(way);
		return;
	}
	spec->message = 0x0016;
	spec->transaction = 0xa7;
	spec->peer = peer_of(way);
}

void way_build(const struct way *way, struct frame_spec *spec, struct frame *out)
{
	*spec = way->frame;
	if (way->down) {
		spec->source = peer_of(way);
		spec->destination = relay_of(way->who, way->client, way->relay);
	} else {
		wrap_up(way, spec);
	}
	probe_finish(way->size, &way->patch, 1, spec, out);
}

/* One hop of the IPv4 bit, for a packet of that length; nothing to say about IPv6. */
static bool hop_df(enum tp_family in, bool df, size_t len)
{
	return in == TP_IPV4 ? df : len > 1260;
}

static size_t ip_len(enum tp_family family, size_t payload)
{
	return (family == TP_IPV4 ? 28 : 48) + payload;
}

/* Back at a client: ChannelData or a Data indication, from `peer`. */
static size_t wrap_down(const struct way *way, enum sender who, enum tp_family client,
	struct tp_addr peer, bool channel, struct frame_spec *spec)
{
	spec->source = world_address(client, LISTENER);
	spec->destination = client_of(who, client);
	if (channel) {
		spec->channel = way->round ? channel_to(way->who, way->client, way->relay)
					   : channel_of(way);
		return 4 + spec->data_len;
	}
	spec->message = 0x0017;
	spec->peer = peer;
	return (way->relay == TP_IPV4 ? 36 : 48) + ((spec->data_len + 3) & ~(size_t)3);
}

/* The flow by which it leaves has its label: towards the peer, or towards the client. */
static uint32_t label_of(const struct way *way, const struct world *world, bool whom_channel)
{
	struct tp_addr peer = peer_of(way), from = relay_of(way->who, way->client, way->relay);
	uint32_t label;

	if (way->round) {
		uint16_t port = peer.port;

		if (!whom_channel)
			from.port = 0;
		return world_label(
			world, &from, port, whom_channel ? TP_FLOW_PEER : TP_FLOW_PERMISSION, 0);
	}
	if (way->down) {
		if (!way->channel)
			peer.port = 0;
		return world_label(world, &peer, from.port,
			way->channel ? TP_FLOW_PEER : TP_FLOW_PERMISSION, 0);
	}
	if (way->channel) {
		struct tp_addr client = client_of(way->who, way->client);

		return world_label(
			world, &client, WORLD_LISTENER_PORT, TP_FLOW_CHANNEL, channel_of(way));
	}
	peer.port = 0;
	label = world_label(world, &peer, from.port, TP_FLOW_PERMISSION, 0);
	peer.port = peer_of(way).port;
	return label ^ (uint32_t)(uint16_t)(peer.port << 8 | peer.port >> 8) * 0x9e3779b1u >> 12;
}

static void mark(const struct way *way, uint32_t label, enum tp_family out, bool df,
	const struct frame_spec *in, struct frame_spec *spec)
{
	spec->ttl = (uint8_t)(in->ttl - (way->round ? 2 : 1));
	spec->label = label & 0xfffff;
	if (out == TP_IPV6)
		return;
	spec->fragment = df ? 0x4000 : 0;
	if (in->source.family == TP_IPV6)
		spec->id = 0; /* if it may be fragmented, drawn at random */
	else if (!df)
		spec->id = in->id ^ (uint16_t)((label & 0xff) << 8 | (label >> 8 & 0xff));
}

/* The attribute, from IPv4 to IPv4. */
static bool must_stay_whole(const struct way *way, const struct frame_spec *in)
{
	return !way->down && in->attributes && strchr(in->attributes, 'N') &&
	       way->client == TP_IPV4 && way->relay == TP_IPV4;
}

void way_expect(const struct way *way, const struct world *world, const struct frame_spec *in,
	bool output, struct frame *out, uint32_t *egress)
{
	bool whom_channel = way->whom == SENDER_ROUND ||
			    (way->whom == SENDER_ROUND_CHANNEL && way->who == SENDER_ROUND);
	enum sender last = way->round ? way->whom : way->who;
	enum tp_family family = way->round  ? way->whom_client
				: way->down ? way->client
					    : way->relay;
	const struct tp_next_hop none = {0}, *hop = output ? &none : &world->hops[hops[last]];
	struct frame_spec spec = *in;
	bool df = in->fragment & 0x4000;
	size_t len = in->data_len;

	memcpy(spec.link_destination, hop->destination, 6);
	memcpy(spec.link_source, hop->source, 6);
	spec.vlan[0] = tp_from_be16(hop->vlan);
	spec.vlan_type = 0;
	spec.channel = spec.message = 0;
	spec.attributes = NULL;
	spec.transaction = 0;
	spec.padding = 0;
	spec.trailer = 0;
	if (!way->down) {
		spec.source = relay_of(way->who, way->client, way->relay);
		spec.destination = peer_of(way);
		df = hop_df(way->client, df || must_stay_whole(way, in), ip_len(way->relay, len));
	}
	if (way->round)
		len = wrap_down(way, way->whom, way->whom_client, spec.source, whom_channel, &spec);
	else if (way->down)
		len = wrap_down(way, way->who, way->client, in->source, way->channel, &spec);
	if (way->round || way->down)
		df = hop_df(way->relay, df, ip_len(family, len));
	if (output)
		df = must_stay_whole(way, in);
	mark(way, label_of(way, world, whom_channel), family, df, in, &spec);
	if (spec.checksum == CHECKSUM_NONE && family == TP_IPV6)
		spec.checksum = CHECKSUM_GOOD;
	frame_build(&spec, out);
	*egress = hop->ifindex;
}
