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
	tp_be16 source_port;
	tp_be16 destination_port;
	bool v4;
	bool malformed;
	bool surplus; /* more in the IP packet than UDP claims: UDP options (RFC 8656, 18.4) */

	uint8_t *payload;     /* of UDP; void once the packet's head or tail has moved */
	uint16_t payload_len; /* of UDP; these two hold unless `malformed` */
	uint32_t trailer_len; /* what lies behind the IP packet, usually Ethernet padding */
	uint16_t link_len;    /* Ethernet header and VLAN tag */

	/* What the rewrite keeps or counts from; 0 where the family has no such field. */
	uint8_t tos;
	tp_be16 id;
	tp_be16 fragment;
	tp_be16 ip_checksum;
	uint32_t class_label; /* as it lies in memory */
	tp_be16 ip_len;       /* IPv6: of the payload */
	uint8_t ttl;
	tp_be16 udp_len;
	tp_be16 udp_checksum;
};

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

/* l4_len: what the IP header promises to follow it; negative when it cannot hold itself. */
static TP_INLINE enum tp_verdict tp_parse_udp(
	const struct tp_packet *pkt, uint8_t *l4, int32_t l4_len, struct tp_headers *in)
{
	const struct tp_udp *udp = (const void *)l4;
	int64_t room;

	if (l4 + TP_UDP_LEN > pkt->end)
		return TP_NOT_OURS; /* no ports: nobody's */
	room = pkt->end - l4;
	in->source_port = udp->source;
	in->destination_port = udp->destination;
	in->udp_len = udp->len;
	in->udp_checksum = udp->checksum;
	in->malformed |= l4_len > room || l4_len < tp_from_be16(udp->len) ||
			 tp_from_be16(udp->len) < TP_UDP_LEN;
	in->surplus = l4_len > tp_from_be16(udp->len);
	in->payload = l4 + TP_UDP_LEN;
	in->payload_len = (uint16_t)(l4_len - TP_UDP_LEN);
	in->trailer_len = (uint32_t)(room - l4_len);
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
	in->malformed = ip->version_ihl < 0x45;
	in->source[0] = 0;
	in->source[1] = tp_map_v4(tp_get32(&ip->source));
	in->destination[0] = 0;
	in->destination[1] = tp_map_v4(tp_get32(&ip->destination));
	in->tos = ip->tos;
	in->id = ip->id;
	in->fragment = ip->fragment;
	in->ip_checksum = ip->checksum;
	in->ip_len = ip->len;
	in->ttl = ip->ttl;
	in->class_label = 0;
	return tp_parse_udp(
		pkt, l3 + TP_IPV4_LEN, (int32_t)tp_from_be16(ip->len) - TP_IPV4_LEN, in);
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
	in->malformed = false;
	in->source[0] = tp_get64(ip->source);
	in->source[1] = tp_get64(ip->source + 8);
	in->destination[0] = tp_get64(ip->destination);
	in->destination[1] = tp_get64(ip->destination + 8);
	if (TP_UNLIKELY(tp_is_v4(in->destination)))
		return TP_NOT_OURS; /* ::ffff:a.b.c.d on the wire is not the address a.b.c.d */
	in->class_label = tp_get32(&ip->class_label);
	in->ip_len = ip->payload_len;
	in->ttl = ip->hop_limit;
	in->tos = 0;
	in->id = in->fragment = in->ip_checksum = (tp_be16){0};
	return tp_parse_udp(pkt, l3 + TP_IPV6_LEN, tp_from_be16(ip->payload_len), in);
}

/* TP_RELAYED: `in` is filled. Anything else is a fate of TP_FATE_PASS. */
static TP_INLINE enum tp_verdict tp_parse(const struct tp_packet *pkt, struct tp_headers *in)
{
	enum tp_verdict verdict;
	tp_be16 type;

	verdict = tp_parse_ethernet(pkt, in, &type);
	if (verdict != TP_RELAYED)
		return verdict;
	if (tp_be16_equal(type, tp_to_be16(TP_ETHERTYPE_IPV4)))
		return tp_parse_ipv4(pkt, pkt->data + in->link_len, in);
	if (tp_be16_equal(type, tp_to_be16(TP_ETHERTYPE_IPV6)))
		return tp_parse_ipv6(pkt, pkt->data + in->link_len, in);
	return TP_NOT_OURS;
}
