/* Next hops and their neighbours. One thread; asks rtnetlink once per new neighbour. */
#include "hops.h"

#include "base/clock.h"

#include <errno.h>

struct neighbour_key {
	uint32_t ifindex;
	struct tp_addr ip;
};

struct neighbour {
	UT_hash_handle hh;
	struct neighbour_key key;
	LIST_HEAD(hop_list, hop) hops;
	bool usable;
	uint8_t mac[6];
};

_Static_assert(sizeof(struct neighbour_key) == 24, "hashed as bytes");

static bool has_rested(const struct hops *hops, const struct hops_rest *rest)
{
	return rest->free_ns <= tp_clock_now_ns() && rest->round <= tp_table_rounds(hops->table);
}

static int take_index(struct hops *hops, uint16_t *out)
{
	const struct hops_rest *oldest = &hops->resting[hops->resting_head];

	if (hops->resting_count && has_rested(hops, oldest)) {
		*out = oldest->index;
		hops->resting_head = (hops->resting_head + 1) % TP_NEXT_HOPS_MAX;
		hops->resting_count--;
		return 0;
	}
	if (hops->fresh >= TP_NEXT_HOPS_MAX)
		return -ENOSPC;
	*out = hops->fresh++;
	return 0;
}

/* A reader may still hold the number in a flow it has copied. */
static void rest_index(struct hops *hops, uint16_t index)
{
	uint32_t tail = (hops->resting_head + hops->resting_count) % TP_NEXT_HOPS_MAX;

	hops->resting[tail] = (struct hops_rest){
		.free_ns = tp_clock_now_ns() + TP_REST_NS,
		.round = tp_table_rounds(hops->table) + TP_ROUNDS_TO_PASS,
		.index = index,
	};
	hops->resting_count++;
}

/* Numbers behind the last one that is valid are fresh; invalid ones before it rest, since
 * nobody knows for how long they have been. */
static void find_kept(struct hops *hops)
{
	struct tp_next_hop record;
	uint16_t end = TP_NO_NEXT_HOP_YET + 1;

	for (uint16_t i = end; i < TP_NEXT_HOPS_MAX; i++) {
		hops->kept[i] = tp_table_next_hop(hops->table, i, &record);
		if (hops->kept[i])
			end = (uint16_t)(i + 1);
	}
	for (uint16_t i = hops->fresh; i < end; i++) {
		if (!hops->kept[i])
			rest_index(hops, i);
	}
	hops->fresh = end;
}

void hops_init(struct hops *hops, struct tp_table *table, struct netlink *netlink,
	const struct links *links, const struct tp_hash_key *key)
{
	*hops = (struct hops){
		.table = table,
		.netlink = netlink,
		.links = links,
		.hash_key = *key,
		.fresh = TP_NO_NEXT_HOP_YET + 1,
	};
	if (table)
		find_kept(hops);
}

void hops_settle(struct hops *hops)
{
	for (uint16_t i = TP_NO_NEXT_HOP_YET + 1; i < hops->fresh; i++) {
		if (!hops->kept[i])
			continue;
		hops->kept[i] = false;
		tp_table_set_next_hop_record(hops->table, i, NULL);
		rest_index(hops, i);
	}
}

static bool describe(const struct hops *hops, const struct hop *hop, struct tp_next_hop *out)
{
	const struct neighbour *neighbour = hop->neighbour;
	struct links_exit by;
	uint32_t mtu;

	if (!neighbour->usable || !links_find_exit(hops->links, neighbour->key.ifindex, &by) ||
		!by.up)
		return false;
	mtu = hop->mtu && hop->mtu < by.mtu ? hop->mtu : by.mtu;
	*out = (struct tp_next_hop){
		.ifindex = by.ifindex,
		.vlan = tp_to_be16(by.vlan),
		.mtu = (uint16_t)(mtu < UINT16_MAX ? mtu : UINT16_MAX),
		.interface = by.interface,
	};
	memcpy(out->destination, neighbour->mac, sizeof(out->destination));
	memcpy(out->source, by.source, sizeof(out->source));
	return true;
}

static void publish(struct hops *hops, struct hop *hop)
{
	struct tp_next_hop record = {.seq = 1};
	bool valid = describe(hops, hop, &record);

	/* Most notifications change nothing that a packet needs (REACHABLE, STALE, REACHABLE). */
	if (!memcmp(&record, &hop->record, sizeof(record)))
		return;
	hop->record = record;
	tp_table_set_next_hop_record(hops->table, hop->index, valid ? &record : NULL);
}

static unsigned hash_of(const struct hops *hops, const struct neighbour_key *key)
{
	return (unsigned)tp_siphash13(&hops->hash_key, key, sizeof(*key));
}

static struct neighbour *find(const struct hops *hops, const struct neighbour_key *key)
{
	struct neighbour *neighbour;

	HASH_FIND_BYHASHVALUE(
		hh, hops->neighbours, key, sizeof(*key), hash_of(hops, key), neighbour);
	return neighbour;
}

static void ask(struct hops *hops, struct neighbour *neighbour)
{
	struct netlink_neighbour now;

	neighbour->usable = netlink_neighbour_at(hops->netlink, neighbour->key.ifindex,
				    &neighbour->key.ip, &now) == 0 &&
			    now.usable;
	if (neighbour->usable)
		memcpy(neighbour->mac, now.mac, sizeof(neighbour->mac));
}

static struct neighbour *find_or_add(struct hops *hops, const struct neighbour_key *key)
{
	struct neighbour *neighbour = find(hops, key);

	if (neighbour)
		return neighbour;
	neighbour = calloc(1, sizeof(*neighbour));
	if (!neighbour)
		return NULL;
	neighbour->key = *key;
	LIST_INIT(&neighbour->hops);
	HASH_ADD_BYHASHVALUE(
		hh, hops->neighbours, key, sizeof(neighbour->key), hash_of(hops, key), neighbour);
	if (!neighbour->hh.tbl) {
		free(neighbour);
		return NULL;
	}
	ask(hops, neighbour);
	return neighbour;
}

static void drop_if_unused(struct hops *hops, struct neighbour *neighbour)
{
	if (!LIST_EMPTY(&neighbour->hops))
		return;
	HASH_DEL(hops->neighbours, neighbour);
	free(neighbour);
}

/* The number under which a former life had just that: nothing changes for its flows. */
static bool take_kept(struct hops *hops, struct hop *hop)
{
	struct tp_next_hop wanted = {0}, there;

	if (!describe(hops, hop, &wanted))
		return false;
	for (uint16_t i = TP_NO_NEXT_HOP_YET + 1; i < hops->fresh; i++) {
		if (!hops->kept[i] || !tp_table_next_hop(hops->table, i, &there) ||
			memcmp(&there, &wanted, sizeof(wanted)) != 0)
			continue;
		hops->kept[i] = false;
		hop->index = i;
		hop->record = wanted;
		return true;
	}
	return false;
}

/* publish() is silent when nothing changes: the record must be invalid to begin with. */
static int take_new(struct hops *hops, struct hop *hop)
{
	int err = take_index(hops, &hop->index);

	if (err < 0)
		return err;
	hop->record.seq = 1;
	tp_table_set_next_hop_record(hops->table, hop->index, NULL);
	publish(hops, hop);
	return 0;
}

static struct hop *add(struct hops *hops, struct neighbour *neighbour, uint32_t mtu)
{
	struct hop *hop = calloc(1, sizeof(*hop));

	if (!hop)
		return NULL;
	hop->neighbour = neighbour;
	hop->mtu = mtu;
	if (!take_kept(hops, hop) && take_new(hops, hop) < 0) {
		free(hop);
		return NULL;
	}
	LIST_INSERT_HEAD(&neighbour->hops, hop, link);
	return hop;
}

struct hop *hops_take(struct hops *hops, uint32_t ifindex, const struct tp_addr *ip, uint32_t mtu)
{
	struct neighbour_key key = {.ifindex = ifindex, .ip = tp_addr_with_port(ip, 0)};
	struct neighbour *neighbour = find_or_add(hops, &key);
	struct hop *hop;

	if (!neighbour)
		return NULL;
	LIST_FOREACH(hop, &neighbour->hops, link) {
		if (hop->mtu == mtu)
			break;
	}
	if (!hop)
		hop = add(hops, neighbour, mtu);
	if (hop)
		hop->users++;
	else
		drop_if_unused(hops, neighbour);
	return hop;
}

void hops_release(struct hops *hops, struct hop *hop)
{
	if (--hop->users)
		return;
	tp_table_set_next_hop_record(hops->table, hop->index, NULL);
	rest_index(hops, hop->index);
	LIST_REMOVE(hop, link);
	drop_if_unused(hops, hop->neighbour);
	free(hop);
}

static void publish_all(struct hops *hops, struct neighbour *neighbour)
{
	struct hop *hop;

	LIST_FOREACH(hop, &neighbour->hops, link) {
		publish(hops, hop);
	}
}

void hops_neighbour_changed(struct hops *hops, const struct netlink_neighbour *now)
{
	struct neighbour_key key = {.ifindex = now->ifindex, .ip = now->ip};
	struct neighbour *neighbour = find(hops, &key);

	if (!neighbour)
		return;
	neighbour->usable = now->usable;
	if (now->usable)
		memcpy(neighbour->mac, now->mac, sizeof(neighbour->mac));
	publish_all(hops, neighbour);
}

void hops_links_changed(struct hops *hops)
{
	for (struct neighbour *n = hops->neighbours; n; n = n->hh.next)
		publish_all(hops, n);
}

void hops_ask_again(struct hops *hops)
{
	for (struct neighbour *n = hops->neighbours; n; n = n->hh.next) {
		ask(hops, n);
		publish_all(hops, n);
	}
}
