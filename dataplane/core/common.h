/*
 * SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
 *
 * The common packet: nearly all that a relay ever sees are whole UDP datagrams without VLAN tag, IP
 * options, padding or trailer, of a flow that is granted now, stays in its family and leaves
 * untagged (TP_FLOW_PLAIN). Such a packet is told from all others by a few comparisons of whole
 * words, with hardly a branch. What differs in any way is left as it came for relay.h: nothing is
 * decided or counted here but "relayed". Where it is the flow that differs, or a Send that wraps
 * the data, what was found out so far is of use there.
 */
#pragma once

#include "count.h"
#include "lookup.h"
#include "rewrite.h"
#include "way.h"

#define TP_COMMON_HEADERS(v4)                                                                      \
	(TP_ETHERNET_LEN + ((v4) ? TP_IPV4_LEN : TP_IPV6_LEN) + TP_UDP_LEN + TP_CHANNELDATA_LEN)

/* Ethernet type, IP version and header length, as four bytes of the wire behind the addresses. */
static TP_INLINE bool tp_is_common_link(const struct tp_packet *pkt, bool v4)
{
	uint32_t word = tp_get32(pkt->data + TP_ETHERNET_LEN - 2);

	return v4 ? (word & tp_to_be32(0xffffff00).be) == tp_to_be32(0x08004500).be
		  : (word & tp_to_be32(0xfffff000).be) == tp_to_be32(0x86dd6000).be;
}

/* Whole, UDP; for IPv6 also a checksum, and no address that would pass for an IPv4 one. */
static TP_INLINE bool tp_is_common_ip(const struct tp_headers *in)
{
	const uint32_t mask = tp_to_be32(0x3fff00ff).be;

	if (in->v4)
		return (tp_get32(in->ip + 6) & mask) == tp_to_be32(TP_PROTOCOL_UDP).be;
	return ((const struct tp_ipv6 *)in->ip)->next_header == TP_PROTOCOL_UDP &&
	       !tp_is_v4(in->source) && !tp_is_v4(in->destination) && tp_udp_checksum(in) != 0;
}

/* Frame, IP and UDP end at the same byte. */
static TP_INLINE bool tp_is_common_len(const struct tp_headers *in)
{
	uint16_t len = in->v4 ? ((const struct tp_ipv4 *)in->ip)->len.be
			      : ((const struct tp_ipv6 *)in->ip)->payload_len.be;

	return len == tp_to_be16((uint16_t)(in->room + (in->v4 ? TP_IPV4_LEN : 0))).be &&
	       ((const struct tp_udp *)in->udp)->len.be == tp_to_be16((uint16_t)in->room).be;
}

/* Where the headers of a common packet are. */
static TP_INLINE void tp_place_headers(const struct tp_packet *pkt, bool v4, struct tp_headers *in)
{
	in->v4 = v4;
	in->link_len = TP_ETHERNET_LEN;
	in->ip = pkt->data + TP_ETHERNET_LEN;
	in->udp = in->ip + (v4 ? TP_IPV4_LEN : TP_IPV6_LEN);
}

static TP_INLINE bool tp_parse_common(const struct tp_packet *pkt, struct tp_headers *in, bool v4)
{
	if (pkt->data + TP_COMMON_HEADERS(v4) > pkt->end || !tp_is_common_link(pkt, v4))
		return false;
	tp_place_headers(pkt, v4, in);
	in->source[0] = v4 ? 0 : tp_get64(in->ip + 8);
	in->source[1] = v4 ? tp_map_v4(tp_get32(in->ip + 12)) : tp_get64(in->ip + 16);
	in->destination[0] = v4 ? 0 : tp_get64(in->ip + 24);
	in->destination[1] = v4 ? tp_map_v4(tp_get32(in->ip + 16)) : tp_get64(in->ip + 32);
	in->ports = tp_get32(in->udp);
	in->room = (int32_t)(pkt->end - in->udp);
	in->l4_len = in->room;
	in->udp_len = (uint16_t)in->room;
	return tp_is_common_ip(in) && tp_is_common_len(in);
}

/* A Send indication (RFC 8656, 11.2) whose lengths agree. */
static TP_COLD bool tp_is_common_send(const uint8_t *message, const uint8_t *end, uint32_t len)
{
	return message + TP_STUN_LEN <= end && tp_is_send(tp_get64(message)) &&
	       tp_is_stun_len(message, len);
}

/* `header` is what stands where ChannelData has its own. */
static TP_INLINE bool tp_ask_common(const struct tp_packet *pkt, const struct tp_headers *in,
	uint32_t local, uint8_t state, uint32_t header, struct tp_asked *out)
{
	out->data_len = (uint16_t)(in->udp_len - TP_UDP_LEN);
	out->channel_in = state == TP_PORT_LISTENER;
	if (state == TP_PORT_RELAY) {
		out->key = tp_key_of(in, local, TP_FLOW_PEER, (tp_be16){0});
		return true;
	}
	out->key = tp_key_of(in, local, TP_FLOW_CHANNEL, (tp_be16){(uint16_t)header});
	out->data_len = (uint16_t)(out->data_len - TP_CHANNELDATA_LEN);
	if (TP_LIKELY(state == TP_PORT_LISTENER && (header & 0xc0) == 0x40 &&
		      header >> 16 == tp_to_be16(out->data_len).be))
		return true;
	out->key = tp_key_of(in, local, TP_FLOW_CLIENT, (tp_be16){0});
	return state == TP_PORT_LISTENER && tp_is_common_send(in->udp + TP_UDP_LEN, pkt->end,
						    (uint32_t)in->udp_len - TP_UDP_LEN);
}

/* True: a common packet, as far as can be said without its flow. */
static TP_INLINE bool tp_begin_common(struct tp_host *host, const struct tp_packet *pkt,
	const struct tp_config *config, bool v4, struct tp_asked *out)
{
	const struct tp_ports *ports;
	struct tp_headers in;
	uint32_t local;

	if (!tp_parse_common(pkt, &in, v4) || !tp_find_local(host, config, in.destination, &local))
		return false;
	ports = tp_host_ports(host, local);
	return ports &&
	       tp_ask_common(pkt, &in, local, tp_port_state(ports, tp_destination_port(&in)),
		       tp_get32(in.udp + TP_UDP_LEN), out);
}

/* True: rewritten, counted, ready to leave. False: untouched. */
static TP_INLINE bool tp_end_common_way(struct tp_host *host, struct tp_packet *pkt, bool v4,
	bool from_client, uint16_t data_len, struct tp_found found)
{
	struct tp_rewrite out = {
		.flow = found.flow,
		.direction = from_client ? TP_CLIENT_TO_PEER : TP_PEER_TO_CLIENT,
		.data_len = data_len,
		.channel_in = from_client,
		.channel_out = !from_client,
	};
	struct tp_outgoing go;
	struct tp_headers in;

	if (found.flow->value.flags != TP_FLOW_PLAIN || tp_is_expired(host, found.flow))
		return false;
	if (pkt->data + TP_COMMON_HEADERS(v4) > pkt->end)
		return false; /* cannot be: said again for the verifier */
	tp_place_headers(pkt, v4, &in);
	if (tp_check_plain(host, pkt, &in, &out, &go) != TP_RELAYED || go.link.vlan.be)
		return false;
	tp_make_headers(&in, &out, &go);
	if (!tp_host_move_head(host, pkt, from_client ? -TP_CHANNELDATA_LEN : TP_CHANNELDATA_LEN))
		return false;
	if (tp_write(pkt, v4, &out, &go) != TP_RELAYED)
		return false; /* cannot be: the frame has room for what it had, or got it */
	tp_count_relayed(
		host, out.flow, found.slot, out.direction, tp_pair_of(v4, v4), out.data_len);
	return true;
}

/* Compiled once for each way, like for each family. */
static TP_INLINE bool tp_end_common(struct tp_host *host, struct tp_packet *pkt, bool v4,
	const struct tp_asked *asked, struct tp_found found)
{
	if (asked->channel_in)
		return tp_end_common_way(host, pkt, v4, true, asked->data_len, found);
	return tp_end_common_way(host, pkt, v4, false, asked->data_len, found);
}
