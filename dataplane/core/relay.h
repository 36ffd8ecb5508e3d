/*
 * SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
 *
 * The fast path, top to bottom. Every check comes before the first write: a packet whose verdict
 * has the fate PASS is untouched. Include a host (host.h) before this.
 */
#pragma once

#include "common.h"
#include "count.h"
#include "general.h"
#include "host.h"
#include "lookup.h"
#include "parse.h"
#include "verdict.h"

static TP_INLINE enum tp_verdict tp_find_flow_of(struct tp_host *host, const struct tp_packet *pkt,
	struct tp_headers *in, struct tp_flow **flow)
{
	const struct tp_config *config = tp_host_config(host);
	enum tp_verdict verdict;
	tp_be16 type;

	if (!tp_is_enabled(host, config))
		return TP_OFF;
	verdict = tp_parse_ethernet(pkt, in, &type);
	if (verdict == TP_RELAYED)
		verdict = tp_parse_ip(pkt, type, in);
	return verdict == TP_RELAYED ? tp_find(host, pkt, config, in, flow) : verdict;
}

/* Every case there is: the packet's flow, or NULL and way->verdict says why. */
static TP_OUT_OF_LINE struct tp_flow *tp_find_any(
	struct tp_host *host, const struct tp_packet *pkt, struct tp_way *way)
{
	struct tp_flow *flow = NULL;
	struct tp_headers in;

	way->verdict = (uint8_t)tp_find_flow_of(host, pkt, &in, &flow);
	if (way->verdict != TP_RELAYED)
		return NULL;
	tp_set_way(way, &in);
	return flow;
}

static TP_OUT_OF_LINE enum tp_verdict tp_relay_any(struct tp_host *host, struct tp_packet *pkt)
{
	struct tp_way *way = tp_host_way(host);
	struct tp_flow *flow;
	enum tp_verdict verdict;

	if (!way)
		return tp_count(host, TP_OFF);
	flow = tp_find_any(host, pkt, way);
	if (!flow)
		return tp_count(host, (enum tp_verdict)way->verdict);
	verdict = tp_host_general(host, pkt, way, flow);
	pkt->egress = way->egress;
	pkt->interface = way->interface;
	return verdict == TP_RELAYED ? verdict : tp_count(host, verdict);
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
