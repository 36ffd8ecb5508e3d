/*
 * SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
 *
 * What an IP header says besides addresses and lengths, and how that goes from one family to the
 * other (RFC 8656, 13 and 14): read from the packet that came, written into the one that leaves.
 */
#pragma once

#include "checksum.h"
#include "host.h"

#define TP_IPV6_MIN_MTU 1280
#define TP_IPV4_ATOMIC  1260 /* up to here IPv6 may become IPv4 that may be fragmented */

/* In the first eight bytes of an IPv4 header. */
#define TP_IPV4_LEN_MASK (UINT64_C(0xffff) << 16)
#define TP_IPV4_ID_SHIFT 32
#define TP_DONT_FRAG_BIT (UINT64_C(0x0040) << 48)

struct tp_marks {
	uint8_t ttl; /* or hop limit */
	bool v4;     /* the header they are from */
	/*
	 * The first eight bytes of an IPv4 header, but for the length: DSCP and ECN, the
	 * identification, which IPv6 has not, and DF.
	 */
	uint64_t first;
	uint64_t sum; /* IPv4: wide, of the whole header: 0xffff unless its checksum is wrong */
};

/* The header lies within the packet: TP_IPV4_LEN or TP_IPV6_LEN bytes. */
static TP_INLINE void tp_read_marks(const uint8_t *ip, bool v4, struct tp_marks *out)
{
	uint64_t first = tp_get64(ip), second;

	out->v4 = v4;
	if (!v4) {
		out->ttl = (uint8_t)(first >> 56);
		out->first = 0x45 | (__builtin_bswap32((uint32_t)first) >> 20 & 0xff) << 8;
		out->sum = 0;
		return;
	}
	second = tp_get64(ip + 8);
	out->ttl = (uint8_t)second;
	out->first = first & ~TP_IPV4_LEN_MASK;
	out->sum = tp_sum_wide(first) + tp_sum_wide(second) + tp_get32(ip + 16);
}

/* Towards IPv6 nothing would tell any more that it was wrong. */
static TP_INLINE bool tp_is_header_whole(const struct tp_marks *marks)
{
	return marks->sum == 0 || tp_sum_fold_wide(marks->sum) == 0xffff;
}

static TP_INLINE void tp_set_dont_fragment(struct tp_marks *marks, bool set)
{
	marks->first = (marks->first & ~TP_DONT_FRAG_BIT) | (set ? TP_DONT_FRAG_BIT : 0);
}

/*
 * One hop of the marks into the other family or the same; `ip_len` is what leaves it. False: what
 * may be fragmented has to be (RFC 8656, 13.1), which is the control plane's business.
 */
static TP_INLINE bool tp_hop_marks(struct tp_marks *marks, bool v4_out, uint32_t ip_len)
{
	bool v4_in = marks->v4;

	marks->v4 = v4_out;
	if (!v4_in)
		tp_set_dont_fragment(marks, ip_len > TP_IPV4_ATOMIC);
	return !v4_in || v4_out || marks->first & TP_DONT_FRAG_BIT || ip_len <= TP_IPV6_MIN_MTU;
}

/*
 * An IPv4 header up to its destination, in the order of the wire, with other bits in the
 * identification. A wrong checksum stays wrong.
 */
static TP_INLINE void tp_make_marked_ipv4(const struct tp_marks *marks, uint16_t mix,
	uint32_t ip_len, uint32_t source, uint32_t destination, uint64_t out[2])
{
	uint64_t sum;

	out[0] = (marks->first | (uint64_t)tp_to_be16((uint16_t)ip_len).be << 16) ^
		 (uint64_t)mix << TP_IPV4_ID_SHIFT;
	out[1] = marks->ttl | TP_PROTOCOL_UDP << 8 | (uint64_t)source << 32;
	sum = tp_sum_wide(out[0]) + tp_sum_wide(out[1]) + destination + TP_SUM_ZERO - marks->sum;
	out[1] |= (uint64_t)(uint16_t)~tp_sum_fold_wide(sum) << 16;
}

/* An IPv6 header up to its addresses. */
static TP_INLINE uint64_t tp_make_marked_ipv6(
	const struct tp_marks *marks, uint32_t label, uint32_t udp_len)
{
	uint32_t tos = (uint8_t)(marks->first >> 8);
	uint32_t class_label = 6u << 28 | tos << 20 | (label & 0xfffff);

	return tp_to_be32(class_label).be | (uint64_t)tp_to_be16((uint16_t)udp_len).be << 32 |
	       (uint64_t)TP_PROTOCOL_UDP << 48 | (uint64_t)marks->ttl << 56;
}
