/*
 * The writer's side of the shared tables. Owned by the control plane's thread, the only writer;
 * readers are never waited for and nothing blocks.
 */
#include "table.h"
#include "private.h"

#include "base/cleanup.h"
#include "base/clock.h"

#include <errno.h>
#include <sys/random.h>

/*
 * Placement: the first bucket while it has fewer than this many slots taken, else the emptier of
 * the two. Simulated at half load under churn: 5 places as well as "always the emptier" does, and
 * leaves 73 of 100 flows in the bucket that readers open first. There a flow takes its home slot if
 * it can.
 */
#define FIRST_BUCKET_UNTIL 5

static int draw(void *out, size_t size)
{
	return getrandom(out, size, 0) == (ssize_t)size ? 0 : -EIO;
}

static void point_into_memory(struct tp_table *table)
{
	void *const *regions = table->memory.regions;

	table->config = regions[TP_REGION_CONFIG];
	table->locals = regions[TP_REGION_LOCALS];
	table->ports = regions[TP_REGION_PORTS];
	table->buckets = regions[TP_REGION_BUCKETS];
	table->flows = regions[TP_REGION_FLOWS];
	table->details = regions[TP_REGION_DETAILS];
	table->next_hops = regions[TP_REGION_NEXT_HOPS];
	table->policers = regions[TP_REGION_POLICERS];
	table->kept = regions[TP_REGION_ALLOCATIONS];
	table->workers = regions[TP_REGION_WORKERS];
	table->slots = table->memory.shape.regions[TP_REGION_FLOWS].count;
}

static int fill_config(struct tp_table *table, uint16_t channel_max)
{
	struct tp_config *config = table->config;
	uint32_t buckets = table->memory.shape.regions[TP_REGION_BUCKETS].count;
	int err = draw(config->salt, sizeof(config->salt));

	if (!err)
		err = draw(config->label_key, sizeof(config->label_key));
	if (!err)
		err = draw(config->owner_key, sizeof(config->owner_key));
	if (err)
		return err;
	memcpy(&table->label_key, config->label_key, sizeof(table->label_key));
	config->abi = TP_ABI_VERSION;
	config->layout = tp_layout_hash();
	config->buckets = buckets;
	config->channel_max = channel_max;
	return 0;
}

int tp_table_new(const struct tp_memory *memory, struct tp_table **out)
{
	TP_AUTO_FREE struct tp_table *table = calloc(1, sizeof(*table));
	TP_AUTO_FREE uint64_t *epochs = calloc(memory->shape.workers, sizeof(*epochs));

	if (!table || !epochs)
		return -ENOMEM;
	table->memory = *memory;
	table->rest_first = table->rest_last = NO_SLOT;
	point_into_memory(table);
	table->states = calloc(table->slots, sizeof(*table->states));
	table->rests = calloc(table->slots, sizeof(*table->rests));
	if (!table->states || !table->rests) {
		free(table->states);
		free(table->rests);
		return -ENOMEM;
	}
	table->readers.epochs = TP_TAKE(epochs);
	*out = TP_TAKE(table);
	return 0;
}

int tp_table_create(const struct tp_memory *memory, uint16_t channel_max, struct tp_table **out)
{
	struct tp_table *table;
	int err = tp_table_new(memory, &table);

	if (err)
		return err;
	err = fill_config(table, channel_max);
	if (err) {
		tp_table_destroy(table);
		return err;
	}
	for (uint32_t i = 0; i < TP_NEXT_HOPS_MAX; i++)
		table->next_hops[i].seq = 1;
	table->config->magic = TP_MAGIC;
	tp_table_enable(table, true);
	*out = table;
	return 0;
}

void tp_table_destroy(struct tp_table *table)
{
	if (!table)
		return;
	explicit_bzero(&table->label_key, sizeof(table->label_key));
	free(table->states);
	free(table->rests);
	free(table->readers.epochs);
	free(table);
}

const struct tp_memory *tp_table_memory(const struct tp_table *table)
{
	return &table->memory;
}

void tp_table_enable(struct tp_table *table, bool on)
{
	__atomic_store_n(&table->config->gate, on ? table->config->layout : 0, __ATOMIC_RELEASE);
}

int tp_table_find_local(const struct tp_table *table, const struct tp_addr *ip, uint8_t *index)
{
	for (uint32_t i = 0; i < tp_table_locals(table); i++) {
		if (memcmp(table->locals[i].ip, ip->ip, sizeof(ip->ip)) == 0) {
			*index = (uint8_t)i;
			return 0;
		}
	}
	return -ENOENT;
}

/* The first that was dropped, else the one behind the last. */
static uint32_t free_local(const struct tp_table *table)
{
	uint32_t i = 0;

	while (i < tp_table_locals(table) && (table->locals[i].ip[0] || table->locals[i].ip[1]))
		i++;
	return i;
}

int tp_table_add_local(struct tp_table *table, const struct tp_addr *ip, uint8_t *index)
{
	uint32_t i = free_local(table);
	struct tp_local local;

	if (tp_table_find_local(table, ip, index) == 0)
		return 0;
	if (i == TP_LOCALS_MAX)
		return -ENOSPC;
	memcpy(local.ip, ip->ip, sizeof(local.ip));
	/* The bit first: an entry that was dropped is in sight already. */
	__atomic_store_n(&table->config->own_mask, table->config->own_mask | tp_own_bit(local.ip),
		__ATOMIC_RELEASE);
	table->locals[i] = local;
	if (i == tp_table_locals(table))
		__atomic_store_n(&table->config->locals, i + 1, __ATOMIC_RELEASE);
	*index = (uint8_t)i;
	return 0;
}

/* All zero is no address that a packet comes to. Its bit stays: that costs others a second look. */
void tp_table_drop_local(struct tp_table *table, uint8_t index)
{
	if (index >= tp_table_locals(table))
		return;
	for (int i = 1; i >= 0; i--)
		__atomic_store_n(&table->locals[index].ip[i], 0, __ATOMIC_RELEASE);
}

struct tp_addr tp_table_local(const struct tp_table *table, uint8_t index)
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
	struct tp_addr a = {0};

	if (index >= tp_table_locals(table))
		return a;
	memcpy(a.ip, table->locals[index].ip, sizeof(a.ip));
	a.family = memcmp(a.ip, mapped, sizeof(mapped)) == 0 ? TP_IPV4 : TP_IPV6;
	return a;
}

void tp_table_set_port(
	struct tp_table *table, uint8_t local, uint16_t port, enum tp_port_state state)
{
	if (local < TP_LOCALS_MAX)
		__atomic_store_n(
			&table->ports[local].state[port], (uint8_t)state, __ATOMIC_RELEASE);
}

enum tp_port_state tp_table_port(const struct tp_table *table, uint8_t local, uint16_t port)
{
	return local < TP_LOCALS_MAX ? table->ports[local].state[port] : TP_PORT_NOT_OURS;
}

uint32_t tp_table_find(const struct tp_table *table, const struct tp_flow_key *key,
	const struct tp_place *place, uint32_t except)
{
	for (int i = 0; i < 2; i++) {
		uint32_t bucket = place->bucket[i];
		uint64_t match = tp_lanes_equal(table->buckets[bucket].tags, place->tag);

		for (; match; match &= match - 1) {
			uint32_t slot = bucket * TP_BUCKET_SLOTS + tp_first_lane(match);

			if (slot != except && tp_key_equal(&table->flows[slot].key, key))
				return slot;
		}
	}
	return NO_SLOT;
}

/* How many slots of a bucket are taken, and the first that is not. */
static uint32_t bucket_load(const struct tp_table *table, uint32_t bucket, uint32_t *free_slot)
{
	uint32_t first = bucket * TP_BUCKET_SLOTS;
	uint64_t free_lanes = tp_lanes_equal(table->states + first, SLOT_FREE);

	*free_slot = free_lanes ? first + tp_first_lane(free_lanes) : NO_SLOT;
	/* Their sum, on top. */
	return TP_BUCKET_SLOTS - (uint32_t)((free_lanes >> 7) * UINT64_C(0x0101010101010101) >> 56);
}

static uint32_t choose_slot(const struct tp_table *table, const struct tp_place *place)
{
	uint32_t first, second;
	uint32_t load = bucket_load(table, place->bucket[0], &first);

	if (load >= FIRST_BUCKET_UNTIL && load > bucket_load(table, place->bucket[1], &second))
		return second;
	return table->states[place->home] == SLOT_FREE ? place->home : first;
}

static void write_record(
	struct tp_table *table, uint32_t slot, const struct tp_record *record, uint8_t tag)
{
	struct tp_flow *flow = &table->flows[slot];
	struct tp_flow hidden = record->flow;

	hidden.key.ident = 0;
	table->details[slot] = record->detail;
	*flow = hidden;
	__atomic_store_n(&flow->key.ident, record->flow.key.ident, __ATOMIC_RELEASE);
	__atomic_store_n(tp_table_tag(table, slot), tag, __ATOMIC_RELEASE);
}

static void set_unplaced(struct tp_table *table, uint32_t count)
{
	__atomic_store_n(&table->config->unplaced, count, __ATOMIC_RELEASE);
}

int tp_table_publish(struct tp_table *table, const struct tp_flow_spec *spec, uint32_t *slot)
{
	struct tp_record record;
	struct tp_place place;
	uint32_t chosen, there;
	int err = tp_record_encode(table, spec, &record);

	if (err)
		return err;
	place = tp_table_place(table, &record.flow.key);
	there = tp_table_find(table, &record.flow.key, &place, NO_SLOT);
	if (there != NO_SLOT && table->states[there] != SLOT_ADOPTED)
		return -EEXIST;
	if (there != NO_SLOT && tp_record_take_over(table, there, &record)) {
		*slot = there;
		return 0;
	}
	if (there != NO_SLOT)
		tp_table_retire(table, there, tp_clock_now_ns());
	chosen = choose_slot(table, &place);
	if (chosen == NO_SLOT) {
		set_unplaced(table, table->config->unplaced + 1);
		return -ENOSPC;
	}
	write_record(table, chosen, &record, place.tag);
	table->states[chosen] = SLOT_LIVE;
	table->live++;
	*slot = chosen;
	return 0;
}

void tp_table_forget_unplaced(struct tp_table *table)
{
	if (table->config->unplaced > 0)
		set_unplaced(table, table->config->unplaced - 1);
}

static bool is_live(const struct tp_table *table, uint32_t slot)
{
	return slot < table->slots && table->states[slot] == SLOT_LIVE;
}

void tp_table_set_expiry(struct tp_table *table, uint32_t slot, uint64_t expires_ns)
{
	if (is_live(table, slot))
		__atomic_store_n(
			&table->flows[slot].expires, tp_ticks_until(expires_ns), __ATOMIC_RELAXED);
}

void tp_table_set_granted(struct tp_table *table, uint32_t slot, uint64_t granted_ns)
{
	if (is_live(table, slot))
		__atomic_store_n(&table->details[slot].granted, tp_ticks_until(granted_ns),
			__ATOMIC_RELAXED);
}

void tp_table_set_next_hop(struct tp_table *table, uint32_t slot, uint16_t next_hop)
{
	if (is_live(table, slot) && next_hop < TP_NEXT_HOPS_MAX)
		__atomic_store_n(&table->flows[slot].next_hop, next_hop, __ATOMIC_RELAXED);
}

void tp_table_set_peer_hop(struct tp_table *table, uint32_t slot, uint16_t peer_hop)
{
	if (is_live(table, slot) && table->flows[slot].key.kind == TP_FLOW_PERMISSION &&
		peer_hop < TP_NEXT_HOPS_MAX)
		__atomic_store_n(&table->flows[slot].peer_hop, peer_hop, __ATOMIC_RELAXED);
}

void tp_table_set_relay(
	struct tp_table *table, uint32_t slot, unsigned int family, struct tp_relay_ref relay)
{
	if (is_live(table, slot) && table->flows[slot].key.kind == TP_FLOW_CLIENT &&
		family < TP_RELAYS)
		__atomic_store_n(&table->flows[slot].value.relays[family].word, relay.word,
			__ATOMIC_RELAXED);
}

/*
 * Both parts of what was counted, as of one moment: false while one is carried over to the other
 * (tp_carry_over()). What began before is seen by the bit in `recent`, what began since by the
 * other number of `carries`.
 */
static bool read_counters(const struct tp_table *table, uint32_t slot, struct tp_flow_counters *out)
{
	const struct tp_flow_detail *detail = &table->details[slot];
	uint32_t carries = __atomic_load_n(&detail->carries, __ATOMIC_ACQUIRE);
	uint32_t recent = __atomic_load_n(&table->flows[slot].recent, __ATOMIC_ACQUIRE);

	*out = tp_flow_counted(detail, recent);
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	return (recent & TP_RECENT_CARRIES) == carries * TP_RECENT_CARRIES &&
	       __atomic_load_n(&detail->carries, __ATOMIC_RELAXED) == carries;
}

struct tp_flow_counters tp_table_counters(const struct tp_table *table, uint32_t slot)
{
	struct tp_flow_counters out = {0};

	if (!is_live(table, slot))
		return out;
	/* Carrying over takes a few instructions. A reader may have died in the midst of them. */
	for (int i = 0; i < 1000 && !read_counters(table, slot, &out); i++)
		;
	return out;
}

void tp_table_let_rest(struct tp_table *table, uint32_t slot, uint64_t now_ns)
{
	table->states[slot] = SLOT_RESTING;
	table->rests[slot] = (struct slot_rest){now_ns + TP_REST_NS, NO_SLOT};
	if (table->rest_last == NO_SLOT)
		table->rest_first = slot;
	else
		table->rests[table->rest_last].next = slot;
	table->rest_last = slot;
	table->readers.resting++;
}

struct tp_flow_counters tp_table_retire(struct tp_table *table, uint32_t slot, uint64_t now_ns)
{
	struct tp_flow_counters last = tp_table_counters(table, slot);

	if (!is_live(table, slot))
		return last;
	__atomic_store_n(&table->flows[slot].key.ident, 0, __ATOMIC_RELEASE);
	__atomic_store_n(tp_table_tag(table, slot), 0, __ATOMIC_RELEASE);
	tp_table_let_rest(table, slot, now_ns);
	table->live--;
	return last;
}

static void end_first_rest(struct tp_table *table)
{
	uint32_t slot = table->rest_first;

	table->states[slot] = SLOT_FREE;
	table->rest_first = table->rests[slot].next;
	if (table->rest_first == NO_SLOT)
		table->rest_last = NO_SLOT;
	table->readers.resting--;
	table->readers.passed--;
	table->readers.awaited--;
}

void tp_table_sweep(struct tp_table *table, uint64_t now_ns)
{
	if (table->readers.resting > 0)
		tp_readers_watch(table);
	while (table->readers.passed > 0 && now_ns >= table->rests[table->rest_first].due_ns)
		end_first_rest(table);
}

uint32_t tp_table_live(const struct tp_table *table)
{
	return table->live;
}

uint32_t tp_table_unplaced(const struct tp_table *table)
{
	return table->config->unplaced;
}

uint32_t tp_table_slots(const struct tp_table *table)
{
	return table->slots;
}

void tp_table_set_next_hop_record(
	struct tp_table *table, uint16_t index, const struct tp_next_hop *hop)
{
	struct tp_next_hop *record;
	uint32_t odd;

	if (index == TP_NO_NEXT_HOP_YET || index >= TP_NEXT_HOPS_MAX)
		return;
	record = &table->next_hops[index];
	odd = record->seq | 1;
	__atomic_store_n(&record->seq, odd, __ATOMIC_RELAXED);
	/* Nobody may see a new field beside the old even number. */
	__atomic_thread_fence(__ATOMIC_RELEASE);
	if (!hop)
		return;
	memcpy((char *)record + sizeof(record->seq), (const char *)hop + sizeof(hop->seq),
		sizeof(*hop) - sizeof(hop->seq));
	__atomic_store_n(&record->seq, odd + 1, __ATOMIC_RELEASE);
}

bool tp_table_next_hop(const struct tp_table *table, uint16_t index, struct tp_next_hop *out)
{
	if (index == TP_NO_NEXT_HOP_YET || index >= TP_NEXT_HOPS_MAX ||
		(table->next_hops[index].seq & 1))
		return false;
	*out = table->next_hops[index];
	out->seq = 0;
	return true;
}

bool tp_table_read(const struct tp_table *table, uint32_t slot, struct tp_flow_spec *out)
{
	struct tp_record record;

	if (slot >= table->slots || table->flows[slot].key.ident == 0)
		return false;
	record = tp_record_at(table, slot);
	tp_record_decode(&record, out);
	return true;
}

static void add_traffic(struct tp_flow_counters *sum, const struct tp_flow_counters *cell)
{
	sum->packets += __atomic_load_n(&cell->packets, __ATOMIC_RELAXED);
	sum->bytes += __atomic_load_n(&cell->bytes, __ATOMIC_RELAXED);
}

static void add_counters(struct tp_worker_counters *sum, const struct tp_worker_counters *worker)
{
	for (int i = 0; i < TP_VERDICT_CELLS; i++)
		sum->verdicts[i] += __atomic_load_n(&worker->verdicts[i], __ATOMIC_RELAXED);
	for (int d = 0; d < TP_DIRECTIONS; d++) {
		for (int p = 0; p < TP_PAIRS; p++)
			add_traffic(&sum->relayed[d][p], &worker->relayed[d][p]);
	}
	sum->hairpins += __atomic_load_n(&worker->hairpins, __ATOMIC_RELAXED);
	sum->outputs += __atomic_load_n(&worker->outputs, __ATOMIC_RELAXED);
}

struct tp_worker_counters tp_table_totals(const struct tp_table *table)
{
	struct tp_worker_counters sum = {0};

	for (uint32_t i = 0; i < table->memory.shape.workers; i++)
		add_counters(&sum, &table->workers[i]);
	return sum;
}

struct tp_flow_counters tp_worker_direction(
	const struct tp_worker_counters *counters, enum tp_direction direction)
{
	struct tp_flow_counters sum = {0};

	for (int p = 0; p < TP_PAIRS; p++)
		add_traffic(&sum, &counters->relayed[direction][p]);
	return sum;
}
