/*
 * Tables whose writer has died, taken over while readers go on. It may have died between any two
 * stores: what it left half done is decided here, and the rest waits as "adopted" until its new
 * owner publishes it again, or drops it. Control plane's thread; does not block.
 */
#include "private.h"

#include "base/cleanup.h"
#include "base/clock.h"

#include <errno.h>

bool tp_memory_is_kept(const struct tp_memory *memory)
{
	const struct tp_config *config = memory->regions[TP_REGION_CONFIG];

	return config->magic == TP_MAGIC && config->abi == TP_ABI_VERSION &&
	       config->layout == tp_layout_hash() && config->locals <= TP_LOCALS_MAX &&
	       config->buckets == memory->shape.regions[TP_REGION_BUCKETS].count;
}

void tp_memory_forget_next_hops(const struct tp_memory *memory, uint32_t *before)
{
	struct tp_next_hop *hops = memory->regions[TP_REGION_NEXT_HOPS];

	for (uint32_t i = 0; i < TP_NEXT_HOPS_MAX; i++) {
		before[i] = hops[i].seq;
		__atomic_store_n(&hops[i].seq, before[i] | 1, __ATOMIC_RELEASE);
	}
}

void tp_memory_recall_next_hops(const struct tp_memory *memory, const uint32_t *before)
{
	struct tp_next_hop *hops = memory->regions[TP_REGION_NEXT_HOPS];

	for (uint32_t i = 0; i < TP_NEXT_HOPS_MAX; i++)
		__atomic_store_n(&hops[i].seq, before[i], __ATOMIC_RELEASE);
}

static bool was_used(const struct tp_flow *flow)
{
	return flow->expires != 0 || flow->key.remote[1] != 0;
}

/* Would a record that is made of what this one says be the same? */
static bool is_sound(const struct tp_table *table, uint32_t slot)
{
	struct tp_record record = tp_record_at(table, slot), again;
	struct tp_flow_spec spec;

	if (record.flow.key.local >= tp_table_locals(table))
		return false;
	tp_record_decode(&record, &spec);
	return tp_record_encode(table, &spec, &again) == 0 &&
	       tp_key_equal(&again.flow.key, &record.flow.key);
}

/* Do readers find it, and no other in its place? */
static bool is_in_place(const struct tp_table *table, uint32_t slot)
{
	const struct tp_flow_key *key = &table->flows[slot].key;
	struct tp_place place = tp_table_place(table, key);
	uint32_t bucket = slot / TP_BUCKET_SLOTS, twin;

	if (*tp_table_tag(table, slot) != place.tag ||
		(bucket != place.bucket[0] && bucket != place.bucket[1]))
		return false;
	twin = tp_table_find(table, key, &place, slot);
	return twin == NO_SLOT || table->states[twin] != SLOT_ADOPTED;
}

static void hide(struct tp_table *table, uint32_t slot)
{
	__atomic_store_n(&table->flows[slot].key.ident, 0, __ATOMIC_RELEASE);
	__atomic_store_n(tp_table_tag(table, slot), 0, __ATOMIC_RELEASE);
}

/*
 * Record and tag: whole. Record without tag: its writer died while publishing; readers may have
 * found it at home, but no client was told. Tag without record: while retiring. Neither: free, but
 * a reader may hold what was there until just now.
 */
static bool adopt_slot(struct tp_table *table, uint32_t slot, uint64_t now_ns)
{
	const struct tp_flow *flow = &table->flows[slot];
	bool is_there = flow->key.ident != 0;

	if (is_there && is_in_place(table, slot) && is_sound(table, slot)) {
		table->states[slot] = SLOT_ADOPTED;
		return true;
	}
	if (is_there || *tp_table_tag(table, slot) != 0)
		hide(table, slot);
	if (was_used(flow))
		tp_table_let_rest(table, slot, now_ns);
	return !is_there;
}

static uint32_t adopt_slots(struct tp_table *table, uint64_t now_ns)
{
	uint32_t dropped = 0;

	for (uint32_t slot = 0; slot < table->slots; slot++) {
		if (!adopt_slot(table, slot, now_ns))
			dropped++;
	}
	return dropped;
}

int tp_table_adopt(const struct tp_memory *memory, uint16_t channel_max, uint32_t *dropped,
	struct tp_table **out)
{
	struct tp_table *table;
	int err = tp_table_new(memory, &table);

	if (err)
		return err;
	table->label_key =
		(struct tp_hash_key){{table->config->label_key[0], table->config->label_key[1]}};
	__atomic_store_n(&table->config->channel_max, channel_max, __ATOMIC_RELAXED);
	*dropped = adopt_slots(table, tp_clock_now_ns());
	__atomic_store_n(&table->config->unplaced, 0, __ATOMIC_RELEASE);
	*out = table;
	return 0;
}

/* Everything that may not change while readers match it. */
static bool is_same_flow(const struct tp_record *a, const struct tp_record *b)
{
	const struct tp_flow *x = &a->flow, *y = &b->flow;
	bool same = a->detail.policer == b->detail.policer &&
		    a->detail.allocation == b->detail.allocation && x->label == y->label &&
		    (x->key.kind == TP_FLOW_PERMISSION || x->sum_delta == y->sum_delta);

	/* A client's relays come and go. */
	return same && (x->key.kind == TP_FLOW_CLIENT ||
			       memcmp(&x->value, &y->value, sizeof(x->value)) == 0);
}

bool tp_record_take_over(struct tp_table *table, uint32_t slot, const struct tp_record *wanted)
{
	struct tp_record record = tp_record_at(table, slot);
	struct tp_flow *flow = &table->flows[slot];

	table->states[slot] = SLOT_LIVE;
	table->live++;
	if (!is_same_flow(&record, wanted))
		return false;
	/* One that is not there yet may still come: tp_table_set_relay() takes it away. */
	for (int f = 0; flow->key.kind == TP_FLOW_CLIENT && f < TP_RELAYS; f++) {
		if (wanted->flow.value.relays[f].used)
			__atomic_store_n(&flow->value.relays[f].word,
				wanted->flow.value.relays[f].word, __ATOMIC_RELAXED);
	}
	__atomic_store_n(&table->details[slot].granted, wanted->detail.granted, __ATOMIC_RELAXED);
	__atomic_store_n(&flow->expires, wanted->flow.expires, __ATOMIC_RELAXED);
	__atomic_store_n(&flow->next_hop, wanted->flow.next_hop, __ATOMIC_RELAXED);
	if (flow->key.kind == TP_FLOW_PERMISSION)
		__atomic_store_n(&flow->peer_hop, wanted->flow.peer_hop, __ATOMIC_RELAXED);
	return true;
}

uint32_t tp_table_settle(struct tp_table *table, uint64_t now_ns)
{
	uint32_t dropped = 0;

	for (uint32_t slot = 0; slot < table->slots; slot++) {
		if (table->states[slot] != SLOT_ADOPTED)
			continue;
		hide(table, slot);
		tp_table_let_rest(table, slot, now_ns);
		dropped++;
	}
	return dropped;
}
