/*
 * Allocations as flows: keeps the shared table in step with alloc/, follows the routes to clients
 * and to the peers that they may reach, adds up counters, audits. The functions named grant and
 * revoke stand behind turn/effects.h. One thread. Nothing blocks.
 */
#pragma once

#include "controlplane/alloc/alloc.h"
#include "controlplane/route/route.h"
#include "dataplane/table/table.h"

struct flows;

/* Both outlive it. A route without table or interfaces is fine: no flow has a next hop then. */
int flows_new(struct tp_table *table, struct route *route, struct flows **out);
/* Takes out every flow that is still there: allocations must be alive or have ended properly. */
void flows_free(struct flows *flows);

/*
 * The bandwidth of every allocation, each direction by itself, in bits of data a second: see
 * tp_table_set_bandwidth(). Before the first relay.
 */
void flows_set_bandwidth(struct flows *flows, uint64_t bits_per_s);

/* May `len` bytes of data go by the sockets? They are paid for if they may. */
bool flows_police(const struct flows *flows, const struct allocation *allocation,
	enum tp_direction direction, uint64_t now_ns, uint32_t len);

/*
 * An address where listeners or relays are, now or later: packets that claim to come from there are
 * forged, so before the first flow, which may be told to look at that or not. -ENOSPC: as below.
 */
int flows_own_address(struct flows *flows, const struct tp_addr *address);

/*
 * The listener or relay port belongs to us from here on / no longer. Addresses are concrete, never
 * wildcards. -ENOSPC: too many addresses for the table, or no policer; -ENOMEM. A relay that failed
 * must not be granted anything. Closing revokes what is left of the relay's flows. The first relay
 * of an allocation brings the client's own flow, the last one takes it: what the client sends on
 * channels that are not bound yet then reaches the sockets. A relay that is extended lives until
 * then for a successor too; its grants are to be granted again. An allocation that is restored
 * (alloc_restore()) goes on with the note it was made of.
 */
int flows_own_listener(struct flows *flows, const struct tp_addr *listener);
bool flows_has_listener(const struct flows *flows, const struct tp_addr *listener);
int flows_open_relay(struct flows *flows, struct alloc_relay *relay);
void flows_extend_relay(struct flows *flows, struct alloc_relay *relay);
void flows_close_relay(struct flows *flows, struct alloc_relay *relay);

/*
 * PERMISSION; CHANNEL + PEER. Refreshing moves the expiry of what is there: PEER ends with the
 * earlier of channel and permission (RFC 8656, 12.7), so granting a permission moves the PEER flows
 * of its address too. None outlasts its relay: when that is refreshed, grant them again. A flow
 * that finds no slot is served by the sockets: its relay port becomes TP_PORT_SLOW until none of
 * its flows is missing (refreshing and sweeping try again).
 *
 * A peer that is a relayed address of this server makes a hairpin: no next hop leads there, the
 * data plane goes on with the other relay's flow. Where a 1:1 NAT gives one of the two another name
 * the flow has neither mark nor next hop, and the sockets relay.
 *
 * Revoking twice, or what was never granted, does nothing. A flow's counters are added to the
 * allocation when it goes.
 */
void flows_grant_permission(struct flows *flows, struct alloc_permission *permission);
void flows_revoke_permission(struct flows *flows, struct alloc_permission *permission);
void flows_grant_channel(struct flows *flows, struct alloc_channel *channel);
void flows_revoke_channel(struct flows *flows, struct alloc_channel *channel);

/*
 * The end of an adoption (tp_table_adopt()): what has not been granted or opened by now goes:
 * flows, ports, notes, next hops, local addresses. `allocations` (alloc_all()) are all there
 * are. Returns the number of flows that went; -ENOMEM.
 */
int flows_settle(struct flows *flows, const struct alloc_list *allocations, uint64_t now_ns);

/* What the data plane has counted for the live flows of an allocation, added to *sent, *received.
 */
void flows_add_traffic(const struct flows *flows, const struct allocation *allocation,
	struct alloc_traffic *sent, struct alloc_traffic *received);

/* Frees rested slots and tries the missing flows again; call about once a second. */
void flows_sweep(struct flows *flows, uint64_t now_ns);

/*
 * Compares `allocations` (alloc_all()) with the table, both ways: flows, port states, notes, the
 * count of missing flows. Returns the differences, each described by a call of `report` (which may
 * be NULL); 0 is the invariant.
 */
uint32_t flows_audit(struct flows *flows, const struct alloc_list *allocations,
	void (*report)(void *arg, const char *text), void *arg);

/*
 * The same in pieces, between which anything may change: what does is no difference. Begin, expect
 * each of the allocations there are (alloc_walk_begin() before), look until there is nothing more
 * to look at (false), end; or end at any time, which then says nothing. Expecting costs what the
 * allocation has, a look some microseconds. -EBUSY: there is one at a time; -ENOMEM.
 */
struct flows_audit;
int flows_audit_begin(struct flows *flows, void (*report)(void *arg, const char *text), void *arg,
	struct flows_audit **out);
void flows_audit_expect(struct flows_audit *audit, const struct allocation *allocation);
bool flows_audit_look(struct flows_audit *audit);
uint32_t flows_audit_end(struct flows_audit *audit);
