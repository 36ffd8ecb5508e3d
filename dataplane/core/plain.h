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
	uint32_t ip;                  /* as it lies in memory */
	const struct tp_ports *ports; /* of none while there was no packet */
	uint64_t channel, peer;       /* the address and a kind of flow, in a key's last word */
};

/* A next hop without a tag, on an interface of ours: that of the packet before. */
struct tp_exit {
	uint8_t link[16]; /* addresses and type; two more bytes, so that it is one word */
	uint32_t index;   /* UINT32_MAX: there was none yet */
	int32_t room;     /* for UDP's payload */
	uint32_t egress;
	uint32_t interface;
};

/* What the packets of a burst share. */
struct tp_shared {
	struct tp_here here;
	struct tp_exit exit;
	uint64_t bytes[TP_DIRECTIONS]; /* relayed; added to the worker's counters at the end */
	uint32_t packets[TP_DIRECTIONS];
};

static const struct tp_ports tp_no_ports; /* nothing is open */

static TP_INLINE void tp_shared_open(struct tp_shared *shared)
{
	shared->here = (struct tp_here){.ports = &tp_no_ports};
	shared->exit.index = UINT32_MAX;
	for (int i = 0; i < TP_DIRECTIONS; i++) {
		shared->bytes[i] = 0;
		shared->packets[i] = 0;
	}
}

static TP_INLINE void tp_shared_count(struct tp_host *host, const struct tp_shared *shared)
{
	struct tp_worker_counters *worker = tp_host_worker(host);

	for (int i = 0; worker && i < TP_DIRECTIONS; i++) {
		worker->relayed[i][TP_V4_TO_V4].packets += shared->packets[i];
		worker->relayed[i][TP_V4_TO_V4].bytes += shared->bytes[i];
	}
}

static TP_OUT_OF_LINE bool tp_plain_arrive(
	struct tp_host *host, const struct tp_config *config, uint32_t wire, struct tp_here *here)
{
	const uint64_t ip[2] = {0, tp_map_v4(wire)};
	uint32_t local;

	if (!tp_find_local(host, config, ip, &local))
		return false;
	*here = (struct tp_here){.ip = wire,
		.ports = tp_host_ports(host, local),
		.channel = (uint64_t)local << 48 | (uint64_t)TP_FLOW_CHANNEL << 56,
		.peer = (uint64_t)local << 48 | (uint64_t)TP_FLOW_PEER << 56};
	return true;
}

enum tp_plain { TP_PLAIN_NOT, TP_PLAIN_UP, TP_PLAIN_DOWN };

/* The rest of the flow's key is an IPv4 source, and no word above it. */
struct tp_plain_asked {
	uint64_t source; /* v4-mapped */
	uint64_t ident;
	uint16_t data_len;
};

/* Begins like ChannelData, and is as long as it says. */
static TP_INLINE bool tp_is_channel_data(uint32_t header, uint16_t data_len)
{
	return (header & tp_to_be32(0xc000ffff).be) ==
	       ((uint32_t)tp_to_be16(data_len).be << 16 | tp_to_be32(0x40000000).be);
}

/* As tp_begin_common(), of IPv4. NOT: ask there. */
static TP_INLINE enum tp_plain tp_plain_begin(struct tp_host *host, const struct tp_packet *pkt,
	const struct tp_config *config, struct tp_here *here, struct tp_plain_asked *out)
{
	struct tp_headers in TP_UNSET;
	uint32_t destination, header;
	uint8_t state;

	if (!tp_parse_common(pkt, &in, true))
		return TP_PLAIN_NOT;
	destination = (uint32_t)(in.destination[1] >> 32);
	if (TP_UNLIKELY(destination != here->ip) &&
		!tp_plain_arrive(host, config, destination, here))
		return TP_PLAIN_NOT;
	state = tp_port_state(here->ports, tp_destination_port(&in));
	out->source = in.source[1];
	out->data_len = (uint16_t)(in.room - TP_UDP_LEN);
	if (TP_UNLIKELY(state != TP_PORT_LISTENER)) {
		out->ident = here->peer | in.ports;
		return state == TP_PORT_RELAY ? TP_PLAIN_DOWN : TP_PLAIN_NOT;
	}
	header = tp_get32(in.udp + TP_UDP_LEN);
	out->data_len = (uint16_t)(out->data_len - TP_CHANNELDATA_LEN);
	out->ident = here->channel | (uint64_t)(uint16_t)header << 32 | in.ports;
	return TP_LIKELY(tp_is_channel_data(header, out->data_len)) ? TP_PLAIN_UP : TP_PLAIN_NOT;
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
	exit->room = hop.mtu - TP_IPV4_LEN - TP_UDP_LEN;
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
	/* The remote's address and both ports lie behind each other, there and in the packet. */
	tp_put64(ip + 16, tp_get64((const uint8_t *)value + 12));
	tp_put16(udp + 4, tp_to_be16(tp_udp_len_out(out)).be);
	tp_put16(udp + 6, moved->udp_checksum);
	if (out->channel_out)
		tp_put32(udp + TP_UDP_LEN,
			value->channel.be | (uint32_t)tp_to_be16(out->data_len).be << 16);
}

_Static_assert(__builtin_offsetof(struct tp_flow_value, remote[1]) == 8 &&
		       __builtin_offsetof(struct tp_flow_value, local_port) == 16 &&
		       __builtin_offsetof(struct tp_flow_value, remote_port) == 18,
	"tp_plain_write()");

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
	if (data_len + (from_client ? 0 : TP_CHANNELDATA_LEN) > exit->room)
		return false;
	if (!from_client && pkt->data - pkt->room < TP_CHANNELDATA_LEN)
		return false;
	tp_plain_take(&in, &out, &moved);
	pkt->data += from_client ? TP_CHANNELDATA_LEN : -TP_CHANNELDATA_LEN;
	tp_plain_write(pkt->data, exit, &out, &moved, &host->locals[local]);
	pkt->egress = exit->egress;
	pkt->interface = exit->interface;
	shared->packets[out.direction]++;
	shared->bytes[out.direction] += data_len;
	tp_count_flow(host, flow, tp_host_slot(host, flow), data_len);
	return true;
}
