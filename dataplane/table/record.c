/*
 * Between the writer's description of a flow and the record readers match. No state of its own.
 * Control plane's thread; does not block.
 */
#include "private.h"

#include "dataplane/core/address.h"
#include "dataplane/core/checksum.h"

#include <errno.h>

static const uint8_t mapped_prefix[12] = {[10] = 0xff, [11] = 0xff};

static bool is_mapped(const void *ip)
{
	return memcmp(ip, mapped_prefix, sizeof(mapped_prefix)) == 0;
}

static bool side_is_valid(const struct tp_table *table, const struct tp_flow_side *side)
{
	const struct tp_addr *remote = &side->remote;

	/* A v4-mapped IPv6 address would match packets of the IPv4 host (threat P03). */
	return (remote->family == TP_IPV4 || remote->family == TP_IPV6) &&
	       is_mapped(remote->ip) == (remote->family == TP_IPV4) &&
	       side->local < tp_table_locals(table);
}

static bool relays_are_valid(const struct tp_table *table, const struct tp_flow_spec *spec)
{
	for (int family = 0; family < TP_RELAYS; family++) {
		const struct tp_relay_ref *relay = &spec->relays[family];

		if (!relay->used && relay->word != 0)
			return false;
		if (relay->used && (relay->local >= tp_table_locals(table) ||
					   is_mapped(table->locals[relay->local].ip) !=
						   (family == TP_RELAY_V4)))
			return false;
	}
	return true;
}

static bool numbers_are_valid(const struct tp_table *table, const struct tp_flow_spec *spec)
{
	return spec->next_hop < TP_NEXT_HOPS_MAX && spec->peer_hop < TP_NEXT_HOPS_MAX &&
	       spec->policer < table->memory.shape.regions[TP_REGION_POLICERS].count;
}

static bool spec_is_valid(const struct tp_table *table, const struct tp_flow_spec *spec)
{
	if (!numbers_are_valid(table, spec) || !side_is_valid(table, &spec->in))
		return false;
	switch (spec->kind) {
	case TP_FLOW_CHANNEL:
		return side_is_valid(table, &spec->out) && spec->peer_hop == 0;
	case TP_FLOW_PEER:
		return side_is_valid(table, &spec->out) && spec->peer_hop == 0 && !spec->hairpin;
	case TP_FLOW_PERMISSION:
		return side_is_valid(table, &spec->out) && spec->in.remote.port == 0 &&
		       spec->in.channel == 0 && spec->out.channel == 0;
	case TP_FLOW_CLIENT:
		return relays_are_valid(table, spec) && spec->in.channel == 0 &&
		       spec->next_hop == 0 && spec->peer_hop == 0 && !spec->hairpin;
	case TP_FLOW_NONE:
		break;
	}
	return false;
}

/* Never 0: RFC 6437 reads that as "not labelled". */
static uint32_t label_of(const struct tp_table *table, const struct tp_flow_value *out)
{
	struct {
		struct tp_local local;
		uint64_t remote[2];
		tp_be16 local_port, remote_port;
		uint32_t zero;
	} tuple = {
		.local = table->locals[out->local],
		.remote = {out->remote[0], out->remote[1]},
		.local_port = out->local_port,
		.remote_port = out->remote_port,
	};
	uint32_t label = (uint32_t)tp_siphash(&table->label_key, &tuple, sizeof(tuple)) & 0xfffff;

	return label ? label : 1;
}

/* What every packet of the flow would otherwise compute again. */
static void set_constants(const struct tp_table *table, struct tp_flow *record)
{
	const struct tp_local *in = &table->locals[record->key.local];
	const struct tp_local *out = &table->locals[record->value.local];
	bool v4 = is_mapped(record->value.remote);

	record->label = label_of(table, &record->value);
	if (v4)
		record->ip_sum_delta = 0;
	/* Of one peer's ports each has sums of its own. */
	if (record->key.kind == TP_FLOW_PERMISSION)
		return;
	record->sum_delta = tp_flow_sum_delta(&record->key, &record->value, in, out);
	if (v4)
		record->ip_sum_delta = tp_flow_ip_sum_delta(&record->key, &record->value, in, out);
}

static void set_rewrite(
	const struct tp_table *table, const struct tp_flow_side *out, struct tp_flow *record)
{
	memcpy(record->value.remote, out->remote.ip, sizeof(record->value.remote));
	record->value.remote_port = tp_to_be16(out->remote.port);
	record->value.local_port = tp_to_be16(out->local_port);
	record->value.channel = tp_to_be16(out->channel);
	record->value.local = out->local;
	set_constants(table, record);
}

static bool is_own(const struct tp_table *table, const uint64_t ip[2])
{
	for (uint32_t i = 0; i < tp_table_locals(table); i++) {
		if (memcmp(table->locals[i].ip, ip, sizeof(table->locals[i].ip)) == 0)
			return true;
	}
	return false;
}

/* TP_FLOW_PLAIN: what would have to be asked per packet is asked once. */
static bool is_plain(const struct tp_table *table, const struct tp_record *record)
{
	const struct tp_flow_key *key = &record->flow.key;
	const struct tp_flow_value *value = &record->flow.value;
	bool v4 = is_mapped(key->remote);

	return (key->kind == TP_FLOW_CHANNEL || key->kind == TP_FLOW_PEER) && !value->flags &&
	       !record->detail.policer && v4 == is_mapped(table->locals[key->local].ip) &&
	       v4 == is_mapped(value->remote) && v4 == is_mapped(table->locals[value->local].ip) &&
	       key->remote_port.be != 0 && !tp_is_martian(key->remote, v4) &&
	       !is_own(table, key->remote) && !tp_is_forbidden(value->remote, v4);
}

static void set_key(const struct tp_flow_spec *spec, struct tp_flow_key *key)
{
	memcpy(key->remote, spec->in.remote.ip, sizeof(key->remote));
	key->remote_port = tp_to_be16(spec->in.remote.port);
	key->local_port = tp_to_be16(spec->in.local_port);
	key->channel = tp_to_be16(spec->in.channel);
	key->local = spec->in.local;
	key->kind = (uint8_t)spec->kind;
}

int tp_record_encode(
	const struct tp_table *table, const struct tp_flow_spec *spec, struct tp_record *out)
{
	struct tp_record record = {
		.flow.expires = tp_ticks_until(spec->expires_ns),
		.flow.next_hop = spec->next_hop,
		.flow.value.flags = spec->hairpin ? TP_FLOW_HAIRPIN : 0,
		.detail.granted = tp_ticks_until(spec->granted_ns),
		.detail.allocation = spec->allocation,
		.detail.policer = spec->policer,
	};

	if (!spec_is_valid(table, spec))
		return -EINVAL;
	set_key(spec, &record.flow.key);
	if (spec->kind == TP_FLOW_CLIENT)
		memcpy(record.flow.value.relays, spec->relays, sizeof(record.flow.value.relays));
	else
		set_rewrite(table, &spec->out, &record.flow);
	if (spec->kind == TP_FLOW_PERMISSION)
		record.flow.peer_hop = spec->peer_hop;
	if (is_plain(table, &record))
		record.flow.value.flags = TP_FLOW_PLAIN;
	*out = record;
	return 0;
}

struct tp_record tp_record_at(const struct tp_table *table, uint32_t slot)
{
	return (struct tp_record){table->flows[slot], table->details[slot]};
}

static struct tp_addr address_of(const uint64_t ip[2], tp_be16 port)
{
	struct tp_addr a = {.port = tp_from_be16(port)};

	memcpy(a.ip, ip, sizeof(a.ip));
	a.family = is_mapped(a.ip) ? TP_IPV4 : TP_IPV6;
	return a;
}

void tp_record_decode(const struct tp_record *record, struct tp_flow_spec *out)
{
	const struct tp_flow *flow = &record->flow;
	const struct tp_flow_key *key = &flow->key;
	const struct tp_flow_value *value = &flow->value;

	*out = (struct tp_flow_spec){
		.kind = key->kind,
		.in = {.remote = address_of(key->remote, key->remote_port),
			.local_port = tp_from_be16(key->local_port),
			.channel = tp_from_be16(key->channel),
			.local = key->local},
		.expires_ns = (uint64_t)flow->expires << TP_TICK_SHIFT,
		.granted_ns = (uint64_t)record->detail.granted << TP_TICK_SHIFT,
		.allocation = record->detail.allocation,
		.next_hop = flow->next_hop,
		.peer_hop = key->kind == TP_FLOW_PERMISSION ? flow->peer_hop : 0,
		.policer = record->detail.policer,
		.hairpin = value->flags & TP_FLOW_HAIRPIN,
	};
	if (key->kind == TP_FLOW_CLIENT) {
		memcpy(out->relays, value->relays, sizeof(out->relays));
		return;
	}
	out->out = (struct tp_flow_side){
		.remote = address_of(value->remote, value->remote_port),
		.local_port = tp_from_be16(value->local_port),
		.channel = tp_from_be16(value->channel),
		.local = value->local,
	};
}
