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
	tp_set_way(way, in.link_len, (uint32_t)(in.room - in.l4_len));
	return found.flow;
}

/*
 * The flow of a packet of the common shape, if it has one: without a channel a peer has what its
 * permission says. What has a flow has an address to go with it, but addresses can be forged.
 */
static TP_INLINE bool tp_find_asked(struct tp_host *host, const struct tp_config *config,
	const struct tp_asked *asked, struct tp_found *found)
{
	const uint64_t *source = asked->key.remote;
	uint32_t ports = (uint32_t)asked->key.ident;

	if (!asked->channel_in && (!found->flow || tp_is_expired(host, found->flow)))
		*found = tp_find_other(host, source[0], source[1],
			tp_ident_of(ports, asked->key.local, TP_FLOW_PERMISSION));
	return found->flow && !tp_is_expired(host, found->flow) && (uint16_t)ports != 0 &&
	       !tp_is_martian(source, tp_is_v4(source)) && !tp_is_own(host, config, source);
}

/* Compiled once for each family. */
static TP_INLINE enum tp_verdict tp_usual_of(struct tp_host *host, struct tp_packet *pkt, bool v4,
	struct tp_way *way, const struct tp_asked *asked, struct tp_found found)
{
	const struct tp_config *config = tp_host_config(host);
	/* Not the record's own word, which is gone when it was revoked meanwhile. */
	enum tp_flow_kind kind = asked->key.kind;

	if (!config || !tp_find_asked(host, config, asked, &found))
		return TP_UNDECIDED;
	tp_set_way(way, TP_ETHERNET_LEN, 0);
	if (tp_begin_way(pkt, v4, way) != TP_RELAYED || !tp_open_usual(pkt, kind, way))
		return TP_UNDECIDED;
	return tp_go(host, pkt, config, found, tp_is_from_client(kind), way);
}

/*
 * A packet of the common shape that is not the common one: what its flow says, or how the data is
 * wrapped, differs. The steps are those of all others (general.h), but little of them is left where
 * so much is known. `found` is what it asked for, if that is there. TP_UNDECIDED: it is odd all the
 * same. TP_RELAYED is counted; any other verdict is not yet.
 */
static TP_INLINE enum tp_verdict tp_usual(struct tp_host *host, struct tp_packet *pkt,
	struct tp_way *way, const struct tp_asked *asked, struct tp_found found)
{
	if (tp_is_v4(asked->key.remote))
		return tp_usual_of(host, pkt, true, way, asked, found);
	return tp_usual_of(host, pkt, false, way, asked, found);
}

/* Whatever comes. TP_RELAYED is counted; any other verdict is not yet. */
static TP_INLINE enum tp_verdict tp_any(
	struct tp_host *host, struct tp_packet *pkt, struct tp_way *way)
{
	struct tp_flow *flow = tp_find_any(host, pkt, way);

	return flow ? tp_host_general(host, pkt, way, flow) : (enum tp_verdict)way->verdict;
}

#ifndef __bpf__
static TP_INLINE enum tp_verdict tp_host_usual(struct tp_host *host, struct tp_packet *pkt,
	struct tp_way *way, const struct tp_asked *asked, struct tp_found found)
{
	return tp_usual(host, pkt, way, asked, found);
}

static TP_INLINE enum tp_verdict tp_host_any(
	struct tp_host *host, struct tp_packet *pkt, struct tp_way *way)
{
	return tp_any(host, pkt, way);
}
#endif

/* `asked` is NULL for packets that have not the common shape; then nothing was found either. */
static TP_COLD enum tp_verdict tp_relay_any(struct tp_host *host, struct tp_packet *pkt,
	const struct tp_asked *asked, struct tp_found found)
{
	struct tp_way *way = tp_host_way(host);
	enum tp_verdict verdict = TP_UNDECIDED;

	if (!way)
		return tp_count(host, TP_OFF);
	if (tp_host_outputs(host))
		way->output = TP_RELAYED;
	if (asked)
		verdict = tp_host_usual(host, pkt, way, asked, found);
	if (verdict == TP_UNDECIDED)
		verdict = tp_host_any(host, pkt, way);
	pkt->is_rewritten = tp_is_output(host, way) && verdict == way->output;
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
