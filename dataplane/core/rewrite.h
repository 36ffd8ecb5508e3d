/*
 * SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
 *
 * Turns a packet of a plain flow (TP_FLOW_PLAIN) into the one that leaves (RFC 8656, 14 and 13.2):
 * first every reason not to, then room, then the new headers in one go. For the common path
 * (common.h), which has seen that nothing is odd about the packet; the rest is general.h's.
 */
#pragma once

#include "checksum.h"
#include "host.h"
#include "lookup.h"

struct tp_rewrite {
	struct tp_flow *flow; /* only its counters are ours to write */
	enum tp_direction direction;
	uint16_t data_len; /* application data */
	bool channel_in;   /* it lies behind a ChannelData header */
	bool channel_out;  /* it will */
};

static TP_INLINE uint16_t tp_udp_len_out(const struct tp_rewrite *out)
{
	return (uint16_t)(TP_UDP_LEN + (out->channel_out ? TP_CHANNELDATA_LEN : 0) + out->data_len);
}

static TP_INLINE uint32_t tp_ip_len_out(const struct tp_rewrite *out, bool v4)
{
	return (v4 ? TP_IPV4_LEN : TP_IPV6_LEN) + (uint32_t)tp_udp_len_out(out);
}

/* What of a next hop has to be known after the old headers are gone. */
struct tp_link {
	uint64_t addresses;      /* both lie behind each other, there and in the frame: */
	uint32_t addresses_rest; /* 8 bytes and 4 */
	tp_be16 vlan;
};

/* The headers as they leave, as words in the order of the wire. */
struct tp_outgoing {
	uint64_t ip[2]; /* up to the addresses (IPv6), up to the destination (IPv4) */
	uint64_t udp;
	uint32_t channeldata; /* where there is one */
	const struct tp_local *local;
	struct tp_link link;
};

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

static TP_INLINE struct tp_link tp_link_of(const struct tp_next_hop *hop)
{
	const uint8_t *macs =
		(const uint8_t *)hop + __builtin_offsetof(struct tp_next_hop, destination);

	return (struct tp_link){tp_get64(macs), tp_get32(macs + 8), hop->vlan};
}

/* How a packet of that length leaves through a next hop. */
static TP_INLINE enum tp_verdict tp_find_link(struct tp_host *host, struct tp_packet *pkt,
	uint32_t index, uint32_t ip_len, struct tp_link *out)
{
	struct tp_next_hop hop TP_UNSET;

	if (!tp_read_next_hop(host, index, &hop))
		return TP_NO_NEXT_HOP;
	if (ip_len > hop.mtu)
		return TP_TOO_BIG;
	if (!tp_host_reaches(host, pkt, &hop))
		return TP_NO_NEXT_HOP;
	*out = tp_link_of(&hop);
	pkt->egress = hop.ifindex;
	pkt->interface = hop.interface;
	return TP_RELAYED;
}

static TP_INLINE enum tp_verdict tp_check_plain(struct tp_host *host, struct tp_packet *pkt,
	const struct tp_headers *in, const struct tp_rewrite *out, struct tp_outgoing *go)
{
	uint32_t ip_len = tp_ip_len_out(out, in->v4);

	go->local = tp_host_local(host, out->flow->value.local);
	if (!go->local)
		return TP_NO_NEXT_HOP;
	if (tp_ttl(in) <= 1)
		return TP_TTL_EXPIRED;
	return tp_find_link(host, pkt, TP_READ_ONCE(out->flow->next_hop), ip_len, &go->link);
}

/* DSCP, ECN and DF are kept; the identification is another one unless DF makes it meaningless. */
static TP_INLINE void tp_make_ipv4(
	const struct tp_headers *in, const struct tp_rewrite *out, struct tp_outgoing *go)
{
	uint64_t first = tp_get64(in->ip);      /* version, TOS, length, identification, fragment */
	uint64_t second = tp_get64(in->ip + 8); /* TTL, protocol, checksum, source */
	uint16_t len = tp_to_be16((uint16_t)(TP_IPV4_LEN + tp_udp_len_out(out))).be;
	bool df = first >> 48 & tp_to_be16(0x4000).be;
	uint16_t mix = df ? 0 : out->flow->id_mix;
	uint16_t id = (uint16_t)(first >> 32);
	uint32_t sum = out->flow->ip_sum_delta + (uint32_t)(id ^ mix) + tp_sum_minus(id);
	uint64_t checksum;

	checksum = tp_checksum_add((uint16_t)(second >> 16), sum);
	go->ip[0] = ((first & ~UINT64_C(0xffff0000)) | (uint64_t)len << 16) ^ (uint64_t)mix << 32;
	go->ip[1] = ((second & 0xffff) - 1) | checksum << 16 |
		    (go->local->ip[1] & ~UINT64_C(0xffffffff));
}

/* The traffic class is kept; the flow label is the flow's own (RFC 6437). */
static TP_INLINE void tp_make_ipv6(
	const struct tp_headers *in, const struct tp_rewrite *out, struct tp_outgoing *go)
{
	const uint32_t label = tp_to_be32(0x000fffff).be;
	uint64_t first = tp_get64(in->ip); /* class, label, length, next header, hop limit */

	first &= UINT64_C(0xffff0000ffffffff) & ~(uint64_t)label;
	first |= (tp_to_be32(out->flow->label).be & label) |
		 (uint64_t)tp_to_be16(tp_udp_len_out(out)).be << 32;
	go->ip[0] = first - (UINT64_C(1) << 56);
}

/* 0 means "none" and stays; a sum of 0 is written as its other representation (RFC 768). */
static TP_INLINE uint16_t tp_udp_checksum_out(
	const struct tp_headers *in, const struct tp_rewrite *out)
{
	uint16_t checksum = tp_udp_checksum(in), len = tp_to_be16(out->data_len).be;
	uint32_t sum = out->flow->sum_delta;

	if (TP_UNLIKELY(checksum == 0))
		return 0;
	if (out->channel_in)
		sum += tp_sum_minus(len);
	if (out->channel_out)
		sum += len;
	checksum = tp_checksum_add(checksum, sum);
	return checksum ? checksum : 0xffff;
}

static TP_INLINE void tp_make_headers(
	const struct tp_headers *in, const struct tp_rewrite *out, struct tp_outgoing *go)
{
	const struct tp_flow_value *value = &out->flow->value;

	if (in->v4)
		tp_make_ipv4(in, out, go);
	else
		tp_make_ipv6(in, out, go);
	go->udp = tp_get32(&value->local_port) |
		  (uint64_t)tp_to_be16(tp_udp_len_out(out)).be << 32 |
		  (uint64_t)tp_udp_checksum_out(in, out) << 48;
	go->channeldata = value->channel.be | (uint32_t)tp_to_be16(out->data_len).be << 16;
}

static TP_INLINE uint8_t *tp_write_link(uint8_t *at, const struct tp_link *link, uint16_t ethertype)
{
	struct tp_ethernet *ethernet = (void *)at;
	struct tp_vlan *vlan = (void *)(at + TP_ETHERNET_LEN);

	tp_put64(at, link->addresses);
	tp_put32(at + 8, link->addresses_rest);
	ethernet->type = tp_to_be16(ethertype);
	if (TP_LIKELY(!link->vlan.be))
		return at + TP_ETHERNET_LEN;
	ethernet->type = tp_to_be16(TP_ETHERTYPE_VLAN);
	vlan->tag = link->vlan;
	vlan->type = tp_to_be16(ethertype);
	return at + TP_ETHERNET_LEN + TP_VLAN_LEN;
}

static TP_INLINE uint8_t *tp_write_ip(
	uint8_t *at, bool v4, const struct tp_rewrite *out, const struct tp_outgoing *go)
{
	const uint64_t *remote = out->flow->value.remote;

	tp_put64(at, go->ip[0]);
	if (v4) {
		tp_put64(at + 8, go->ip[1]);
		tp_put32(at + 16, (uint32_t)(remote[1] >> 32));
		return at + TP_IPV4_LEN;
	}
	tp_put64(at + 8, go->local->ip[0]);
	tp_put64(at + 16, go->local->ip[1]);
	tp_put64(at + 24, remote[0]);
	tp_put64(at + 32, remote[1]);
	return at + TP_IPV6_LEN;
}

/* TP_MALFORMED cannot happen here: it is how the bounds are shown to the BPF verifier. */
static TP_INLINE enum tp_verdict tp_write(
	struct tp_packet *pkt, bool v4, const struct tp_rewrite *out, const struct tp_outgoing *go)
{
	uint16_t len = TP_ETHERNET_LEN + (v4 ? TP_IPV4_LEN : TP_IPV6_LEN) + TP_UDP_LEN;
	uint8_t *at = pkt->data;

	if (at + len > pkt->end)
		return TP_MALFORMED;
	if (TP_UNLIKELY(go->link.vlan.be) && at + len + TP_VLAN_LEN > pkt->end)
		return TP_MALFORMED;
	at = tp_write_link(at, &go->link, v4 ? TP_ETHERTYPE_IPV4 : TP_ETHERTYPE_IPV6);
	at = tp_write_ip(at, v4, out, go);
	tp_put64(at, go->udp);
	at += TP_UDP_LEN;
	if (!out->channel_out)
		return TP_RELAYED;
	if (at + TP_CHANNELDATA_LEN > pkt->end)
		return TP_MALFORMED;
	tp_put32(at, go->channeldata);
	return TP_RELAYED;
}
