/* Allocations as flow specifications. Pure. */
#include "spec.h"

_Static_assert((int)ALLOC_RELAY_V4 == TP_RELAY_V4 && (int)ALLOC_RELAY_V6 == TP_RELAY_V6 &&
		       (int)ALLOC_RELAYS == TP_RELAYS,
	"one order of the families");

/*
 * Nothing outlives its relay, although clients may refresh channels and permissions to later than
 * that: the data plane has to stop at it without being told.
 */
static uint64_t until(const struct alloc_relay *relay, uint64_t expires_ns)
{
	return expires_ns < relay->expires_ns ? expires_ns : relay->expires_ns;
}

static struct tp_flow_side side(const struct tp_table *table, const struct tp_addr *remote,
	const struct tp_addr *local, uint16_t channel)
{
	struct tp_flow_side out = {
		.remote = *remote,
		.local_port = local->port,
		.channel = channel,
	};

	/* flows_own_listener() and flows_open_relay() have seen to it that there is one. */
	tp_table_find_local(table, local, &out.local);
	return out;
}

void spec_of_permission(const struct tp_table *table, const struct alloc_permission *permission,
	struct tp_flow_spec *out)
{
	const struct alloc_relay *relay = permission->relay;
	const struct alloc_tuple *tuple = &relay->allocation->tuple;

	*out = (struct tp_flow_spec){
		.kind = TP_FLOW_PERMISSION,
		.in = side(table, &permission->peer, &relay->address, 0),
		.out = side(table, &tuple->client, &tuple->server, 0),
		.hairpin = alloc_is_hairpin(relay, &permission->peer),
		.expires_ns = until(relay, permission->expires_ns),
		.granted_ns = permission->expires_ns,
		.allocation = relay->allocation->id,
	};
	out->in.remote.port = 0;
}

struct tp_relay_ref spec_relay(
	const struct tp_table *table, const struct allocation *allocation, unsigned int family)
{
	const struct alloc_relay *relay = allocation->relays[family];
	struct tp_relay_ref out = {.word = 0};

	if (!relay || tp_table_find_local(table, &relay->address, &out.local) < 0)
		return (struct tp_relay_ref){.word = 0};
	out.port = tp_to_be16(relay->address.port);
	out.used = 1;
	return out;
}

void spec_of_client(
	const struct tp_table *table, const struct allocation *allocation, struct tp_flow_spec *out)
{
	*out = (struct tp_flow_spec){
		.kind = TP_FLOW_CLIENT,
		.in = side(table, &allocation->tuple.client, &allocation->tuple.server, 0),
		.expires_ns = (uint64_t)UINT32_MAX << TP_TICK_SHIFT,
		.allocation = allocation->id,
	};
	for (unsigned int family = 0; family < TP_RELAYS; family++)
		out->relays[family] = spec_relay(table, allocation, family);
}

void spec_to_keep(const struct allocation *allocation, struct tp_kept_allocation *out)
{
	const struct auth_identity *identity = allocation->identity;
	size_t len = identity->username_len;

	*out = (struct tp_kept_allocation){
		.id = allocation->id,
		.transport = allocation->tuple.transport,
		.client = allocation->tuple.client,
		.server = allocation->tuple.server,
		.owner = {allocation->owner.name[0], allocation->owner.name[1]},
		.quota = allocation->owner.quota,
		.time_limited = identity->time_limited,
		.name_len = len < TP_KEPT_NAME ? len : TP_KEPT_NAME,
	};
	memcpy(out->name, identity->username, out->name_len);
	for (int family = 0; family < ALLOC_RELAYS; family++) {
		const struct alloc_relay *relay = allocation->relays[family];

		if (!relay)
			continue;
		out->relays[family].address = relay->address;
		out->relays[family].expires_ns = relay->expires_ns;
	}
}

static struct tp_flow_side client_side(
	const struct tp_table *table, const struct alloc_channel *channel)
{
	const struct alloc_tuple *tuple = &channel->relay->allocation->tuple;

	return side(table, &tuple->client, &tuple->server, channel->number);
}

static struct tp_flow_side peer_side(
	const struct tp_table *table, const struct alloc_channel *channel)
{
	return side(table, &channel->peer, &channel->relay->address, 0);
}

void spec_to_peer(
	const struct tp_table *table, const struct alloc_channel *channel, struct tp_flow_spec *out)
{
	*out = (struct tp_flow_spec){
		.kind = TP_FLOW_CHANNEL,
		.in = client_side(table, channel),
		.out = peer_side(table, channel),
		.hairpin = alloc_is_hairpin(channel->relay, &channel->peer),
		.expires_ns = until(channel->relay, channel->expires_ns),
		.granted_ns = channel->expires_ns,
		.allocation = channel->relay->allocation->id,
	};
}

void spec_to_client(const struct tp_table *table, const struct alloc_channel *channel,
	const struct alloc_permission *permission, struct tp_flow_spec *out)
{
	/* Long past: without a permission nothing of the peer is relayed (RFC 8656, 12.7). */
	uint64_t permitted_ns = permission ? permission->expires_ns : 0;
	uint64_t bound_ns = until(channel->relay, channel->expires_ns);

	*out = (struct tp_flow_spec){
		.kind = TP_FLOW_PEER,
		.in = peer_side(table, channel),
		.out = client_side(table, channel),
		.expires_ns = permitted_ns < bound_ns ? permitted_ns : bound_ns,
		.granted_ns = channel->expires_ns,
		.allocation = channel->relay->allocation->id,
	};
}
