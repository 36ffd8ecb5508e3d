/*
 * SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
 *
 * What common.h does, of IPv4, for a polling worker: the same questions in the same order, with as
 * little work as a packet of a burst can do with. What packets of a burst nearly always share,
 * their local address and their next hop, is looked up once; the headers move as one piece, and
 * only what changes in them is written. Whatever is odd is left, untouched, to common.h and
 * relay.h. Include host_native.h before.
 */
#pragma once

#include "relay.h"

/* Locals that are always set before they are read, where clearing them first would cost. */
#define TP_UNSET __attribute__((uninitialized))

/* A local IPv4 address: that of the packet before. */
struct tp_here {
	uint64_t ip; /* v4-mapped; 0: there was none yet */
	const struct tp_ports *ports;
	uint64_t channel, peer; /* the address and a kind of flow, in a key's last word */
};

/* A next hop without a tag, on an interface of ours: that of the packet before. */
struct tp_exit {
	uint8_t link[16]; /* addresses and type; two more bytes, so that it is one word */
	uint32_t index;   /* UINT32_MAX: there was none yet */
	uint32_t mtu;
	uint32_t egress;
	uint32_t interface;
};

/* What the packets of a burst share. */
struct tp_shared {
	struct tp_here here;
	struct tp_exit exit;
	uint64_t relayed[TP_DIRECTIONS]; /* packets above, bytes below; counted at the end */
};

#define TP_SHARED_PACKET (UINT64_C(1) << 32)

static TP_INLINE void tp_shared_open(struct tp_host *host, struct tp_shared *shared)
{
	shared->here = (struct tp_here){.ports = tp_host_ports(host, 0)};
	shared->exit.index = UINT32_MAX;
	__builtin_memset(shared->relayed, 0, sizeof(shared->relayed));
}

static TP_INLINE void tp_shared_count(struct tp_host *host, const struct tp_shared *shared)
{
	struct tp_worker_counters *worker = tp_host_worker(host);

	for (int i = 0; worker && i < TP_DIRECTIONS; i++) {
		worker->relayed[i][TP_V4_TO_V4].packets += shared->relayed[i] / TP_SHARED_PACKET;
		worker->relayed[i][TP_V4_TO_V4].bytes += shared->relayed[i] % TP_SHARED_PACKET;
	}
}

static TP_OUT_OF_LINE bool tp_plain_arrive(
	struct tp_host *host, const struct tp_config *config, uint64_t mapped, struct tp_here *here)
{
	const uint64_t ip[2] = {0, mapped};
	uint32_t local;

	here->ip = 0;
	if (!tp_find_local(host, config, ip, &local))
		return false;
	here->ports = tp_host_ports(host, local);
	here->channel = (uint64_t)local << 48 | (uint64_t)TP_FLOW_CHANNEL << 56;
	here->peer = (uint64_t)local << 48 | (uint64_t)TP_FLOW_PEER << 56;
	here->ip = here->ports ? mapped : 0;
	return here->ports != NULL;
}

/* As tp_begin_common(); the flow's key of an IPv4 packet. */
static TP_INLINE bool tp_plain_begin(struct tp_host *host, const struct tp_packet *pkt,
	const struct tp_config *config, struct tp_here *here, struct tp_asked *out)
{
	struct tp_headers in TP_UNSET;
	uint32_t header, data_len;
	uint8_t state;

	if (!tp_parse_common(pkt, &in, true))
		return false;
	if (TP_UNLIKELY(in.destination[1] != here->ip) &&
		!tp_plain_arrive(host, config, in.destination[1], here))
		return false;
	data_len = (uint32_t)in.room - TP_UDP_LEN;
	state = tp_port_state(here->ports, tp_destination_port(&in));
	out->key.remote[0] = 0;
	out->key.remote[1] = in.source[1];
	if (TP_LIKELY(state == TP_PORT_LISTENER)) {
		header = tp_get32(in.udp + TP_UDP_LEN);
		data_len -= TP_CHANNELDATA_LEN;
		out->key.ident = here->channel | (uint64_t)(uint16_t)header << 32 | in.ports;
		out->channel_in = true;
		out->data_len = (uint16_t)data_len;
		return (header & 0xc0) == 0x40 && header >> 16 == tp_to_be16((uint16_t)data_len).be;
	}
	out->key.ident = here->peer | in.ports;
	out->channel_in = false;
	out->data_len = (uint16_t)data_len;
	return state == TP_PORT_RELAY;
}

/* Whichever port a packet of the burst came by: the interface is where it is said to be. */
static TP_OUT_OF_LINE bool tp_plain_leave(
	struct tp_host *host, uint32_t index, struct tp_exit *exit)
{
	struct tp_next_hop hop;
	struct tp_link link;

	exit->index = UINT32_MAX;
	if (!tp_read_next_hop(host, index, &hop) || hop.vlan.be ||
		!tp_host_is_interface(host, &hop))
		return false;
	link = tp_link_of(&hop);
	__builtin_memset(exit->link, 0, sizeof(exit->link));
	tp_write_link(exit->link, &link, TP_ETHERTYPE_IPV4);
	exit->index = index;
	exit->mtu = hop.mtu;
	exit->egress = hop.ifindex;
	exit->interface = hop.interface;
	return true;
}

static TP_INLINE void tp_put16(void *to, uint16_t word)
{
	__builtin_memcpy(to, &word, sizeof(word));
}

/* Sixteen bytes at any address, in the order of the wire. */
typedef uint64_t __attribute__((vector_size(16), aligned(2), may_alias)) tp_any128;

/* What of the headers has to be known after they are overwritten. */
struct tp_moved {
	tp_any128 ip;                       /* up to the destination, as it came but for its id */
	uint16_t ip_checksum, udp_checksum; /* as they leave */
	uint8_t ttl;                        /* as it came */
};

/* Another identification; what that adds to the header's sum. As tp_make_ipv4(). */
static TP_INLINE uint32_t tp_plain_identify(const struct tp_flow *flow, tp_any128 *ip)
{
	uint16_t id = (uint16_t)((*ip)[0] >> 32), other = id ^ flow->id_mix;

	(*ip)[0] ^= (uint64_t)flow->id_mix << 32;
	return other + tp_sum_minus(id);
}

static TP_INLINE void tp_plain_take(
	const struct tp_headers *in, const struct tp_rewrite *out, struct tp_moved *moved)
{
	const struct tp_ipv4 *ip = (const void *)in->ip;
	uint32_t sum = out->flow->ip_sum_delta;

	moved->ip = *(const tp_any128 *)ip;
	moved->ttl = ip->ttl;
	if (TP_LIKELY(ip->fragment.be & tp_to_be16(0x4000).be))
		sum += 0xffff; /* an id and its complement */
	else
		sum += tp_plain_identify(out->flow, &moved->ip);
	moved->ip_checksum = tp_checksum_add(ip->checksum.be, sum);
	moved->udp_checksum = tp_udp_checksum_out(in, out);
}

static TP_INLINE void tp_plain_write(uint8_t *at, const struct tp_exit *exit,
	const struct tp_rewrite *out, const struct tp_moved *moved, const struct tp_local *local)
{
	const struct tp_flow_value *value = &out->flow->value;
	uint8_t *ip = at + TP_ETHERNET_LEN, *udp = ip + TP_IPV4_LEN;

	*(tp_any128 *)at = *(const tp_any128 *)exit->link;
	*(tp_any128 *)ip = moved->ip;
	tp_put16(ip + 2, tp_to_be16((uint16_t)tp_ip_len_out(out, true)).be);
	ip[8] = (uint8_t)(moved->ttl - 1);
	tp_put16(ip + 10, moved->ip_checksum);
	tp_put32(ip + 12, (uint32_t)(local->ip[1] >> 32));
	tp_put32(ip + 16, (uint32_t)(value->remote[1] >> 32));
	tp_put32(udp, tp_get32(&value->local_port));
	tp_put16(udp + 4, tp_to_be16(tp_udp_len_out(out)).be);
	tp_put16(udp + 6, moved->udp_checksum);
	if (out->channel_out)
		tp_put32(udp + TP_UDP_LEN,
			value->channel.be | (uint32_t)tp_to_be16(out->data_len).be << 16);
}

/* As tp_end_common_way(), and like it compiled once for each way. */
static TP_INLINE bool tp_plain_end(struct tp_host *host, struct tp_packet *pkt, bool from_client,
	uint16_t data_len, struct tp_shared *shared, struct tp_flow *flow)
{
	const struct tp_rewrite out = {.flow = flow,
		.direction = from_client ? TP_CLIENT_TO_PEER : TP_PEER_TO_CLIENT,
		.data_len = data_len,
		.channel_in = from_client,
		.channel_out = !from_client};
	uint32_t hop = TP_READ_ONCE(flow->next_hop), local = flow->value.local;
	struct tp_exit *exit = &shared->exit;
	struct tp_headers in TP_UNSET;
	struct tp_moved moved TP_UNSET;

	tp_place_headers(pkt, true, &in);
	if (flow->value.flags != TP_FLOW_PLAIN || tp_is_expired(host, flow) ||
		local >= TP_LOCALS_MAX || tp_ttl(&in) <= 1)
		return false;
	if (TP_UNLIKELY(hop != exit->index) && !tp_plain_leave(host, hop, exit))
		return false;
	if (tp_ip_len_out(&out, true) > exit->mtu)
		return false;
	if (!from_client && pkt->data - pkt->room < TP_CHANNELDATA_LEN)
		return false;
	tp_plain_take(&in, &out, &moved);
	pkt->data += from_client ? TP_CHANNELDATA_LEN : -TP_CHANNELDATA_LEN;
	tp_plain_write(pkt->data, exit, &out, &moved, &host->locals[local]);
	pkt->egress = exit->egress;
	pkt->interface = exit->interface;
	shared->relayed[out.direction] += TP_SHARED_PACKET + data_len;
	tp_count_flow(host, flow, tp_host_slot(host, flow), data_len);
	return true;
}
