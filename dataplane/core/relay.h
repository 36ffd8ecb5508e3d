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

static TP_INLINE enum tp_verdict tp_find_any_flow(struct tp_host *host, const struct tp_packet *pkt,
	struct tp_headers *in, struct tp_found *found)
{
	const struct tp_config *config = tp_host_config(host);
	enum tp_verdict verdict;
	tp_be16 type;

	if (!tp_is_enabled(host, config))
		return TP_OFF;
	verdict = tp_parse_ethernet(pkt, in, &type);
	if (verdict == TP_RELAYED)
		verdict = tp_parse_ip(pkt, type, in);
	return verdict == TP_RELAYED ? tp_find(host, pkt, config, in, found) : verdict;
}

/* Every case there is: the packet's flow, or NULL and way->verdict says why. */
static TP_OUT_OF_LINE struct tp_flow *tp_find_any(
	struct tp_host *host, const struct tp_packet *pkt, struct tp_way *way)
{
	struct tp_found found = TP_NOTHING_FOUND;
	struct tp_headers in;

	way->verdict = (uint8_t)tp_find_any_flow(host, pkt, &in, &found);
	if (way->verdict != TP_RELAYED)
		return NULL;
	way->slot = found.slot;
	tp_set_way(way, in.ports, in.udp_len, in.link_len, (uint32_t)(in.room - in.l4_len));
	return found.flow;
}

/*
 * The same for a packet of the common shape, of which is known already what it asked for, and the
 * flow that was found, if any. NULL: it takes a verdict, or another look. What has a flow has an
 * address to go with it, but addresses can be forged.
 */
static TP_INLINE struct tp_flow *tp_find_asked(struct tp_host *host, const struct tp_config *config,
	const struct tp_asked *asked, struct tp_flow *flow, struct tp_way *way)
{
	const uint64_t *source = asked->key.remote;
	uint32_t ports = (uint32_t)asked->key.ident;
	uint32_t udp_len = TP_UDP_LEN + (uint32_t)asked->data_len;

	if (!asked->channel_in && (!flow || tp_is_expired(host, flow))) {
		struct tp_found other = tp_find_other(host, source[0], source[1],
			tp_ident_of(ports, asked->key.local, TP_FLOW_PERMISSION));

		flow = other.flow;
		way->slot = other.slot;
	}
	if (!flow || tp_is_expired(host, flow) || (uint16_t)ports == 0 ||
		tp_is_martian(source, tp_is_v4(source)) || tp_is_own(host, config, source))
		return NULL;
	if (asked->channel_in)
		udp_len += TP_CHANNELDATA_LEN;
	tp_set_way(way, ports, udp_len, TP_ETHERNET_LEN, 0);
	return flow;
}

/*
 * Every packet but the common one. `flow` is what one of the common shape (way->asked) asked for,
 * or NULL; way->slot is its slot. TP_RELAYED is counted; any other verdict is not yet.
 */
static TP_INLINE enum tp_verdict tp_any(
	struct tp_host *host, struct tp_packet *pkt, struct tp_way *way, struct tp_flow *flow)
{
	const struct tp_config *config = tp_host_config(host);

	if (!config)
		return TP_OFF;
	flow = way->is_asked ? tp_find_asked(host, config, &way->asked, flow, way) : NULL;
	if (!flow)
		flow = tp_find_any(host, pkt, way);
	if (!flow)
		return (enum tp_verdict)way->verdict;
	return tp_host_general(host, pkt, way, flow);
}

#ifndef __bpf__
static TP_INLINE enum tp_verdict tp_host_any(
	struct tp_host *host, struct tp_packet *pkt, struct tp_way *way, struct tp_flow *flow)
{
	return tp_any(host, pkt, way, flow);
}
#endif

/* `asked` is NULL for packets that have not the common shape; then nothing was found either. */
static TP_COLD enum tp_verdict tp_relay_any(struct tp_host *host, struct tp_packet *pkt,
	const struct tp_asked *asked, struct tp_found found)
{
	struct tp_way *way = tp_host_way(host);
	enum tp_verdict verdict;

	if (!way)
		return tp_count(host, TP_OFF);
	way->is_asked = asked != NULL;
	way->slot = found.slot;
	if (asked)
		way->asked = *asked;
	if (tp_host_outputs(host))
		way->output = TP_RELAYED;
	verdict = tp_host_any(host, pkt, way, found.flow);
	pkt->is_rewritten = tp_is_output(host, way) && verdict == way->output;
	pkt->egress = way->egress;
	pkt->interface = way->interface;
	return verdict == TP_RELAYED ? verdict : tp_count(host, verdict);
}

static TP_INLINE enum tp_verdict tp_relay_asked(struct tp_host *host, struct tp_packet *pkt,
	const struct tp_config *config, bool v4, const struct tp_asked *asked)
{
	struct tp_found found = tp_find_flow(host, config, &asked->key);

	if (TP_LIKELY(found.flow && tp_end_common(host, pkt, v4, asked, found)))
		return TP_RELAYED;
	return tp_relay_any(host, pkt, asked, found);
}

static TP_INLINE enum tp_verdict tp_relay(struct tp_host *host, struct tp_packet *pkt)
{
	const struct tp_config *config = tp_host_config(host);
	struct tp_asked asked;

	if (TP_LIKELY(tp_is_enabled(host, config))) {
		if (TP_LIKELY(tp_begin_common(host, pkt, config, true, &asked)))
			return tp_relay_asked(host, pkt, config, true, &asked);
		if (tp_begin_common(host, pkt, config, false, &asked))
			return tp_relay_asked(host, pkt, config, false, &asked);
	}
	return tp_relay_any(host, pkt, NULL, TP_NOTHING_FOUND);
}
