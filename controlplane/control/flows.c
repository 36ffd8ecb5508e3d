/* flows list, audit: the shared table as the data plane sees it. */
#include "command.h"

#include "base/clock.h"

#include <errno.h>
#include <stdlib.h>

#define DETAILS_MAX   100
#define SLOTS_AT_ONCE 64

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

struct listing {
	const struct tp_table *table;
	struct command_list list;
	uint32_t slot;
};

static void *begin_list(const void *context, const json_t *params, struct rpc_error *error)
{
	const struct control_deps *deps = context;
	struct listing *l = calloc(1, sizeof(*l));

	if (l)
		*l = (struct listing){deps->table, command_list("flows", params), 0};
	return l;
}

/* Most slots are empty, which is told faster than the time. */
static bool list_slots(struct listing *l, const struct rpc_sink *out)
{
	uint32_t slots = tp_table_slots(l->table);
	struct tp_flow_spec flow;

	for (int i = 0; i < SLOTS_AT_ONCE && l->slot < slots; i++, l->slot++) {
		if (!tp_table_read(l->table, l->slot, &flow))
			continue;
		if (l->list.count == l->list.limit)
			return true;
		if (!command_list_add(
			    &l->list, describe(l->table, l->slot, &flow, tp_clock_now_ns()), out))
			return false;
	}
	return true;
}

static enum rpc_progress go_on_with_list(void *walk, uint64_t until_ns, const struct rpc_sink *out)
{
	struct listing *l = walk;

	do {
		if (l->slot == tp_table_slots(l->table) || l->list.count == l->list.limit)
			return command_list_end(&l->list, out);
		if (!list_slots(l, out))
			return RPC_FAILED;
	} while (tp_clock_now_ns() < until_ns);
	return RPC_MORE;
}

static void add_detail(void *arg, const char *text)
{
	json_t *details = arg;

	if (json_array_size(details) < DETAILS_MAX)
		json_array_append_new(details, json_string(text));
}

struct auditing {
	const struct control_deps *deps;
	struct flows_audit *audit; /* NULL: another one is under way */
	struct alloc_walk walk;
	json_t *details;
};

static void *begin_audit(const void *context, const json_t *params, struct rpc_error *error)
{
	struct auditing *a = calloc(1, sizeof(*a));

	if (a)
		*a = (struct auditing){.deps = context, .details = json_array()};
	return a;
}

static int make_audit(struct auditing *a)
{
	int err = flows_audit_begin(a->deps->flows, add_detail, a->details, &a->audit);

	if (!err)
		turn_server_walk(a->deps->turn, &a->walk);
	return err;
}

static uint32_t finish_audit(struct auditing *a)
{
	uint32_t differences = flows_audit_end(a->audit);

	alloc_walk_end(&a->walk);
	a->audit = NULL;
	return differences;
}

static enum rpc_progress tell_audit(struct auditing *a, const struct rpc_sink *out)
{
	json_int_t differences = finish_audit(a);
	json_t *doc = json_pack("{s:I, s:O}", "differences", differences, "details", a->details);
	int err = doc ? json_dump_callback(doc, out->put, out->arg, JSON_COMPACT) : -1;

	json_decref(doc);
	return err ? RPC_FAILED : RPC_DONE;
}

/* What there are is expected first, all of it; then everything is looked at. */
static bool audit_more(struct auditing *a)
{
	const struct allocation *allocation = alloc_walk_next(&a->walk);

	if (!allocation)
		return flows_audit_look(a->audit);
	flows_audit_expect(a->audit, allocation);
	return true;
}

static enum rpc_progress go_on_with_audit(void *walk, uint64_t until_ns, const struct rpc_sink *out)
{
	struct auditing *a = walk;
	int err = a->audit ? 0 : make_audit(a);

	if (err)
		return err == -EBUSY ? RPC_MORE : RPC_FAILED;
	do {
		if (!audit_more(a))
			return tell_audit(a, out);
	} while (tp_clock_now_ns() < until_ns);
	return RPC_MORE;
}

static void end_audit(void *walk)
{
	struct auditing *a = walk;

	if (a->audit)
		finish_audit(a);
	json_decref(a->details);
	free(a);
}

static const struct rpc_param list_params[] = {
	{"limit", JSON_INTEGER, false, 1, COMMAND_LIST_MAX},
	{NULL},
};

static const struct rpc_walk list_walk = {begin_list, go_on_with_list, free};
static const struct rpc_walk audit_walk = {begin_audit, go_on_with_audit, end_audit};

const struct rpc_method command_flows_list = {"flows.list", true, list_params, .walk = &list_walk};
const struct rpc_method command_flows_audit = {"flows.audit", true, .walk = &audit_walk};
