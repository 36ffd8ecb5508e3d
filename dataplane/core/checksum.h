/*
 * SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
 *
 * Internet checksums by difference (RFC 1624): what is added or taken away is summed up, the rest
 * of the packet is never read, so a wrong checksum stays as wrong as it was. Sums are of 16-bit
 * words as they lie in memory, which one's complement allows (RFC 1071, 2 B), in 64 bits that are
 * folded once at the end. Taking away is adding the complement.
 */
#pragma once

#include "flow.h"
#include "packet.h"

static TP_INLINE uint16_t tp_sum_fold(uint64_t sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

static TP_INLINE uint64_t tp_sum_minus16(uint16_t word)
{
	return (uint16_t)~word;
}

static TP_INLINE uint64_t tp_sum_minus32(uint32_t word)
{
	return (uint32_t)~word;
}

static TP_INLINE uint64_t tp_sum_ip(const uint64_t ip[2])
{
	return (ip[0] & 0xffffffff) + (ip[0] >> 32) + (ip[1] & 0xffffffff) + (ip[1] >> 32);
}

/* The checksum after `sum` was added to what it covers. */
static TP_INLINE tp_be16 tp_checksum_add(tp_be16 checksum, uint64_t sum)
{
	return (tp_be16){(uint16_t)~tp_sum_fold(sum + tp_sum_minus16(checksum.be))};
}

/*
 * tp_flow.sum_delta. The v4-mapped prefix adds 0xffff, which is 0 in one's complement: right for
 * every combination of families. `in_local` and `out_local` are the addresses behind key->local
 * and value->local.
 */
static TP_INLINE uint16_t tp_flow_sum_delta(const struct tp_flow_key *key,
	const struct tp_flow_value *value, const struct tp_local *in_local,
	const struct tp_local *out_local)
{
	uint64_t in = tp_sum_ip(key->remote) + tp_sum_ip(in_local->ip) + key->remote_port.be +
		      key->local_port.be + key->channel.be;
	uint64_t out = tp_sum_ip(value->remote) + tp_sum_ip(out_local->ip) + value->remote_port.be +
		       value->local_port.be + value->channel.be;

	return tp_sum_fold(out + tp_sum_minus16(tp_sum_fold(in)));
}
