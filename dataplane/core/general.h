/*
 * SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
 *
 * The whole fast path: ChannelData and indications, any family to any, from a client to its peer,
 * from a peer to its client, or, where the peer is a relay of this server, from client to client.
 * Whoever found the packet's flow leaves the rest to this: what lies around the data that came, the
 * way to the other side, and what lies around the data that leaves. All of that is data; the code
 * is there once. Every check comes before the first write.
 */
#pragma once

#include "count.h"
#include "host.h"
#include "leave.h"
#include "lookup.h"
#include "open.h"
#include "way.h"

static TP_INLINE uint64_t tp_ident_of(uint32_t ports, uint32_t local, enum tp_flow_kind kind)
{
	if (kind == TP_FLOW_PERMISSION)
		ports &= 0xffff0000;
	return ports | (uint64_t)(uint8_t)local << 48 | (uint64_t)kind << 56;
}

/*
 * Which relay of the allocation a Send leaves by, and whether it is granted. Without a permission
 * the control plane looks: a request for it may have come right before (as in lookup.h).
 */
static TP_INLINE enum tp_verdict tp_take_send(struct tp_host *host, const struct tp_config *config,
	const struct tp_flow *client, struct tp_way *way, struct tp_relay_ref *relay)
{
	bool v4 = way->peer.v4;
	const struct tp_flow *grant;

	if (v4)
		relay->word = TP_READ_ONCE(client->value.relays[TP_RELAY_V4].word);
	else
		relay->word = TP_READ_ONCE(client->value.relays[TP_RELAY_V6].word);
	if (!relay->used)
		return tp_without_flow(config);
	grant = tp_find_other(host, way->peer.ip[0], way->peer.ip[1],
		tp_ident_of((uint32_t)relay->port.be << 16, relay->local, TP_FLOW_PERMISSION))
			.flow;
	if (!grant)
		return TP_UNBOUND;
	if (tp_is_expired(host, grant))
		return TP_EXPIRED;
	way->next_hop = TP_READ_ONCE(grant->peer_hop);
	way->is_hairpin = grant->value.flags & TP_FLOW_HAIRPIN;
	/* A permission is for all of the peer's ports, and its label is the one towards the client.
	 */
	way->label = grant->label ^ way->peer.port.be * UINT32_C(0x9e3779b1) >> 12;
	return TP_RELAYED;
}

static TP_INLINE void tp_take_channel(
	const struct tp_flow *channel, struct tp_way *way, struct tp_relay_ref *relay)
{
	const struct tp_flow_value *value = &channel->value;

	way->peer.ip[0] = value->remote[0];
	way->peer.ip[1] = value->remote[1];
	way->peer.port = value->remote_port;
	way->peer.v4 = tp_is_v4(value->remote);
	way->next_hop = TP_READ_ONCE(channel->next_hop);
	way->is_hairpin = value->flags & TP_FLOW_HAIRPIN;
	way->label = channel->label;
	relay->port = value->local_port;
	relay->local = value->local;
}

/* From a client to its peer. */
static TP_INLINE enum tp_verdict tp_go_up(struct tp_host *host, const struct tp_config *config,
	struct tp_way *way, struct tp_sides *sides)
{
	struct tp_relay_ref relay = {.word = 0};
	enum tp_verdict verdict = TP_RELAYED;

	if (way->is_send)
		verdict = tp_take_send(host, config, sides->up.flow, way, &relay);
	else
		tp_take_channel(sides->up.flow, way, &relay);
	if (verdict != TP_RELAYED)
		return verdict;
	if (way->peer.port.be == 0 || tp_is_forbidden(way->peer.ip, way->peer.v4))
		return TP_FORBIDDEN;
	sides->from = tp_host_local(host, relay.local);
	way->to_v4 = way->peer.v4;
	way->ports_out = relay.port.be | (uint32_t)way->peer.port.be << 16;
	tp_wrap(way, 0, 0);
	return sides->from ? TP_RELAYED : TP_NO_NEXT_HOP;
}

/* From a peer to the client that granted it (RFC 8656, 11.3 and 12.7). */
static TP_INLINE enum tp_verdict tp_go_down(
	struct tp_host *host, struct tp_way *way, struct tp_sides *sides)
{
	const struct tp_flow *flow = sides->down.flow;
	const struct tp_flow_value *value = &flow->value;

	sides->from = tp_host_local(host, value->local);
	way->to_v4 = tp_is_v4(value->remote);
	way->ports_out = tp_get32(&value->local_port);
	way->next_hop = TP_READ_ONCE(flow->next_hop);
	way->label = flow->label;
	if (value->channel.be)
		tp_wrap(way, TP_CHANNELDATA_LEN, 0);
	else
		tp_wrap(way, tp_data_head_len(way->peer.v4), tp_padding_of(way->data_len));
	return sides->from ? TP_RELAYED : TP_NO_NEXT_HOP;
}

/*
 * Nobody may reach his own relays (controlplane/turn/peer.c): what would go back to the 5-tuple
 * that it came from is of one allocation.
 */
static TP_INLINE bool tp_is_back(const struct tp_flow *up, const struct tp_flow *down)
{
	const struct tp_flow_key *from = &up->key;
	const struct tp_flow_value *to = &down->value;

	return from->remote[1] == to->remote[1] && from->remote[0] == to->remote[0] &&
	       from->remote_port.be == to->remote_port.be &&
	       from->local_port.be == to->local_port.be && from->local == to->local;
}

/* What a datagram from relay to relay would meet at the other one. */
static TP_INLINE enum tp_verdict tp_find_at_relay(struct tp_host *host,
	const struct tp_config *config, const struct tp_way *way, struct tp_sides *sides)
{
	const uint64_t *from = sides->from->ip;
	const struct tp_ports *ports;
	uint32_t local;

	if (!tp_find_local(host, config, way->peer.ip, &local))
		return TP_NO_NEXT_HOP;
	ports = tp_host_ports(host, local);
	if (!ports || tp_port_state(ports, tp_from_be16(way->peer.port)) != TP_PORT_RELAY)
		return TP_SLOW_PORT;
	sides->down = tp_find_other(
		host, from[0], from[1], tp_ident_of(way->ports_out, local, TP_FLOW_PEER));
	if (!sides->down.flow || tp_is_expired(host, sides->down.flow))
		sides->down = tp_find_other(host, from[0], from[1],
			tp_ident_of(way->ports_out, local, TP_FLOW_PERMISSION));
	if (!sides->down.flow)
		return tp_without_flow(config);
	if (tp_is_expired(host, sides->down.flow))
		return TP_EXPIRED;
	return tp_is_back(sides->up.flow, sides->down.flow) ? TP_FORBIDDEN : TP_RELAYED;
}

/* The peer is a relay of ours: the packet goes up, and down again as from that relay's peer. */
static TP_INLINE enum tp_verdict tp_go_round(struct tp_host *host, const struct tp_config *config,
	struct tp_way *way, struct tp_sides *sides)
{
	enum tp_verdict verdict = tp_find_at_relay(host, config, way, sides);

	if (verdict != TP_RELAYED)
		return verdict;
	way->peer.ip[0] = sides->from->ip[0];
	way->peer.ip[1] = sides->from->ip[1];
	way->peer.port.be = (uint16_t)way->ports_out;
	return tp_go_down(host, way, sides);
}

static TP_INLINE enum tp_verdict tp_find_way(struct tp_host *host, const struct tp_config *config,
	struct tp_found found, bool is_up, struct tp_way *way, struct tp_sides *sides)
{
	enum tp_verdict verdict;

	if (!is_up) {
		sides->down = found;
		way->peer.ip[0] = found.flow->key.remote[0];
		way->peer.ip[1] = found.flow->key.remote[1];
		way->peer.port.be = (uint16_t)way->ports;
		way->peer.v4 = way->v4;
		return tp_go_down(host, way, sides);
	}
	sides->up = found;
	verdict = tp_go_up(host, config, way, sides);
	if (verdict == TP_RELAYED && TP_UNLIKELY(way->is_hairpin))
		verdict = tp_go_round(host, config, way, sides);
	return verdict;
}

static TP_INLINE void tp_count_way(
	struct tp_host *host, const struct tp_way *way, const struct tp_sides *sides)
{
	struct tp_worker_counters *worker = tp_host_worker(host);

	if (sides->up.flow)
		tp_count_relayed(host, sides->up.flow, sides->up.slot, TP_CLIENT_TO_PEER,
			tp_pair_of(way->v4, way->peer.v4), way->data_len);
	if (sides->down.flow)
		tp_count_relayed(host, sides->down.flow, sides->down.slot, TP_PEER_TO_CLIENT,
			tp_pair_of(way->peer.v4, way->to_v4), way->data_len);
	if (sides->up.flow && sides->down.flow && worker)
		worker->hairpins++;
	if (tp_is_output(host, way) && worker)
		worker->outputs++;
}

/*
 * The data in the packet is found (open.h); `is_up`: it is a client's. TP_RELAYED is counted; any
 * other verdict is not yet, though the packet may have been rewritten and counted as relayed:
 * way->output.
 */
static TP_INLINE enum tp_verdict tp_go(struct tp_host *host, struct tp_packet *pkt,
	const struct tp_config *config, struct tp_found found, bool is_up, struct tp_way *way)
{
	struct tp_sides sides = {TP_NOTHING_FOUND, TP_NOTHING_FOUND, NULL};
	enum tp_verdict verdict;

	verdict = tp_find_way(host, config, found, is_up, way, &sides);
	if (verdict == TP_RELAYED)
		verdict = tp_leave(host, pkt, config, way, &sides);
	if (verdict != TP_RELAYED)
		return verdict;
	tp_count_way(host, way, &sides);
	return tp_is_output(host, way) ? (enum tp_verdict)way->output : TP_RELAYED;
}

static TP_INLINE bool tp_is_from_client(enum tp_flow_kind kind)
{
	return kind == TP_FLOW_CHANNEL || kind == TP_FLOW_CLIENT;
}

/* By the kind of the flow: CHANNEL, PEER, PERMISSION, or CLIENT, whose packet is a Send. */
static TP_INLINE bool tp_open_usual(
	const struct tp_packet *pkt, enum tp_flow_kind kind, struct tp_way *way)
{
	way->is_send = kind == TP_FLOW_CLIENT;
	if (way->is_send)
		return tp_open_usual_send(pkt, way);
	if (kind == TP_FLOW_CHANNEL)
		return tp_open_usual_channeldata(pkt, way);
	way->data_len = way->payload_len;
	return true;
}

/* Of a Send as many attributes as one of media has. */
static TP_INLINE enum tp_verdict tp_read_attributes(
	struct tp_host *host, const struct tp_packet *pkt, struct tp_way *way)
{
	enum tp_verdict verdict = TP_RELAYED;

	way->send = (struct tp_send){.at = TP_STUN_LEN};
	for (int i = 0; i < TP_ATTRIBUTES_MAX && way->send.at < way->payload_len; i++) {
		verdict = tp_host_read_attribute(host, pkt, way);
		if (verdict != TP_RELAYED)
			return verdict;
	}
	return way->send.at < way->payload_len ? TP_CONTROL : TP_RELAYED;
}

/* Step by step, for what is not as nearly all packets are. */
static TP_INLINE enum tp_verdict tp_open_unusual(
	struct tp_host *host, const struct tp_packet *pkt, struct tp_way *way)
{
	enum tp_verdict verdict = TP_RELAYED;

	if (way->is_send)
		verdict = tp_read_attributes(host, pkt, way);
	if (verdict == TP_RELAYED)
		verdict = tp_host_open(host, pkt, way);
	return verdict == TP_RELAYED ? tp_host_sum_around(host, pkt, way) : verdict;
}

static TP_INLINE enum tp_verdict tp_general(
	struct tp_host *host, struct tp_packet *pkt, struct tp_way *way, struct tp_flow *flow)
{
	const struct tp_config *config = tp_host_config(host);
	enum tp_flow_kind kind = TP_READ_ONCE(flow->key.kind);
	struct tp_found found = {flow, way->slot};
	enum tp_verdict verdict;

	/* Revoked while the packet was on its way here. */
	if (!config || kind == TP_FLOW_NONE)
		return TP_NO_FLOW;
	verdict = tp_begin_way(pkt, tp_is_v4(flow->key.remote), way);
	if (verdict == TP_RELAYED && !tp_open_usual(pkt, kind, way))
		verdict = tp_open_unusual(host, pkt, way);
	if (verdict != TP_RELAYED)
		return verdict;
	return tp_go(host, pkt, config, found, tp_is_from_client(kind), way);
}

#ifndef __bpf__
/* Here calling is all there is to it. */
static TP_INLINE enum tp_verdict tp_host_read_attribute(
	struct tp_host *host, const struct tp_packet *pkt, struct tp_way *way)
{
	return tp_read_attribute(pkt, way);
}

static TP_INLINE enum tp_verdict tp_host_open(
	struct tp_host *host, const struct tp_packet *pkt, struct tp_way *way)
{
	return tp_open(pkt, way);
}

static TP_INLINE enum tp_verdict tp_host_sum_around(
	struct tp_host *host, const struct tp_packet *pkt, struct tp_way *way)
{
	return tp_sum_around(pkt, way);
}

static TP_INLINE enum tp_verdict tp_host_check_fingerprint(struct tp_host *host,
	const struct tp_packet *pkt, uint32_t message_at, uint32_t message_len)
{
	return tp_check_fingerprint(pkt, message_at, message_len);
}

static TP_INLINE enum tp_verdict tp_host_general(
	struct tp_host *host, struct tp_packet *pkt, struct tp_way *way, struct tp_flow *flow)
{
	return tp_general(host, pkt, way, flow);
}
#endif
