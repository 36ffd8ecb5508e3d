/*
 * SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
 *
 * The fast path, top to bottom. Every check comes before the first write: a packet whose verdict
 * has the fate PASS is untouched. Include a host (host.h) before this.
 */
#pragma once

#include "common.h"
#include "count.h"
#include "host.h"
#include "lookup.h"
#include "parse.h"
#include "rewrite.h"
#include "verdict.h"

/* Compiled once for IPv4 and once for IPv6: neither carries the other's branches. */
static TP_INLINE enum tp_verdict tp_relay_ip(struct tp_host *host, struct tp_packet *pkt,
	const struct tp_config *config, struct tp_headers *in, bool v4)
{
	uint8_t *l3 = pkt->data + in->link_len;
	struct tp_rewrite out;
	enum tp_verdict verdict;

	verdict = v4 ? tp_parse_ipv4(pkt, l3, in) : tp_parse_ipv6(pkt, l3, in);
	if (verdict != TP_RELAYED)
		return tp_count(host, verdict);
	verdict = tp_find(host, pkt, config, in, &out);
	if (verdict != TP_RELAYED)
		return tp_count(host, verdict);
	verdict = tp_apply(host, pkt, in, &out);
	if (verdict != TP_RELAYED)
		return tp_count(host, verdict);
	return tp_count_relayed(host, &out, tp_pair_of(v4, v4));
}

/* Every case there is. */
static TP_OUT_OF_LINE enum tp_verdict tp_relay_any(struct tp_host *host, struct tp_packet *pkt)
{
	const struct tp_config *config = tp_host_config(host);
	struct tp_headers in;
	enum tp_verdict verdict;
	tp_be16 type;

	if (!tp_is_enabled(host, config))
		return tp_count(host, TP_OFF);
	verdict = tp_parse_ethernet(pkt, &in, &type);
	if (verdict != TP_RELAYED)
		return tp_count(host, verdict);
	if (TP_LIKELY(tp_be16_equal(type, tp_to_be16(TP_ETHERTYPE_IPV4))))
		return tp_relay_ip(host, pkt, config, &in, true);
	if (tp_be16_equal(type, tp_to_be16(TP_ETHERTYPE_IPV6)))
		return tp_relay_ip(host, pkt, config, &in, false);
	return tp_count(host, TP_NOT_OURS);
}

static TP_INLINE enum tp_verdict tp_relay(struct tp_host *host, struct tp_packet *pkt)
{
	const struct tp_config *config = tp_host_config(host);

	if (TP_LIKELY(tp_is_enabled(host, config) &&
		      (tp_relay_common(host, pkt, config, true) ||
			      tp_relay_common(host, pkt, config, false))))
		return TP_RELAYED;
	return tp_relay_any(host, pkt);
}
