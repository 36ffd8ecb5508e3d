/* What the files of dataplane/table share: the writer's own notes beside the shared memory. */
#pragma once

#include "table.h"

#include "dataplane/core/order.h"

#include <endian.h>
#include <string.h>

/* ADOPTED: live for readers, and nobody has published it in this life. */
enum slot_state { SLOT_FREE, SLOT_LIVE, SLOT_RESTING, SLOT_ADOPTED };

#define NO_SLOT UINT32_MAX

/* By slot. Resting slots form a list in the order of their retirement, so sweeping costs what is
 * due, and no memory is ever added. */
struct slot_rest {
	uint64_t due_ns; /* when it ends */
	uint32_t next;   /* the one retired after it */
};

/* Counts of resting slots: of all, and of those at the list's front that all readers have passed
 * or are being waited for to pass. */
struct readers {
	uint64_t *epochs; /* of each worker, when the waiting began */
	uint32_t resting, passed, awaited;
	uint64_t rounds; /* waits that have ended */
	bool awaiting;
	bool absent; /* nobody reads: nobody is waited for */
};

/* Both parts of a record. */
struct tp_record {
	struct tp_flow flow;
	struct tp_flow_detail detail;
};

struct tp_table {
	struct tp_memory memory;
	struct tp_config *config;
	struct tp_local *locals;
	struct tp_ports *ports;
	struct tp_bucket *buckets;
	struct tp_flow *flows;
	struct tp_flow_detail *details;
	struct tp_next_hop *next_hops;
	struct tp_policer *policers;
	struct tp_kept *kept;
	struct tp_worker_counters *workers;
	uint8_t *states;         /* enum slot_state: apart, so that a bucket's are a word */
	struct slot_rest *rests; /* SLOT_RESTING */
	uint32_t slots;
	uint32_t live;
	uint32_t rest_first, rest_last;
	struct readers readers;
	struct tp_hash_key label_key;
};

/* readers.c: begins to wait for the readers of what rests, or looks whether they have passed. */
void tp_readers_watch(struct tp_table *table);

/* table.c: everything but the magic, on memory that is zeroed or kept. */
int tp_table_new(const struct tp_memory *memory, struct tp_table **out);
void tp_table_let_rest(struct tp_table *table, uint32_t slot, uint64_t now_ns);

/* adopt.c: the record is there already and may stay, brought in step with what is wanted. */
bool tp_record_take_over(struct tp_table *table, uint32_t slot, const struct tp_record *wanted);

/* record.c: between the writer's words and the record's. */

/* The record for a description. -EINVAL: a kind, family or local address that cannot be. */
int tp_record_encode(
	const struct tp_table *table, const struct tp_flow_spec *spec, struct tp_record *out);
/* What lies in a slot; its counters are not part of it. */
struct tp_record tp_record_at(const struct tp_table *table, uint32_t slot);
void tp_record_decode(const struct tp_record *record, struct tp_flow_spec *out);

/*
 * Workers have the memory mapped as well. What they may do to it by mistake or worse misplaces
 * flows; it does not lead the writer out of its arrays.
 */
static inline struct tp_place tp_table_place(
	const struct tp_table *table, const struct tp_flow_key *key)
{
	return tp_place_of(tp_flow_hash(key, table->config->salt), table->slots / TP_BUCKET_SLOTS);
}

static inline uint32_t tp_table_locals(const struct tp_table *table)
{
	uint32_t count = TP_READ_ONCE(table->config->locals);

	return count < TP_LOCALS_MAX ? count : TP_LOCALS_MAX;
}

static inline uint8_t *tp_table_tag(const struct tp_table *table, uint32_t slot)
{
	return &table->buckets[slot / TP_BUCKET_SLOTS].tags[slot % TP_BUCKET_SLOTS];
}

/* Which of a bucket's bytes are this one: the highest bit of each. */
static inline uint64_t tp_lanes_equal(const uint8_t lanes[TP_BUCKET_SLOTS], uint8_t byte)
{
	const uint64_t low = UINT64_C(0x7f7f7f7f7f7f7f7f);
	uint64_t word;

	memcpy(&word, lanes, sizeof(word));
	word = le64toh(word) ^ UINT64_C(0x0101010101010101) * byte;
	return ~(((word & low) + low) | word | low);
}

static inline uint32_t tp_first_lane(uint64_t match)
{
	return (uint32_t)__builtin_ctzll(match) / 8;
}

static inline bool tp_key_equal(const struct tp_flow_key *a, const struct tp_flow_key *b)
{
	return a->ident == b->ident && a->remote[0] == b->remote[0] && a->remote[1] == b->remote[1];
}

/*
 * The slot of a live record with this key that readers can find, other than `except`;
 * NO_SLOT when there is none.
 */
uint32_t tp_table_find(const struct tp_table *table, const struct tp_flow_key *key,
	const struct tp_place *place, uint32_t except);
