#include "world.h"

#include "senders.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"

static const struct world_lane lanes[] = {
	{0x4001, 49152, HOP_PLAIN},
	{0x4002, 49153, HOP_PLAIN},
	{0x4003, 49407, HOP_PLAIN},
	{0x4004, 49408, HOP_PLAIN},
	{0x4005, 65535, HOP_PLAIN},
	{0x4fff, 50000, HOP_PLAIN},
	{0x4010, 0, HOP_PLAIN, .expired = true},
	{0x4011, 0, TP_NO_NEXT_HOP_YET},
	{0x4012, 0, HOP_UNRESOLVED},
	{0x4013, 0, HOP_VLAN},
	{0x4014, 0, HOP_REDIRECT},
	{0x4015, 0, HOP_FOREIGN},
	{0x4016, 0, HOP_PLAIN, .translated = true},
	{0x4017, 0, HOP_SMALL},
	{0x4018, 0, HOP_BUSY},
	{0x4019, 0, HOP_PLAIN, .client4 = "169.254.7.7", .client6 = "fe80::7"},
	{0x401a, 0, HOP_NOWHERE},
	{0x4020, 0, HOP_PLAIN, "0.1.2.3", "::7f00:1"},
	{0x4021, 0, HOP_PLAIN, "127.0.0.1", "::1"},
	{0x4022, 0, HOP_PLAIN, "169.254.169.254", "fe80::1"},
	{0x4023, 0, HOP_PLAIN, "224.0.0.1", "ff02::1"},
	{0x4024, 0, HOP_PLAIN, "255.255.255.255", "2002:7f00:1::1"},
	{0x4025, 0, HOP_PLAIN, "240.0.0.1", "2001:0:1::1"},
	{0x4026, 0, HOP_PLAIN, "127.255.255.254", "64:ff9b::127.0.0.1"},
	{0x4027, 0, HOP_PLAIN, "239.255.255.250", "febf::1"},
	/* Neighbours of the forbidden ones. */
	{0x4030, 0, HOP_PLAIN, "1.0.0.1", "2001:1::1"},
	{0x4031, 0, HOP_PLAIN, "126.255.255.255", "2003::1"},
	{0x4032, 0, HOP_PLAIN, "169.253.0.1", "fec0::1"},
	{0x4033, 0, HOP_PLAIN, "223.255.255.255", "fe7f::1"},
	{0x4034, 0, HOP_PLAIN, "128.0.0.1", "64:ff9b:1::1"},
};

/* family 4 and 6 by address */
static const char *const addresses[][2] = {
	[CLIENT] = {"198.51.100.7:40000", "[2001:db8:c::7]:40000"},
	[PEER] = {"203.0.113.9:5000", "[2001:db8:a::9]:5000"},
	[LISTENER] = {"192.0.2.1:3478", "[2001:db8::1]:3478"},
	[RELAY] = {"192.0.2.2:0", "[2001:db8::2]:0"},
};

static void must(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "world: %s failed\n", what);
	exit(1);
}

struct tp_addr world_address(enum tp_family family, enum world_address which)
{
	struct tp_addr out = {0};

	must(tp_addr_parse(addresses[which][family == TP_IPV6], &out) == 0, "address");
	return out;
}

const struct world_lane *world_lane_at(size_t index)
{
	return &lanes[index];
}

size_t world_lanes(void)
{
	return sizeof(lanes) / sizeof(lanes[0]);
}

const struct world_lane *world_lane(uint16_t channel)
{
	for (size_t i = 0; i < world_lanes(); i++)
		if (lanes[i].channel == channel)
			return &lanes[i];
	return NULL;
}

uint16_t world_lane_port(const struct world_lane *lane)
{
	return lane->port ? lane->port : (uint16_t)(0xd000 + (lane->channel & 0xff));
}

static struct tp_addr named(enum tp_family family, enum world_address usual, const char *text)
{
	struct tp_addr out = world_address(family, usual), ip;

	if (!text)
		return out;
	must(tp_addr_parse_ip(text, &ip) == 0 && ip.family == family, text);
	return tp_addr_with_port(&ip, out.port);
}

struct tp_addr world_lane_peer(const struct world_lane *lane, enum tp_family family)
{
	return named(family, PEER, family == TP_IPV4 ? lane->peer4 : lane->peer6);
}

struct tp_addr world_lane_client(const struct world_lane *lane, enum tp_family family)
{
	return named(family, CLIENT, family == TP_IPV4 ? lane->client4 : lane->client6);
}

static enum tp_family other(enum tp_family family)
{
	return family == TP_IPV4 ? TP_IPV6 : TP_IPV4;
}

static uint8_t local_of(const struct world *world, enum tp_family family, enum world_address which)
{
	struct tp_addr ip = world_address(family, which);
	uint8_t index;

	must(tp_table_find_local(world->table, &ip, &index) == 0, "local");
	return index;
}

static struct tp_flow_side side(const struct world *world, struct tp_addr remote,
	enum world_address local, uint16_t local_port, uint16_t channel)
{
	return (struct tp_flow_side){
		.remote = remote,
		.local = local_of(world, (enum tp_family)remote.family, local),
		.local_port = local_port,
		.channel = channel,
	};
}

static void publish(struct world *world, struct tp_flow_spec spec, bool expired, uint16_t hop)
{
	uint64_t now = tp_clock_now_ns();
	uint32_t slot;

	spec.expires_ns = expired ? now - 1000000000 : now + 3600 * UINT64_C(1000000000);
	spec.next_hop = hop;
	must(tp_table_publish(world->table, &spec, &slot) == 0, "publish");
}

static void open_lane(struct world *world, const struct world_lane *lane, enum tp_family family)
{
	uint16_t port = world_lane_port(lane);
	enum tp_family far = lane->translated ? other(family) : family;
	struct tp_addr client = world_lane_client(lane, family);
	struct tp_addr far_peer = world_lane_peer(lane, far);
	struct tp_addr peer = world_lane_peer(lane, family);
	struct tp_addr far_client = world_lane_client(lane, far);

	tp_table_set_port(world->table, local_of(world, family, RELAY), port, TP_PORT_RELAY);
	publish(world,
		(struct tp_flow_spec){
			.kind = TP_FLOW_CHANNEL,
			.in = side(world, client, LISTENER, WORLD_LISTENER_PORT, lane->channel),
			.out = side(world, far_peer, RELAY, port, 0),
		},
		lane->expired, (uint16_t)lane->hop);
	publish(world,
		(struct tp_flow_spec){
			.kind = TP_FLOW_PEER,
			.in = side(world, peer, RELAY, port, 0),
			.out = side(
				world, far_client, LISTENER, WORLD_LISTENER_PORT, lane->channel),
		},
		lane->expired, (uint16_t)lane->hop);
}

static void permit(struct world *world, enum tp_family family, uint16_t port, bool expired)
{
	struct tp_addr peer = world_address(family, PEER);

	peer.port = 0;
	publish(world,
		(struct tp_flow_spec){
			.kind = TP_FLOW_PERMISSION,
			.in = side(world, peer, RELAY, port, 0),
			.out = side(world, world_address(family, CLIENT), LISTENER,
				WORLD_LISTENER_PORT, 0),
		},
		expired, TP_NO_NEXT_HOP_YET);
}

/* A client that has an allocation and has bound nothing. */
static void know_client(struct world *world, enum tp_family family)
{
	struct tp_addr client = world_address(family, CLIENT);

	client.port = WORLD_KNOWN_CLIENT_PORT;
	publish(world,
		(struct tp_flow_spec){
			.kind = TP_FLOW_CLIENT,
			.in = side(world, client, LISTENER, WORLD_LISTENER_PORT, 0),
		},
		false, TP_NO_NEXT_HOP_YET);
}

static void expire_channel(struct world *world, enum tp_family family, uint16_t port)
{
	publish(world,
		(struct tp_flow_spec){
			.kind = TP_FLOW_PEER,
			.in = side(world, world_address(family, PEER), RELAY, port, 0),
			.out = side(world, world_address(family, CLIENT), LISTENER,
				WORLD_LISTENER_PORT, 0x4100),
		},
		true, HOP_PLAIN);
}

static void open_family(struct world *world, enum tp_family family)
{
	static const uint16_t ports[] = {PORT_PERMISSION, PORT_LAPSED, PORT_UNGRANTED,
		PORT_CHANNEL_OVER, PORT_EVERYTHING_OVER};
	uint8_t relay = local_of(world, family, RELAY);

	tp_table_set_port(world->table, local_of(world, family, LISTENER), WORLD_LISTENER_PORT,
		TP_PORT_LISTENER);
	for (size_t i = 0; i < sizeof(ports) / sizeof(ports[0]); i++)
		tp_table_set_port(world->table, relay, ports[i], TP_PORT_RELAY);
	tp_table_set_port(world->table, relay, PORT_SLOW, TP_PORT_SLOW);

	know_client(world, family);
	permit(world, family, PORT_PERMISSION, false);
	permit(world, family, PORT_LAPSED, true);
	permit(world, family, PORT_CHANNEL_OVER, false);
	permit(world, family, PORT_EVERYTHING_OVER, true);
	expire_channel(world, family, PORT_CHANNEL_OVER);
	expire_channel(world, family, PORT_EVERYTHING_OVER);
	for (size_t i = 0; i < world_lanes(); i++)
		open_lane(world, &lanes[i], family);
}

static void set_hop(struct world *world, enum world_hop hop, uint32_t ifindex, uint16_t interface,
	uint16_t vlan, uint16_t mtu)
{
	struct tp_next_hop *record = &world->hops[hop];

	*record = (struct tp_next_hop){
		.ifindex = ifindex,
		.destination = {2, 0, 0, 0, 1, (uint8_t)hop},
		.source = {2, 0, 0, 0, 2, (uint8_t)hop},
		.vlan = tp_to_be16(vlan),
		.mtu = mtu,
		.interface = interface,
	};
	tp_table_set_next_hop_record(world->table, (uint16_t)hop, record);
}

static void set_hops(struct world *world, uint32_t redirect_ifindex)
{
	struct tp_next_hop *records = world->memory.regions[TP_REGION_NEXT_HOPS];

	world->interfaces[0] = WORLD_INGRESS;
	world->interfaces[3] = redirect_ifindex;
	set_hop(world, HOP_PLAIN, WORLD_INGRESS, 0, 0, 1500);
	set_hop(world, HOP_VLAN, WORLD_INGRESS, 0, 0x6064, 1500);
	set_hop(world, HOP_REDIRECT, redirect_ifindex, 3, 0, 1500);
	set_hop(world, HOP_FOREIGN, 9999, 0, 0, 1500);
	set_hop(world, HOP_NOWHERE, 0, TP_INTERFACES_MAX - 1, 0, 1500);
	set_hop(world, HOP_SMALL, WORLD_INGRESS, 0, 0, 1280);
	set_hop(world, HOP_BUSY, WORLD_INGRESS, 0, 0, 1500);
	records[HOP_BUSY].seq |= 1;
}

void world_create(struct world *world, uint32_t redirect_ifindex)
{
	world_create_for(world, redirect_ifindex, 1024);
}

void world_create_for(struct world *world, uint32_t redirect_ifindex, uint32_t capacity)
{
	static const enum tp_family families[] = {TP_IPV4, TP_IPV6};
	struct tp_shape shape;
	uint8_t index;

	*world = (struct world){0};
	must(tp_shape_init(capacity, 64, 1024, &shape) == 0, "shape");
	must(tp_memory_create_plain(&shape, &world->memory) == 0, "memory");
	must(tp_table_create(&world->memory, 0x4fff, &world->table) == 0, "table");
	for (int i = 0; i < 2; i++) {
		struct tp_addr listener = world_address(families[i], LISTENER);
		struct tp_addr relay = world_address(families[i], RELAY);

		must(tp_table_add_local(world->table, &listener, &index) == 0, "listener");
		must(tp_table_add_local(world->table, &relay, &index) == 0, "relay");
	}
	set_hops(world, redirect_ifindex);
	open_family(world, TP_IPV4);
	open_family(world, TP_IPV6);
	senders_open(world);
}

void world_destroy(struct world *world)
{
	tp_table_destroy(world->table);
	tp_memory_destroy_plain(&world->memory);
}

struct tp_flow_counters world_counted(const struct tp_memory *memory, uint32_t slot)
{
	const struct tp_flow *flows = memory->regions[TP_REGION_FLOWS];
	const struct tp_flow_detail *details = memory->regions[TP_REGION_DETAILS];

	return tp_flow_counted(&details[slot], flows[slot].recent);
}

bool world_counted_equally(const struct tp_memory *a, const struct tp_memory *b, uint32_t slot)
{
	struct tp_flow_counters x = world_counted(a, slot), y = world_counted(b, slot);

	return x.packets == y.packets && x.bytes == y.bytes;
}

uint32_t world_label(const struct world *world, const struct tp_addr *remote, uint16_t local_port,
	enum tp_flow_kind kind, uint16_t channel)
{
	const struct tp_flow *flows = world->memory.regions[TP_REGION_FLOWS];

	for (uint32_t i = 0; i < world->memory.shape.regions[TP_REGION_FLOWS].count; i++) {
		const struct tp_flow_key *key = &flows[i].key;

		if (key->kind == kind && memcmp(key->remote, remote->ip, 16) == 0 &&
			tp_from_be16(key->remote_port) == remote->port &&
			tp_from_be16(key->local_port) == local_port &&
			tp_from_be16(key->channel) == channel)
			return flows[i].label;
	}
	must(false, "flow of the label");
	return 0;
}
