/* flows/: the table says what alloc/ says, after anything. The routes are made up here. */
#include "base/clock.h"
#include "controlplane/flows/flows.h"
#include "controlplane/flows/policers.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>

#define SECOND   TP_NS_PER_S
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define POLICERS 64 /* how many the table has */

/* Stands in for route/: everybody who follows, and a next hop that the remote's last byte tells. */
static LIST_HEAD(, route_user) followers = LIST_HEAD_INITIALIZER(followers);
static uint32_t followers_count;

/* Nobody looks behind a destination's pointer: where it leads is the next hop. */
static char hops[65536];

static void set_hop(struct route_user *user, uint16_t next_hop)
{
	user->destination = (struct route_destination *)&hops[next_hop];
}

uint16_t route_follow(struct route *route, struct route_user *user, const struct tp_addr *remote,
	const struct tp_addr *local)
{
	set_hop(user, remote->ip[15]);
	LIST_INSERT_HEAD(&followers, user, link);
	followers_count++;
	assert_int_equal(remote->family, local->family);
	return remote->ip[15];
}

void route_unfollow(struct route *route, struct route_user *user)
{
	if (!user->destination)
		return;
	user->destination = NULL;
	LIST_REMOVE(user, link);
	followers_count--;
}

uint16_t route_next_hop(const struct route_user *user)
{
	if (!user->destination)
		return TP_NO_NEXT_HOP_YET;
	return (uint16_t)((const char *)user->destination - hops);
}

void route_settle(struct route *route)
{
}

struct world {
	struct tp_memory memory;
	struct tp_table *table;
	struct flows *flows;
	struct alloc_store *store;
	struct tp_addr addresses[2]; /* of relays and listeners */
	uint64_t now_ns;
	uint16_t last_port;
};

static void end_channel(void *context, struct alloc_channel *channel)
{
	flows_revoke_channel(((struct world *)context)->flows, channel);
}

static void end_permission(void *context, struct alloc_permission *permission)
{
	flows_revoke_permission(((struct world *)context)->flows, permission);
}

static void end_relay(void *context, struct alloc_relay *relay)
{
	flows_close_relay(((struct world *)context)->flows, relay);
}

static struct tp_addr addr(const char *ip, uint16_t port)
{
	struct tp_addr a;

	assert_int_equal(tp_addr_parse_ip(ip, &a), 0);
	a.port = port;
	return a;
}

static void build_behind(struct world *w, uint32_t capacity, const bool translated[2])
{
	struct alloc_settings settings = {
		.addresses = w->addresses,
		.translated = translated,
		.addresses_count = 2,
		.port_min = 50000,
		.port_max = 60000,
	};
	struct alloc_hooks hooks = {w, end_channel, end_permission, end_relay};
	struct tp_shape shape;

	*w = (struct world){.now_ns = tp_clock_now_ns()};
	w->addresses[0] = addr("192.0.2.1", 0);
	w->addresses[1] = addr("2001:db8::1", 0);
	assert_int_equal(tp_shape_init(capacity, 1, POLICERS, &shape), 0);
	assert_int_equal(tp_memory_create_plain(&shape, &w->memory), 0);
	assert_int_equal(tp_table_create(&w->memory, 0x4fff, &w->table), 0);
	assert_int_equal(flows_new(w->table, NULL, &w->flows), 0);
	assert_int_equal(alloc_store_new(&settings, &hooks, w->now_ns, &w->store), 0);
	for (size_t i = 0; i < COUNT(w->addresses); i++) {
		struct tp_addr listener = tp_addr_with_port(&w->addresses[i], 3478);

		assert_int_equal(flows_own_listener(w->flows, &listener), 0);
	}
}

static void build(struct world *w, uint32_t capacity)
{
	build_behind(w, capacity, NULL);
}

static void tear_down(struct world *w)
{
	alloc_store_free(w->store);
	assert_int_equal(tp_table_live(w->table), 0);
	assert_int_equal(tp_table_unplaced(w->table), 0);
	assert_int_equal(followers_count, 0);
	flows_free(w->flows);
	tp_table_destroy(w->table);
	tp_memory_destroy_plain(&w->memory);
}

/* The allocation is there whatever becomes of its relay. */
static int try_to_allocate(
	struct world *w, int client_family, int relay_family, struct alloc_relay **out)
{
	struct auth_identity identity = {.username = "alice", .username_len = 5};
	struct alloc_tuple tuple = {.transport = ALLOC_UDP};
	struct alloc_relay *relay;
	struct allocation *a;

	tuple.client = addr(client_family == TP_IPV4 ? "198.51.100.10" : "2001:db8:1::10",
		(uint16_t)(1024 + w->last_port++));
	tuple.server = tp_addr_with_port(&w->addresses[client_family == TP_IPV6], 3478);
	assert_int_equal(alloc_new(w->store, &tuple, &identity, &a), 0);
	assert_int_equal(alloc_add_relay(a, relay_family == TP_IPV6, PORTS_ANY,
				 w->now_ns + 600 * SECOND, &relay),
		0);
	*out = relay;
	return flows_open_relay(w->flows, relay);
}

static struct alloc_relay *allocate(struct world *w, int client_family, int relay_family)
{
	struct alloc_relay *relay;

	assert_int_equal(try_to_allocate(w, client_family, relay_family, &relay), 0);
	return relay;
}

static int open_one_more(struct world *w)
{
	struct alloc_relay *relay;
	int err = try_to_allocate(w, TP_IPV4, TP_IPV4, &relay);

	alloc_delete(relay->allocation);
	return err;
}

static struct alloc_permission *permit(
	struct world *w, struct alloc_relay *relay, const struct tp_addr *peer, uint64_t lifetime_s)
{
	struct alloc_permission *permission;

	assert_int_equal(
		alloc_permit(relay, peer, w->now_ns + lifetime_s * SECOND, &permission), 0);
	flows_grant_permission(w->flows, permission);
	return permission;
}

static struct alloc_channel *bind_channel(struct world *w, struct alloc_relay *relay,
	uint16_t number, const struct tp_addr *peer, uint64_t lifetime_s)
{
	struct alloc_channel *channel;

	assert_int_equal(
		alloc_bind(relay, number, peer, w->now_ns + lifetime_s * SECOND, &channel), 0);
	flows_grant_channel(w->flows, channel);
	return channel;
}

static void print_difference(void *arg, const char *text)
{
	print_message("    %s\n", text);
}

static uint32_t audit(const struct world *w)
{
	return flows_audit(w->flows, alloc_all(w->store), print_difference, NULL);
}

/* The only live flow of that kind. */
static uint32_t find(const struct world *w, enum tp_flow_kind kind, struct tp_flow_spec *out)
{
	uint32_t found = UINT32_MAX;
	struct tp_flow_spec spec = {0};

	for (uint32_t slot = 0; slot < tp_table_slots(w->table); slot++) {
		if (!tp_table_read(w->table, slot, &spec) || spec.kind != kind)
			continue;
		assert_int_equal(found, UINT32_MAX);
		found = slot;
		*out = spec;
	}
	assert_int_not_equal(found, UINT32_MAX);
	return found;
}

static void assert_side(const struct world *w, const struct tp_flow_side *side,
	const struct tp_addr *remote, const struct tp_addr *local, uint16_t channel)
{
	struct tp_addr ours = tp_table_local(w->table, side->local);

	assert_true(tp_addr_equal(&side->remote, remote));
	assert_true(tp_addr_equal_ip(&ours, local));
	assert_int_equal(side->local_port, local->port);
	assert_int_equal(side->channel, channel);
}

static void assert_relay(
	const struct world *w, const struct tp_relay_ref *ref, const struct alloc_relay *relay)
{
	struct tp_addr ours = tp_table_local(w->table, ref->local);

	if (!relay) {
		assert_int_equal(ref->word, 0);
		return;
	}
	assert_int_equal(ref->used, 1);
	assert_true(tp_addr_equal_ip(&ours, &relay->address));
	assert_int_equal(tp_from_be16(ref->port), relay->address.port);
}

struct contents_row {
	uint8_t client, relay;
	const char *peer;
	bool translated[2];
	uint16_t to_peer, to_client; /* next hops */
	bool hairpin;
};

static void check_channel(const struct world *w, const struct contents_row *row,
	const struct alloc_relay *relay, const struct tp_addr *peer)
{
	const struct alloc_tuple *tuple = &relay->allocation->tuple;
	struct tp_flow_spec spec = {0};

	find(w, TP_FLOW_CHANNEL, &spec);
	assert_side(w, &spec.in, &tuple->client, &tuple->server, 0x4001);
	assert_side(w, &spec.out, peer, &relay->address, 0);
	assert_int_equal(spec.next_hop, row->to_peer);
	assert_int_equal(spec.hairpin, row->hairpin);
	assert_int_equal(spec.allocation, relay->allocation->id);

	find(w, TP_FLOW_PEER, &spec);
	assert_side(w, &spec.in, peer, &relay->address, 0);
	assert_side(w, &spec.out, &tuple->client, &tuple->server, 0x4001);
	assert_int_equal(spec.next_hop, row->to_client);
}

static void check_permission(const struct world *w, const struct contents_row *row,
	const struct alloc_relay *relay, const struct tp_addr *peer)
{
	const struct alloc_tuple *tuple = &relay->allocation->tuple;
	struct tp_addr ip = tp_addr_with_port(peer, 0);
	struct tp_flow_spec spec = {0};

	find(w, TP_FLOW_PERMISSION, &spec);
	assert_side(w, &spec.in, &ip, &relay->address, 0);
	assert_side(w, &spec.out, &tuple->client, &tuple->server, 0);
	assert_int_equal(spec.next_hop, row->to_client);
	assert_int_equal(spec.peer_hop, row->to_peer);
	assert_int_equal(spec.hairpin, row->hairpin);

	find(w, TP_FLOW_CLIENT, &spec);
	assert_relay(w, &spec.relays[TP_RELAY_V4], relay->allocation->relays[ALLOC_RELAY_V4]);
	assert_relay(w, &spec.relays[TP_RELAY_V6], relay->allocation->relays[ALLOC_RELAY_V6]);
}

static void test_contents(void **state)
{
	static const struct contents_row rows[] = {
		{TP_IPV4, TP_IPV4, "203.0.113.7", {0, 0}, 7, 10, false},
		{TP_IPV6, TP_IPV6, "2001:db8:2::8", {0, 0}, 8, 0x10, false},
		{TP_IPV4, TP_IPV6, "2001:db8:2::8", {0, 0}, 8, 10, false},
		{TP_IPV6, TP_IPV4, "203.0.113.7", {0, 0}, 7, 0x10, false},
		/* Another client's relay: no way leads there. */
		{TP_IPV4, TP_IPV4, "192.0.2.1", {0, 0}, 0, 10, true},
		{TP_IPV4, TP_IPV6, "2001:db8::1", {0, 0}, 0, 10, true},
		{TP_IPV6, TP_IPV6, "2001:db8::1", {1, 0}, 0, 0x10, true},
		/* That has another name for clients: the sockets' business. */
		{TP_IPV4, TP_IPV4, "192.0.2.1", {1, 0}, 1, 10, false},
		{TP_IPV6, TP_IPV6, "2001:db8::1", {0, 1}, 1, 0x10, false},
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		struct tp_addr peer = addr(rows[i].peer, 9000);
		struct alloc_relay *relay;
		struct world w;

		build_behind(&w, 64, rows[i].translated);
		relay = allocate(&w, rows[i].client, rows[i].relay);
		permit(&w, relay, &peer, 300);
		check_permission(&w, &rows[i], relay, &peer);
		bind_channel(&w, relay, 0x4001, &peer, 600);
		check_channel(&w, &rows[i], relay, &peer);
		/* The other order. */
		alloc_delete_permission(alloc_next_permission(relay, NULL));
		check_channel(&w, &rows[i], relay, &peer);
		permit(&w, relay, &peer, 300);
		check_permission(&w, &rows[i], relay, &peer);
		assert_int_equal(audit(&w), 0);
		tear_down(&w);
	}
}

/* A hairpin needs both addresses to have one name only. */
static void test_hairpin_between_two(void **state)
{
	static const bool rows[][3] = {{false, false, true}, {true, false, false},
		{false, true, false}, {true, true, false}};
	struct tp_addr other = addr("192.0.2.2", 50000), peer = addr("203.0.113.7", 9);

	for (size_t i = 0; i < COUNT(rows); i++) {
		struct tp_addr addresses[2] = {addr("192.0.2.1", 0), addr("192.0.2.2", 0)};
		struct alloc_settings settings = {.addresses = addresses,
			.addresses_count = 2,
			.translated = rows[i],
			.port_min = 50000,
			.port_max = 60000};
		struct alloc_hooks hooks = {NULL, end_channel, end_permission, end_relay};
		struct auth_identity identity = {.username = "alice", .username_len = 5};
		struct alloc_tuple tuple = {.client = peer, .transport = ALLOC_UDP};
		struct alloc_store *store;
		struct alloc_relay *relay;
		struct allocation *a;
		struct world w;

		build(&w, 64);
		hooks.context = &w;
		tuple.server = tp_addr_with_port(&w.addresses[0], 3478);
		assert_int_equal(alloc_store_new(&settings, &hooks, w.now_ns, &store), 0);
		assert_int_equal(alloc_new(store, &tuple, &identity, &a), 0);
		assert_int_equal(
			alloc_add_relay(a, 0, PORTS_ANY, w.now_ns + 60 * SECOND, &relay), 0);
		assert_int_equal(alloc_is_hairpin(relay, &other), rows[i][2]);
		assert_false(alloc_is_hairpin(relay, &peer));
		alloc_store_free(store);
		tear_down(&w);
	}
}

static struct tp_relay_ref relay_now(const struct world *w, unsigned int family)
{
	struct tp_flow_spec spec = {0};

	find(w, TP_FLOW_CLIENT, &spec);
	return spec.relays[family];
}

/* RFC 8656, 7.2: two relays, each with its own life; the client's flow stays where it is. */
static void test_dual(void **state)
{
	struct alloc_relay *v4, *v6;
	struct tp_flow_spec spec = {0};
	struct tp_relay_ref ref;
	struct allocation *a;
	uint32_t slot;
	struct world w;

	build(&w, 64);
	v4 = allocate(&w, TP_IPV4, TP_IPV4);
	a = v4->allocation;
	slot = find(&w, TP_FLOW_CLIENT, &spec);
	assert_int_equal(alloc_add_relay(a, 1, PORTS_ANY, w.now_ns + 600 * SECOND, &v6), 0);
	assert_int_equal(relay_now(&w, TP_RELAY_V6).word, 0);
	assert_int_equal(flows_open_relay(w.flows, v6), 0);
	ref = relay_now(&w, TP_RELAY_V6);
	assert_relay(&w, &ref, v6);
	assert_int_equal(audit(&w), 0);

	alloc_delete_relay(v4);
	assert_int_equal(find(&w, TP_FLOW_CLIENT, &spec), slot);
	assert_int_equal(spec.relays[TP_RELAY_V4].word, 0);
	assert_relay(&w, &spec.relays[TP_RELAY_V6], v6);
	assert_int_equal(audit(&w), 0);

	assert_int_equal(alloc_add_relay(a, 0, PORTS_ANY, w.now_ns + 600 * SECOND, &v4), 0);
	assert_int_equal(flows_open_relay(w.flows, v4), 0);
	ref = relay_now(&w, TP_RELAY_V4);
	assert_relay(&w, &ref, v4);
	alloc_delete_relay(v6);
	assert_int_equal(relay_now(&w, TP_RELAY_V6).word, 0);
	assert_int_equal(audit(&w), 0);
	alloc_delete(a);
	assert_int_equal(tp_table_live(w.table), 0);
	tear_down(&w);
}

static uint32_t lifetime_of(const struct world *w, enum tp_flow_kind kind)
{
	struct tp_flow_spec spec = {0};

	find(w, kind, &spec);
	/* Ticks are rounded up. */
	return spec.expires_ns < w->now_ns ? 0 : (uint32_t)((spec.expires_ns - w->now_ns) / SECOND);
}

static void extend(struct world *w, struct alloc_relay *relay, uint32_t lifetime_s)
{
	struct alloc_permission *p;
	struct alloc_channel *c;

	alloc_extend_relay(relay, w->now_ns + lifetime_s * SECOND);
	flows_extend_relay(w->flows, relay);
	for (p = alloc_next_permission(relay, NULL); p; p = alloc_next_permission(relay, p))
		flows_grant_permission(w->flows, p);
	for (c = alloc_next_channel(relay, NULL); c; c = alloc_next_channel(relay, c))
		flows_grant_channel(w->flows, c);
}

/* RFC 8656, 12.7: what a peer sends ends with the permission, if that ends before the channel; and
 * everything with the relay, which lives for 600 s to begin with. */
static void test_expiry(void **state)
{
	static const struct {
		enum { PERMIT, BIND, FORBID, EXTEND } what;
		uint32_t lifetime_s;
		uint32_t channel_s, peer_s;
	} rows[] = {
		{BIND, 600, 600, 0},
		{PERMIT, 300, 600, 300},
		{PERMIT, 900, 600, 600},
		{BIND, 1200, 600, 600},
		{EXTEND, 800, 800, 800},
		{EXTEND, 1000, 1000, 900},
		{EXTEND, 3600, 1200, 900},
		{FORBID, 0, 1200, 0},
		{PERMIT, 100, 1200, 100},
		{BIND, 50, 50, 50},
	};
	struct tp_addr peer = addr("203.0.113.7", 9000);
	struct tp_addr other = addr("203.0.113.8", 9000);
	struct alloc_permission *permission = NULL;
	struct alloc_channel *channel = NULL;
	struct alloc_relay *relay;
	struct world w;

	build(&w, 64);
	relay = allocate(&w, TP_IPV4, TP_IPV4);
	for (size_t i = 0; i < COUNT(rows); i++) {
		if (rows[i].what == PERMIT)
			permission = permit(&w, relay, &peer, rows[i].lifetime_s);
		else if (rows[i].what == FORBID)
			alloc_delete_permission(permission);
		else if (rows[i].what == EXTEND)
			extend(&w, relay, rows[i].lifetime_s);
		else if (!channel)
			channel = bind_channel(&w, relay, 0x4000, &peer, rows[i].lifetime_s);
		else {
			alloc_extend_channel(channel, w.now_ns + rows[i].lifetime_s * SECOND);
			flows_grant_channel(w.flows, channel);
		}
		assert_int_equal(lifetime_of(&w, TP_FLOW_CHANNEL), rows[i].channel_s);
		assert_int_equal(lifetime_of(&w, TP_FLOW_PEER), rows[i].peer_s);
		assert_int_equal(audit(&w), 0);
	}
	/* Another address's permission moves nothing. */
	permit(&w, relay, &other, 30);
	assert_int_equal(lifetime_of(&w, TP_FLOW_PEER), 50);
	tear_down(&w);
}

static void test_next_hop_changes(void **state)
{
	struct tp_addr peer = addr("203.0.113.7", 9000);
	struct tp_addr second = addr("203.0.113.7", 9001), other = addr("203.0.113.8", 9000);
	struct tp_flow_spec spec = {0};
	struct alloc_relay *relay;
	struct route_user *user;
	uint16_t hop = 78;
	struct world w;

	build(&w, 64);
	relay = allocate(&w, TP_IPV4, TP_IPV4);
	/* Whoever only allocates costs no look-up. */
	assert_int_equal(followers_count, 0);
	permit(&w, relay, &peer, 300);
	bind_channel(&w, relay, 0x4000, &peer, 600);
	assert_int_equal(followers_count, 2);
	LIST_FOREACH(user, &followers, link) {
		set_hop(user, hop);
		user->changed(user, hop--);
	}
	/* The last one to follow is told first. */
	find(&w, TP_FLOW_CHANNEL, &spec);
	assert_int_equal(spec.next_hop, 78);
	find(&w, TP_FLOW_PEER, &spec);
	assert_int_equal(spec.next_hop, 77);
	find(&w, TP_FLOW_PERMISSION, &spec);
	assert_int_equal(spec.next_hop, 77);
	assert_int_equal(spec.peer_hop, 78);
	assert_int_equal(audit(&w), 0);
	/* What comes later knows of it. */
	bind_channel(&w, relay, 0x4001, &second, 600);
	permit(&w, relay, &other, 300);
	assert_int_equal(followers_count, 3);
	assert_int_equal(audit(&w), 0);
	alloc_delete_permission(alloc_find_permission(relay, &other, 0));
	assert_int_equal(followers_count, 2);
	tear_down(&w);
}

static enum tp_port_state state_of(const struct world *w, const struct tp_addr *address)
{
	uint8_t local;

	assert_int_equal(tp_table_find_local(w->table, address, &local), 0);
	return tp_table_port(w->table, local, address->port);
}

static void test_ports(void **state)
{
	struct tp_addr listener, relayed;
	struct alloc_relay *relay;
	struct world w;

	build(&w, 64);
	listener = tp_addr_with_port(&w.addresses[0], 3478);
	assert_int_equal(state_of(&w, &listener), TP_PORT_LISTENER);
	relay = allocate(&w, TP_IPV4, TP_IPV4);
	relayed = relay->address;
	assert_int_equal(state_of(&w, &relayed), TP_PORT_RELAY);
	assert_int_equal(audit(&w), 0);
	alloc_delete_relay(relay);
	assert_int_equal(state_of(&w, &relayed), TP_PORT_NOT_OURS);
	tear_down(&w);
}

/* Fills the table, then one more; when others go, the missing flow comes in by itself. */
static void test_missing_and_back(void **state)
{
	struct alloc_relay *crowd, *late;
	struct tp_addr peer = addr("203.0.113.7", 9000);
	struct world w;
	uint32_t slots;

	build(&w, 64);
	slots = tp_table_slots(w.table);
	crowd = allocate(&w, TP_IPV4, TP_IPV4);
	for (uint32_t i = 0; tp_table_live(w.table) < slots; i++) {
		struct tp_addr other = addr("203.0.113.0", 0);

		other.ip[14] = (uint8_t)(i >> 8);
		other.ip[15] = (uint8_t)i;
		permit(&w, crowd, &other, 300);
	}
	late = allocate(&w, TP_IPV4, TP_IPV4);
	assert_int_equal(state_of(&w, &late->address), TP_PORT_RELAY);
	bind_channel(&w, late, 0x4000, &peer, 600);
	assert_int_equal(state_of(&w, &late->address), TP_PORT_SLOW);
	assert_int_equal(state_of(&w, &crowd->address), TP_PORT_SLOW);
	assert_in_range(tp_table_unplaced(w.table), 2, UINT32_MAX);
	assert_int_equal(audit(&w), 0);

	/* Refreshing counts nothing twice. */
	slots = tp_table_unplaced(w.table);
	flows_grant_channel(w.flows, alloc_next_channel(late, NULL));
	flows_sweep(w.flows, w.now_ns);
	assert_int_equal(tp_table_unplaced(w.table), slots);
	assert_int_equal(audit(&w), 0);

	alloc_delete(crowd->allocation);
	assert_int_equal(tp_table_unplaced(w.table), 3);
	flows_sweep(w.flows, tp_clock_now_ns() + 2 * TP_REST_NS);
	assert_int_equal(tp_table_unplaced(w.table), 0);
	assert_int_equal(state_of(&w, &late->address), TP_PORT_RELAY);
	assert_int_equal(tp_table_live(w.table), 3);
	assert_int_equal(audit(&w), 0);
	tear_down(&w);
}

static void assert_traffic(const struct alloc_traffic *is, uint64_t packets, uint64_t bytes)
{
	assert_int_equal(is->packets, packets);
	assert_int_equal(is->bytes, bytes);
}

/* As a data plane would have: some of it carried over, one packet recent. */
static void count(const struct world *w, enum tp_flow_kind kind, uint64_t packets, uint32_t bytes)
{
	struct tp_flow *flows = w->memory.regions[TP_REGION_FLOWS];
	struct tp_flow_detail *details = w->memory.regions[TP_REGION_DETAILS];
	struct tp_flow_spec spec = {0};
	uint32_t slot = find(w, kind, &spec);

	details[slot].counters = (struct tp_flow_counters){packets - 1, 100};
	flows[slot].recent = TP_RECENT_PACKET + bytes - 100;
}

static void test_traffic(void **state)
{
	struct tp_addr peer = addr("203.0.113.7", 9000);
	struct alloc_traffic sent = {1, 100}, received = {0};
	struct alloc_permission *permission;
	struct alloc_channel *channel;
	struct alloc_relay *relay;
	struct world w;

	build(&w, 64);
	relay = allocate(&w, TP_IPV4, TP_IPV4);
	channel = bind_channel(&w, relay, 0x4000, &peer, 600);
	permission = permit(&w, relay, &peer, 300);
	count(&w, TP_FLOW_CHANNEL, 3, 300);
	count(&w, TP_FLOW_PEER, 5, 500);
	count(&w, TP_FLOW_PERMISSION, 7, 7000);
	count(&w, TP_FLOW_CLIENT, 9, 9000);

	flows_add_traffic(w.flows, relay->allocation, &sent, &received);
	assert_traffic(&sent, 13, 9400);
	assert_traffic(&received, 12, 7500);

	/* What goes leaves its counters behind; what stays is counted once. */
	alloc_delete_channel(channel);
	assert_traffic(&relay->allocation->sent, 3, 300);
	assert_traffic(&relay->allocation->received, 5, 500);
	alloc_delete_permission(permission);
	assert_traffic(&relay->allocation->received, 12, 7500);
	flows_close_relay(w.flows, relay);
	assert_traffic(&relay->allocation->sent, 12, 9300);
	assert_int_equal(flows_open_relay(w.flows, relay), 0);
	tear_down(&w);
}

static uint32_t policer_of(const struct world *w, enum tp_flow_kind kind)
{
	struct tp_flow_spec spec = {0};

	find(w, kind, &spec);
	return spec.policer;
}

/* With a limit every flow of an allocation names its policer, and the sockets ask the same one. */
static void test_policer_of_flows(void **state)
{
	struct tp_addr peer = addr("203.0.113.7", 9000);
	struct alloc_relay *relay;
	struct world w;

	for (uint64_t rate = 0; rate <= 64000; rate += 64000) {
		uint32_t want = rate ? 1 : 0;

		build(&w, 64);
		flows_set_bandwidth(w.flows, rate);
		relay = allocate(&w, TP_IPV4, TP_IPV4);
		permit(&w, relay, &peer, 300);
		bind_channel(&w, relay, 0x4000, &peer, 600);
		for (unsigned kind = TP_FLOW_CHANNEL; kind <= TP_FLOW_CLIENT; kind++)
			assert_int_equal(policer_of(&w, kind), want);
		assert_int_equal(audit(&w), 0);
		assert_true(flows_police(
			w.flows, relay->allocation, TP_CLIENT_TO_PEER, w.now_ns, 1000));
		assert_int_equal(
			flows_police(w.flows, relay->allocation, TP_CLIENT_TO_PEER, w.now_ns, 1),
			!rate);
		assert_int_equal(
			tp_table_police(w.table, want, TP_CLIENT_TO_PEER, w.now_ns, 1), !rate);
		assert_true(flows_police(
			w.flows, relay->allocation, TP_PEER_TO_CLIENT, w.now_ns, 1000));
		tear_down(&w);
	}
}

/* Numbers stay few, are never shared, rest with their flows, and begin anew. */
static void test_policer_numbers(void **state)
{
	struct alloc_relay *relays[POLICERS], *late;
	struct policers policers;
	uint32_t one, two, three;
	struct world w;

	build(&w, 64);
	flows_set_bandwidth(w.flows, 64000);
	for (uint32_t i = 0; i < POLICERS; i++) {
		relays[i] = allocate(&w, TP_IPV4, TP_IPV4);
		assert_true(flows_police(
			w.flows, relays[i]->allocation, TP_CLIENT_TO_PEER, w.now_ns, 1000));
		assert_false(flows_police(
			w.flows, relays[i]->allocation, TP_CLIENT_TO_PEER, w.now_ns, 1));
	}
	assert_int_equal(audit(&w), 0);
	assert_int_equal(open_one_more(&w), -ENOSPC);
	assert_int_equal(audit(&w), 0);
	/* A full house: better a number that rests than no allocation. */
	alloc_delete(relays[2]->allocation);
	late = allocate(&w, TP_IPV4, TP_IPV4);
	assert_true(flows_police(w.flows, late->allocation, TP_CLIENT_TO_PEER, w.now_ns, 1000));
	assert_int_equal(audit(&w), 0);
	tear_down(&w);

	assert_int_equal(policers_init(&policers, 4), 0);
	one = policers_take(&policers, 0);
	assert_int_equal(one, 1);
	policers_give(&policers, one, 0);
	two = policers_take(&policers, TP_REST_NS - 1);
	assert_int_equal(two, 2);
	one = policers_take(&policers, TP_REST_NS);
	assert_int_equal(one, 1);
	three = policers_take(&policers, TP_REST_NS);
	assert_int_equal(three, 3);
	assert_int_equal(policers_take(&policers, 9 * TP_REST_NS), 0);
	policers_give(&policers, two, 9 * TP_REST_NS);
	policers_give(&policers, one, 9 * TP_REST_NS + 1);
	assert_int_equal(policers_take(&policers, 9 * TP_REST_NS), two);
	/* Of what rests any may be claimed, and what it skips rests no longer. */
	policers_give(&policers, two, 0);
	assert_true(policers_claim(&policers, two));
	assert_false(policers_claim(&policers, two));
	assert_true(policers_claim(&policers, one));
	assert_int_equal(policers_take(&policers, 0), 0);
	policers_clear(&policers);

	assert_int_equal(policers_init(&policers, 6), 0);
	assert_false(policers_claim(&policers, 0));
	assert_false(policers_claim(&policers, 6));
	assert_true(policers_claim(&policers, 4));
	assert_int_equal(policers_take(&policers, 0), 3);
	assert_true(policers_claim(&policers, 1));
	assert_int_equal(policers_take(&policers, 0), 2);
	assert_int_equal(policers_take(&policers, 0), 5);
	assert_int_equal(policers_take(&policers, 0), 0);
	policers_clear(&policers);
}

static void spoil_expiry(struct world *w, uint32_t slot, const struct tp_flow_spec *spec)
{
	tp_table_set_expiry(w->table, slot, spec->expires_ns + 3600 * SECOND);
}

static void spoil_next_hop(struct world *w, uint32_t slot, const struct tp_flow_spec *spec)
{
	tp_table_set_next_hop(w->table, slot, 4000);
}

static void spoil_peer_hop(struct world *w, uint32_t slot, const struct tp_flow_spec *spec)
{
	struct tp_flow_spec permission = {0};

	tp_table_set_peer_hop(w->table, find(w, TP_FLOW_PERMISSION, &permission), 4000);
}

static void spoil_relay(struct world *w, uint32_t slot, const struct tp_flow_spec *spec)
{
	struct tp_flow_spec client = {0};

	tp_table_set_relay(w->table, find(w, TP_FLOW_CLIENT, &client), TP_RELAY_V6,
		(struct tp_relay_ref){.local = 1, .used = 1});
}

static void spoil_presence(struct world *w, uint32_t slot, const struct tp_flow_spec *spec)
{
	tp_table_retire(w->table, slot, w->now_ns);
}

static void spoil_absence(struct world *w, uint32_t slot, const struct tp_flow_spec *spec)
{
	struct tp_flow_spec stray = *spec;

	stray.in.remote.ip[15] ^= 1;
	assert_int_equal(tp_table_publish(w->table, &stray, &slot), 0);
}

static void spoil_port(struct world *w, uint32_t slot, const struct tp_flow_spec *spec)
{
	tp_table_set_port(w->table, 0, 50000 - 1, TP_PORT_SLOW);
}

static void spoil_listener(struct world *w, uint32_t slot, const struct tp_flow_spec *spec)
{
	tp_table_set_port(w->table, 1, 3478, TP_PORT_NOT_OURS);
}

static void spoil_count(struct world *w, uint32_t slot, const struct tp_flow_spec *spec)
{
	struct tp_config *config = w->memory.regions[TP_REGION_CONFIG];

	config->unplaced++;
}

static void spoil_truth(struct world *w, uint32_t slot, const struct tp_flow_spec *spec)
{
	struct alloc_relay *relay = TAILQ_FIRST(alloc_all(w->store))->relays[ALLOC_RELAY_V4];

	alloc_next_permission(relay, NULL)->expires_ns -= 60 * SECOND;
}

static void spoil_grant(struct world *w, uint32_t slot, const struct tp_flow_spec *spec)
{
	struct alloc_relay *relay = TAILQ_FIRST(alloc_all(w->store))->relays[ALLOC_RELAY_V4];
	struct alloc_permission *ungranted;
	struct tp_addr other = addr("203.0.113.99", 0);

	assert_int_equal(alloc_permit(relay, &other, w->now_ns + SECOND, &ungranted), 0);
}

/* What comes and goes meanwhile hides no fault and is none. */
static uint32_t audit_beside_others(struct world *w)
{
	struct alloc_relay *comes, *goes = allocate(w, TP_IPV4, TP_IPV6);
	struct tp_addr peer = addr("203.0.113.8", 9000), peer6 = addr("2001:db8:2::8", 9000);
	struct flows_audit *audit, *second;
	struct allocation *a;
	bool is_there = false;

	bind_channel(w, goes, 0x4000, &peer6, 600);
	assert_int_equal(flows_audit_begin(w->flows, NULL, NULL, &audit), 0);
	assert_int_equal(flows_audit_begin(w->flows, NULL, NULL, &second), -EBUSY);
	TAILQ_FOREACH(a, alloc_all(w->store), link)
		flows_audit_expect(audit, a);
	for (int look = 0; flows_audit_look(audit); look++) {
		if (look == 1) {
			comes = allocate(w, TP_IPV4, TP_IPV4);
			bind_channel(w, comes, 0x4000, &peer, 600);
			permit(w, comes, &peer, 300);
			alloc_delete(goes->allocation);
			is_there = true;
		}
	}
	assert_true(is_there);
	alloc_delete(TAILQ_LAST(alloc_all(w->store), alloc_list)); /* which came */
	return flows_audit_end(audit);
}

static void test_audit_finds(void **state)
{
	static void (*const rows[])(
		struct world * w, uint32_t slot, const struct tp_flow_spec *spec) = {spoil_expiry,
		spoil_next_hop, spoil_peer_hop, spoil_relay, spoil_presence, spoil_absence,
		spoil_port, spoil_listener, spoil_count, spoil_truth, spoil_grant};
	struct tp_addr peer = addr("203.0.113.7", 9000);

	for (size_t i = 0; i < COUNT(rows); i++) {
		struct tp_flow_spec spec = {0};
		struct alloc_relay *relay;
		uint32_t slot, live;
		struct world w;

		build(&w, 64);
		relay = allocate(&w, TP_IPV4, TP_IPV4);
		permit(&w, relay, &peer, 300);
		bind_channel(&w, relay, 0x4000, &peer, 600);
		slot = find(&w, TP_FLOW_CHANNEL, &spec);
		assert_int_equal(audit(&w), 0);
		rows[i](&w, slot, &spec);
		/* A permission that is over ends two flows: its own and the channel's. */
		assert_int_equal(flows_audit(w.flows, alloc_all(w.store), NULL, NULL),
			rows[i] == spoil_truth ? 2 : 1);
		assert_int_equal(audit_beside_others(&w), rows[i] == spoil_truth ? 2 : 1);

		/* Not torn down by tear_down(): its assertions are broken on purpose. */
		live = tp_table_live(w.table);
		alloc_store_free(w.store);
		assert_in_range(live, 3, 5);
		flows_free(w.flows);
		tp_table_destroy(w.table);
		tp_memory_destroy_plain(&w.memory);
	}
}

/* A small generator of its own, so that a failure comes back with the same seed. */
static uint32_t draw(uint64_t *seed, uint32_t below)
{
	*seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t)(*seed >> 33) % below;
}

#define RELAYS 12

struct play {
	struct world world;
	struct alloc_relay *relays[RELAYS];
	uint64_t seed;
};

static struct tp_addr random_peer(struct play *p, const struct alloc_relay *relay)
{
	struct tp_addr peer =
		relay->address.family == TP_IPV4 ? addr("203.0.113.0", 0) : addr("2001:db8:2::", 0);

	if (draw(&p->seed, 8) == 0)
		return tp_addr_with_port(
			&p->world.addresses[relay->address.family == TP_IPV6], 50000);
	peer.ip[15] = (uint8_t)draw(&p->seed, 16);
	peer.port = (uint16_t)(9000 + draw(&p->seed, 2));
	return peer;
}

static void play_relay(struct play *p, struct alloc_relay **relay)
{
	if (*relay) {
		alloc_delete((*relay)->allocation);
		*relay = NULL;
		return;
	}
	*relay = allocate(&p->world, draw(&p->seed, 2) ? TP_IPV4 : TP_IPV6,
		draw(&p->seed, 2) ? TP_IPV4 : TP_IPV6);
}

/* The allocation's second relay comes or goes. */
static void play_second(struct play *p, const struct alloc_relay *relay)
{
	int family = relay->address.family == TP_IPV4 ? ALLOC_RELAY_V6 : ALLOC_RELAY_V4;
	struct alloc_relay *second = relay->allocation->relays[family];

	if (second) {
		alloc_delete_relay(second);
		return;
	}
	assert_int_equal(alloc_add_relay(relay->allocation, (uint8_t)family, PORTS_ANY,
				 p->world.now_ns + 600 * SECOND, &second),
		0);
	assert_int_equal(flows_open_relay(p->world.flows, second), 0);
}

static void play_channel(struct play *p, struct alloc_relay *relay)
{
	struct tp_addr peer = random_peer(p, relay);
	struct alloc_channel *channel = alloc_find_channel_to(relay, &peer, 0);
	uint16_t number = (uint16_t)(0x4000 + draw(&p->seed, 64));
	uint64_t lifetime_s = 1 + draw(&p->seed, 600);

	if (channel && draw(&p->seed, 3) == 0) {
		alloc_delete_channel(channel);
	} else if (channel) {
		alloc_extend_channel(channel, p->world.now_ns + lifetime_s * SECOND);
		flows_grant_channel(p->world.flows, channel);
	} else if (!alloc_find_channel(relay->allocation, number, 0)) {
		bind_channel(&p->world, relay, number, &peer, lifetime_s);
	}
}

static void play_permission(struct play *p, struct alloc_relay *relay)
{
	struct tp_addr peer = random_peer(p, relay);
	struct alloc_permission *permission = alloc_find_permission(relay, &peer, 0);

	if (permission && draw(&p->seed, 3) == 0)
		alloc_delete_permission(permission);
	else
		permit(&p->world, relay, &peer, 1 + draw(&p->seed, 600));
}

static void play_next_hop(struct play *p)
{
	struct route_user *user;

	LIST_FOREACH(user, &followers, link) {
		if (draw(&p->seed, 8) != 0)
			continue;
		set_hop(user, (uint16_t)draw(&p->seed, 4096));
		user->changed(user, route_next_hop(user));
	}
}

static void play_once(struct play *p)
{
	struct alloc_relay **relay = &p->relays[draw(&p->seed, RELAYS)];
	uint32_t what = draw(&p->seed, 100);

	if (!*relay || what < 3)
		play_relay(p, relay);
	else if (what < 8)
		play_second(p, *relay);
	else if (what < 55)
		play_channel(p, *relay);
	else if (what < 95)
		play_permission(p, *relay);
	else if (what < 97)
		play_next_hop(p);
	else
		/* Far enough that what rests is free again. */
		flows_sweep(p->world.flows, tp_clock_now_ns() + 2 * TP_REST_NS);
}

static void test_random(void **state)
{
	struct play p = {.seed = 20260101};
	uint32_t most_missing = 0;

	/* Too small on purpose: missing flows come and go. */
	build(&p.world, 128);
	flows_set_bandwidth(p.world.flows, 64000);
	for (int i = 0; i < 10000; i++) {
		play_once(&p);
		if (tp_table_unplaced(p.world.table) > most_missing)
			most_missing = tp_table_unplaced(p.world.table);
		if (i % 50 == 0)
			assert_int_equal(audit(&p.world), 0);
	}
	assert_int_equal(audit(&p.world), 0);
	assert_int_not_equal(most_missing, 0);
	for (size_t i = 0; i < RELAYS; i++)
		if (p.relays[i])
			play_relay(&p, &p.relays[i]);
	assert_int_equal(audit(&p.world), 0);
	tear_down(&p.world);
}

/* Anything may happen between two pieces of an audit, also its end. */
static void test_audit_in_pieces(void **state)
{
	struct play p = {.seed = 20260102};

	build(&p.world, 128);
	for (int round = 0; round < 150; round++) {
		struct flows_audit *audit;
		struct alloc_walk walk;
		struct allocation *a;

		assert_int_equal(
			flows_audit_begin(p.world.flows, print_difference, NULL, &audit), 0);
		alloc_walk_begin(p.world.store, &walk);
		while ((a = alloc_walk_next(&walk))) {
			flows_audit_expect(audit, a);
			for (uint32_t i = draw(&p.seed, 6); i > 0; i--)
				play_once(&p);
		}
		for (int look = 0; flows_audit_look(audit); look++) {
			if (round % 10 == 9 && look == 5)
				break;
			play_once(&p);
		}
		alloc_walk_end(&walk);
		assert_int_equal(flows_audit_end(audit), 0);
	}
	tear_down(&p.world);
}

static uint8_t flags_of(const struct world *w, enum tp_flow_kind kind)
{
	const struct tp_flow *flows = w->memory.regions[TP_REGION_FLOWS];
	struct tp_flow_spec spec;

	return flows[find(w, kind, &spec)].value.flags;
}

/*
 * Who claims to send from an address of ours has forged it, also if nobody had a relay there yet
 * when the flow was made; what is nobody's goes by a settlement.
 */
static void test_own_addresses(void **state)
{
	struct tp_addr ours = addr("192.0.2.77", 0), peer = addr("192.0.2.77", 5000);
	struct alloc_relay *relay;
	struct world w;
	uint8_t local;

	for (int own = 0; own < 2; own++) {
		build(&w, 64);
		if (own)
			assert_int_equal(flows_own_address(w.flows, &ours), 0);
		relay = allocate(&w, TP_IPV4, TP_IPV4);
		bind_channel(&w, relay, 0x4001, &peer, 600);
		assert_int_equal(flags_of(&w, TP_FLOW_CHANNEL), TP_FLOW_PLAIN);
		assert_int_equal(flags_of(&w, TP_FLOW_PEER), own ? 0 : TP_FLOW_PLAIN);
		assert_true(flows_settle(w.flows, alloc_all(w.store), w.now_ns) >= 0);
		assert_int_equal(tp_table_find_local(w.table, &ours, &local), own ? 0 : -ENOENT);
		assert_int_equal(audit(&w), 0);
		tear_down(&w);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_contents),
		cmocka_unit_test(test_hairpin_between_two),
		cmocka_unit_test(test_dual),
		cmocka_unit_test(test_expiry),
		cmocka_unit_test(test_next_hop_changes),
		cmocka_unit_test(test_ports),
		cmocka_unit_test(test_missing_and_back),
		cmocka_unit_test(test_traffic),
		cmocka_unit_test(test_policer_of_flows),
		cmocka_unit_test(test_policer_numbers),
		cmocka_unit_test(test_audit_finds),
		cmocka_unit_test(test_own_addresses),
		cmocka_unit_test(test_random),
		cmocka_unit_test(test_audit_in_pieces),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
