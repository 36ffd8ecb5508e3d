/*
 * SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
 *
 * Turns a matched packet into the one that leaves (RFC 8656, 14 and 13.2): first every reason not
 * to, then room, then the new headers in one go. Both sides have the same family; translation would
 * start in tp_check_rewrite(), which now leaves it to the control plane, and replace the writer of
 * the IP header. A hairpin (the peer is a relayed address of ours) would be a second look-up before
 * it; such flows have no next hop and take the same way round.
 */
#pragma once

#include "checksum.h"
#include "host.h"
#include "lookup.h"

static TP_INLINE uint16_t tp_udp_len_out(const struct tp_rewrite *out)
{
	return (uint16_t)(TP_UDP_LEN + (out->flow->value.channel.be ? TP_CHANNELDATA_LEN : 0) +
			  out->data_len);
}

/* A record that changes while it is copied counts as none: its packets go to the kernel. */
static TP_INLINE bool tp_read_next_hop(
	struct tp_host *host, uint32_t index, struct tp_next_hop *out)
{
	const struct tp_next_hop *hop = tp_host_next_hop(host, index);
	uint32_t seq;

	if (!hop || index == TP_NO_NEXT_HOP_YET)
		return false;
	seq = TP_READ_ONCE(hop->seq);
	TP_READ_FENCE();
	*out = *hop;
	TP_READ_FENCE();
	return !(seq & 1) && TP_READ_ONCE(hop->seq) == seq;
}

static TP_INLINE enum tp_verdict tp_check_rewrite(struct tp_host *host, struct tp_packet *pkt,
	const struct tp_headers *in, struct tp_rewrite *out)
{
	const struct tp_flow_value *value = &out->flow->value;
	uint32_t ip_len = (in->v4 ? TP_IPV4_LEN : TP_IPV6_LEN) + (uint32_t)tp_udp_len_out(out);

	out->local = tp_host_local(host, value->local);
	if (!out->local || tp_is_v4(value->remote) != in->v4 || tp_is_v4(out->local->ip) != in->v4)
		return TP_NO_NEXT_HOP;
	if (out->direction == TP_CLIENT_TO_PEER && tp_is_forbidden(value->remote, in->v4))
		return TP_FORBIDDEN;
	if (in->ttl <= 1)
		return TP_TTL_EXPIRED;
	if (!tp_read_next_hop(host, TP_READ_ONCE(out->flow->next_hop), &out->hop))
		return TP_NO_NEXT_HOP;
	if (ip_len > out->hop.mtu)
		return TP_TOO_BIG;
	return tp_host_reaches(host, pkt, &out->hop) ? TP_RELAYED : TP_NO_NEXT_HOP;
}

/* After this the old headers are out of reach and the packet is bound to leave or to be dropped. */
static TP_INLINE bool tp_make_room(struct tp_host *host, struct tp_packet *pkt,
	const struct tp_headers *in, const struct tp_rewrite *out)
{
	uint32_t tail = in->trailer_len + out->padding_len;
	int32_t growth = (out->hop.vlan.be ? TP_VLAN_LEN : 0) + TP_ETHERNET_LEN - in->link_len +
			 (out->flow->value.channel.be ? TP_CHANNELDATA_LEN : 0) -
			 (out->channel_in ? TP_CHANNELDATA_LEN : 0);

	if (tail && !tp_host_trim_tail(host, pkt, tail))
		return false;
	return growth == 0 || tp_host_move_head(host, pkt, growth);
}

static TP_INLINE uint8_t *tp_write_link(
	uint8_t *at, const struct tp_next_hop *hop, uint16_t ethertype)
{
	const uint8_t *macs =
		(const uint8_t *)hop + __builtin_offsetof(struct tp_next_hop, destination);
	struct tp_ethernet *ethernet = (void *)at;
	struct tp_vlan *vlan = (void *)(at + TP_ETHERNET_LEN);

	/* Both addresses lie behind each other, there and here. */
	tp_put64(at, tp_get64(macs));
	tp_put32(at + 8, tp_get32(macs + 8));
	ethernet->type = tp_to_be16(ethertype);
	if (!hop->vlan.be)
		return at + TP_ETHERNET_LEN;
	ethernet->type = tp_to_be16(TP_ETHERTYPE_VLAN);
	vlan->tag = hop->vlan;
	vlan->type = tp_to_be16(ethertype);
	return at + TP_ETHERNET_LEN + TP_VLAN_LEN;
}

/* DSCP, ECN and DF are kept; the identification is another one unless DF makes it meaningless. */
static TP_INLINE void tp_write_ipv4(
	struct tp_ipv4 *ip, const struct tp_headers *in, const struct tp_rewrite *out)
{
	uint32_t source = (uint32_t)(out->local->ip[1] >> 32);
	uint32_t destination = (uint32_t)(out->flow->value.remote[1] >> 32);
	tp_be16 len = tp_to_be16((uint16_t)(TP_IPV4_LEN + tp_udp_len_out(out)));
	bool df = in->fragment.be & tp_to_be16(0x4000).be;
	tp_be16 id = {df ? in->id.be : (uint16_t)(in->id.be ^ out->flow->label)};

	ip->version_ihl = 0x45;
	ip->tos = in->tos;
	ip->len = len;
	ip->id = id;
	ip->fragment = in->fragment;
	ip->ttl = (uint8_t)(in->ttl - 1);
	ip->protocol = TP_PROTOCOL_UDP;
	/* The TTL is the lower half of its word in memory: minus 1. */
	ip->checksum = tp_checksum_add(in->ip_checksum,
		tp_sum_minus16(1) + tp_sum_minus16(in->ip_len.be) + len.be +
			tp_sum_minus16(in->id.be) + id.be +
			tp_sum_minus32((uint32_t)(in->source[1] >> 32)) + source +
			tp_sum_minus32((uint32_t)(in->destination[1] >> 32)) + destination);
	tp_put32(&ip->source, source);
	tp_put32(&ip->destination, destination);
}

/* The traffic class is kept; the flow label is the flow's own (RFC 6437). */
static TP_INLINE void tp_write_ipv6(
	struct tp_ipv6 *ip, const struct tp_headers *in, const struct tp_rewrite *out)
{
	const uint32_t label = tp_to_be32(0x000fffff).be;

	tp_put32(&ip->class_label,
		(in->class_label & ~label) | (tp_to_be32(out->flow->label).be & label));
	ip->payload_len = tp_to_be16(tp_udp_len_out(out));
	ip->next_header = TP_PROTOCOL_UDP;
	ip->hop_limit = (uint8_t)(in->ttl - 1);
	tp_put64(ip->source, out->local->ip[0]);
	tp_put64(ip->source + 8, out->local->ip[1]);
	tp_put64(ip->destination, out->flow->value.remote[0]);
	tp_put64(ip->destination + 8, out->flow->value.remote[1]);
}

/* 0 means "none" and stays; a sum of 0 is written as its other representation (RFC 768). */
static TP_INLINE tp_be16 tp_udp_checksum_out(
	const struct tp_headers *in, const struct tp_rewrite *out)
{
	tp_be16 checksum = in->udp_checksum;
	uint64_t sum = out->flow->sum_delta;

	if (TP_UNLIKELY(checksum.be == 0))
		return checksum;
	/* The length stands in the UDP header and in the pseudo header. */
	sum += 2 * (tp_to_be16(tp_udp_len_out(out)).be + tp_sum_minus16(in->udp_len.be));
	if (out->channel_in)
		sum += tp_sum_minus16(tp_to_be16(out->data_len).be) + out->padding_sum;
	if (out->flow->value.channel.be)
		sum += tp_to_be16(out->data_len).be;
	checksum = tp_checksum_add(checksum, sum);
	return checksum.be ? checksum : (tp_be16){0xffff};
}

static TP_INLINE void tp_write_udp(
	struct tp_udp *udp, const struct tp_headers *in, const struct tp_rewrite *out)
{
	udp->source = out->flow->value.local_port;
	udp->destination = out->flow->value.remote_port;
	udp->len = tp_to_be16(tp_udp_len_out(out));
	udp->checksum = tp_udp_checksum_out(in, out);
}

/* TP_NO_ROOM cannot happen here: it is how the bounds are shown to the BPF verifier. */
static TP_INLINE enum tp_verdict tp_write(
	struct tp_packet *pkt, const struct tp_headers *in, const struct tp_rewrite *out)
{
	struct tp_channeldata *header;
	uint8_t *at = pkt->data;
	uint16_t ip_len = in->v4 ? TP_IPV4_LEN : TP_IPV6_LEN;

	if (at + TP_ETHERNET_LEN + TP_VLAN_LEN + ip_len + TP_UDP_LEN - TP_VLAN_LEN > pkt->end)
		return TP_NO_ROOM;
	if (out->hop.vlan.be && at + TP_ETHERNET_LEN + TP_VLAN_LEN + ip_len + TP_UDP_LEN > pkt->end)
		return TP_NO_ROOM;
	at = tp_write_link(at, &out->hop, in->v4 ? TP_ETHERTYPE_IPV4 : TP_ETHERTYPE_IPV6);
	if (in->v4)
		tp_write_ipv4((void *)at, in, out);
	else
		tp_write_ipv6((void *)at, in, out);
	at += ip_len;
	tp_write_udp((void *)at, in, out);
	at += TP_UDP_LEN;

	if (!out->flow->value.channel.be)
		return TP_RELAYED;
	if (at + TP_CHANNELDATA_LEN > pkt->end)
		return TP_NO_ROOM;
	header = (void *)at;
	header->channel = out->flow->value.channel;
	header->len = tp_to_be16(out->data_len);
	return TP_RELAYED;
}

static TP_INLINE enum tp_verdict tp_apply(struct tp_host *host, struct tp_packet *pkt,
	const struct tp_headers *in, struct tp_rewrite *out)
{
	enum tp_verdict verdict = tp_check_rewrite(host, pkt, in, out);

	if (TP_UNLIKELY(verdict != TP_RELAYED))
		return verdict;
	pkt->egress = out->hop.ifindex;
	pkt->interface = out->hop.interface;
	if (!tp_make_room(host, pkt, in, out))
		return TP_NO_ROOM;
	return tp_write(pkt, in, out);
}
