/* dataplane/table: the writer's promises to readers, capacity, and the audit that checks them. */
#include "base/clock.h"
#include "dataplane/core/count.h"
#include "dataplane/core/host_native.h"
#include "dataplane/core/lookup.h"
#include "dataplane/table/private.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>

struct fixture {
	struct tp_memory memory;
	struct tp_table *table;
	uint8_t v4, v6;
};

static struct tp_addr address(const char *text)
{
	struct tp_addr a;

	if (tp_addr_parse(text, &a) != 0)
		assert_int_equal(tp_addr_parse_ip(text, &a), 0);
	return a;
}

static void open_table(struct fixture *f, uint32_t capacity)
{
	struct tp_addr v4 = address("192.0.2.1"), v6 = address("2001:db8::1");
	struct tp_shape shape;

	assert_int_equal(tp_shape_init(capacity, 2, 7, &shape), 0);
	assert_int_equal(tp_memory_create_plain(&shape, &f->memory), 0);
	assert_int_equal(tp_table_create(&f->memory, 0x4fff, &f->table), 0);
	assert_int_equal(tp_table_add_local(f->table, &v4, &f->v4), 0);
	assert_int_equal(tp_table_add_local(f->table, &v6, &f->v6), 0);
}

static void close_table(struct fixture *f)
{
	tp_table_destroy(f->table);
	tp_memory_destroy_plain(&f->memory);
}

/* The n-th flow of a family of distinct ones; all kinds that rewrite, both IP versions, across. */
static struct tp_flow_spec nth_flow(uint32_t n)
{
	uint8_t ip[16] = {0x20, 0x01, 0x0d, 0xb8, [8] = 7};
	struct tp_flow_spec spec = {
		.kind = TP_FLOW_CHANNEL + n % 3,
		.expires_ns = UINT64_C(1000) * TP_NS_PER_S,
		.allocation = n,
		.next_hop = (uint16_t)(1 + n % 7),
		.policer = n % 3,
	};
	bool is_v4 = n / 3 % 2;

	memcpy(ip + 12, &n, sizeof(n));
	spec.in.remote =
		is_v4 ? tp_addr_make(TP_IPV4, ip + 12, 1000) : tp_addr_make(TP_IPV6, ip, 1000);
	spec.in.local = is_v4 ? 0 : 1;
	spec.in.local_port = 3478;
	spec.out = spec.in;
	spec.out.remote = tp_addr_make(TP_IPV6, ip, (uint16_t)(n * 3));
	spec.out.local = 1;
	spec.out.local_port = (uint16_t)(50000 + n % 1000);
	spec.hairpin = spec.kind != TP_FLOW_PEER && n % 2;
	if (spec.kind == TP_FLOW_PERMISSION) {
		spec.in.remote.port = 0;
		spec.peer_hop = (uint16_t)(1 + n % 5);
		return spec;
	}
	*(spec.kind == TP_FLOW_CHANNEL ? &spec.in.channel : &spec.out.channel) = 0x4001;
	return spec;
}

static struct tp_flow_spec client_flow(uint32_t n)
{
	uint8_t ip[4] = {198, 51, 100, (uint8_t)n};

	return (struct tp_flow_spec){
		.kind = TP_FLOW_CLIENT,
		.in = {.remote = tp_addr_make(TP_IPV4, ip, 1024), .local_port = 3478},
		.relays = {{.port = tp_to_be16((uint16_t)(50000 + n)), .local = 0, .used = 1}},
		.expires_ns = UINT64_C(1000) * TP_NS_PER_S,
		.allocation = n,
		.policer = 2,
	};
}

static struct tp_flow_detail *detail_at(const struct fixture *f, uint32_t slot)
{
	return (struct tp_flow_detail *)f->memory.regions[TP_REGION_DETAILS] + slot;
}

static const struct tp_flow *record_at(const struct fixture *f, uint32_t slot)
{
	return (const struct tp_flow *)f->memory.regions[TP_REGION_FLOWS] + slot;
}

/* The data plane's own look-up, over this memory. */
static struct tp_host reader_of(const struct tp_memory *memory)
{
	return (struct tp_host){
		.config = memory->regions[TP_REGION_CONFIG],
		.buckets = memory->regions[TP_REGION_BUCKETS],
		.flows = memory->regions[TP_REGION_FLOWS],
		.details = memory->regions[TP_REGION_DETAILS],
		.buckets_count = memory->shape.regions[TP_REGION_BUCKETS].count,
	};
}

static bool reader_finds(const struct fixture *f, const struct tp_flow_key *key)
{
	struct tp_host host = reader_of(&f->memory);

	return tp_find_flow(&host, host.config, key).flow != NULL;
}

static void test_shape(void **state)
{
	static const struct {
		uint32_t capacity;
		int err;
		uint32_t slots;
	} rows[] = {
		{0, -EINVAL, 0},
		{1, 0, 8},
		{8, 0, 16},
		{9, 0, 24},
		{1000, 0, 2000},
		{1024, 0, 2048},
		{1025, 0, 2056},
		{UINT32_C(1) << 26, 0, UINT32_C(1) << 27},
		{(UINT32_C(1) << 26) + 1, -EINVAL, 0},
	};
	struct tp_shape shape;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_int_equal(tp_shape_init(rows[i].capacity, 1, 1, &shape), rows[i].err);
		if (rows[i].err)
			continue;
		assert_int_equal(shape.regions[TP_REGION_FLOWS].count, rows[i].slots);
		assert_true(shape.capacity >= rows[i].capacity);
	}
	assert_int_equal(tp_shape_init(8, 0, 1, &shape), -EINVAL);
	assert_int_equal(tp_shape_init(8, 1, (UINT32_C(1) << 26) + 1, &shape), -EINVAL);
}

static void test_publish_and_read(void **state)
{
	struct fixture f;
	uint32_t slots[60];

	open_table(&f, 1024);
	for (uint32_t n = 0; n < 60; n++) {
		struct tp_flow_spec spec = nth_flow(n), back;
		uint32_t again = 12345;

		assert_int_equal(tp_table_publish(f.table, &spec, &slots[n]), 0);
		assert_int_equal(tp_table_publish(f.table, &spec, &again), -EEXIST);
		assert_int_equal(again, 12345);
		assert_true(tp_table_read(f.table, slots[n], &back));
		assert_true(tp_addr_equal(&spec.in.remote, &back.in.remote));
		assert_true(tp_addr_equal(&spec.out.remote, &back.out.remote));
		assert_int_equal(spec.in.channel, back.in.channel);
		assert_int_equal(spec.out.channel, back.out.channel);
		assert_int_equal(spec.out.local_port, back.out.local_port);
		assert_int_equal(spec.out.local, back.out.local);
		assert_int_equal(back.hairpin, spec.hairpin);
		assert_int_equal(back.next_hop, spec.next_hop);
		assert_int_equal(back.peer_hop, spec.peer_hop);
		assert_int_equal(back.policer, spec.policer);
		assert_int_equal(back.kind, spec.kind);
		assert_int_equal(back.allocation, n);
		assert_int_equal(tp_ticks_until(back.expires_ns), tp_ticks_until(spec.expires_ns));
		assert_true(reader_finds(&f, &record_at(&f, slots[n])->key));
	}
	assert_int_equal(tp_table_live(f.table), 60);
	close_table(&f);
}

static void test_refused_specs(void **state)
{
	struct fixture f;
	struct tp_flow_spec rows[23];
	uint32_t slot = 7;

	open_table(&f, 8);
	for (int i = 0; i < 9; i++)
		rows[i] = nth_flow(0);
	rows[0].kind = TP_FLOW_NONE;
	rows[1].in.local = 2;
	rows[2].out.local = TP_LOCALS_MAX;
	rows[3].out.remote = tp_addr_make(TP_IPV6, address("192.0.2.9").ip, 9);
	rows[4].in.remote.family = TP_NO_FAMILY;
	rows[5].next_hop = TP_NEXT_HOPS_MAX;
	rows[6].policer = 8;
	rows[7].peer_hop = 1; /* of a channel */
	rows[8].out.remote.family = TP_NO_FAMILY;
	for (int i = 9; i < 11; i++)
		rows[i] = nth_flow(1);
	rows[9].hairpin = true; /* of a peer */
	rows[10].peer_hop = 1;
	for (int i = 11; i < 16; i++)
		rows[i] = nth_flow(2);
	rows[11].peer_hop = TP_NEXT_HOPS_MAX;
	rows[12].out.local = 2;
	rows[13].in.remote.port = 5;
	rows[14].out.channel = 0x4000;
	rows[15].in.channel = 0x4000;
	for (int i = 16; i < 23; i++)
		rows[i] = client_flow(0);
	rows[16].relays[TP_RELAY_V4].local = f.v6;
	rows[17].relays[TP_RELAY_V6] = (struct tp_relay_ref){.local = f.v4, .used = 1};
	rows[18].relays[TP_RELAY_V6] = (struct tp_relay_ref){.local = 2, .used = 1};
	rows[19].relays[TP_RELAY_V4].used = 0;
	rows[20].hairpin = true;
	rows[21].next_hop = 1;
	rows[22].in.channel = 0x4000;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_int_equal(tp_table_publish(f.table, &rows[i], &slot), -EINVAL);
	assert_int_equal(slot, 7);
	assert_int_equal(tp_table_live(f.table) + tp_table_unplaced(f.table), 0);
	close_table(&f);
}

static void test_single_words(void **state)
{
	struct fixture f;
	struct tp_flow_spec spec = nth_flow(2);
	struct tp_flow_counters got;
	struct tp_flow *flows;
	uint32_t slot;

	open_table(&f, 8);
	flows = f.memory.regions[TP_REGION_FLOWS];
	for (uint32_t i = 0; i < tp_table_slots(f.table); i++)
		detail_at(&f, i)->counters.packets = flows[i].recent = 99;
	assert_int_equal(tp_table_publish(f.table, &spec, &slot), 0);
	assert_int_equal(tp_table_counters(f.table, slot).packets, 0);
	detail_at(&f, slot)->counters = (struct tp_flow_counters){.packets = 2, .bytes = 200};
	flows[slot].recent = TP_RECENT_PACKET + 100;
	tp_table_set_expiry(f.table, slot, 5 * TP_NS_PER_S);
	assert_int_equal(record_at(&f, slot)->expires, tp_ticks_until(5 * TP_NS_PER_S));
	tp_table_set_next_hop(f.table, slot, 44);
	assert_int_equal(record_at(&f, slot)->next_hop, 44);
	tp_table_set_peer_hop(f.table, slot, 55);
	tp_table_set_peer_hop(f.table, slot, TP_NEXT_HOPS_MAX);
	assert_int_equal(record_at(&f, slot)->peer_hop, 55);
	/* Only clients have relays: elsewhere the words are an address. */
	tp_table_set_relay(f.table, slot, TP_RELAY_V4, (struct tp_relay_ref){.word = 0});
	assert_memory_equal(record_at(&f, slot)->value.remote, spec.out.remote.ip, 16);
	got = tp_table_retire(f.table, slot, 0);
	assert_int_equal(got.packets, 3);
	assert_int_equal(got.bytes, 300);
	tp_table_set_next_hop(f.table, slot, 45);
	assert_int_equal(record_at(&f, slot)->next_hop, 44);
	tp_table_set_peer_hop(f.table, slot, 45);
	assert_int_equal(record_at(&f, slot)->peer_hop, 55);
	assert_int_equal(tp_table_retire(f.table, slot, 0).packets, 0);
	assert_int_equal(tp_table_live(f.table), 0);
	close_table(&f);
}

static uint32_t finish_audit(
	struct tp_audit *audit, void (*report)(void *arg, const char *text), void *arg)
{
	while (tp_audit_look(audit, 7))
		continue;
	return tp_audit_end(audit, report, arg);
}

/* A dual allocation gains and loses relays while its client's flow is live. */
static void test_client(void **state)
{
	struct fixture f;
	struct tp_flow_spec spec = client_flow(3), back;
	struct tp_relay_ref second = {.port = tp_to_be16(50001), .local = 1, .used = 1};
	const struct tp_flow *record;
	struct tp_audit *audit;
	uint32_t slot;

	open_table(&f, 8);
	assert_int_equal(tp_table_publish(f.table, &spec, &slot), 0);
	record = record_at(&f, slot);
	assert_int_equal(record->value.relays[TP_RELAY_V4].word, spec.relays[TP_RELAY_V4].word);
	assert_int_equal(record->value.relays[TP_RELAY_V6].word, 0);
	assert_int_equal(detail_at(&f, slot)->policer, 2);
	assert_int_equal(record->sum_delta + record->label, 0);
	tp_table_set_relay(f.table, slot, TP_RELAY_V6, second);
	tp_table_set_relay(f.table, slot, TP_RELAYS, second);
	assert_true(tp_table_read(f.table, slot, &back));
	assert_int_equal(back.relays[TP_RELAY_V4].word, spec.relays[TP_RELAY_V4].word);
	assert_int_equal(back.relays[TP_RELAY_V6].word, second.word);
	assert_int_equal(back.out.remote.family, TP_NO_FAMILY);

	/* It is not what was published that counts, but what should be there now. */
	for (int expected = 1; expected >= 0; expected--) {
		assert_int_equal(tp_audit_begin(f.table, &audit), 0);
		tp_audit_expect(audit, slot, &spec);
		assert_int_equal(finish_audit(audit, NULL, NULL), expected);
		spec.relays[TP_RELAY_V6] = second;
	}
	close_table(&f);
}

/* Each client's Data indications are one stream to routers, whatever port the peer uses. */
static void test_permission_constants(void **state)
{
	struct fixture f;
	struct tp_flow_spec spec = nth_flow(2), v4 = nth_flow(5), channel = nth_flow(2);
	uint32_t slot, other;

	open_table(&f, 8);
	v4.out.remote = address("198.51.100.10:1024");
	v4.out.local = 0;
	channel.kind = TP_FLOW_PEER;
	channel.hairpin = false;
	channel.peer_hop = 0;
	assert_int_equal(tp_table_publish(f.table, &spec, &slot), 0);
	assert_int_equal(tp_table_publish(f.table, &channel, &other), 0);
	assert_in_range(record_at(&f, slot)->label, 1, 0xfffff);
	assert_int_equal(record_at(&f, slot)->label, record_at(&f, other)->label);
	assert_int_equal(record_at(&f, slot)->peer_hop, spec.peer_hop);
	/* Several: the label's upper half may be 0 by chance. */
	for (int i = 0; i < 6; i++, v4.in.local_port++, v4.out.remote.port++) {
		assert_int_equal(tp_table_publish(f.table, &v4, &slot), 0);
		assert_int_equal(record_at(&f, slot)->ip_sum_delta, 0);
		assert_int_equal(record_at(&f, slot)->peer_hop, v4.peer_hop);
		assert_memory_equal(record_at(&f, slot)->value.remote, v4.out.remote.ip, 16);
		assert_int_equal(tp_from_be16(record_at(&f, slot)->value.remote_port), 1024 + i);
	}
	close_table(&f);
}

/* The record's constants against sums taken the long way, over v4, v6 and both channel sides. */
static void test_sum_delta(void **state)
{
	struct fixture f;

	open_table(&f, 64);
	for (uint32_t n = 0; n < 30; n++) {
		struct tp_flow_spec spec = nth_flow(n);
		struct tp_addr in = tp_table_local(f.table, spec.in.local);
		struct tp_addr out = tp_table_local(f.table, spec.out.local);
		uint64_t old = spec.in.remote.port + spec.in.local_port + spec.in.channel;
		uint64_t new = spec.out.remote.port + spec.out.local_port + spec.out.channel;
		uint64_t old_ip = 64 + (spec.in.channel ? 4 : 0);
		uint64_t new_ip = 63 + (spec.out.channel ? 4 : 0);
		const struct tp_flow *record;
		uint32_t slot;

		assert_int_equal(tp_table_publish(f.table, &spec, &slot), 0);
		if (spec.kind == TP_FLOW_PERMISSION)
			continue;
		tp_table_set_peer_hop(f.table, slot, 9); /* its place is the constant's */
		for (int i = 0; i < 16; i += 2) {
			old_ip += (uint64_t)(spec.in.remote.ip[i] << 8 | spec.in.remote.ip[i + 1]);
			old_ip += (uint64_t)(in.ip[i] << 8 | in.ip[i + 1]);
			new_ip +=
				(uint64_t)(spec.out.remote.ip[i] << 8 | spec.out.remote.ip[i + 1]);
			new_ip += (uint64_t)(out.ip[i] << 8 | out.ip[i + 1]);
		}
		/* Without the TTL, which UDP does not cover; its length counts twice. */
		old += old_ip - 64 + (spec.in.channel ? 4 : 0);
		new += new_ip - 63 + (spec.out.channel ? 4 : 0);
		record = record_at(&f, slot);
		assert_int_equal(
			(old + __builtin_bswap16(record->sum_delta)) % 0xffff, new % 0xffff);
		if (spec.out.remote.family == TP_IPV6) {
			assert_in_range(record->label, 1, 0xfffff);
			continue;
		}
		/* The TTL is the upper half of its word. */
		old_ip += 64 * 255;
		new_ip += 63 * 255;
		assert_int_equal((old_ip + __builtin_bswap16(record->ip_sum_delta)) % 0xffff,
			new_ip % 0xffff);
	}
	close_table(&f);
}

/* R15: full -> -ENOSPC and nothing half-installed; free one, rest, then it fits. */
static void test_full(void **state)
{
	struct fixture f;
	uint32_t slot[9];
	struct tp_flow_spec extra = nth_flow(100);
	uint64_t now = 50 * TP_NS_PER_S;

	open_table(&f, 4);
	for (uint32_t n = 0; n < 8; n++) {
		struct tp_flow_spec spec = nth_flow(n);

		assert_int_equal(tp_table_publish(f.table, &spec, &slot[n]), 0);
	}
	assert_int_equal(tp_table_publish(f.table, &extra, &slot[8]), -ENOSPC);
	assert_int_equal(tp_table_unplaced(f.table), 1);
	assert_int_equal(tp_table_live(f.table), 8);
	tp_table_forget_unplaced(f.table);
	tp_table_forget_unplaced(f.table);
	assert_int_equal(tp_table_unplaced(f.table), 0);

	tp_table_retire(f.table, slot[3], now);
	tp_table_retire(f.table, slot[5], now + 1);
	tp_table_sweep(f.table, now + TP_REST_NS - 1);
	assert_int_equal(tp_table_publish(f.table, &extra, &slot[8]), -ENOSPC);
	tp_table_sweep(f.table, now + TP_REST_NS);
	assert_int_equal(tp_table_publish(f.table, &extra, &slot[8]), 0);
	assert_int_equal(slot[8], slot[3]);
	extra = nth_flow(101);
	assert_int_equal(tp_table_publish(f.table, &extra, &slot[8]), -ENOSPC);
	tp_table_sweep(f.table, now + TP_REST_NS + 1);
	assert_int_equal(tp_table_publish(f.table, &extra, &slot[8]), 0);
	assert_int_equal(slot[8], slot[5]);
	close_table(&f);
}

/* The list of resting slots survives being emptied and refilled in any order. */
static void test_rest_again(void **state)
{
	struct fixture f;
	struct tp_flow_spec spec;
	struct tp_audit *audit;
	uint32_t slot[4];
	uint64_t now = 0;

	open_table(&f, 4);
	for (uint32_t round = 0; round < 1000; round++, now += TP_REST_NS) {
		for (uint32_t n = 0; n < 4; n++) {
			spec = nth_flow(round * 4 + n);
			assert_int_equal(tp_table_publish(f.table, &spec, &slot[n]), 0);
		}
		for (uint32_t n = 0; n < 4; n++) {
			struct tp_flow_key key = record_at(&f, slot[(n + round) % 4])->key;

			assert_true(reader_finds(&f, &key));
			tp_table_retire(f.table, slot[(n + round) % 4], now);
			assert_false(reader_finds(&f, &key));
		}
		tp_table_sweep(f.table, now + TP_REST_NS);
	}
	assert_int_equal(tp_table_live(f.table), 0);
	assert_int_equal(tp_audit_begin(f.table, &audit), 0);
	assert_int_equal(finish_audit(audit, NULL, NULL), 0);
	close_table(&f);
}

/* Room for one flow is left when the slot that is returned has been freed. */
static uint32_t fill_but_retire_one(struct fixture *f, uint64_t now)
{
	uint32_t slot[8];

	open_table(f, 4);
	for (uint32_t n = 0; n < 8; n++) {
		struct tp_flow_spec spec = nth_flow(n);

		assert_int_equal(tp_table_publish(f->table, &spec, &slot[n]), 0);
	}
	tp_table_retire(f->table, slot[3], now);
	return slot[3];
}

static bool has_room(struct fixture *f)
{
	struct tp_flow_spec spec = nth_flow(100);
	uint32_t slot;
	int err = tp_table_publish(f->table, &spec, &slot);

	if (err == -ENOSPC)
		tp_table_forget_unplaced(f->table);
	return err == 0;
}

static uint64_t *epoch_of(struct fixture *f, uint32_t worker)
{
	struct tp_worker_counters *workers = f->memory.regions[TP_REGION_WORKERS];

	return &workers[worker].epoch;
}

/* A worker that stopped in the middle of a burst still has what it found there. */
static void test_a_stopped_worker_is_waited_for(void **state)
{
	uint64_t now = 50 * TP_NS_PER_S;
	struct fixture f;

	fill_but_retire_one(&f, now);
	*epoch_of(&f, 1) = 7;
	for (int s = 1; s < 100; s++) {
		*epoch_of(&f, 0) += 3;
		tp_table_sweep(f.table, now + s * TP_NS_PER_S);
		assert_false(has_room(&f));
	}
	*epoch_of(&f, 1) = 8;
	tp_table_sweep(f.table, now + TP_REST_NS - 1);
	assert_false(has_room(&f));
	tp_table_sweep(f.table, now + TP_REST_NS);
	assert_true(has_room(&f));
	close_table(&f);
}

/* One who is in another burst by now is past it, even if that one takes long. */
static void test_a_busy_worker_is_not(void **state)
{
	uint64_t now = 50 * TP_NS_PER_S;
	struct fixture f;

	fill_but_retire_one(&f, now);
	*epoch_of(&f, 1) = 7;
	tp_table_sweep(f.table, now + TP_REST_NS);
	assert_false(has_room(&f));
	*epoch_of(&f, 1) = 9;
	tp_table_sweep(f.table, now + TP_REST_NS + 1);
	assert_true(has_room(&f));
	close_table(&f);
}

/* What is retired while an older slot is waited for waits by itself. */
static void test_each_retirement_has_its_wait(void **state)
{
	uint64_t now = 50 * TP_NS_PER_S;
	struct tp_flow_spec spec = nth_flow(101);
	struct fixture f;
	uint32_t other, slot;

	other = fill_but_retire_one(&f, now) == 0 ? 1 : 0;
	*epoch_of(&f, 0) = 1;
	tp_table_sweep(f.table, now);
	tp_table_retire(f.table, other, now);
	*epoch_of(&f, 0) = 3;
	tp_table_sweep(f.table, now + TP_REST_NS);
	assert_true(has_room(&f));
	assert_int_equal(tp_table_publish(f.table, &spec, &slot), -ENOSPC);
	tp_table_sweep(f.table, now + 9 * TP_REST_NS);
	assert_int_equal(tp_table_publish(f.table, &spec, &slot), -ENOSPC);
	*epoch_of(&f, 0) = 4;
	tp_table_sweep(f.table, now + 9 * TP_REST_NS);
	assert_int_equal(tp_table_publish(f.table, &spec, &slot), 0);
	assert_int_equal(slot, other);
	close_table(&f);
}

static void test_a_gone_worker_is_not_waited_for(void **state)
{
	uint64_t now = 50 * TP_NS_PER_S;
	struct fixture f;

	fill_but_retire_one(&f, now);
	*epoch_of(&f, 0) = 7;
	tp_table_set_readers(f.table, true);
	tp_table_sweep(f.table, now + 2 * TP_REST_NS);
	assert_false(has_room(&f));
	tp_table_set_readers(f.table, false);
	tp_table_sweep(f.table, now + 2 * TP_REST_NS);
	assert_true(has_room(&f));
	close_table(&f);
}

/* A real one: holds a record for as long as it is told to. */
struct stall {
	struct fixture f;
	uint32_t slot;
	struct tp_flow seen, still; /* when it was found, when it was let go */
	pthread_barrier_t found, let_go;
};

static void *stall_in_a_burst(void *arg)
{
	struct stall *s = arg;
	const struct tp_flow *record = record_at(&s->f, s->slot);
	uint64_t *epoch = epoch_of(&s->f, 0);

	__atomic_store_n(epoch, 1, __ATOMIC_SEQ_CST);
	s->seen = *record;
	pthread_barrier_wait(&s->found);
	pthread_barrier_wait(&s->let_go);
	s->still = *record;
	__atomic_store_n(epoch, 2, __ATOMIC_RELEASE);
	return NULL;
}

static void test_a_stalled_reader_keeps_its_record(void **state)
{
	uint64_t now = 50 * TP_NS_PER_S;
	struct stall s = {.slot = 5};
	pthread_t thread;

	fill_but_retire_one(&s.f, now);
	assert_int_equal(pthread_barrier_init(&s.found, NULL, 2), 0);
	assert_int_equal(pthread_barrier_init(&s.let_go, NULL, 2), 0);
	assert_int_equal(pthread_create(&thread, NULL, stall_in_a_burst, &s), 0);
	pthread_barrier_wait(&s.found);
	tp_table_retire(s.f.table, s.slot, now);
	for (int i = 0; i < 100; i++) {
		now += TP_REST_NS;
		tp_table_sweep(s.f.table, now);
		has_room(&s.f);
	}
	pthread_barrier_wait(&s.let_go);
	pthread_join(thread, NULL);
	assert_memory_equal(&s.seen.value, &s.still.value, sizeof(s.seen.value));
	assert_int_equal(s.still.key.ident, 0);
	tp_table_sweep(s.f.table, now);
	assert_true(has_room(&s.f));
	pthread_barrier_destroy(&s.found);
	pthread_barrier_destroy(&s.let_go);
	close_table(&s.f);
}

static void *end_burst_soon(void *arg)
{
	struct timespec soon = {.tv_nsec = 20 * TP_NS_PER_MS};

	nanosleep(&soon, NULL);
	__atomic_store_n((uint64_t *)arg, 8, __ATOMIC_RELEASE);
	return NULL;
}

/* A new writer over memory that workers have mapped. */
static void test_reclaim(void **state)
{
	struct tp_worker_counters *workers;
	struct tp_config *config;
	struct tp_audit *audit;
	struct fixture f;
	pthread_t thread;
	uint32_t live;

	live = fill_but_retire_one(&f, 0) == 5 ? 4 : 5;
	config = f.memory.regions[TP_REGION_CONFIG];
	workers = f.memory.regions[TP_REGION_WORKERS];
	workers[1].polls = 4711;
	tp_table_destroy(f.table);
	*epoch_of(&f, 1) = 7;
	assert_int_equal(tp_memory_reclaim(&f.memory, 10 * TP_NS_PER_MS), -ETIMEDOUT);
	assert_int_equal(config->magic, 0);
	assert_int_not_equal(record_at(&f, live)->key.ident, 0);

	assert_int_equal(pthread_create(&thread, NULL, end_burst_soon, epoch_of(&f, 1)), 0);
	assert_int_equal(tp_memory_reclaim(&f.memory, 60 * TP_NS_PER_S), 0);
	pthread_join(thread, NULL);
	assert_int_equal(*epoch_of(&f, 1), 8);
	assert_int_equal(workers[1].polls, 4711);
	assert_int_equal(tp_table_create(&f.memory, 0x4fff, &f.table), 0);
	assert_int_equal(config->locals, 0);
	assert_int_equal(tp_audit_begin(f.table, &audit), 0);
	assert_int_equal(finish_audit(audit, NULL, NULL), 0);
	close_table(&f);
}

static void count_text(void *arg, const char *text)
{
	(void)text;
	++*(uint32_t *)arg;
}

/* All are counted, few described: whoever spoils a large table must not fill the memory too. */
static void test_audit_of_a_spoilt_table(void **state)
{
	const uint32_t capacity = 4096;
	struct fixture f;
	struct tp_audit *audit;
	struct tp_flow *flows;
	uint32_t described = 0;

	(void)state;
	open_table(&f, capacity);
	flows = f.memory.regions[TP_REGION_FLOWS];
	for (uint32_t i = 0; i < capacity; i++)
		flows[i].key.kind = TP_FLOW_PEER;
	assert_int_equal(tp_audit_begin(f.table, &audit), 0);
	assert_true(finish_audit(audit, count_text, &described) >= capacity);
	assert_in_range(described, 100, 1000);
	close_table(&f);
}

/* Whoever has the memory mapped too may write into it. */
static void test_words_that_lie(void **state)
{
	struct tp_flow_spec spec = nth_flow(3);
	struct tp_addr ip = address("192.0.2.77");
	struct tp_config *config;
	struct fixture f;
	uint32_t slot;
	uint8_t index;

	(void)state;
	open_table(&f, 64);
	config = f.memory.regions[TP_REGION_CONFIG];
	config->buckets = UINT32_MAX;
	assert_int_equal(tp_table_publish(f.table, &spec, &slot), 0);
	assert_true(slot < tp_table_slots(f.table));
	assert_true(reader_finds(&f, &record_at(&f, slot)->key));

	config->locals = UINT32_MAX;
	assert_int_equal(tp_table_find_local(f.table, &ip, &index), -ENOENT);
	assert_int_equal(tp_table_add_local(f.table, &ip, &index), 0);
	assert_true(index < TP_LOCALS_MAX);
	assert_int_equal(tp_table_local(f.table, TP_LOCALS_MAX).family, TP_NO_FAMILY);
	spec = nth_flow(4);
	spec.in.local = TP_LOCALS_MAX;
	assert_int_equal(tp_table_publish(f.table, &spec, &slot), -EINVAL);
	close_table(&f);
}

static void test_locals_and_ports(void **state)
{
	struct fixture f;
	uint8_t index = 99;
	struct tp_addr ip;

	open_table(&f, 8);
	ip = address("192.0.2.1:5");
	assert_int_equal(tp_table_add_local(f.table, &ip, &index), 0);
	assert_int_equal(index, f.v4);
	for (uint32_t i = 2; i < TP_LOCALS_MAX; i++) {
		ip.ip[15] = (uint8_t)i;
		assert_int_equal(tp_table_add_local(f.table, &ip, &index), 0);
		assert_int_equal(index, i);
	}
	ip.ip[15] = 200;
	assert_int_equal(tp_table_add_local(f.table, &ip, &index), -ENOSPC);
	assert_int_equal(tp_table_find_local(f.table, &ip, &index), -ENOENT);
	ip = tp_table_local(f.table, f.v6);
	assert_int_equal(ip.family, TP_IPV6);
	tp_table_set_port(f.table, f.v6, 65535, TP_PORT_RELAY);
	assert_int_equal(tp_table_port(f.table, f.v6, 65535), TP_PORT_RELAY);
	assert_int_equal(tp_table_port(f.table, f.v4, 65535), TP_PORT_NOT_OURS);
	close_table(&f);
}

static void test_next_hops_and_totals(void **state)
{
	struct fixture f;
	struct tp_next_hop hop = {.seq = 7, .ifindex = 3, .mtu = 1500}, *records;
	struct tp_worker_counters *workers, totals;

	open_table(&f, 8);
	records = f.memory.regions[TP_REGION_NEXT_HOPS];
	for (uint32_t i = 0; i < TP_NEXT_HOPS_MAX; i++)
		assert_int_equal(records[i].seq % 2, 1);
	for (int i = 0; i < 3; i++) {
		tp_table_set_next_hop_record(f.table, 5, &hop);
		assert_int_equal(records[5].seq % 2, 0);
		assert_int_equal(records[5].mtu, 1500);
	}
	tp_table_set_next_hop_record(f.table, 5, NULL);
	assert_int_equal(records[5].seq % 2, 1);
	tp_table_set_next_hop_record(f.table, 0, &hop);
	tp_table_set_next_hop_record(f.table, TP_NEXT_HOPS_MAX, &hop);
	assert_int_equal(records[0].seq % 2, 1);

	workers = f.memory.regions[TP_REGION_WORKERS];
	workers[0].verdicts[TP_NO_FLOW] = 2;
	workers[1].verdicts[TP_NO_FLOW] = 3;
	workers[1].relayed[TP_PEER_TO_CLIENT][TP_V4_TO_V6].bytes = 5;
	workers[0].relayed[TP_PEER_TO_CLIENT][TP_V6_TO_V6].bytes = 4;
	assert_int_equal(tp_table_totals(f.table).verdicts[TP_NO_FLOW], 5);
	totals = tp_table_totals(f.table);
	assert_int_equal(tp_worker_direction(&totals, TP_PEER_TO_CLIENT).bytes, 9);
	close_table(&f);
}

/* Two rounds: one may have been under way, but the next has begun after all that was before. */
static void test_rounds(void **state)
{
	struct fixture f;
	uint64_t begun, later;

	open_table(&f, 8);
	begun = tp_table_rounds(f.table);
	assert_in_range(tp_table_rounds(f.table), begun + 1, begun + 2);

	*epoch_of(&f, 1) = 7;
	begun = tp_table_rounds(f.table);
	for (int i = 0; i < 5; i++)
		assert_in_range(tp_table_rounds(f.table), begun, begun + TP_ROUNDS_TO_PASS - 1);
	/* It goes on to another burst: past the one, and still awaited for the other. */
	later = tp_table_rounds(f.table);
	*epoch_of(&f, 1) = 9;
	for (int i = 0; i < 5; i++)
		assert_in_range(tp_table_rounds(f.table), later, later + TP_ROUNDS_TO_PASS - 1);
	*epoch_of(&f, 1) = 10;
	tp_table_rounds(f.table);
	assert_true(tp_table_rounds(f.table) >= begun + TP_ROUNDS_TO_PASS);
	close_table(&f);
}

/* Bytes that get through in a second to which every packet comes that can, from `start` on. */
static uint64_t flood(
	const struct fixture *f, uint32_t policer, uint64_t start, uint64_t step_ns, uint32_t len)
{
	uint64_t sum = 0;

	for (uint64_t at = 0; at < TP_NS_PER_S; at += step_ns)
		if (tp_table_police(f->table, policer, TP_PEER_TO_CLIENT, start + at, len))
			sum += len;
	return sum;
}

/* Exact within 5 % over a second: at 64 kbit/s as at 10 Gbit/s, whatever the packets' size. */
static void test_bandwidth(void **state)
{
	static const struct {
		uint64_t bits_per_s;
		uint32_t len;
	} rows[] = {
		{TP_BANDWIDTH_MIN, 2},
		{64000, 50},
		{64000, 160},
		{1000000, 1000},
		{1000000, 172},
		{50000000, 1200},
		{1000000000, 1472},
		{10000000000, 9000},
		{TP_BANDWIDTH_MAX, 65507},
	};
	struct fixture f;

	open_table(&f, 8);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		uint64_t byte_rate = rows[i].bits_per_s / 8, now = 77 * TP_NS_PER_S;
		/* Three times what may go. */
		uint64_t step_ns = rows[i].len * TP_NS_PER_S / byte_rate / 3;
		uint64_t got;

		tp_table_set_bandwidth(f.table, rows[i].bits_per_s);
		tp_table_reset_policer(f.table, 3);
		/* The first packet goes, however dear it is; what goes later was paid for. */
		assert_true(tp_table_police(f.table, 3, TP_PEER_TO_CLIENT, now, rows[i].len));
		for (int second = 0; second < 3; second++, now += TP_NS_PER_S) {
			got = flood(&f, 3, now, step_ns, rows[i].len);
			if (got < byte_rate * 95 / 100 || got > byte_rate * 105 / 100)
				fail_msg("%lu bit/s in packets of %u: %lu bytes in second %d",
					rows[i].bits_per_s, rows[i].len, got, second);
		}
		/* An hour's silence saves nothing up. */
		now += 3600 * TP_NS_PER_S;
		assert_in_range(flood(&f, 3, now, step_ns, rows[i].len), byte_rate * 95 / 100,
			byte_rate * 105 / 100);
	}
	close_table(&f);
}

static void test_policers_by_themselves(void **state)
{
	struct fixture f;
	uint64_t now = 5 * TP_NS_PER_S;

	open_table(&f, 8);
	/* None, none such, and no limit: everything goes. */
	for (int i = 0; i < 100; i++)
		assert_true(tp_table_police(f.table, 1, TP_CLIENT_TO_PEER, now, 65535));
	tp_table_set_bandwidth(f.table, 64000);
	for (int i = 0; i < 100; i++) {
		assert_true(tp_table_police(f.table, 0, TP_CLIENT_TO_PEER, now, 65535));
		assert_true(tp_table_police(f.table, UINT32_MAX, TP_CLIENT_TO_PEER, now, 65535));
	}
	/* Each direction and each policer by itself, until it is reset. */
	assert_true(tp_table_police(f.table, 1, TP_CLIENT_TO_PEER, now, 1000));
	assert_false(tp_table_police(f.table, 1, TP_CLIENT_TO_PEER, now, 1));
	assert_true(tp_table_police(f.table, 1, TP_PEER_TO_CLIENT, now, 1000));
	assert_false(tp_table_police(f.table, 1, TP_PEER_TO_CLIENT, now, 1));
	assert_true(tp_table_police(f.table, 2, TP_CLIENT_TO_PEER, now, 1000));
	tp_table_reset_policer(f.table, 1);
	assert_true(tp_table_police(f.table, 1, TP_CLIENT_TO_PEER, now, 1));
	assert_true(tp_table_police(f.table, 1, TP_PEER_TO_CLIENT, now, 1));
	assert_false(tp_table_police(f.table, 2, TP_CLIENT_TO_PEER, now, 1));
	close_table(&f);
}

/* What is done to the table or to the expectation, and what the audit must then say. */
enum harm {
	NO_HARM,
	WRONG_TAG,
	LOST_TAG,
	STRAY_TAG,
	LOST_RECORD,
	STRAY_RECORD,
	DOUBLED_RECORD,
	WRONG_BUCKET,
	OTHER_EXPIRY,
	OTHER_HOP,
	OTHER_PEER_HOP,
	OTHER_POLICER,
	OTHER_HAIRPIN,
	OTHER_VALUE,
	OTHER_SUM,
	OTHER_ALLOCATION,
	TOLD_TWICE,
	NOT_TOLD,
	NO_SUCH_SLOT,
};

struct audit_row {
	enum harm harm;
	uint32_t differences;
	const char *says;
};

static void note_text(void *arg, const char *text)
{
	strncat(arg, text, 4000);
	strncat(arg, "\n", 4000);
}

static uint32_t free_slot_of_bucket(const struct fixture *f, uint32_t bucket)
{
	for (uint32_t s = bucket * TP_BUCKET_SLOTS; s < (bucket + 1) * TP_BUCKET_SLOTS; s++) {
		if (record_at(f, s)->key.ident == 0)
			return s;
	}
	fail_msg("bucket %u is full", bucket);
	return 0;
}

static uint32_t foreign_bucket(const struct fixture *f, const struct tp_flow *flow)
{
	const struct tp_config *config = f->memory.regions[TP_REGION_CONFIG];
	struct tp_place place =
		tp_place_of(tp_flow_hash(&flow->key, config->salt), config->buckets);
	uint32_t bucket = 0;

	while (bucket == place.bucket[0] || bucket == place.bucket[1])
		bucket++;
	return bucket;
}

/* With a drawn salt, now and then a bucket is full or a stray record lies where it may. */
static void fix_the_places(struct fixture *f)
{
	struct tp_config *config = f->memory.regions[TP_REGION_CONFIG];

	for (uint64_t i = 0; i < 3; i++)
		config->salt[i] = (i + 1) * UINT64_C(0x9e3779b97f4a7c15);
}

static void do_harm(struct fixture *f, enum harm harm, uint32_t slot)
{
	uint8_t *tags = f->memory.regions[TP_REGION_BUCKETS];
	struct tp_flow *flows = f->memory.regions[TP_REGION_FLOWS];
	uint32_t other = free_slot_of_bucket(f, slot / TP_BUCKET_SLOTS);
	uint32_t away = free_slot_of_bucket(f, foreign_bucket(f, &flows[slot]));
	struct tp_flow stray = flows[slot];

	switch (harm) {
	case WRONG_TAG:
		tags[slot] ^= 0x80;
		break;
	case LOST_TAG:
		tags[slot] = 0;
		break;
	case STRAY_TAG:
		tags[other] = 5;
		break;
	case LOST_RECORD:
		flows[slot].key.ident = 0;
		tags[slot] = 0;
		break;
	case STRAY_RECORD:
		stray.key.local_port.be ^= 1;
		flows[free_slot_of_bucket(f, foreign_bucket(f, &stray))] = stray;
		break;
	case DOUBLED_RECORD:
		flows[other] = flows[slot];
		tags[other] = tags[slot];
		break;
	case WRONG_BUCKET:
		flows[away] = flows[slot];
		tags[away] = tags[slot];
		flows[slot].key.ident = 0;
		tags[slot] = 0;
		break;
	case OTHER_EXPIRY:
		flows[slot].expires++;
		break;
	case OTHER_HOP:
		flows[slot].next_hop++;
		break;
	case OTHER_PEER_HOP:
		flows[slot].peer_hop++;
		break;
	case OTHER_POLICER:
		detail_at(f, slot)->policer++;
		break;
	case OTHER_HAIRPIN:
		flows[slot].value.flags ^= TP_FLOW_HAIRPIN;
		break;
	case OTHER_VALUE:
		flows[slot].value.remote_port.be ^= 1;
		break;
	case OTHER_SUM:
		flows[slot].sum_delta++;
		break;
	case OTHER_ALLOCATION:
		detail_at(f, slot)->allocation++;
		break;
	default:
		break;
	}
}

static void run_audit_row(const struct audit_row *row)
{
	char text[16384] = "";
	struct tp_audit *audit;
	struct tp_flow_spec spec;
	struct fixture f;
	uint32_t slots[40], found;

	open_table(&f, 64);
	fix_the_places(&f);
	for (uint32_t n = 0; n < 40; n++) {
		spec = nth_flow(n);
		assert_int_equal(tp_table_publish(f.table, &spec, &slots[n]), 0);
	}
	/* Flow 7 is of a peer, 8 a permission. */
	do_harm(&f, row->harm, slots[row->harm == OTHER_PEER_HOP ? 8 : 7]);
	assert_int_equal(tp_audit_begin(f.table, &audit), 0);
	for (uint32_t n = 0; n < 40; n++) {
		spec = nth_flow(n);
		if (n != 7 || row->harm != NOT_TOLD)
			tp_audit_expect(audit, slots[n], &spec);
		if (n == 7 && row->harm == TOLD_TWICE)
			tp_audit_expect(audit, slots[n], &spec);
		if (n == 7 && row->harm == NO_SUCH_SLOT)
			tp_audit_expect(audit, tp_table_slots(f.table), &spec);
	}
	found = finish_audit(audit, note_text, text);
	if (found != row->differences || !strstr(text, row->says))
		fail_msg("harm %d: %u differences:\n%s", row->harm, found, text);
	close_table(&f);
}

/* What is placed while an audit is under way is no difference when that was told. */
static void test_audit_beside_changes(void **state)
{
	for (int told = 0; told < 2; told++) {
		struct tp_flow_spec spec = nth_flow(1);
		uint32_t slots[2];
		struct tp_audit *audit;
		struct fixture f;

		open_table(&f, 64);
		assert_int_equal(tp_table_publish(f.table, &spec, &slots[0]), 0);
		assert_int_equal(tp_audit_begin(f.table, &audit), 0);
		tp_audit_expect(audit, slots[0], &spec);
		tp_table_retire(f.table, slots[0], 0);
		tp_table_sweep(f.table, TP_REST_NS);
		for (uint32_t n = 0; n < 2; n++) {
			spec = nth_flow(n);
			assert_int_equal(tp_table_publish(f.table, &spec, &slots[n]), 0);
			if (told)
				tp_audit_placed(audit, slots[n]);
		}
		/* Told and expected; the other one was made behind the back of whoever expects. */
		if (told)
			tp_audit_expect(audit, slots[1], &spec);
		assert_int_equal(finish_audit(audit, NULL, NULL), told ? 0 : 1);
		close_table(&f);
	}
}

static void test_audit(void **state)
{
	static const struct audit_row rows[] = {
		{NO_HARM, 0, ""},
		{WRONG_TAG, 1, "hides peer"},
		{LOST_TAG, 1, "tag 0 instead of"},
		{STRAY_TAG, 1, "leads to no record"},
		{LOST_RECORD, 1, "missing: peer"},
		{STRAY_RECORD, 3, "not expected: peer"}, /* and its tag, and its bucket */
		{DOUBLED_RECORD, 2, "both hold peer"},
		{WRONG_BUCKET, 3, "no reader looks here"},
		{OTHER_EXPIRY, 1, "other expiry"},
		{OTHER_HOP, 1, "other next hop"},
		{OTHER_PEER_HOP, 1, "other next hop to the peer"},
		{OTHER_POLICER, 1, "other policer"},
		{OTHER_HAIRPIN, 1, "other rewrite"},
		{OTHER_VALUE, 1, "other rewrite"},
		{OTHER_SUM, 1, "other checksum constant"},
		{OTHER_ALLOCATION, 1, "other allocation"},
		{TOLD_TWICE, 1, "expected twice"},
		{NOT_TOLD, 1, "not expected: peer"},
		{NO_SUCH_SLOT, 1, "cannot be there"},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		run_audit_row(&rows[i]);
}

/*
 * Readers beside the writer. Every key has one value that belongs to it; a reader that gets another
 * one would have sent one user's packet to another user's peer. The slots rest as long as in
 * real life; a reader dawdles between the match and the copy, as one does whose core was taken
 * away.
 */
#define CONCURRENT_FLOWS 3000
#define CONCURRENT_SLOTS 2048
#define READERS          2

struct reader {
	pthread_t thread;
	const struct tp_memory *memory;
	const bool *stop;
	const struct tp_record *expected; /* by flow number: what its record must be */
	uint64_t hits, misses, wrong;
};

static bool belongs_together(const struct tp_record *want, const struct tp_record *got)
{
	return memcmp(&want->flow.value, &got->flow.value, sizeof(want->flow.value)) == 0 &&
	       want->detail.allocation == got->detail.allocation &&
	       want->flow.sum_delta == got->flow.sum_delta;
}

static bool slow_reader_finds(
	struct tp_host *host, const struct tp_flow_key *key, struct tp_record *out)
{
	struct tp_found found = tp_find_flow(host, host->config, key);

	if (!found.flow)
		return false;
	for (int pause = 0; pause < 300; pause++)
		__asm__ volatile("" ::: "memory");
	*out = (struct tp_record){*found.flow, *tp_host_detail(host, found.slot)};
	return true;
}

static uint32_t next_random(uint64_t *seed)
{
	*seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t)(*seed >> 33);
}

static void *read_at_random(void *arg)
{
	struct reader *r = arg;
	struct tp_host host = reader_of(r->memory);
	uint64_t seed = (uint64_t)(uintptr_t)r;
	struct tp_record got;

	while (!__atomic_load_n(r->stop, __ATOMIC_RELAXED)) {
		const struct tp_record *want = &r->expected[next_random(&seed) % CONCURRENT_FLOWS];

		if (!slow_reader_finds(&host, &want->flow.key, &got))
			r->misses++;
		else if (belongs_together(want, &got))
			r->hits++;
		else
			r->wrong++;
	}
	return NULL;
}

/* The records, learned from a table of their own with the same keys for sums and no readers. */
static void learn_records(struct fixture *f, struct tp_record *expected)
{
	for (uint32_t n = 0; n < CONCURRENT_FLOWS; n++) {
		struct tp_flow_spec spec = nth_flow(n);
		uint32_t slot;

		assert_int_equal(tp_table_publish(f->table, &spec, &slot), 0);
		expected[n] = (struct tp_record){*record_at(f, slot), *detail_at(f, slot)};
		tp_table_retire(f->table, slot, 0);
		tp_table_sweep(f->table, TP_REST_NS);
	}
}

/*
 * Publishes what is not there, retires what is, until `end`; returns the number of publications.
 * It retires no faster than half of the slots come out of their rest.
 */
static uint64_t write_at_random(struct fixture *f, uint64_t end, uint64_t rest_ns)
{
	static uint32_t slots[CONCURRENT_FLOWS];
	uint64_t seed = 1, published = 0, now, next_retirement = 0;

	memset(slots, 0xff, sizeof(slots));
	/* On a busy machine it takes longer to use each slot more than once. */
	while ((now = tp_clock_now_ns()) < end ||
		(published <= CONCURRENT_SLOTS && now < end + 60 * TP_NS_PER_S)) {
		uint32_t n = next_random(&seed) % CONCURRENT_FLOWS;
		struct tp_flow_spec spec = nth_flow(n);

		/* A shorter rest is the same as telling an earlier time of retirement. */
		tp_table_sweep(f->table, now);
		if (slots[n] != UINT32_MAX) {
			if (now < next_retirement)
				continue;
			next_retirement = now + rest_ns / (CONCURRENT_SLOTS / 2);
			tp_table_retire(f->table, slots[n], now - TP_REST_NS + rest_ns);
			slots[n] = UINT32_MAX;
		} else if (tp_table_publish(f->table, &spec, &slots[n]) == 0) {
			published++;
		} else {
			tp_table_forget_unplaced(f->table);
		}
	}
	return published;
}

static void test_readers_beside_the_writer(void **state)
{
	const char *text = getenv("TABLE_TEST_REST_NS"); /* 0 shows what the rest is for */
	uint64_t rest_ns = text ? strtoull(text, NULL, 10) : TP_REST_NS;
	struct tp_record *expected = calloc(CONCURRENT_FLOWS, sizeof(*expected));
	struct reader readers[READERS] = {0};
	uint64_t hits = 0, misses = 0, wrong = 0, published;
	struct fixture f;
	bool stop = false;

	assert_non_null(expected);
	open_table(&f, CONCURRENT_SLOTS / 2);
	learn_records(&f, expected);
	for (int i = 0; i < READERS; i++) {
		readers[i] =
			(struct reader){.memory = &f.memory, .stop = &stop, .expected = expected};
		assert_int_equal(
			pthread_create(&readers[i].thread, NULL, read_at_random, &readers[i]), 0);
	}
	published = write_at_random(&f, tp_clock_now_ns() + 3 * TP_NS_PER_S, rest_ns);
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	for (int i = 0; i < READERS; i++) {
		pthread_join(readers[i].thread, NULL);
		hits += readers[i].hits;
		misses += readers[i].misses;
		wrong += readers[i].wrong;
	}
	print_message(
		"%lu published, %lu hits, %lu misses, %lu wrong\n", published, hits, misses, wrong);
	assert_true(published > CONCURRENT_SLOTS);
	assert_true(hits > misses / 10);
	assert_int_equal(wrong, 0);
	free(expected);
	close_table(&f);
}

/* A worker that counts packets of one length for a flow, as fast as it can. */
#define COUNTED     3000000
#define COUNTED_LEN 1201 /* carried over now for the packets, now for the bytes */

struct counting {
	pthread_t thread;
	struct tp_host host;
	uint32_t slot;
};

static void *count_packets(void *arg)
{
	struct counting *c = arg;

	for (int i = 0; i < COUNTED; i++) {
		__asm__ volatile("" ::: "memory");
		tp_count_flow(&c->host, tp_host_flow(&c->host, c->slot), c->slot,
			i % 2 ? COUNTED_LEN : 65507);
	}
	return NULL;
}

/* Whoever looks meanwhile sees packets and bytes of one moment, and no fewer than before. */
static void test_counting(void **state)
{
	struct tp_flow_counters seen = {0}, last;
	struct tp_flow_spec spec = nth_flow(0);
	uint64_t looks = 0, torn = 0, pairs;
	struct counting c;
	struct fixture f;

	open_table(&f, 8);
	assert_int_equal(tp_table_publish(f.table, &spec, &c.slot), 0);
	c.host = reader_of(&f.memory);
	assert_int_equal(pthread_create(&c.thread, NULL, count_packets, &c), 0);
	do {
		last = seen;
		seen = tp_table_counters(f.table, c.slot);
		pairs = seen.packets / 2;
		torn += seen.packets < last.packets ||
			seen.bytes != pairs * (COUNTED_LEN + 65507) + seen.packets % 2 * 65507;
		looks++;
	} while (seen.packets < COUNTED && torn == 0);
	pthread_join(c.thread, NULL);
	print_message("%lu looks\n", looks);
	assert_int_equal(torn, 0);
	assert_int_equal(seen.packets, COUNTED);
	close_table(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_shape),
		cmocka_unit_test(test_publish_and_read),
		cmocka_unit_test(test_refused_specs),
		cmocka_unit_test(test_single_words),
		cmocka_unit_test(test_client),
		cmocka_unit_test(test_permission_constants),
		cmocka_unit_test(test_sum_delta),
		cmocka_unit_test(test_full),
		cmocka_unit_test(test_rest_again),
		cmocka_unit_test(test_a_stopped_worker_is_waited_for),
		cmocka_unit_test(test_a_busy_worker_is_not),
		cmocka_unit_test(test_each_retirement_has_its_wait),
		cmocka_unit_test(test_a_gone_worker_is_not_waited_for),
		cmocka_unit_test(test_a_stalled_reader_keeps_its_record),
		cmocka_unit_test(test_reclaim),
		cmocka_unit_test(test_audit_of_a_spoilt_table),
		cmocka_unit_test(test_words_that_lie),
		cmocka_unit_test(test_locals_and_ports),
		cmocka_unit_test(test_next_hops_and_totals),
		cmocka_unit_test(test_rounds),
		cmocka_unit_test(test_bandwidth),
		cmocka_unit_test(test_policers_by_themselves),
		cmocka_unit_test(test_audit),
		cmocka_unit_test(test_audit_beside_changes),
		cmocka_unit_test(test_readers_beside_the_writer),
		cmocka_unit_test(test_counting),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
