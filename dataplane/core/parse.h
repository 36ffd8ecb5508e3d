/*
 * SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
 *
 * Ethernet, at most one VLAN tag, IPv4 or IPv6, UDP. Nothing here knows whose packet it is: lengths
 * that contradict each other are only noted, since other people's broken packets are the kernel's
 * business and only ours may be dropped.
 */
#pragma once

#include "packet.h"
#include "verdict.h"

struct tp_headers {
	uint64_t source[2]; /* IPv4 v4-mapped */
	uint64_t destination[2];
	bool v4; /* known where this is compiled, which it is once for either family */

	uint8_t *ip;    /* IP header without options; void once the packet's head or tail moved */
	uint8_t *udp;   /* likewise */
	uint32_t ports; /* of UDP, as they lie in memory: source, destination */
	int32_t room;   /* from the UDP header to the end of the frame */
	int32_t l4_len; /* what the IP header promises behind it; < 0 when it cannot hold itself */
	uint16_t udp_len;  /* what the UDP header says */
	uint16_t link_len; /* Ethernet header and VLAN tag */
};

static TP_INLINE uint16_t tp_source_port(const struct tp_headers *in)
{
	return (uint16_t)in->ports; /* in network order */
}

static TP_INLINE uint16_t tp_destination_port(const struct tp_headers *in)
{
	return __builtin_bswap16((uint16_t)(in->ports >> 16));
}

static TP_INLINE uint16_t tp_udp_checksum(const struct tp_headers *in)
{
	return ((const struct tp_udp *)in->udp)->checksum.be;
}

static TP_INLINE uint8_t tp_ttl(const struct tp_headers *in)
{
	return in->v4 ? ((const struct tp_ipv4 *)in->ip)->ttl
		      : ((const struct tp_ipv6 *)in->ip)->hop_limit;
}

/* The lengths contradict each other; nothing of the payload may be read. */
static TP_INLINE bool tp_is_malformed(const struct tp_headers *in)
{
	return in->l4_len > in->room || in->l4_len < in->udp_len || in->udp_len < TP_UDP_LEN;
}

/* More in the IP packet than UDP claims: UDP options (RFC 8656, 18.4). */
static TP_INLINE bool tp_has_surplus(const struct tp_headers *in)
{
	return in->l4_len > in->udp_len;
}

static TP_INLINE bool tp_is_vlan(tp_be16 type)
{
	return tp_be16_equal(type, tp_to_be16(TP_ETHERTYPE_VLAN)) ||
	       tp_be16_equal(type, tp_to_be16(TP_ETHERTYPE_QINQ));
}

static TP_INLINE enum tp_verdict tp_parse_ethernet(
	const struct tp_packet *pkt, struct tp_headers *in, tp_be16 *type)
{
	const struct tp_ethernet *ethernet = (const void *)pkt->data;
	const struct tp_vlan *vlan = (const void *)(pkt->data + TP_ETHERNET_LEN);

	if (pkt->data + TP_ETHERNET_LEN > pkt->end)
		return TP_NOT_OURS;
	in->link_len = TP_ETHERNET_LEN;
	*type = ethernet->type;
	if (TP_LIKELY(!tp_is_vlan(*type)))
		return TP_RELAYED;

	if (pkt->data + TP_ETHERNET_LEN + TP_VLAN_LEN > pkt->end)
		return TP_NOT_OURS;
	in->link_len = TP_ETHERNET_LEN + TP_VLAN_LEN;
	*type = vlan->type;
	return tp_is_vlan(*type) ? TP_OPTIONS : TP_RELAYED;
}

static TP_INLINE enum tp_verdict tp_parse_udp(
	const struct tp_packet *pkt, uint8_t *l4, int32_t l4_len, struct tp_headers *in)
{
	if (l4 + TP_UDP_LEN > pkt->end)
		return TP_NOT_OURS; /* no ports: nobody's */
	in->udp = l4;
	in->ports = tp_get32(l4);
	in->room = (int32_t)(pkt->end - l4);
	in->l4_len = l4_len;
	in->udp_len = tp_from_be16(((const struct tp_udp *)l4)->len);
	return TP_RELAYED;
}

static TP_INLINE enum tp_verdict tp_parse_ipv4(
	const struct tp_packet *pkt, uint8_t *l3, struct tp_headers *in)
{
	const struct tp_ipv4 *ip = (const void *)l3;

	if (l3 + TP_IPV4_LEN > pkt->end)
		return TP_NOT_OURS;
	if (ip->version_ihl >> 4 != 4 || ip->protocol != TP_PROTOCOL_UDP)
		return TP_NOT_OURS;
	if (ip->fragment.be & tp_to_be16(0x3fff).be)
		return TP_FRAGMENT; /* MF or an offset: what follows may only look like UDP */
	if (ip->version_ihl > 0x45)
		return TP_OPTIONS;

	in->v4 = true;
	in->ip = l3;
	in->source[0] = 0;
	in->source[1] = tp_map_v4(tp_get32(&ip->source));
	in->destination[0] = 0;
	in->destination[1] = tp_map_v4(tp_get32(&ip->destination));
	return tp_parse_udp(pkt, l3 + TP_IPV4_LEN,
		TP_LIKELY(ip->version_ihl == 0x45) ? tp_from_be16(ip->len) - TP_IPV4_LEN : -1, in);
}

/* Extension headers behind which UDP may hide (RFC 8200, 4; RFC 6275; RFC 7401; RFC 5533). */
static TP_INLINE enum tp_verdict tp_parse_next_header(uint8_t next_header)
{
	switch (next_header) {
	case TP_PROTOCOL_UDP:
		return TP_RELAYED;
	case 44:
		return TP_FRAGMENT;
	case 0:
	case 43:
	case 51:
	case 60:
	case 135:
	case 139:
	case 140:
		return TP_OPTIONS;
	default:
		return TP_NOT_OURS;
	}
}

static TP_INLINE enum tp_verdict tp_parse_ipv6(
	const struct tp_packet *pkt, uint8_t *l3, struct tp_headers *in)
{
	const struct tp_ipv6 *ip = (const void *)l3;

	if (l3 + TP_IPV6_LEN > pkt->end)
		return TP_NOT_OURS;
	if ((*l3 & 0xf0) != 0x60)
		return TP_NOT_OURS;
	if (TP_UNLIKELY(ip->next_header != TP_PROTOCOL_UDP))
		return tp_parse_next_header(ip->next_header);

	in->v4 = false;
	in->ip = l3;
	in->source[0] = tp_get64(ip->source);
	in->source[1] = tp_get64(ip->source + 8);
	in->destination[0] = tp_get64(ip->destination);
	in->destination[1] = tp_get64(ip->destination + 8);
	if (TP_UNLIKELY(tp_is_v4(in->destination)))
		return TP_NOT_OURS; /* ::ffff:a.b.c.d on the wire is not the address a.b.c.d */
	return tp_parse_udp(pkt, l3 + TP_IPV6_LEN, tp_from_be16(ip->payload_len), in);
}

/* What Ethernet says comes behind it. */
static TP_INLINE enum tp_verdict tp_parse_ip(
	const struct tp_packet *pkt, tp_be16 type, struct tp_headers *in)
{
	uint8_t *l3 = pkt->data + in->link_len;

	if (tp_be16_equal(type, tp_to_be16(TP_ETHERTYPE_IPV4)))
		return tp_parse_ipv4(pkt, l3, in);
	if (tp_be16_equal(type, tp_to_be16(TP_ETHERTYPE_IPV6)))
		return tp_parse_ipv6(pkt, l3, in);
	return TP_NOT_OURS;
}
