/* status, stats: the server as a whole. */
#include "command.h"

#include "base/clock.h"

#include <stdio.h>

static size_t engine_interfaces(
	const struct control_deps *deps, struct tp_engine_interface out[TP_INTERFACES_MAX])
{
	if (!deps->engine_ops->interfaces)
		return 0;
	return deps->engine_ops->interfaces(deps->engine, out);
}

static json_t *describe_interfaces(const struct control_deps *deps)
{
	struct tp_engine_interface interfaces[TP_INTERFACES_MAX];
	size_t count = engine_interfaces(deps, interfaces);
	json_t *list = json_array();

	for (size_t i = 0; i < count; i++)
		json_array_append_new(
			list, json_pack("{s:s, s:s, s:b}", "name", interfaces[i].name, "mode",
				      interfaces[i].mode, "attached", interfaces[i].attached));
	return list;
}

static json_t *describe_warnings(const struct control_deps *deps)
{
	json_t *list = json_array();

	for (const struct config_warning *w = deps->config->warnings; w; w = w->next)
		json_array_append_new(list, json_string(w->text));
	return list;
}

static json_t *describe_relay_sockets(const struct udp_transport *transport)
{
	return json_pack("{s:s, s:s}", "kind", udp_transport_relays_kind(transport), "reason",
		udp_transport_relays_reason(transport));
}

static json_t *run_status(const void *context, const json_t *params, struct rpc_error *error)
{
	const struct control_deps *deps = context;
	const struct tp_shape *shape = &tp_table_memory(deps->table)->shape;
	uint64_t uptime_ns = tp_clock_now_ns() - deps->started_ns;

	return json_pack("{s:s, s:I, s:s, s:s, s:o, s:i, s:s, s:o, s:b, s:I, s:I, s:I, s:I, s:o}",
		"version", deps->version, "uptime_s", (json_int_t)(uptime_ns / TP_NS_PER_S),
		"engine", deps->engine_ops->name, "engine_reason", deps->engine_reason,
		"interfaces", describe_interfaces(deps), "workers", (int)shape->workers, "memory",
		tp_table_memory(deps->table)->kind, "relay_sockets",
		describe_relay_sockets(deps->transport), "draining",
		turn_server_is_draining(deps->turn), "allocations",
		(json_int_t)turn_server_count(deps->turn), "allocations_limit",
		(json_int_t)deps->config->turn.allocations_max, "flows",
		(json_int_t)tp_table_live(deps->table), "flows_limit", (json_int_t)shape->capacity,
		"warnings", describe_warnings(deps));
}

/*
 * Relayed packets are counted by direction only, through a hairpin in both; those that the kernel's
 * IP output sent have a verdict of their own (core/flow.h).
 */
static json_t *describe_verdicts(const struct tp_worker_counters *c)
{
	static const char *const names[] = {
#define X(name, text, fate, meaning) [TP_##name] = (text),
		TP_VERDICTS(X)
#undef X
	};
	uint64_t relayed = tp_worker_direction(c, TP_CLIENT_TO_PEER).packets +
			   tp_worker_direction(c, TP_PEER_TO_CLIENT).packets - c->hairpins -
			   c->outputs;
	json_t *verdicts = json_object();

	for (size_t i = 0; i < TP_VERDICT_COUNT; i++) {
		uint64_t packets = c->verdicts[i] + (i == TP_RELAYED ? relayed : 0);

		json_object_set_new(verdicts, names[i], json_integer((json_int_t)packets));
	}
	return verdicts;
}

static json_t *describe_direction(const struct tp_worker_counters *c, enum tp_direction direction)
{
	static const char *const names[TP_PAIRS] = {
		[TP_V4_TO_V4] = "v4_to_v4",
		[TP_V6_TO_V6] = "v6_to_v6",
		[TP_V4_TO_V6] = "v4_to_v6",
		[TP_V6_TO_V4] = "v6_to_v4",
	};
	struct tp_flow_counters sum = tp_worker_direction(c, direction);
	json_t *all = command_traffic(sum.packets, sum.bytes), *pairs = json_object();

	for (int i = 0; i < TP_PAIRS; i++) {
		const struct tp_flow_counters *pair = &c->relayed[direction][i];

		json_object_set_new(pairs, names[i], command_traffic(pair->packets, pair->bytes));
	}
	json_object_set_new(all, "pairs", pairs);
	return all;
}

static json_t *describe_directions(const struct tp_worker_counters *c)
{
	return json_pack("{s:o, s:o}", "client_to_peer", describe_direction(c, TP_CLIENT_TO_PEER),
		"peer_to_client", describe_direction(c, TP_PEER_TO_CLIENT));
}

/* How a polling worker spends its core: of the last second or two. */
static void describe_polling(
	json_t *worker, const struct tp_worker_counters *c, const struct control_time *before)
{
	uint64_t up_ns = c->up_ns - before->up_ns;
	double busy = up_ns ? (double)(c->busy_ns - before->busy_ns) / (double)up_ns : 0;

	json_object_set_new(worker, "bursts", json_integer((json_int_t)c->bursts));
	json_object_set_new(worker, "polls", json_integer((json_int_t)c->polls));
	json_object_set_new(worker, "busy_ratio", json_real(busy < 1 ? busy : 1));
}

static json_t *describe_workers(const struct control_deps *deps)
{
	const struct tp_memory *memory = tp_table_memory(deps->table);
	const struct tp_worker_counters *workers = memory->regions[TP_REGION_WORKERS];
	json_t *list = json_array();

	for (uint32_t i = 0; i < memory->shape.workers; i++) {
		/* its worker goes on counting: one look at it, so that sums agree */
		struct tp_worker_counters c = workers[i];
		json_t *worker = json_pack("{s:i, s:o, s:o, s:I, s:I}", "worker", (int)i,
			"verdicts", describe_verdicts(&c), "directions", describe_directions(&c),
			"hairpins", (json_int_t)c.hairpins, "outputs", (json_int_t)c.outputs);

		if (deps->engine_ops->alive)
			describe_polling(worker, &c, &deps->load->before[i]);
		json_array_append_new(list, worker);
	}
	return list;
}

static void add_request(void *arg, const char *method, int code, uint64_t count)
{
	json_t *requests = arg, *codes = json_object_get(requests, method);
	char name[16];

	if (!codes) {
		codes = json_object();
		json_object_set_new(requests, method, codes);
	}
	if (code > 0)
		snprintf(name, sizeof(name), "%d", code);
	else
		snprintf(name, sizeof(name), "%s", code == STUN_OK ? "success" : "silent");
	json_object_set_new(codes, name, json_integer((json_int_t)count));
}

static json_t *describe_requests(const struct turn_server *turn)
{
	json_t *requests = json_object();

	turn_server_visit_requests(turn, add_request, requests);
	return requests;
}

static json_t *describe_slow_path(const struct udp_transport *transport)
{
	struct alloc_traffic out = udp_transport_traffic(transport, TP_CLIENT_TO_PEER);
	struct alloc_traffic in = udp_transport_traffic(transport, TP_PEER_TO_CLIENT);

	json_t *doc = command_traffic(out.packets + in.packets, out.bytes + in.bytes);
	uint64_t overflowed;

	json_object_set_new(
		doc, "policed", json_integer((json_int_t)udp_transport_policed(transport)));
	json_object_set_new(
		doc, "joined", json_integer((json_int_t)udp_transport_joined(transport)));
	if (udp_transport_overflowed(transport, &overflowed))
		json_object_set_new(doc, "overflowed", json_integer((json_int_t)overflowed));
	return doc;
}

static json_t *run_stats(const void *context, const json_t *params, struct rpc_error *error)
{
	const struct control_deps *deps = context;
	struct tp_worker_counters totals = tp_table_totals(deps->table);

	return json_pack("{s:o, s:o, s:I, s:I, s:o, s:I, s:o, s:o}", "verdicts",
		describe_verdicts(&totals), "directions", describe_directions(&totals), "hairpins",
		(json_int_t)totals.hairpins, "outputs", (json_int_t)totals.outputs, "slow_path",
		describe_slow_path(deps->transport), "send_failures",
		(json_int_t)udp_transport_failed(deps->transport), "workers",
		describe_workers(deps), "requests", describe_requests(deps->turn));
}

const struct rpc_method command_status = {"status", true, NULL, run_status};
const struct rpc_method command_stats = {"stats", true, NULL, run_stats};
