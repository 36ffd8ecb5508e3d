/*
 * SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
 *
 * The common path of core/common.h, cut off behind one of its stages: what two neighbours differ by
 * is what a stage costs. IPv4, client to peer. Include a host and core/relay.h before this.
 */
#pragma once

#include "dataplane/core/relay.h"

enum stage {
	STAGE_FRAME, /* the frame is put there: what the measuring costs */
	STAGE_PARSE, /* headers, local address, state of the port, ChannelData's header */
	STAGE_HASH,
	STAGE_FIND,
	STAGE_CHECK, /* expiry, TTL, next hop, MTU, interface */
	STAGE_MAKE,  /* the new headers, in registers */
	STAGE_ROOM,  /* the frame's head is moved, and moved back */
	STAGE_WRITE,
	STAGE_COUNT,
	STAGES
};

/* A result that nobody uses, and that has to be there all the same. */
#define STAGE_KEEP(value) __asm__ volatile("" : : "r"((uint64_t)(value)))

static TP_INLINE void stage_keep_headers(const struct tp_outgoing *go)
{
	STAGE_KEEP(go->ip[0]);
	STAGE_KEEP(go->ip[1]);
	STAGE_KEEP(go->udp);
	STAGE_KEEP(go->link.addresses);
}

/* From the checks on. The head is where it was afterwards. */
static TP_INLINE bool stage_end(struct tp_host *host, struct tp_packet *pkt,
	const struct tp_asked *asked, struct tp_found found, enum stage last)
{
	struct tp_rewrite out = {
		.flow = found.flow, .data_len = asked->data_len, .channel_in = true};
	struct tp_outgoing go;
	struct tp_headers in;

	if (found.flow->value.flags != TP_FLOW_PLAIN || tp_is_expired(host, found.flow) ||
		pkt->data + TP_COMMON_HEADERS(true) > pkt->end)
		return false;
	tp_place_headers(pkt, true, &in);
	if (tp_check_plain(host, pkt, &in, &out, &go) != TP_RELAYED || go.link.vlan.be)
		return false;
	STAGE_KEEP(go.link.addresses);
	if (last == STAGE_CHECK)
		return true;
	tp_make_headers(&in, &out, &go);
	stage_keep_headers(&go);
	if (last == STAGE_MAKE)
		return true;
	if (!tp_host_move_head(host, pkt, -TP_CHANNELDATA_LEN))
		return false;
	if (last >= STAGE_WRITE && tp_write(pkt, true, &out, &go) != TP_RELAYED)
		return false;
	if (last >= STAGE_COUNT)
		tp_count_relayed(host, found.flow, found.slot, TP_CLIENT_TO_PEER, TP_V4_TO_V4,
			asked->data_len);
	return tp_host_move_head(host, pkt, TP_CHANNELDATA_LEN);
}

/* `last` is known where this is compiled. False: the packet is not one of those meant. */
static TP_INLINE bool stage_run(struct tp_host *host, struct tp_packet *pkt, enum stage last)
{
	const struct tp_config *config = tp_host_config(host);
	struct tp_asked asked;
	struct tp_found found;

	if (last == STAGE_FRAME)
		return true;
	if (!tp_is_enabled(host, config) || !tp_begin_common(host, pkt, config, true, &asked))
		return false;
	STAGE_KEEP(asked.key.remote[1]);
	STAGE_KEEP(asked.key.ident);
	if (last == STAGE_PARSE)
		return true;
	if (last == STAGE_HASH) {
		STAGE_KEEP(tp_flow_hash(&asked.key, config->salt));
		return true;
	}
	found = tp_find_flow(host, config, &asked.key);
	if (!found.flow)
		return false;
	STAGE_KEEP(found.flow->value.remote[1]);
	return last == STAGE_FIND || stage_end(host, pkt, &asked, found, last);
}
