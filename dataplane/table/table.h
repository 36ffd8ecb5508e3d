/*
 * The shared tables, writer's side (dataplane/core/flow.h has the layout and the reader's rules).
 * One thread writes; readers are BPF programs and workers, whom it never stops to wait for: a
 * retired slot rests for TP_REST_NS, and until each polling worker was seen between two bursts,
 * before tp_table_sweep() frees it. Nothing here blocks but tp_memory_reclaim().
 *
 * Errors are 0 or -errno; results come by the last parameter and are untouched on failure.
 */
#pragma once

#include "base/addr.h"
#include "base/hash.h"
#include "dataplane/core/flow.h"
#include "dataplane/core/verdict.h"

/* A reader holds a record for one packet at most; a second is far beyond that. */
#define TP_REST_NS (1 * UINT64_C(1000000000))

/* The arrays of which the tables consist. An engine brings the memory. */
enum tp_region {
	TP_REGION_CONFIG,
	TP_REGION_LOCALS,
	TP_REGION_PORTS,
	TP_REGION_BUCKETS,
	TP_REGION_FLOWS,
	TP_REGION_DETAILS,
	TP_REGION_NEXT_HOPS,
	TP_REGION_POLICERS,
	TP_REGION_ALLOCATIONS,
	TP_REGION_WORKERS,
	TP_REGIONS
};

struct tp_region_shape {
	const char *name; /* also the BPF map's name */
	uint32_t element_size;
	uint32_t count;
};

struct tp_shape {
	uint32_t capacity; /* flows that are promised a place; slots are twice as many */
	uint32_t workers; /* writers of tp_worker_counters: CPUs for xdp, polling cores otherwise */
	struct tp_region_shape regions[TP_REGIONS];
};

/*
 * Rounds the capacity up to whole buckets. -EINVAL: 0 or more than 2^26 flows, or that many
 * allocations. The promise is: at capacity, while a tenth of the flows is replaced each second,
 * fewer than 1 in 10^6 flows find no slot (tests/unit/test_table_load.c); below 4096 flows chance
 * is coarser, 1 in 10^5 at 1024. There is a policer and a note for each of `allocations`, behind
 * number 0, which is none.
 */
int tp_shape_init(uint32_t capacity, uint32_t workers, uint32_t allocations, struct tp_shape *out);

/* Base addresses of the regions, zeroed, element_size * count bytes each, page-aligned. */
struct tp_memory {
	struct tp_shape shape;
	void *regions[TP_REGIONS];
	const char *kind; /* "plain", "maps", "huge pages", "pages": for people */
};

/*
 * Takes back memory out of which workers may still relay: hides the tables, waits until every
 * worker is past what it had seen, zeroes all but the workers' counters. -ETIMEDOUT: one does not
 * move; the tables stay hidden and as they were. Blocks at most so long.
 */
int tp_memory_reclaim(const struct tp_memory *memory, uint64_t timeout_ns);

/*
 * Memory out of which a predecessor's successor goes on. is_kept: it holds valid tables of this
 * layout. await: waits until every worker is past what it had seen; nothing is changed. -ETIMEDOUT:
 * one does not move. Blocks at most so long. forget_next_hops: no record of them is valid any more,
 * so that packets go to the kernel: where interfaces have other places now. recall_next_hops: they
 * are what they were before, if nothing has been written since; of TP_NEXT_HOPS_MAX.
 */
bool tp_memory_is_kept(const struct tp_memory *memory);
int tp_memory_await(const struct tp_memory *memory, uint64_t timeout_ns);
void tp_memory_forget_next_hops(const struct tp_memory *memory, uint32_t *before);
void tp_memory_recall_next_hops(const struct tp_memory *memory, const uint32_t *before);

/* Plain anonymous memory: for `engine: socket` and tests. */
int tp_memory_create_plain(const struct tp_shape *shape, struct tp_memory *out);
void tp_memory_destroy_plain(struct tp_memory *memory);

/* Changes whenever sizes or offsets in flow.h do. */
uint64_t tp_layout_hash(void);

struct tp_table;

/*
 * Takes freshly zeroed memory and makes it valid for readers (the magic is written last). The
 * memory stays the caller's and must outlive the table. The salt is drawn with getrandom(2).
 * Nothing is a port of ours yet; the kill switch is at "on".
 */
int tp_table_create(const struct tp_memory *memory, uint16_t channel_max, struct tp_table **out);
/*
 * The same out of memory that is kept: readers go on meanwhile, out of what they find. Flows are
 * adopted when they are published again: the record stays where it is, and only words change. What
 * is only half there (its writer died between two stores), hidden from readers or there twice is
 * dropped at once; `dropped` counts it, and tp_table_settle() drops the flows that nobody has
 * published by then. Nothing is missing yet. -ENOMEM.
 */
int tp_table_adopt(const struct tp_memory *memory, uint16_t channel_max, uint32_t *dropped,
	struct tp_table **out);
uint32_t tp_table_settle(struct tp_table *table, uint64_t now_ns); /* how many it drops */
void tp_table_destroy(struct tp_table *table);
const struct tp_memory *tp_table_memory(const struct tp_table *table);

/* The kill switch: false sends every packet to the kernel. */
void tp_table_enable(struct tp_table *table, bool on);

/* Index of a local address; the port is ignored; adding one twice gives the same. -ENOSPC. */
int tp_table_add_local(struct tp_table *table, const struct tp_addr *ip, uint8_t *index);
int tp_table_find_local(const struct tp_table *table, const struct tp_addr *ip, uint8_t *index);
struct tp_addr tp_table_local(const struct tp_table *table, uint8_t index);
/* It is none of ours any more; no flow and no port is there. */
void tp_table_drop_local(struct tp_table *table, uint8_t index);

void tp_table_set_port(
	struct tp_table *table, uint8_t local, uint16_t port, enum tp_port_state state);
enum tp_port_state tp_table_port(const struct tp_table *table, uint8_t local, uint16_t port);

/* One side of a rewrite. */
struct tp_flow_side {
	struct tp_addr remote; /* port 0 for TP_FLOW_PERMISSION */
	uint16_t local_port;
	uint16_t channel; /* 0 = no ChannelData header on this side */
	uint8_t local;    /* index of the local address */
};

struct tp_flow_spec {
	enum tp_flow_kind kind;
	struct tp_flow_side in;
	struct tp_flow_side out;               /* PERMISSION: the client's; CLIENT: all zero */
	struct tp_relay_ref relays[TP_RELAYS]; /* CLIENT only */
	bool hairpin;        /* CHANNEL, PERMISSION: the peer is a relayed address of this server */
	uint64_t expires_ns; /* CLOCK_MONOTONIC */
	uint64_t granted_ns; /* CHANNEL, PEER, PERMISSION: see struct tp_flow_detail */
	uint32_t allocation;
	uint32_t policer; /* 0 = no limit */
	uint16_t next_hop;
	uint16_t peer_hop; /* PERMISSION: towards the peer, next_hop leads to the client */
};

/*
 * Makes the flow visible to readers before it returns. -ENOSPC: no free slot in either bucket;
 * config.unplaced then counts it (undo with tp_table_forget_unplaced()). -EEXIST: the key is live.
 * -EINVAL: no kind, no such local address, next hop or policer, a v4-mapped address that calls
 * itself IPv6, or something that flows of this kind do not have.
 */
int tp_table_publish(struct tp_table *table, const struct tp_flow_spec *spec, uint32_t *slot);
void tp_table_forget_unplaced(struct tp_table *table);

void tp_table_set_expiry(struct tp_table *table, uint32_t slot, uint64_t expires_ns);
void tp_table_set_granted(struct tp_table *table, uint32_t slot, uint64_t granted_ns);
void tp_table_set_next_hop(struct tp_table *table, uint32_t slot, uint16_t next_hop);
void tp_table_set_peer_hop(struct tp_table *table, uint32_t slot, uint16_t peer_hop);

/* CLIENT: the allocation has got a relay of that family (enum tp_relay_family), or lost it. */
void tp_table_set_relay(
	struct tp_table *table, uint32_t slot, unsigned int family, struct tp_relay_ref relay);

/*
 * The bandwidth limit of every allocation, each direction by itself: bits a second of application
 * data, TP_BANDWIDTH_MIN to TP_BANDWIDTH_MAX; 0 = none. To be set before flows name policers.
 */
#define TP_BANDWIDTH_MIN UINT64_C(2000)
#define TP_BANDWIDTH_MAX UINT64_C(100000000000)
void tp_table_set_bandwidth(struct tp_table *table, uint64_t bits_per_s);

/* The policer begins anew, for another allocation. */
void tp_table_reset_policer(struct tp_table *table, uint32_t policer);

/* May `len` bytes of data go by the slow path? The readers of the table ask the same policer. */
bool tp_table_police(const struct tp_table *table, uint32_t policer, enum tp_direction direction,
	uint64_t now_ns, uint32_t len);

/* What was counted for the flow since it was published. */
struct tp_flow_counters tp_table_counters(const struct tp_table *table, uint32_t slot);

/* No reader finds the flow once this returns; the slot rests. Returns its last counters. */
struct tp_flow_counters tp_table_retire(struct tp_table *table, uint32_t slot, uint64_t now_ns);

/*
 * Frees the slots that have rested long enough and that no polling worker can hold any more: each
 * was seen between two bursts since. Call it now and then; cost: what is due.
 */
void tp_table_sweep(struct tp_table *table, uint64_t now_ns);

/*
 * For what readers hold besides flows: counts how often all of them were waited for. When it has
 * grown by two since something was taken out of their sight, none of them holds it any more.
 */
#define TP_ROUNDS_TO_PASS 2
uint64_t tp_table_rounds(struct tp_table *table);

/* false: the workers' process is gone, so that none of them is waited for; true when it is back. */
void tp_table_set_readers(struct tp_table *table, bool present);

uint32_t tp_table_live(const struct tp_table *table); /* flows published and not retired */
uint32_t tp_table_unplaced(const struct tp_table *table);

/* Next hops: `hop->seq` is ignored; NULL invalidates. index 1 .. TP_NEXT_HOPS_MAX - 1. */
void tp_table_set_next_hop_record(
	struct tp_table *table, uint16_t index, const struct tp_next_hop *hop);

bool tp_table_next_hop(const struct tp_table *table, uint16_t index, struct tp_next_hop *out);

/*
 * Notes about allocations (struct tp_kept), by number, 1 .. tp_table_kept_end() - 1: like policers,
 * and whoever has the one may take the other of the same number. A relay of family 0 is none.
 */
struct tp_kept_allocation {
	uint32_t id;
	uint32_t transport;
	struct tp_addr client, server;
	uint64_t owner[2], quota;
	bool time_limited;
	struct {
		struct tp_addr address;
		uint64_t expires_ns;
	} relays[TP_RELAYS];
	size_t name_len;
	char name[TP_KEPT_NAME];
};
uint32_t tp_table_kept_end(const struct tp_table *table);
/* -EINVAL: no such number; an address that is not among the local ones. */
int tp_table_keep(
	struct tp_table *table, uint32_t number, const struct tp_kept_allocation *allocation);
/* It has got that relay, or it lives until then; address NULL: it has none of that family. */
int tp_table_keep_relay(struct tp_table *table, uint32_t number, unsigned int family,
	const struct tp_addr *address, uint64_t expires_ns);
void tp_table_forget(struct tp_table *table, uint32_t number);
/* -ENOENT: there is none; -EINVAL: it contradicts itself. */
int tp_table_kept(const struct tp_table *table, uint32_t number, struct tp_kept_allocation *out);
struct tp_hash_key tp_table_owner_key(const struct tp_table *table);

/* A live record as its writer described it; false when the slot holds none. */
bool tp_table_read(const struct tp_table *table, uint32_t slot, struct tp_flow_spec *out);
uint32_t tp_table_slots(const struct tp_table *table);

/* Sum over the workers; of one worker or sum, what was relayed in a direction. */
struct tp_worker_counters tp_table_totals(const struct tp_table *table);
struct tp_flow_counters tp_worker_direction(
	const struct tp_worker_counters *counters, enum tp_direction direction);

/*
 * Audit: tell it every flow that should be there, let it look at all slots, then end it.
 * Differences: expected but missing or different (expiry to the tick, next hops too), there but not
 * expected, a tag that misleads readers. The first thousand are described by calls of `report`
 * (which may be NULL); returns their number.
 *
 * The table may change between these calls. Then each flow that is placed meanwhile has to be told:
 * nobody may have expected it by the time that its slot is looked at. Whoever expects it all the
 * same does no harm. tp_audit_look() looks at so many slots more; false: at all of them.
 */
struct tp_audit;
int tp_audit_begin(const struct tp_table *table, struct tp_audit **out);
void tp_audit_expect(struct tp_audit *audit, uint32_t slot, const struct tp_flow_spec *spec);
void tp_audit_placed(struct tp_audit *audit, uint32_t slot);
bool tp_audit_look(struct tp_audit *audit, uint32_t slots);
uint32_t tp_audit_end(
	struct tp_audit *audit, void (*report)(void *arg, const char *text), void *arg);
