/* flows list, audit: the shared table as the data plane sees it. */
#include "command.h"

#include "base/clock.h"

#define DETAILS_MAX 100

static const char *kind_name(enum tp_flow_kind kind)
{
	switch (kind) {
	case TP_FLOW_CHANNEL:
		return "channel";
	case TP_FLOW_PEER:
		return "peer";
	case TP_FLOW_PERMISSION:
		return "permission";
	case TP_FLOW_CLIENT:
		return "client";
	case TP_FLOW_NONE:
		break;
	}
	return "none";
}

static json_t *describe_side(const struct tp_table *table, const struct tp_flow_side *side)
{
	struct tp_addr local = tp_table_local(table, side->local);

	local.port = side->local_port;
	return json_pack("{s:o, s:o, s:i}", "remote",
		side->remote.port ? command_address(&side->remote) : command_ip(&side->remote),
		"local", command_address(&local), "channel", (int)side->channel);
}

/* A client's relayed addresses. */
static json_t *describe_relays(const struct tp_table *table, const struct tp_flow_spec *flow)
{
	json_t *list = json_array();

	for (int family = 0; family < TP_RELAYS; family++) {
		const struct tp_relay_ref *relay = &flow->relays[family];
		struct tp_addr address = tp_table_local(table, relay->local);

		if (!relay->used)
			continue;
		address.port = tp_from_be16(relay->port);
		json_array_append_new(list, command_address(&address));
	}
	return list;
}

static json_t *describe(const struct tp_table *table, uint32_t slot,
	const struct tp_flow_spec *flow, uint64_t now_ns)
{
	struct tp_flow_counters counters = tp_table_counters(table, slot);
	bool client = flow->kind == TP_FLOW_CLIENT;
	json_t *out = client ? json_null() : describe_side(table, &flow->out);

	/* A client's flow has no end of its own. */
	json_t *expires =
		client ? json_null() : json_integer(command_seconds_left(flow->expires_ns, now_ns));

	return json_pack("{s:I, s:s, s:o, s:o, s:o, s:o, s:I, s:i, s:i, s:b, s:I, s:I, s:I}",
		"slot", (json_int_t)slot, "kind", kind_name(flow->kind), "in",
		describe_side(table, &flow->in), "out", out, "relays", describe_relays(table, flow),
		"expires_s", expires, "allocation", (json_int_t)flow->allocation, "next_hop",
		(int)flow->next_hop, "peer_hop", (int)flow->peer_hop, "hairpin", flow->hairpin,
		"policer", (json_int_t)flow->policer, "packets", (json_int_t)counters.packets,
		"bytes", (json_int_t)counters.bytes);
}

static json_t *run_list(const void *context, const json_t *params, struct rpc_error *error)
{
	const struct control_deps *deps = context;
	const struct tp_table *table = deps->table;
	size_t limit = command_limit(params);
	uint64_t now_ns = tp_clock_now_ns();
	json_t *list = json_array();
	struct tp_flow_spec flow;

	for (uint32_t slot = 0; slot < tp_table_slots(table); slot++) {
		if (json_array_size(list) == limit)
			break;
		if (tp_table_read(table, slot, &flow))
			json_array_append_new(list, describe(table, slot, &flow, now_ns));
	}
	return json_pack("{s:o}", "flows", list);
}

static void add_detail(void *arg, const char *text)
{
	json_t *details = arg;

	if (json_array_size(details) < DETAILS_MAX)
		json_array_append_new(details, json_string(text));
}

static json_t *run_audit(const void *context, const json_t *params, struct rpc_error *error)
{
	const struct control_deps *deps = context;
	json_t *details = json_array();
	uint32_t differences =
		flows_audit(deps->flows, turn_server_allocations(deps->turn), add_detail, details);

	return json_pack("{s:I, s:o}", "differences", (json_int_t)differences, "details", details);
}

static const struct rpc_param list_params[] = {
	{"limit", JSON_INTEGER, false, 1, COMMAND_LIST_MAX},
	{NULL},
};

const struct rpc_method command_flows_list = {"flows.list", true, list_params, run_list};
const struct rpc_method command_flows_audit = {"flows.audit", true, NULL, run_audit};
