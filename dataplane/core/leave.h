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
	uint32_t hops = sides->up.flow && sides->down.flow ? 2 : 1;

	/* It would get lost: IPv6 has none. */
	if (!v4_out && !tp_is_header_whole(&way->marks))
		return TP_BAD_CHECKSUM;
	if (way->marks.ttl <= hops)
		return TP_TTL_EXPIRED;
	way->marks.ttl = (uint8_t)(way->marks.ttl - hops);
	if (tp_forbids_fragments(way))
		tp_set_dont_fragment(&way->marks, true);
	if (sides->up.flow && !tp_hop_marks(&way->marks, v4_peer,
				      tp_ip_len(v4_peer) + TP_UDP_LEN + way->data_len))
		return TP_TOO_BIG;
	if (sides->down.flow && !tp_hop_marks(&way->marks, v4_out, ip_len))
		return TP_TOO_BIG;
	return TP_RELAYED;
}

/* Both of a hairpin's allocations pay for it. */
static TP_INLINE bool tp_way_is_within_limits(struct tp_host *host, const struct tp_config *config,
	const struct tp_way *way, const struct tp_sides *sides)
{
	if (sides->up.flow &&
		!tp_is_within_limit(host, config, sides->up.slot, TP_CLIENT_TO_PEER, way->data_len))
		return false;
	return !sides->down.flow ||
	       tp_is_within_limit(host, config, sides->down.slot, TP_PEER_TO_CLIENT, way->data_len);
}

static TP_INLINE bool tp_is_output(struct tp_host *host, const struct tp_way *way)
{
	return tp_host_outputs(host) && way->output != TP_RELAYED;
}

/*
 * What the kernel's IP output sends may be fragmented unless a Send forbids it, like all that the
 * control plane's sockets send. Its header gets a new checksum there.
 */
static TP_INLINE enum tp_verdict tp_output(struct tp_way *way, enum tp_verdict why)
{
	if (!tp_is_header_whole(&way->marks))
		return TP_BAD_CHECKSUM;
	way->output = (uint8_t)why;
	tp_set_dont_fragment(&way->marks, tp_forbids_fragments(way));
	return TP_RELAYED;
}

/* The marks are read when they are needed: a next hop's record takes all of BPF's registers. */
static TP_INLINE enum tp_verdict tp_find_exit(struct tp_host *host, struct tp_packet *pkt,
	struct tp_way *way, const struct tp_sides *sides)
{
	uint32_t ip_len = tp_ip_len(way->to_v4) + way->new_udp_len;
	enum tp_verdict link = tp_find_link(host, pkt, way->next_hop, ip_len, &way->link), verdict;

	tp_host_take_exit(host, pkt);
	if (!tp_read_rest(pkt, way))
		return TP_MALFORMED;
	verdict = tp_check_marks(way, sides, way->to_v4, ip_len);
	if (verdict == TP_RELAYED)
		verdict = link;
	if (tp_host_outputs(host) && (verdict == TP_TOO_BIG || verdict == TP_NO_NEXT_HOP))
		verdict = tp_output(way, verdict);
	return verdict;
}

/*
 * IPv6 has to have a checksum, and where IPv4 brought none the data have to be read for it, which
 * not every host can.
 */
static TP_INLINE enum tp_verdict tp_sum_data(
	struct tp_host *host, const struct tp_packet *pkt, struct tp_way *way)
{
	if (TP_LIKELY(way->old_sum || way->to_v4))
		return TP_RELAYED;
	return tp_host_sum(host, pkt, (uint32_t)way->payload_at + way->data_at, way->data_len,
		       &way->data_sum)
		       ? TP_RELAYED
		       : TP_UNSUMMED;
}

static TP_INLINE enum tp_verdict tp_check_leave(struct tp_host *host, struct tp_packet *pkt,
	const struct tp_config *config, struct tp_way *way, const struct tp_sides *sides)
{
	enum tp_verdict verdict;

	if (tp_is_v4(sides->from->ip) != way->to_v4)
		return TP_NO_NEXT_HOP;
	verdict = tp_find_exit(host, pkt, way, sides);
	if (verdict == TP_RELAYED && TP_UNLIKELY(way->has_fingerprint))
		verdict = tp_host_check_fingerprint(host, pkt, way->payload_at, way->payload_len);
	if (verdict == TP_RELAYED)
		verdict = tp_sum_data(host, pkt, way);
	if (verdict != TP_RELAYED)
		return verdict;
	return tp_way_is_within_limits(host, config, way, sides) ? TP_RELAYED : TP_POLICED;
}

/* How far the ends of the frame have to go: outwards when positive. */
struct tp_growth {
	int32_t head;
	int32_t tail;
};

static TP_INLINE struct tp_growth tp_growth_of(struct tp_host *host, const struct tp_way *way)
{
	uint32_t link_len = way->link.vlan.be ? TP_ETHERNET_LEN + TP_VLAN_LEN : TP_ETHERNET_LEN;

	if (tp_is_output(host, way))
		link_len = 0;
	return (struct tp_growth){
		.head = way->head_growth + (int32_t)(link_len + tp_ip_len(way->to_v4)) -
			(int32_t)(way->link_len + tp_ip_len(way->v4)),
		.tail = way->tail_growth,
	};
}

/* Tail, then head: as long as one of them fails, the frame can be made what it was. */
static TP_INLINE enum tp_verdict tp_make_room(
	struct tp_host *host, struct tp_packet *pkt, const struct tp_growth *growth)
{
	if (growth->tail > 0 && !tp_host_grow_tail(host, pkt, (uint32_t)growth->tail))
		return TP_NO_ROOM;
	if (growth->head <= 0 || tp_host_move_head(host, pkt, growth->head))
		return TP_RELAYED;
	if (growth->tail > 0 && !tp_host_trim_tail(host, pkt, (uint32_t)growth->tail))
		return TP_MALFORMED;
	return TP_NO_ROOM;
}

/* What was written is the whole frame now. False cannot happen. */
static TP_INLINE bool tp_cut_rest(
	struct tp_host *host, struct tp_packet *pkt, const struct tp_growth *growth)
{
	if (growth->head < 0 && !tp_host_move_head(host, pkt, growth->head))
		return false;
	return growth->tail >= 0 || tp_host_trim_tail(host, pkt, (uint32_t)-growth->tail);
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

/* The transaction is random (RFC 8656, 11.3; RFC 8489, 5). */
static TP_INLINE bool tp_write_indication(struct tp_host *host, const struct tp_packet *pkt,
	uint8_t *at, const struct tp_way *way, uint64_t *sum)
{
	uint64_t transaction = tp_host_random(host);
	uint32_t transaction_rest = (uint32_t)tp_host_random(host);

	if (!tp_write_data_head(
		    pkt, at, &way->peer, way->data_len, transaction, transaction_rest, sum))
		return false;
	at += tp_data_head_len(way->peer.v4) + (way->data_len & TP_STUN_LEN_MAX);
	return tp_write_padding(pkt, at, tp_padding_of(way->data_len));
}

/* What UDP carries in front of the data, and the padding behind. */
static TP_INLINE bool tp_write_wrapping(struct tp_host *host, const struct tp_packet *pkt,
	uint8_t *at, const struct tp_way *way, const struct tp_sides *sides, uint64_t *sum)
{
	const struct tp_flow *down = sides->down.flow;

	if (!down)
		return true;
	if (!down->value.channel.be)
		return tp_write_indication(host, pkt, at, way, sum);
	if (at + TP_CHANNELDATA_LEN > pkt->end)
		return false;
	tp_put32_sum(
		at, down->value.channel.be | (uint32_t)tp_to_be16(way->data_len).be << 16, sum);
	return true;
}

/*
 * By difference; `sum` is of all that it covers but the data. 0 means "none" and stays between
 * IPv4 and IPv4.
 */
static TP_INLINE uint16_t tp_way_checksum(const struct tp_way *way, uint64_t sum)
{
	uint16_t checksum;

	if (TP_LIKELY(way->old_sum))
		sum += TP_SUM_ZERO - way->old_sum;
	else if (way->to_v4)
		return 0;
	else
		sum += way->data_sum + (uint64_t)tp_to_be16(TP_PROTOCOL_UDP).be;
	checksum = (uint16_t)~tp_sum_fold_wide(sum);
	return checksum ? checksum : 0xffff;
}

static TP_INLINE bool tp_write_udp(struct tp_host *host, const struct tp_packet *pkt, uint8_t *at,
	const struct tp_way *way, const struct tp_sides *sides, uint64_t sum)
{
	uint16_t len = tp_to_be16(way->new_udp_len).be;

	sum += (uint64_t)way->ports_out + 2 * (uint64_t)len;
	if (!tp_write_wrapping(host, pkt, at + TP_UDP_LEN, way, sides, &sum))
		return false;
	tp_put64(at,
		way->ports_out | (uint64_t)len << 32 | (uint64_t)tp_way_checksum(way, sum) << 48);
	return true;
}

/* A word of the address it goes to. */
static TP_INLINE uint64_t tp_to(const struct tp_way *way, const struct tp_sides *sides, int word)
{
	return sides->down.flow ? sides->down.flow->value.remote[word] : way->peer.ip[word];
}

/* DSCP and ECN are kept; identification and flow label are the server's own. */
static TP_INLINE void tp_write_ipv4(struct tp_host *host, uint8_t *at, const struct tp_way *way,
	const struct tp_sides *sides, uint64_t *sum)
{
	uint32_t source = (uint32_t)(sides->from->ip[1] >> 32);
	uint32_t destination = (uint32_t)(tp_to(way, sides, 1) >> 32);
	uint16_t mix = 0;
	uint64_t first[2];

	if (!(way->marks.first & TP_DONT_FRAG_BIT))
		mix = (uint16_t)(way->v4 ? way->label : tp_host_random(host));
	tp_make_marked_ipv4(
		&way->marks, mix, TP_IPV4_LEN + way->new_udp_len, source, destination, first);
	tp_put64(at, first[0]);
	tp_put64(at + 8, first[1]);
	tp_put32(at + 16, destination);
	*sum += (uint64_t)source + destination;
}

static TP_INLINE void tp_write_ipv6(
	uint8_t *at, const struct tp_way *way, const struct tp_sides *sides, uint64_t *sum)
{
	const uint64_t *from = sides->from->ip;

	tp_put64(at, tp_make_marked_ipv6(&way->marks, way->label, way->new_udp_len));
	tp_put64_sum(at + 8, from[0], sum);
	tp_put64_sum(at + 16, from[1], sum);
	tp_put64_sum(at + 24, tp_to(way, sides, 0), sum);
	tp_put64_sum(at + 32, tp_to(way, sides, 1), sum);
}

/* Compiled once for each family. */
static TP_INLINE bool tp_write_packet(struct tp_host *host, const struct tp_packet *pkt,
	uint8_t *at, bool v4, const struct tp_way *way, const struct tp_sides *sides)
{
	uint64_t sum = 0;

	if (at + tp_ip_len(v4) + TP_UDP_LEN > pkt->end)
		return false;
	if (v4)
		tp_write_ipv4(host, at, way, sides, &sum);
	else
		tp_write_ipv6(at, way, sides, &sum);
	return tp_write_udp(host, pkt, at + tp_ip_len(v4), way, sides, sum);
}

/*
 * From where the frame will begin. All of the old headers that is of use was read before. False
 * cannot happen: it is how the bounds are shown to the BPF verifier.
 */
static TP_INLINE bool tp_write_front(struct tp_host *host, const struct tp_packet *pkt,
	const struct tp_way *way, const struct tp_sides *sides, uint32_t begin)
{
	bool v4 = way->to_v4;
	uint8_t *at = pkt->data + (TP_FORGET(begin) & 0x1ff);

	TP_KEEP(at);
	if (at + TP_ETHERNET_LEN + TP_VLAN_LEN > pkt->end)
		return false;
	if (!tp_is_output(host, way))
		at = tp_write_link(at, &way->link, v4 ? TP_ETHERTYPE_IPV4 : TP_ETHERTYPE_IPV6);
	return v4 ? tp_write_packet(host, pkt, at, true, way, sides)
		  : tp_write_packet(host, pkt, at, false, way, sides);
}

/* All checks, then the first write. What has no room is as it came. */
static TP_INLINE enum tp_verdict tp_leave(struct tp_host *host, struct tp_packet *pkt,
	const struct tp_config *config, struct tp_way *way, const struct tp_sides *sides)
{
	struct tp_growth growth;
	enum tp_verdict verdict;

	tp_host_take_again(host, pkt);
	verdict = tp_check_leave(host, pkt, config, way, sides);
	if (verdict != TP_RELAYED)
		return verdict;
	growth = tp_growth_of(host, way);
	verdict = tp_make_room(host, pkt, &growth);
	if (verdict != TP_RELAYED)
		return verdict;
	if (!tp_write_front(host, pkt, way, sides, growth.head < 0 ? (uint32_t)-growth.head : 0))
		return TP_MALFORMED;
	return tp_cut_rest(host, pkt, &growth) ? TP_RELAYED : TP_MALFORMED;
}
