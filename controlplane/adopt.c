/*
 * Adoption: the notes in the tables become allocations, the flows permissions and channels, by the
 * same functions that grant them to clients; publishing them again leaves the records where they
 * are. What nobody asks for goes at the end.
 */
#include "adopt.h"

#include <errno.h>

struct adoption {
	struct tp_table *table;
	struct flows *flows;
	struct turn_server *server;
	uint64_t now_ns;
};

static int adopt_allocation(
	const struct adoption *adoption, uint32_t number, const struct tp_kept_allocation *note)
{
	struct turn_kept_relay relays[ALLOC_RELAYS];
	struct alloc_restored from = {
		.id = note->id,
		.kept = number,
		.tuple = {.client = note->client,
			.server = note->server,
			.transport = note->transport},
		.owner = {.name = {note->owner[0], note->owner[1]}, .quota = note->quota},
		.time_limited = note->time_limited,
		.name = note->name,
		.name_len = note->name_len,
	};

	if (note->transport != ALLOC_UDP)
		return -EINVAL;
	for (int i = 0; i < ALLOC_RELAYS; i++)
		relays[i] = (struct turn_kept_relay){
			note->relays[i].address, note->relays[i].expires_ns};
	return turn_server_restore(adoption->server, &from, relays, adoption->now_ns);
}

static void adopt_allocations(const struct adoption *adoption, struct adopt_report *report)
{
	uint32_t end = tp_table_kept_end(adoption->table);
	struct tp_kept_allocation note;

	for (uint32_t number = 1; number < end; number++) {
		int err = tp_table_kept(adoption->table, number, &note);

		if (err == -ENOENT)
			continue;
		if (!err && flows_has_listener(adoption->flows, &note.server))
			err = adopt_allocation(adoption, number, &note);
		else
			err = -EINVAL;
		if (err)
			report->dropped_allocations++;
		else
			report->allocations++;
	}
}

static struct tp_addr local_of(const struct tp_table *table, const struct tp_flow_side *side)
{
	struct tp_addr address = tp_table_local(table, side->local);

	address.port = side->local_port;
	return address;
}

/* What the client's side and the peer's side of a flow amount to. */
static struct turn_kept_grant grant_of(const struct tp_table *table,
	const struct tp_flow_spec *flow, const struct tp_flow_side *client,
	const struct tp_flow_side *peer)
{
	return (struct turn_kept_grant){
		.allocation = flow->allocation,
		.relay = local_of(table, peer),
		.peer = peer->remote,
		.expires_ns = flow->granted_ns,
		.client = client->remote,
		.server = local_of(table, client),
		.channel = client->channel,
	};
}

static void adopt_permission(const struct adoption *adoption, const struct tp_flow_spec *flow)
{
	struct turn_kept_grant grant = grant_of(adoption->table, flow, &flow->out, &flow->in);

	if (flow->kind == TP_FLOW_PERMISSION)
		turn_server_restore_permission(adoption->server, &grant, adoption->now_ns);
}

/* Either half tells of the channel: the other one may have found no slot. */
static void adopt_channel(const struct adoption *adoption, const struct tp_flow_spec *flow)
{
	bool to_peer = flow->kind == TP_FLOW_CHANNEL;
	struct turn_kept_grant grant =
		to_peer ? grant_of(adoption->table, flow, &flow->in, &flow->out)
			: grant_of(adoption->table, flow, &flow->out, &flow->in);

	if (to_peer || flow->kind == TP_FLOW_PEER)
		turn_server_restore_channel(adoption->server, &grant, adoption->now_ns);
}

static void adopt_flows(const struct adoption *adoption,
	void (*take)(const struct adoption *adoption, const struct tp_flow_spec *flow))
{
	struct tp_flow_spec flow;

	for (uint32_t slot = 0; slot < tp_table_slots(adoption->table); slot++) {
		if (tp_table_read(adoption->table, slot, &flow))
			take(adoption, &flow);
	}
}

int adopt(struct tp_table *table, struct flows *flows, struct turn_server *server, uint64_t now_ns,
	struct adopt_report *out)
{
	const struct adoption adoption = {table, flows, server, now_ns};
	struct adopt_report report = {0};
	int dropped;

	adopt_allocations(&adoption, &report);
	adopt_flows(&adoption, adopt_permission);
	adopt_flows(&adoption, adopt_channel);
	dropped = flows_settle(flows, turn_server_allocations(server), now_ns);
	if (dropped < 0)
		return dropped;
	report.dropped_flows = (uint32_t)dropped;
	report.flows = tp_table_live(table);
	*out = report;
	return 0;
}
