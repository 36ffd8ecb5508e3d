/*
 * Next-hop records of the shared table, shared by everybody who sends to the same neighbour with
 * the same MTU. A record turns valid and invalid in place as the neighbour and the link do, so that
 * flows are touched only when their neighbour becomes another one. Owned by struct route.
 */
#pragma once

#include "base/hash.h"
#include "dataplane/table/table.h"
#include "links.h"

#include <sys/queue.h>

struct neighbour;

struct hop {
	LIST_ENTRY(hop) link; /* in its neighbour's hops */
	struct neighbour *neighbour;
	uint32_t mtu; /* of the route; 0 = the link's */
	uint32_t users;
	uint16_t index;
	struct tp_next_hop record; /* as published; seq 1 = invalid */
};

struct hops_rest {
	uint64_t free_ns; /* when it may be used again, if all readers have passed by then */
	uint64_t round;   /* tp_table_rounds() when they have */
	uint16_t index;
};

struct hops {
	struct tp_table *table;
	struct netlink *netlink;
	const struct links *links;
	struct tp_hash_key hash_key; /* peers' addresses are neighbours: strangers choose them */
	struct neighbour *neighbours;
	uint16_t fresh;                             /* the lowest index never used */
	struct hops_rest resting[TP_NEXT_HOPS_MAX]; /* ring, in order of free_ns */
	uint32_t resting_head, resting_count;
	/* Valid since a former life, and nobody has taken it in this one. */
	bool kept[TP_NEXT_HOPS_MAX];
};

/*
 * It owns nothing but the hops taken: when all are released, nothing is left to free. Records that
 * are valid already stay so, for those who take the same; settle() ends the others.
 */
void hops_init(struct hops *hops, struct tp_table *table, struct netlink *netlink,
	const struct links *links, const struct tp_hash_key *key);

void hops_settle(struct hops *hops);

/* To be released. NULL: no index free. */
struct hop *hops_take(struct hops *hops, uint32_t ifindex, const struct tp_addr *ip, uint32_t mtu);
void hops_release(struct hops *hops, struct hop *hop);

void hops_neighbour_changed(struct hops *hops, const struct netlink_neighbour *now);
void hops_links_changed(struct hops *hops);
/* After lost notifications: asks the kernel about every neighbour. */
void hops_ask_again(struct hops *hops);
