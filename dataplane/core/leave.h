/*
 * SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
 *
 * The packet as it leaves: checks of what only then is known, new headers, room for them, and the
 * writing. Nothing is written before the last check; what has no room is as it came.
 */
#pragma once

#include "checksum.h"
#include "host.h"
#include "limit.h"
#include "marks.h"
#include "open.h"
#include "rewrite.h"
#include "stun.h"
#include "way.h"

/* The attribute means something from IPv4 to IPv4 only (RFC 8656, 13 and 14). */
static TP_INLINE bool tp_forbids_fragments(const struct tp_way *way)
{
	return way->dont_fragment && way->v4 && way->peer.v4;
}

/* Every hop takes one off the TTL and follows the rules of its pair of families. */
static TP_INLINE enum tp_verdict tp_check_marks(
	struct tp_way *way, const struct tp_sides *sides, bool v4_out, uint32_t ip_len)
{
	bool v4_peer = way->peer.v4;
	uint32_t hops = way->is_hairpin ? 2 : 1;

	if (way->marks.ttl <= hops)
		return TP_TTL_EXPIRED;
	way->marks.ttl = (uint8_t)(way->marks.ttl - hops);
	if (tp_forbids_fragments(way))
		way->marks.dont_fragment = true;
	if (sides->up && !tp_hop_marks(&way->marks, v4_peer,
				 tp_ip_len(v4_peer) + TP_UDP_LEN + way->data_len))
		return TP_TOO_BIG;
	if (sides->down && !tp_hop_marks(&way->marks, v4_out, ip_len))
		return TP_TOO_BIG;
	return TP_RELAYED;
}

/* Both of a hairpin's allocations pay for it. */
static TP_INLINE bool tp_way_is_within_limits(struct tp_host *host, const struct tp_config *config,
	const struct tp_way *way, const struct tp_sides *sides)
{
	if (sides->up && !tp_is_within_limit(host, config, way->slots[TP_CLIENT_TO_PEER],
				 TP_CLIENT_TO_PEER, way->data_len))
		return false;
	return !sides->down || tp_is_within_limit(host, config, way->slots[TP_PEER_TO_CLIENT],
				       TP_PEER_TO_CLIENT, way->data_len);
}

static TP_INLINE uint64_t tp_sum_data_head(const struct tp_data_head *head)
{
	return tp_sum_wide(head->first) + tp_sum_wide(head->transaction) + head->transaction_rest +
	       head->address + head->port + tp_sum_wide(head->ip[0]) + tp_sum_wide(head->ip[1]) +
	       head->data;
}

/* All that the checksum covers but the data; wide. */
static TP_INLINE uint64_t tp_sum_front(const struct tp_way *way, const struct tp_sides *sides)
{
	const uint64_t *from = sides->from->ip, *to = way->to;
	uint64_t sum = (uint64_t)way->ports_out + way->front.channeldata +
		       2 * (uint64_t)tp_to_be16((uint16_t)tp_way_udp_len(way)).be;

	if (way->head_len > TP_CHANNELDATA_LEN)
		sum += tp_sum_data_head(&way->front.data_head);
	if (way->to_v4)
		return sum + (from[1] >> 32) + (to[1] >> 32);
	return sum + tp_sum_wide(from[0]) + tp_sum_wide(from[1]) + tp_sum_wide(to[0]) +
	       tp_sum_wide(to[1]);
}

/* The same of what came. */
static TP_INLINE uint64_t tp_sum_old(const struct tp_way *way)
{
	uint16_t udp_len = tp_to_be16((uint16_t)(TP_UDP_LEN + way->payload_len)).be;

	return way->address_sum + way->ports + way->around_sum + 2 * (uint64_t)udp_len;
}

/*
 * By difference. IPv6 has to have a checksum, and where IPv4 brought none the data have to be read
 * for it, which not every host can. 0 means "none" and stays between IPv4 and IPv4.
 */
static TP_INLINE enum tp_verdict tp_make_way_checksum(struct tp_host *host,
	const struct tp_packet *pkt, const struct tp_way *way, const struct tp_sides *sides,
	uint16_t *checksum)
{
	uint64_t sum = tp_sum_front(way, sides);
	uint32_t data_sum;

	if (TP_LIKELY(way->checksum)) {
		sum += TP_SUM_ZERO - tp_sum_old(way) + tp_sum_minus(way->checksum);
	} else if (way->to_v4) {
		*checksum = 0;
		return TP_RELAYED;
	} else {
		if (!tp_host_sum(host, pkt, (uint32_t)way->payload_at + way->data_at, way->data_len,
			    &data_sum))
			return TP_UNSUMMED;
		sum += data_sum + tp_to_be16(TP_PROTOCOL_UDP).be;
	}
	*checksum = (uint16_t)~tp_sum_fold_wide(sum);
	*checksum = *checksum ? *checksum : 0xffff;
	return TP_RELAYED;
}

/* DSCP and ECN are kept; identification and flow label are the server's own. */
static TP_INLINE void tp_make_way_ip(
	struct tp_host *host, struct tp_way *way, const struct tp_sides *sides, uint32_t udp_len)
{
	uint16_t id = way->marks.id;

	if (!way->to_v4) {
		way->front.ip[0] = tp_make_marked_ipv6(&way->marks, way->label, udp_len);
		return;
	}
	if (!way->marks.dont_fragment)
		id = way->v4 ? id ^ (uint16_t)way->label : (uint16_t)tp_host_random(host);
	tp_make_marked_ipv4(&way->marks, id, TP_IPV4_LEN + udp_len,
		(uint32_t)(sides->from->ip[1] >> 32), (uint32_t)(way->to[1] >> 32), way->front.ip);
}

/* The transaction is random (RFC 8656, 11.3; RFC 8489, 5). */
static TP_INLINE void tp_make_indication(struct tp_host *host, struct tp_way *way)
{
	struct tp_data_head *head = &way->front.data_head;

	head->transaction = tp_host_random(host);
	head->transaction_rest = (uint32_t)tp_host_random(host);
	tp_make_data_head(&way->peer, way->data_len, head);
}

static TP_INLINE enum tp_verdict tp_make_front(struct tp_host *host, const struct tp_packet *pkt,
	struct tp_way *way, const struct tp_sides *sides)
{
	struct tp_front *front = &way->front;
	uint32_t udp_len = tp_way_udp_len(way);
	enum tp_verdict verdict;
	uint16_t checksum;

	if (way->channel)
		front->channeldata = way->channel | (uint32_t)tp_to_be16((uint16_t)way->data_len).be
							    << 16;
	else if (sides->down)
		tp_make_indication(host, way);
	verdict = tp_make_way_checksum(host, pkt, way, sides, &checksum);
	if (verdict != TP_RELAYED)
		return verdict;
	tp_make_way_ip(host, way, sides, udp_len);
	front->udp = way->ports_out | (uint64_t)tp_to_be16((uint16_t)udp_len).be << 32 |
		     (uint64_t)checksum << 48;
	return TP_RELAYED;
}

/*
 * Tail room, then head room: as long as one of them fails, the frame can be made what it was. What
 * is cut off behind the data comes last.
 */
static TP_INLINE enum tp_verdict tp_make_way_room(
	struct tp_host *host, struct tp_packet *pkt, const struct tp_way *way, uint32_t headers_len)
{
	uint32_t behind = way->tail + way->payload_len - way->data_at - way->data_len;
	uint32_t growth = way->padding_len > behind ? way->padding_len - behind : 0;
	int32_t head = (int32_t)(headers_len + way->head_len - way->payload_at - way->data_at);

	if (growth && !tp_host_grow_tail(host, pkt, growth))
		return TP_NO_ROOM;
	if (head && !tp_host_move_head(host, pkt, head)) {
		if (growth && !tp_host_trim_tail(host, pkt, growth))
			return TP_MALFORMED;
		return TP_NO_ROOM;
	}
	if (behind > way->padding_len && !tp_host_trim_tail(host, pkt, behind - way->padding_len))
		return TP_MALFORMED; /* cannot happen */
	return TP_RELAYED;
}

/* `at` is where the data ends; false cannot happen. */
static TP_INLINE bool tp_write_padding(const struct tp_packet *pkt, uint8_t *at, uint32_t len)
{
	for (uint32_t i = 0; i < TP_PADDING_MAX; i++) {
		if (i >= len)
			return true;
		if (at + i + 1 > pkt->end)
			return false;
		at[i] = 0;
	}
	return true;
}

static TP_INLINE uint8_t *tp_write_way_ip(
	uint8_t *at, bool v4, const struct tp_way *way, const struct tp_sides *sides)
{
	const struct tp_front *front = &way->front;

	tp_put64(at, front->ip[0]);
	if (v4) {
		tp_put64(at + 8, front->ip[1]);
		tp_put32(at + 16, (uint32_t)(way->to[1] >> 32));
		return at + TP_IPV4_LEN;
	}
	tp_put64(at + 8, sides->from->ip[0]);
	tp_put64(at + 16, sides->from->ip[1]);
	tp_put64(at + 24, way->to[0]);
	tp_put64(at + 32, way->to[1]);
	return at + TP_IPV6_LEN;
}

/* What UDP carries in front of the data, and the padding behind. */
static TP_INLINE bool tp_write_wrapping(
	const struct tp_packet *pkt, uint8_t *at, const struct tp_way *way)
{
	const struct tp_front *front = &way->front;
	bool peer_is_v4 = way->peer.v4;

	if (!way->head_len)
		return true;
	if (front->channeldata) {
		if (at + TP_CHANNELDATA_LEN > pkt->end)
			return false;
		tp_put32(at, front->channeldata);
		return true;
	}
	if (!tp_write_data_head(pkt, at, peer_is_v4, &front->data_head))
		return false;
	at += tp_data_head_len(peer_is_v4) + (way->data_len & TP_STUN_LEN_MAX);
	return tp_write_padding(pkt, at, way->padding_len);
}

/* Compiled once for each family. */
static TP_INLINE bool tp_write_packet(const struct tp_packet *pkt, uint8_t *at, bool v4,
	const struct tp_way *way, const struct tp_sides *sides)
{
	if (at + tp_ip_len(v4) + TP_UDP_LEN > pkt->end)
		return false;
	at = tp_write_way_ip(at, v4, way, sides);
	tp_put64(at, way->front.udp);
	return tp_write_wrapping(pkt, at + TP_UDP_LEN, way);
}

static TP_INLINE bool tp_is_output(struct tp_host *host, const struct tp_way *way)
{
	return tp_host_outputs(host) && way->output != TP_RELAYED;
}

/* False cannot happen: it is how the bounds are shown to the BPF verifier. */
static TP_INLINE bool tp_write_front(struct tp_host *host, const struct tp_packet *pkt,
	const struct tp_way *way, const struct tp_sides *sides, const struct tp_link *link)
{
	bool v4 = way->to_v4;
	uint8_t *at = pkt->data;

	if (at + TP_ETHERNET_LEN + TP_VLAN_LEN > pkt->end)
		return false;
	if (!tp_is_output(host, way))
		at = tp_write_link(at, link, v4 ? TP_ETHERTYPE_IPV4 : TP_ETHERTYPE_IPV6);
	return v4 ? tp_write_packet(pkt, at, true, way, sides)
		  : tp_write_packet(pkt, at, false, way, sides);
}

/*
 * What the kernel's IP output sends may be fragmented unless a Send forbids it, like all that the
 * control plane's sockets send. Its header gets a new checksum there.
 */
static TP_INLINE enum tp_verdict tp_output(
	struct tp_way *way, enum tp_verdict why, struct tp_link *out)
{
	if (!tp_is_header_whole(&way->marks))
		return TP_BAD_CHECKSUM;
	way->output = (uint8_t)why;
	way->marks.dont_fragment = tp_forbids_fragments(way);
	*out = (struct tp_link){0};
	return TP_RELAYED;
}

static TP_INLINE enum tp_verdict tp_find_exit(struct tp_host *host, struct tp_packet *pkt,
	struct tp_way *way, const struct tp_sides *sides, uint32_t ip_len, struct tp_link *out)
{
	enum tp_verdict verdict = tp_check_marks(way, sides, way->to_v4, ip_len);

	if (verdict == TP_RELAYED)
		verdict = tp_find_link(host, pkt, way->next_hop, ip_len, out);
	if (tp_host_outputs(host) && (verdict == TP_TOO_BIG || verdict == TP_NO_NEXT_HOP))
		verdict = tp_output(way, verdict, out);
	return verdict;
}

/* All checks, then the first write. */
static TP_INLINE enum tp_verdict tp_leave(struct tp_host *host, struct tp_packet *pkt,
	const struct tp_config *config, struct tp_way *way, const struct tp_sides *sides)
{
	bool v4 = way->to_v4;
	uint32_t headers_len = tp_ip_len(v4) + TP_UDP_LEN;
	uint32_t ip_len = tp_ip_len(v4) + tp_way_udp_len(way);
	enum tp_verdict verdict;
	struct tp_link link;

	if (tp_is_v4(sides->from->ip) != v4)
		return TP_NO_NEXT_HOP;
	/* It would get lost: IPv6 has none. */
	if (!v4 && !tp_is_header_whole(&way->marks))
		return TP_BAD_CHECKSUM;
	verdict = tp_find_exit(host, pkt, way, sides, ip_len, &link);
	if (verdict == TP_RELAYED && TP_UNLIKELY(way->fingerprint_at))
		verdict = tp_host_check_fingerprint(host, pkt, way);
	if (verdict == TP_RELAYED)
		verdict = tp_make_front(host, pkt, way, sides);
	if (verdict != TP_RELAYED)
		return verdict;
	if (!tp_way_is_within_limits(host, config, way, sides))
		return TP_POLICED;
	if (!tp_is_output(host, way))
		headers_len += link.vlan.be ? TP_ETHERNET_LEN + TP_VLAN_LEN : TP_ETHERNET_LEN;
	verdict = tp_make_way_room(host, pkt, way, headers_len);
	if (verdict != TP_RELAYED)
		return verdict;
	return tp_write_front(host, pkt, way, sides, &link) ? TP_RELAYED : TP_MALFORMED;
}
