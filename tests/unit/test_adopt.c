/*
 * Adoption: a life of the control plane grants at random and dies at any moment, the next one finds
 * the memory as it was and goes on. Routes are made up here; sockets there are none.
 */
#include "base/clock.h"
#include "controlplane/adopt.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#define SECOND   TP_NS_PER_S
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* Stands in for route/: a next hop that the remote's last byte tells. Nobody looks behind a
 * destination's pointer: where it leads is the next hop. */
static char hops[65536];

uint16_t route_follow(struct route *route, struct route_user *user, const struct tp_addr *remote,
	const struct tp_addr *local)
{
	uint16_t next_hop = remote->ip[15] % 7 ? remote->ip[15] : TP_NO_NEXT_HOP_YET;

	user->destination = (struct route_destination *)&hops[next_hop];
	return next_hop;
}

void route_unfollow(struct route *route, struct route_user *user)
{
	user->destination = NULL;
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

struct life {
	struct tp_memory memory;
	struct tp_table *table;
	struct flows *flows;
	struct policy *policy;
	struct turn_server *server;
	struct turn_relay_address relays[2];
	struct turn_settings settings;
	uint64_t bandwidth;
	uint64_t now_ns;
	uint32_t torn; /* flows that tp_table_adopt() dropped */
	int opens;     /* how many relays can still be opened */
};

static struct tp_addr addr(const char *text)
{
	struct tp_addr a;

	assert_int_equal(tp_addr_parse(text, &a), 0);
	return a;
}

static void send_client(void *context, const struct alloc_tuple *to, const void *head,
	size_t head_len, const void *data, size_t data_len, struct turn_marks marks)
{
}

static void send_peer(void *context, struct alloc_relay *from, const struct tp_addr *peer,
	const void *data, size_t data_len, struct turn_marks marks)
{
}

static int open_relay(void *context, struct alloc_relay *relay)
{
	struct life *life = context;

	if (life->opens-- <= 0)
		return -EADDRINUSE;
	return flows_open_relay(life->flows, relay);
}

static void extend_relay(void *context, struct alloc_relay *relay)
{
	flows_extend_relay(((struct life *)context)->flows, relay);
}

static void close_relay(void *context, struct alloc_relay *relay)
{
	flows_close_relay(((struct life *)context)->flows, relay);
}

static void grant_permission(void *context, struct alloc_permission *permission)
{
	flows_grant_permission(((struct life *)context)->flows, permission);
}

static void revoke_permission(void *context, struct alloc_permission *permission)
{
	flows_revoke_permission(((struct life *)context)->flows, permission);
}

static void grant_channel(void *context, struct alloc_channel *channel)
{
	flows_grant_channel(((struct life *)context)->flows, channel);
}

static void revoke_channel(void *context, struct alloc_channel *channel)
{
	flows_revoke_channel(((struct life *)context)->flows, channel);
}

static bool police(void *context, const struct allocation *allocation,
	enum turn_direction direction, uint64_t now_ns, size_t len)
{
	return true;
}

static const char *const servers[] = {"185.1.1.1:3478", "[2a00:1::1]:3478"};

static struct life life_as(const struct tp_memory *memory)
{
	struct life life = {
		.memory = *memory,
		.now_ns = tp_clock_now_ns(),
		.opens = INT32_MAX,
		.settings = {.relays_count = 2, .port_min = 50000, .port_max = 50999},
	};

	life.relays[0].address = addr("185.1.1.1:0");
	life.relays[1].address = addr("[2a00:1::1]:0");
	return life;
}

static void begin(struct life *life)
{
	const struct turn_effects effects = {life, send_client, send_peer, open_relay, extend_relay,
		close_relay, grant_permission, revoke_permission, grant_channel, revoke_channel,
		police};

	if (tp_memory_is_kept(&life->memory))
		assert_int_equal(
			tp_table_adopt(&life->memory, 0x4fff, &life->torn, &life->table), 0);
	else
		assert_int_equal(tp_table_create(&life->memory, 0x4fff, &life->table), 0);
	assert_int_equal(flows_new(life->table, NULL, &life->flows), 0);
	flows_set_bandwidth(life->flows, life->bandwidth);
	for (size_t i = 0; i < COUNT(servers); i++) {
		struct tp_addr listener = addr(servers[i]);

		assert_int_equal(flows_own_listener(life->flows, &listener), 0);
	}
	life->settings.relays = life->relays;
	life->settings.owner_key = tp_table_owner_key(life->table);
	assert_int_equal(policy_new(&life->policy), 0);
	assert_int_equal(turn_server_new(&life->settings, NULL, life->policy, &effects,
				 life->now_ns, &life->server),
		0);
}

/* The orderly end. */
static void end(struct life *life)
{
	turn_server_free(life->server);
	policy_free(life->policy);
	flows_free(life->flows);
	tp_table_destroy(life->table);
	tp_memory_destroy_plain(&life->memory);
}

static struct tp_memory new_memory(uint32_t flows, uint32_t allocations)
{
	struct tp_memory memory;
	struct tp_shape shape;

	assert_int_equal(tp_shape_init(flows, 1, allocations, &shape), 0);
	assert_int_equal(tp_memory_create_plain(&shape, &memory), 0);
	return memory;
}

/* What a process that is killed now leaves behind. */
static struct tp_memory remains_of(const struct tp_memory *memory)
{
	struct tp_memory copy;

	assert_int_equal(tp_memory_create_plain(&memory->shape, &copy), 0);
	for (int i = 0; i < TP_REGIONS; i++)
		memcpy(copy.regions[i], memory->regions[i],
			(size_t)memory->shape.regions[i].element_size *
				memory->shape.regions[i].count);
	return copy;
}

static void print_difference(void *arg, const char *text)
{
	print_message("    %s\n", text);
}

static uint32_t audit(const struct life *life)
{
	return flows_audit(
		life->flows, turn_server_allocations(life->server), print_difference, NULL);
}

static struct adopt_report adopt_all(struct life *life)
{
	struct adopt_report report;

	assert_int_equal(adopt(life->table, life->flows, life->server, life->now_ns, &report), 0);
	assert_int_equal(audit(life), 0);
	return report;
}

/* ---- grants, as clients would have them */

static struct tp_addr client_of(uint32_t id)
{
	struct tp_addr a = addr(id % 3 ? "9.9.9.1:0" : "[2a00:9::1]:0");

	a.port = (uint16_t)(2000 + id);
	return a;
}

static struct tp_addr peer_of(uint32_t n, int family)
{
	struct tp_addr a = addr(family == ALLOC_RELAY_V4 ? "8.8.8.1:0" : "[2a00:8::1]:0");

	a.ip[15] = (uint8_t)(1 + n % 100);
	a.port = (uint16_t)(7000 + n / 100);
	return a;
}

static struct alloc_restored allocation_numbered(uint32_t id)
{
	return (struct alloc_restored){
		.id = id,
		.tuple = {.client = client_of(id),
			.server = addr(servers[id % 3 ? 0 : 1]),
			.transport = ALLOC_UDP},
		.owner = {.name = {id, ~(uint64_t)id}, .quota = id % 5},
		.name = "somebody",
		.name_len = 8,
	};
}

/* families: a bit each. */
static void allocate(struct life *life, uint32_t id, unsigned int families, uint64_t seconds)
{
	struct alloc_restored from = allocation_numbered(id);
	struct turn_kept_relay relays[ALLOC_RELAYS] = {0};

	for (int f = 0; f < ALLOC_RELAYS; f++) {
		if (!(families & (1u << f)))
			continue;
		relays[f].address = life->relays[f].address;
		relays[f].address.port = (uint16_t)(50000 + id);
		relays[f].expires_ns = life->now_ns + seconds * SECOND;
	}
	assert_int_equal(turn_server_restore(life->server, &from, relays, life->now_ns), 0);
}

static struct alloc_relay *relay_of(const struct life *life, uint32_t id, int family)
{
	return turn_server_find(life->server, id)->relays[family];
}

static struct turn_kept_grant grant_to(
	const struct life *life, uint32_t id, int family, uint32_t n, uint64_t seconds)
{
	struct alloc_restored from = allocation_numbered(id);

	return (struct turn_kept_grant){
		.allocation = id,
		.relay = relay_of(life, id, family)->address,
		.peer = peer_of(n, family),
		.expires_ns = life->now_ns + seconds * SECOND,
		.client = from.tuple.client,
		.server = from.tuple.server,
	};
}

static void permit(struct life *life, uint32_t id, int family, uint32_t n, uint64_t seconds)
{
	struct turn_kept_grant grant = grant_to(life, id, family, n, seconds);

	assert_int_equal(turn_server_restore_permission(life->server, &grant, life->now_ns), 0);
}

static void bind_channel(struct life *life, uint32_t id, int family, uint32_t n, uint64_t seconds)
{
	struct turn_kept_grant grant = grant_to(life, id, family, n, seconds);

	grant.channel = (uint16_t)(0x4000 + 2 * n + (uint32_t)family);
	assert_int_equal(turn_server_restore_channel(life->server, &grant, life->now_ns), 0);
}

static void extend(struct life *life, uint32_t id, int family, uint64_t seconds)
{
	struct alloc_permission *p;
	struct alloc_channel *c;
	struct alloc_relay *relay = relay_of(life, id, family);

	alloc_extend_relay(relay, life->now_ns + seconds * SECOND);
	flows_extend_relay(life->flows, relay);
	for (p = alloc_next_permission(relay, NULL); p; p = alloc_next_permission(relay, p))
		flows_grant_permission(life->flows, p);
	for (c = alloc_next_channel(relay, NULL); c; c = alloc_next_channel(relay, c))
		flows_grant_channel(life->flows, c);
}

/* Allocations 1 to `count`, of all kinds. */
static void live(struct life *life, uint32_t count)
{
	for (uint32_t id = 1; id <= count; id++) {
		unsigned int families = 1 + (unsigned int)rand() % 3;

		allocate(life, id, families, 60 + (uint64_t)rand() % 600);
		for (int f = 0; f < ALLOC_RELAYS; f++) {
			if (!(families & (1u << f)))
				continue;
			for (uint32_t n = (uint32_t)rand() % 4; n > 0; n--)
				permit(life, id, f, n, 10 + (uint64_t)rand() % 300);
			for (uint32_t n = (uint32_t)rand() % 4; n > 0; n--)
				bind_channel(life, id, f, n, 10 + (uint64_t)rand() % 1200);
			if (rand() % 3 == 0)
				extend(life, id, f, 60 + (uint64_t)rand() % 600);
		}
	}
	assert_int_equal(audit(life), 0);
}

/* ---- tests */

static void assert_same_flows(const struct life *a, const struct life *b)
{
	const struct tp_flow *old = a->memory.regions[TP_REGION_FLOWS];
	const struct tp_flow *new = b->memory.regions[TP_REGION_FLOWS];

	assert_int_equal(tp_table_live(a->table), tp_table_live(b->table));
	for (uint32_t slot = 0; slot < tp_table_slots(a->table); slot++)
		assert_memory_equal(&old[slot], &new[slot], sizeof(*old));
	assert_memory_equal(a->memory.regions[TP_REGION_ALLOCATIONS],
		b->memory.regions[TP_REGION_ALLOCATIONS],
		sizeof(struct tp_kept) * tp_table_kept_end(a->table));
}

/* Not a byte of a record changes, and the new owner believes what the old one did. */
static void test_round_trip(void **state)
{
	for (unsigned int seed = 1; seed <= 20; seed++) {
		struct life first = life_as(&(struct tp_memory){0}), second;
		struct adopt_report report;

		srand(seed);
		first.memory = new_memory(8192, 256);
		first.bandwidth = seed % 2 ? 0 : 1000000;
		begin(&first);
		live(&first, 1 + (uint32_t)rand() % 200);
		second = life_as(&first.memory);
		second.memory = remains_of(&first.memory);
		second.bandwidth = first.bandwidth;
		begin(&second);
		report = adopt_all(&second);
		assert_int_equal(report.allocations, turn_server_count(first.server));
		assert_int_equal(report.flows, tp_table_live(first.table));
		assert_int_equal(
			report.dropped_allocations + report.dropped_flows + second.torn, 0);
		assert_same_flows(&first, &second);
		end(&second);
		end(&first);
	}
}

static void assert_nothing_is_kept(const struct tp_memory *memory)
{
	const struct tp_flow *flows = memory->regions[TP_REGION_FLOWS];
	const struct tp_kept *kept = memory->regions[TP_REGION_ALLOCATIONS];
	const struct tp_ports *ports = memory->regions[TP_REGION_PORTS];

	for (uint32_t i = 0; i < memory->shape.regions[TP_REGION_FLOWS].count; i++)
		assert_int_equal(flows[i].key.ident, 0);
	for (uint32_t i = 0; i < memory->shape.regions[TP_REGION_ALLOCATIONS].count; i++)
		assert_int_equal(kept[i].id, 0);
	for (unsigned int port = 50000; port < 51000; port++)
		assert_int_equal(ports[0].state[port], TP_PORT_NOT_OURS);
}

/* Who leaves in an orderly way leaves nothing to adopt. */
static void test_orderly_end(void **state)
{
	struct life life = life_as(&(struct tp_memory){0});

	life.memory = new_memory(1024, 64);
	begin(&life);
	live(&life, 50);
	turn_server_free(life.server);
	assert_nothing_is_kept(&life.memory);
	policy_free(life.policy);
	flows_free(life.flows);
	tp_table_destroy(life.table);
	tp_memory_destroy_plain(&life.memory);
}

/* ---- killed between any two stores */

typedef void operation(struct life *life);

static void allocates(struct life *life)
{
	allocate(life, 101, 3, 300);
}

static void adds_a_relay(struct life *life)
{
	struct allocation *a = turn_server_find(life->server, 100);
	struct tp_addr address = life->relays[ALLOC_RELAY_V6].address;
	struct alloc_relay *relay;

	address.port = 50100;
	assert_int_equal(alloc_restore_relay(a, &address, life->now_ns + 100 * SECOND, &relay), 0);
	relay->open = flows_open_relay(life->flows, relay) == 0;
}

static void permits(struct life *life)
{
	permit(life, 100, ALLOC_RELAY_V4, 50, 200);
}

static void binds(struct life *life)
{
	bind_channel(life, 100, ALLOC_RELAY_V4, 51, 200);
}

static void forbids(struct life *life)
{
	alloc_delete_permission(alloc_next_permission(relay_of(life, 100, ALLOC_RELAY_V4), NULL));
}

static void unbinds(struct life *life)
{
	alloc_delete_channel(alloc_next_channel(relay_of(life, 100, ALLOC_RELAY_V4), NULL));
}

static void refreshes(struct life *life)
{
	extend(life, 100, ALLOC_RELAY_V4, 1800);
}

static void deletes(struct life *life)
{
	turn_server_delete(life->server, turn_server_find(life->server, 100));
}

/*
 * The memory in the middle of an operation: of the words that it changes some have changed. More
 * mixtures than there are moments to die at, since stores have an order.
 */
static void mix(struct tp_memory *into, const struct tp_memory *after)
{
	for (int i = 0; i < TP_REGIONS; i++) {
		const struct tp_region_shape *region = &into->shape.regions[i];
		size_t size = (size_t)region->element_size * region->count;
		size_t step = i == TP_REGION_BUCKETS ? sizeof(uint8_t) : sizeof(uint64_t);
		uint8_t *to = into->regions[i];
		const uint8_t *from = after->regions[i];

		for (size_t at = 0; at < size; at += step) {
			if (memcmp(to + at, from + at, step) != 0 && rand() % 2)
				memcpy(to + at, from + at, step);
		}
	}
}

/* Whatever the last operation was, the next life is of one mind, and nobody else has lost a thing.
 */
static void test_killed_in_between(void **state)
{
	static operation *const operations[] = {
		allocates, adds_a_relay, permits, binds, forbids, unbinds, refreshes, deletes};

	for (size_t i = 0; i < COUNT(operations) * 25; i++) {
		struct life first = life_as(&(struct tp_memory){0}), second;
		struct tp_memory before;
		struct adopt_report report;
		uint32_t others;

		srand((unsigned int)i);
		first.memory = new_memory(256, 128);
		begin(&first);
		live(&first, 5);
		others = tp_table_live(first.table);
		allocate(&first, 100, 1, 300);
		permit(&first, 100, ALLOC_RELAY_V4, 1, 200);
		bind_channel(&first, 100, ALLOC_RELAY_V4, 1, 600);
		before = remains_of(&first.memory);
		operations[i % COUNT(operations)](&first);
		mix(&before, &first.memory);
		second = life_as(&before);
		begin(&second);
		report = adopt_all(&second);
		assert_true(report.allocations >= 5 && report.allocations <= 7);
		assert_true(report.flows >= others);
		for (uint32_t id = 1; id <= 5; id++)
			assert_non_null(turn_server_find(second.server, id));
		end(&second);
		end(&first);
	}
}

/* ---- half-states by name */

struct half {
	struct tp_flow *flow; /* one of each kind in turn */
	struct tp_flow_detail *detail;
	uint8_t *tag;
	uint32_t slot;
	struct life *life;
};

static void never_shown(struct half *h)
{
	*h->tag = 0;
}

static void half_retired(struct half *h)
{
	h->flow->key.ident = 0;
}

static void retired(struct half *h)
{
	h->flow->key.ident = 0;
	*h->tag = 0;
}

static void other_tag(struct half *h)
{
	*h->tag ^= 0x55;
}

/* The same record once more. */
static void put(struct half *h, uint32_t slot)
{
	uint8_t *tags = h->life->memory.regions[TP_REGION_BUCKETS];
	struct tp_flow *flows = h->life->memory.regions[TP_REGION_FLOWS];
	struct tp_flow_detail *details = h->life->memory.regions[TP_REGION_DETAILS];

	flows[slot] = *h->flow;
	details[slot] = *h->detail;
	tags[slot] = *h->tag;
}

static void twice(struct half *h)
{
	struct tp_flow *flows = h->life->memory.regions[TP_REGION_FLOWS];
	uint32_t first = h->slot / TP_BUCKET_SLOTS * TP_BUCKET_SLOTS;

	for (uint32_t i = first; i < first + TP_BUCKET_SLOTS; i++) {
		if (flows[i].key.ident != 0)
			continue;
		put(h, i);
		return;
	}
}

static bool may_lie_at(const struct half *h, uint32_t slot)
{
	const struct tp_config *config = h->life->memory.regions[TP_REGION_CONFIG];
	struct tp_place place =
		tp_place_of(tp_flow_hash(&h->flow->key, config->salt), config->buckets);
	uint32_t bucket = slot / TP_BUCKET_SLOTS;

	return slot == place.home || bucket == place.bucket[0] || bucket == place.bucket[1];
}

static void in_a_strange_place(struct half *h)
{
	struct tp_flow *flows = h->life->memory.regions[TP_REGION_FLOWS];
	uint32_t i = h->slot;

	do
		i = (i + TP_BUCKET_SLOTS) % h->life->memory.shape.regions[TP_REGION_FLOWS].count;
	while (flows[i].key.ident != 0 || may_lie_at(h, i));
	put(h, i);
	retired(h);
}

static void of_another_allocation(struct half *h)
{
	h->detail->allocation = 4711;
}

static void other_rewrite(struct half *h)
{
	h->flow->value.channel.be ^= 0x0100;
	h->flow->value.local_port.be ^= 0x0100;
}

static void no_note(struct half *h)
{
	struct tp_kept *kept = h->life->memory.regions[TP_REGION_ALLOCATIONS];

	kept[1].id = 0;
}

static void mad_note(struct half *h)
{
	struct tp_kept *kept = h->life->memory.regions[TP_REGION_ALLOCATIONS];

	kept[1].server = 31;
	kept[1].name_len = 255;
}

static void note_without_relay(struct half *h)
{
	struct tp_kept *kept = h->life->memory.regions[TP_REGION_ALLOCATIONS];

	kept[1].relays[0].ref.word = 0;
}

static void note_twice(struct half *h)
{
	struct tp_kept *kept = h->life->memory.regions[TP_REGION_ALLOCATIONS];

	kept[2] = kept[1];
}

static void port_is_not_ours(struct half *h)
{
	struct tp_ports *ports = h->life->memory.regions[TP_REGION_PORTS];

	ports[0].state[50001] = TP_PORT_NOT_OURS;
	ports[0].state[50500] = TP_PORT_RELAY;
	ports[1].state[3479] = TP_PORT_LISTENER;
}

/* Allocations and flows there are afterwards, by the kind of flow that is half there. */
static const struct {
	void (*damage)(struct half *h);
	uint32_t flows[5]; /* by enum tp_flow_kind; of 4: channel, peer, permission, client */
	uint32_t torn;
} halves[] = {
	/* Each half of a channel tells of the other; a client of itself. */
	{never_shown, {0, 4, 4, 3, 4}, 1},
	{half_retired, {0, 4, 4, 3, 4}, 0},
	{retired, {0, 4, 4, 3, 4}, 0},
	{other_tag, {0, 4, 4, 3, 4}, 1},
	{twice, {0, 4, 4, 4, 4}, 1},
	{in_a_strange_place, {0, 4, 4, 3, 4}, 1},
	{of_another_allocation, {0, 4, 4, 3, 4}, 0},
	{no_note, {0, 0, 0, 0, 0}, 0},
	{mad_note, {0, 0, 0, 0, 0}, 0},
	{note_without_relay, {0, 0, 0, 0, 0}, 0},
	{note_twice, {0, 4, 4, 4, 4}, 0},
	{port_is_not_ours, {0, 4, 4, 4, 4}, 0},
};

static struct half find_half(struct life *life, enum tp_flow_kind kind)
{
	struct half h = {.life = life,
		.flow = life->memory.regions[TP_REGION_FLOWS],
		.detail = life->memory.regions[TP_REGION_DETAILS]};

	while (h.flow->key.kind != kind || h.flow->key.ident == 0) {
		h.flow++;
		h.detail++;
		h.slot++;
	}
	h.tag = (uint8_t *)life->memory.regions[TP_REGION_BUCKETS] + h.slot;
	return h;
}

static void damage_and_adopt(size_t row, enum tp_flow_kind kind)
{
	struct life first = life_as(&(struct tp_memory){0}), second;
	struct adopt_report report;
	struct half h;

	first.memory = new_memory(256, 16);
	begin(&first);
	allocate(&first, 1, 1, 300);
	permit(&first, 1, ALLOC_RELAY_V4, 1, 200);
	bind_channel(&first, 1, ALLOC_RELAY_V4, 1, 250);
	second = life_as(&first.memory);
	second.memory = remains_of(&first.memory);
	h = find_half(&second, kind);
	halves[row].damage(&h);
	begin(&second);
	report = adopt_all(&second);
	if (report.flows != halves[row].flows[kind] || second.torn != halves[row].torn)
		print_message("row %zu, kind %d: %u flows, %u torn\n", row, kind, report.flows,
			second.torn);
	assert_int_equal(report.flows, halves[row].flows[kind]);
	assert_int_equal(second.torn, halves[row].torn);
	assert_int_equal(report.allocations, halves[row].flows[kind] ? 1 : 0);
	end(&second);
	end(&first);
}

static void test_half_states(void **state)
{
	for (size_t row = 0; row < COUNT(halves); row++)
		for (int kind = TP_FLOW_CHANNEL; kind <= TP_FLOW_CLIENT; kind++)
			damage_and_adopt(row, (enum tp_flow_kind)kind);
}

/* What is rewritten otherwise than the grants say is replaced, not believed. */
static void test_other_rewrite(void **state)
{
	struct life first = life_as(&(struct tp_memory){0}), second;
	struct half h;

	first.memory = new_memory(256, 16);
	begin(&first);
	allocate(&first, 1, 1, 300);
	permit(&first, 1, ALLOC_RELAY_V4, 1, 200);
	bind_channel(&first, 1, ALLOC_RELAY_V4, 1, 250);
	second = life_as(&first.memory);
	second.memory = remains_of(&first.memory);
	h = find_half(&second, TP_FLOW_CHANNEL);
	other_rewrite(&h);
	begin(&second);
	assert_int_equal(adopt_all(&second).flows, 4);
	end(&second);
	end(&first);
}

/* ---- a second life with other settings */

enum change {
	NOTHING,
	OTHER_PORTS,
	NO_V4,
	LOW_QUOTA,
	FEW_CHANNELS,
	POLICED,
	NO_SOCKETS,
	LATER,
};

/* One allocation of both families, one of IPv4; a permission and two channels to a peer each. */
static const struct {
	enum change change;
	uint32_t allocations, flows;
} changes[] = {
	{NOTHING, 2, 2 + 3 * 5}, {OTHER_PORTS, 0, 0}, {NO_V4, 1, 1 + 5}, {LOW_QUOTA, 1, 1 + 2 * 5},
	{FEW_CHANNELS, 2, 2 + 3 + 2 * 2}, {POLICED, 2, 2 + 3 * 5}, {NO_SOCKETS, 1, 1 + 5},
	{LATER, 2, 2 + 3 * 4}, /* the permissions are over */
};

static void change_settings(struct life *life, enum change change)
{
	if (change == OTHER_PORTS)
		life->settings.port_min = life->settings.port_max = 40000;
	if (change == NO_V4) {
		life->relays[0] = life->relays[1];
		life->settings.relays_count = 1;
	}
	if (change == LOW_QUOTA)
		life->settings.allocations_max = 1;
	if (change == FEW_CHANNELS)
		life->settings.channels_per_allocation = 1;
	if (change == POLICED)
		life->bandwidth = 1000000;
	if (change == NO_SOCKETS)
		life->opens = 1;
	if (change == LATER)
		life->now_ns += 250 * SECOND;
}

static void test_other_settings(void **state)
{
	for (size_t i = 0; i < COUNT(changes); i++) {
		struct life first = life_as(&(struct tp_memory){0}), second;
		struct adopt_report report;

		first.memory = new_memory(256, 16);
		begin(&first);
		allocate(&first, 1, 3, 300);
		allocate(&first, 2, 1, 300);
		for (uint32_t n = 0; n < 3; n++) {
			uint32_t id = n < 2 ? 1 : 2;
			int family = n == 1 ? ALLOC_RELAY_V6 : ALLOC_RELAY_V4;

			permit(&first, id, family, 1, 200);
			bind_channel(&first, id, family, 1, 600);
			bind_channel(&first, id, family, 101, 600);
		}
		second = life_as(&first.memory);
		second.memory = remains_of(&first.memory);
		change_settings(&second, changes[i].change);
		begin(&second);
		report = adopt_all(&second);
		if (report.allocations != changes[i].allocations ||
			report.flows != changes[i].flows)
			print_message("row %zu: %u allocations, %u flows\n", i, report.allocations,
				report.flows);
		assert_int_equal(report.allocations, changes[i].allocations);
		assert_int_equal(report.flows, changes[i].flows);
		assert_int_equal(report.dropped_allocations, 2 - report.allocations);
		end(&second);
		end(&first);
	}
}

/* A channel that was bound beyond its relay's end is there still when the relay is refreshed. */
static void test_grants_beyond_the_relay(void **state)
{
	struct life first = life_as(&(struct tp_memory){0}), second;
	const struct alloc_relay *relay;

	first.memory = new_memory(256, 16);
	begin(&first);
	allocate(&first, 1, 1, 100);
	permit(&first, 1, ALLOC_RELAY_V4, 1, 300);
	bind_channel(&first, 1, ALLOC_RELAY_V4, 1, 600);
	second = life_as(&first.memory);
	second.memory = remains_of(&first.memory);
	begin(&second);
	adopt_all(&second);
	relay = relay_of(&second, 1, ALLOC_RELAY_V4);
	assert_int_equal(relay->expires_ns, first.now_ns + 100 * SECOND);
	assert_int_equal(
		(alloc_next_permission(relay, NULL)->expires_ns - first.now_ns + SECOND / 2) /
			SECOND,
		300);
	assert_int_equal(
		(alloc_next_channel(relay, NULL)->expires_ns - first.now_ns + SECOND / 2) / SECOND,
		600);
	end(&second);
	end(&first);
}

/* Numbers go on: no id is given twice, no port, no note. */
static void test_numbers_go_on(void **state)
{
	struct life first = life_as(&(struct tp_memory){0}), second;

	first.memory = new_memory(1024, 64);
	begin(&first);
	live(&first, 40);
	for (uint32_t id = 1; id < 40; id += 2)
		turn_server_delete(first.server, turn_server_find(first.server, id));
	second = life_as(&first.memory);
	second.memory = remains_of(&first.memory);
	begin(&second);
	assert_int_equal(adopt_all(&second).allocations, 20);
	for (uint32_t id = 1; id < 40; id += 2)
		allocate(&second, id, 1, 100);
	for (uint32_t id = 41; id < 60; id++)
		allocate(&second, id, 1, 100);
	assert_int_equal(audit(&second), 0);
	end(&second);
	end(&first);
}

/* Killed again while it adopts, with other settings than before: the third life has it all. */
static void test_killed_while_adopting(void **state)
{
	for (unsigned int seed = 1; seed <= 30; seed++) {
		struct life lives[3];
		struct tp_memory before;

		srand(seed);
		lives[0] = life_as(&(struct tp_memory){0});
		lives[0].memory = new_memory(1024, 64);
		begin(&lives[0]);
		live(&lives[0], 30);
		lives[1] = life_as(&lives[0].memory);
		lives[1].memory = remains_of(&lives[0].memory);
		lives[1].bandwidth = seed % 2 ? 1000000 : 0;
		begin(&lives[1]);
		before = remains_of(&lives[1].memory);
		adopt_all(&lives[1]);
		mix(&before, &lives[1].memory);
		lives[2] = life_as(&before);
		lives[2].bandwidth = lives[1].bandwidth;
		begin(&lives[2]);
		assert_int_equal(adopt_all(&lives[2]).allocations, 30);
		for (int i = 0; i < 3; i++)
			end(&lives[i]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_orderly_end),
		cmocka_unit_test(test_half_states),
		cmocka_unit_test(test_other_rewrite),
		cmocka_unit_test(test_killed_in_between),
		cmocka_unit_test(test_killed_while_adopting),
		cmocka_unit_test(test_other_settings),
		cmocka_unit_test(test_grants_beyond_the_relay),
		cmocka_unit_test(test_numbers_go_on),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
