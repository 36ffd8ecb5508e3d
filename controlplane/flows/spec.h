/*
 * What the table should say, computed from alloc/ alone: flows.c publishes it, audit.c compares
 * with it. Everything but the next hops, which only route/ knows, and the policer.
 */
#pragma once

#include "flows.h"

void spec_of_permission(const struct tp_table *table, const struct alloc_permission *permission,
	struct tp_flow_spec *out);

/* How a client's flow names its relay of that family (enum tp_relay_family), or that it has none.
 */
struct tp_relay_ref spec_relay(
	const struct tp_table *table, const struct allocation *allocation, unsigned int family);

/*
 * TP_FLOW_CLIENT. Without an end of its own: it only says whom the control plane listens to, and
 * goes with the last relay.
 */
void spec_of_client(const struct tp_table *table, const struct allocation *allocation,
	struct tp_flow_spec *out);

/* The note by which a successor knows the allocation again. */
void spec_to_keep(const struct allocation *allocation, struct tp_kept_allocation *out);

/* TP_FLOW_CHANNEL */
void spec_to_peer(const struct tp_table *table, const struct alloc_channel *channel,
	struct tp_flow_spec *out);

/* TP_FLOW_PEER. permission: that of the peer's address; NULL: there is none. */
void spec_to_client(const struct tp_table *table, const struct alloc_channel *channel,
	const struct alloc_permission *permission, struct tp_flow_spec *out);
