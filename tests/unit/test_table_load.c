/*
 * The promise of dataplane/table: at the stated capacity fewer than 1 in 10^6 flows find no slot,
 * also after long churn with resting slots. Prints the figures it judges by.
 */
#include "dataplane/table/table.h"

#include <stdio.h>
#include <stdlib.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>

#define CAPACITY (UINT32_C(1) << 18)

struct load {
	struct tp_memory memory;
	struct tp_table *table;
	uint32_t slots[CAPACITY]; /* of the live flows; UINT32_MAX: found no place */
	uint32_t next_key;
	uint64_t now_ns;
	uint64_t placed, failed, in_first, at_home;
};

static struct tp_flow_spec flow_number(uint32_t n)
{
	uint8_t ip[16] = {0x20, 0x01, 0x0d, 0xb8};
	struct tp_flow_spec spec = {.kind = TP_FLOW_PERMISSION};

	memcpy(ip + 12, &n, sizeof(n));
	spec.in.remote = tp_addr_make(TP_IPV6, ip, 0);
	spec.in.local_port = 50000;
	spec.out = spec.in;
	return spec;
}

static void count_place(struct load *load, uint32_t slot)
{
	const struct tp_config *config = load->memory.regions[TP_REGION_CONFIG];
	const struct tp_flow *flows = load->memory.regions[TP_REGION_FLOWS];
	struct tp_place place =
		tp_place_of(tp_flow_hash(&flows[slot].key, config->salt), config->buckets);

	load->placed++;
	load->in_first += place.bucket[0] == slot / TP_BUCKET_SLOTS;
	load->at_home += place.home == slot;
}

static void publish_next(struct load *load, uint32_t index)
{
	struct tp_flow_spec spec = flow_number(load->next_key++);

	load->slots[index] = UINT32_MAX;
	if (tp_table_publish(load->table, &spec, &load->slots[index]) != 0) {
		load->failed++;
		return;
	}
	count_place(load, load->slots[index]);
}

static void open_full_table(struct load *load)
{
	struct tp_addr local;
	struct tp_shape shape;
	uint8_t index;

	assert_int_equal(tp_addr_parse_ip("2001:db8::1", &local), 0);
	assert_int_equal(tp_shape_init(CAPACITY, 1, 1, &shape), 0);
	assert_int_equal(tp_memory_create_plain(&shape, &load->memory), 0);
	assert_int_equal(tp_table_create(&load->memory, 0x4fff, &load->table), 0);
	assert_int_equal(tp_table_add_local(load->table, &local, &index), 0);
	for (uint32_t i = 0; i < CAPACITY; i++)
		publish_next(load, i);
}

static void report(const struct load *load, const char *what)
{
	print_message("%s: %lu placed, %lu found no slot, %.1f %% in their first bucket, "
		      "%.1f %% at home\n",
		what, load->placed, load->failed,
		100.0 * (double)load->in_first / (double)load->placed,
		100.0 * (double)load->at_home / (double)load->placed);
}

/* Every second `per_second` of the flows at capacity end and as many others begin. */
static void churn(struct load *load, uint32_t per_second, uint32_t operations)
{
	uint64_t step = TP_REST_NS / per_second, seed = 42;

	for (uint32_t i = 0; i < operations; i++, load->now_ns += step) {
		uint32_t index;

		seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
		index = (uint32_t)(seed >> 33) % CAPACITY;
		tp_table_sweep(load->table, load->now_ns);
		if (load->slots[index] != UINT32_MAX)
			tp_table_retire(load->table, load->slots[index], load->now_ns);
		publish_next(load, index);
	}
}

static void test_capacity_is_kept(void **state)
{
	static const struct {
		uint32_t per_second, operations;
		const char *what;
	} rows[] = {
		{1, 0, "filled to capacity"},
		{CAPACITY / 1000, 4000000, "then 0.1 % of the flows replaced each second"},
		{CAPACITY / 10, 8000000, "then 10 % of the flows replaced each second"},
	};
	struct load *load = calloc(1, sizeof(*load));

	assert_non_null(load);
	open_full_table(load);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		churn(load, rows[i].per_second, rows[i].operations);
		report(load, rows[i].what);
	}
	assert_true(load->failed * 1000000 <= load->placed);
	assert_true(load->in_first * 10 > load->placed * 6);
	tp_table_destroy(load->table);
	tp_memory_destroy_plain(&load->memory);
	free(load);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_capacity_is_kept),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
