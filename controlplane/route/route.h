/*
 * Routes and neighbours of the kernel, followed by netlink, as next hops in the shared table. One
 * thread; nothing waits. Needs no privileges.
 *
 * A next hop is a neighbour on an interface of the engine (or on a VLAN above one), with an MTU.
 * Its record is valid while the kernel knows the neighbour's MAC address and the link is up. Before
 * that it has its number already, with an invalid record: packets go to the kernel, whose sending
 * resolves the neighbour, and the record turns valid in place without a flow being touched.
 * TP_NO_NEXT_HOP_YET is for routes that no record can stand for.
 *
 * What the kernel does not announce is not followed: a path MTU that it learns later (such packets
 * fail as those of any router do), and a neighbour's new MAC address that nobody has told it.
 */
#pragma once

#include "base/addr.h"
#include "dataplane/table/table.h"

#include <sys/queue.h>

struct route;

/*
 * ifindexes: the engine's interfaces, in its order (tp_next_hop.interface is the place in it); next
 * hops elsewhere stay TP_NO_NEXT_HOP_YET, so that the kernel sends. table NULL: no engine reads
 * next hops; only the machine's addresses are watched.
 */
int route_new(struct tp_table *table, const uint32_t *ifindexes, size_t count, struct route **out);
void route_free(struct route *route);
/*
 * Next hops that are valid when it begins are a former life's: who follows the same gets the same
 * number, untouched. This ends those that nobody follows by now.
 */
void route_settle(struct route *route);

/* Readable when there are changes; then call route_process(). */
int route_fd(const struct route *route);
void route_process(struct route *route);

/* Someone who wants to know the next hop towards an address, and its changes. */
struct route_user {
	LIST_ENTRY(route_user) link;
	struct route_destination *destination; /* NULL when it follows nothing */
	void (*changed)(struct route_user *user, uint16_t next_hop);
};

/*
 * Follows the route to `remote` for packets from `local` (ports ignored); returns the next hop now.
 * TP_NO_NEXT_HOP_YET: unreachable, local, not on an interface of the engine, all numbers in use
 * (tried again with the next change of routes), or out of memory. `changed` is called with every
 * later number; it must not call route_*(). A number that nobody follows any more rests like a
 * flow's slot does (table.h) before it stands for another neighbour.
 */
uint16_t route_follow(struct route *route, struct route_user *user, const struct tp_addr *remote,
	const struct tp_addr *local);
void route_unfollow(struct route *route, struct route_user *user);
/* What it was told last; TP_NO_NEXT_HOP_YET when it follows nothing. */
uint16_t route_next_hop(const struct route_user *user);

/* The machine's own addresses, broadcasts, gateways and subnets, for policy/. */
struct route_local {
	struct tp_addr ip;
	uint8_t length;
	bool connected; /* a subnet on a link; else an address that is never a peer */
};
/* Calls at once and after every change, with the whole list, which is sorted and without doubles.
 */
void route_watch_locals(struct route *route,
	void (*changed)(void *arg, const struct route_local *list, size_t count), void *arg);
