/*
 * SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
 *
 * Internet checksums by difference (RFC 1624): what is added or taken away is summed up, the rest
 * of the packet is never read, so a wrong checksum stays as wrong as it was. Sums are of 16-bit
 * words as they lie in memory, which one's complement allows (RFC 1071, 2 B), in 32 bits that are
 * folded once at the end. Taking away is adding the complement.
 */
#pragma once

#include "flow.h"
#include "packet.h"

/* Of up to 2^16 words. */
static TP_INLINE uint16_t tp_sum_fold(uint32_t sum)
{
#ifdef __bpf__
	sum = (sum & 0xffff) + (sum >> 16); /* at most 0x1fffe */
	return (uint16_t)(sum + (sum >> 16));
#else
	/* The same: the carry out of the lower halves' sum goes to that of the upper ones. */
	return (uint16_t)((sum + (sum << 16 | sum >> 16)) >> 16);
#endif
}

/*
 * Wide sums, of words of 32 bits, for what has many of them: less work than 16 bits at a time, and
 * folded once. Taking away is subtracting from TP_SUM_ZERO, which is a multiple of 0xffff.
 */
#define TP_SUM_ZERO (UINT64_C(0xffff) << 24)

static TP_INLINE uint64_t tp_sum_wide(uint64_t words)
{
	return (words & 0xffffffff) + (words >> 32);
}

/* Of less than 2^48; 0 only if it is 0. */
static TP_INLINE uint16_t tp_sum_fold_wide(uint64_t sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	return tp_sum_fold((uint32_t)(sum & 0xffff) + (uint32_t)(sum >> 16));
}

/* Writes, and adds what was written to a wide sum. */
static TP_INLINE void tp_put64_sum(void *to, uint64_t word, uint64_t *sum)
{
	tp_put64(to, word);
	*sum += tp_sum_wide(word);
}

static TP_INLINE void tp_put32_sum(void *to, uint32_t word, uint64_t *sum)
{
	tp_put32(to, word);
	*sum += word;
}

static TP_INLINE uint32_t tp_sum_minus(uint16_t word)
{
	return UINT32_C(0xffff) - word;
}

/* `words` are as they lie in memory. */
static TP_INLINE uint32_t tp_sum_words(uint64_t words)
{
	return (uint32_t)(words & 0xffff) + (uint32_t)(words >> 16 & 0xffff) +
	       (uint32_t)(words >> 32 & 0xffff) + (uint32_t)(words >> 48);
}

static TP_INLINE uint32_t tp_sum_ip(const uint64_t ip[2])
{
	return tp_sum_words(ip[0]) + tp_sum_words(ip[1]);
}

/* Of at most 2^16 bytes of plain memory, as if one more of 0 followed an odd number of them. */
static TP_INLINE uint64_t tp_sum_bytes(const uint8_t *from, size_t len)
{
	uint64_t all = 0, odd = 0;

	for (; len >= 8; len -= 8, from += 8) {
		uint64_t words = tp_get64(from);

		all += words & 0xffffffff;
		odd += words >> 32;
	}
	for (size_t i = 0; i < len; i++)
		all += (uint64_t)from[i] << ((i & 1) * 8);
	return all + odd;
}

/* The checksum after `sum` was added to what it covers. */
static TP_INLINE uint16_t tp_checksum_add(uint16_t checksum, uint32_t sum)
{
	return (uint16_t)~tp_sum_fold(sum + tp_sum_minus(checksum));
}

/* What a length field gains when the ChannelData header goes from one side to the other. */
static TP_INLINE uint32_t tp_flow_len_delta(
	const struct tp_flow_key *key, const struct tp_flow_value *value)
{
	const uint16_t len = tp_to_be16(TP_CHANNELDATA_LEN).be;

	return (value->channel.be ? len : 0) + (key->channel.be ? tp_sum_minus(len) : 0);
}

/*
 * tp_flow.sum_delta. The v4-mapped prefix adds 0xffff, which is 0 in one's complement: right for
 * every combination of families. `in_local` and `out_local` are the addresses behind key->local
 * and value->local. The UDP length counts twice: in its header and in the pseudo header.
 */
static TP_INLINE uint16_t tp_flow_sum_delta(const struct tp_flow_key *key,
	const struct tp_flow_value *value, const struct tp_local *in_local,
	const struct tp_local *out_local)
{
	uint32_t in = tp_sum_ip(key->remote) + tp_sum_ip(in_local->ip) + key->remote_port.be +
		      key->local_port.be + key->channel.be;
	uint32_t out = tp_sum_ip(value->remote) + tp_sum_ip(out_local->ip) + value->remote_port.be +
		       value->local_port.be + value->channel.be;

	return tp_sum_fold(out + tp_sum_minus(tp_sum_fold(in)) + 2 * tp_flow_len_delta(key, value));
}

/* tp_flow.ip_sum_delta. The TTL is the lower half of its word in memory: minus 1. */
static TP_INLINE uint16_t tp_flow_ip_sum_delta(const struct tp_flow_key *key,
	const struct tp_flow_value *value, const struct tp_local *in_local,
	const struct tp_local *out_local)
{
	uint32_t in = tp_sum_ip(key->remote) + tp_sum_ip(in_local->ip);
	uint32_t out = tp_sum_ip(value->remote) + tp_sum_ip(out_local->ip);

	return tp_sum_fold(out + tp_sum_minus(tp_sum_fold(in)) + tp_sum_minus(1) +
			   tp_flow_len_delta(key, value));
}
