/*
 * SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
 *
 * The fast path for a polling worker: a burst of frames at a time, in three passes. A look-up waits
 * for memory once or twice, for the record at home or for the tags and then the record; each pass
 * asks for the lines of all packets that the next one reads, so a burst waits about as long as one
 * packet would. Include
 * host_native.h before.
 */
#pragma once

#include "relay.h"

#define TP_BURST 64

/* Where one packet of a burst stands. */
struct tp_lane {
	struct tp_asked asked;
	struct tp_place place;
	struct tp_flow *flow; /* NULL: none found */
	enum { TP_LANE_OTHER, TP_LANE_IPV4, TP_LANE_IPV6 } kind;
};

static TP_INLINE void tp_burst_fetch(const struct tp_flow *flow)
{
	__builtin_prefetch(flow);
	__builtin_prefetch(&flow->counters, 1);
}

static TP_INLINE void tp_burst_ask(struct tp_host *host, const struct tp_packet *pkt,
	const struct tp_config *config, struct tp_lane *lane)
{
	lane->kind = TP_LANE_OTHER;
	if (tp_begin_common(host, pkt, config, true, &lane->asked))
		lane->kind = TP_LANE_IPV4;
	else if (tp_begin_common(host, pkt, config, false, &lane->asked))
		lane->kind = TP_LANE_IPV6;
	else
		return;
	lane->place = tp_place_of(
		tp_flow_hash(&lane->asked.key, config->salt), TP_READ_ONCE(config->bucket_mask));
	tp_burst_fetch(tp_host_flow(host, lane->place.home));
	__builtin_prefetch(tp_host_bucket(host, lane->place.bucket[0]));
}

/* At home, or the first slot with the tag: nearly always the right one. */
static TP_INLINE void tp_burst_find(struct tp_host *host, struct tp_lane *lane)
{
	lane->flow = tp_host_flow(host, lane->place.home);
	if (TP_LIKELY(tp_is_flow(lane->flow, &lane->asked.key)))
		return;
	lane->flow = NULL;
	for (int i = 0; i < 2; i++) {
		uint32_t bucket = lane->place.bucket[i];
		uint64_t match = tp_tags_equal(tp_host_bucket(host, bucket), lane->place.tag);

		if (!match)
			continue;
		lane->flow = tp_host_flow(host, bucket * TP_BUCKET_SLOTS + tp_lowest_slot(match));
		tp_burst_fetch(lane->flow);
		return;
	}
}

static TP_INLINE enum tp_verdict tp_burst_end(struct tp_host *host, struct tp_packet *pkt,
	const struct tp_config *config, struct tp_lane *lane)
{
	if (TP_UNLIKELY(lane->kind == TP_LANE_OTHER))
		return tp_relay_any(host, pkt, NULL, NULL);
	if (TP_UNLIKELY(!lane->flow || !tp_is_flow(lane->flow, &lane->asked.key)))
		lane->flow = tp_find_flow(host, config, &lane->asked.key);
	if (TP_UNLIKELY(!lane->flow))
		return tp_relay_any(host, pkt, &lane->asked, NULL);
	if (lane->kind == TP_LANE_IPV4) {
		if (TP_LIKELY(tp_end_common(host, pkt, true, &lane->asked, lane->flow)))
			return TP_RELAYED;
	} else if (TP_LIKELY(tp_end_common(host, pkt, false, &lane->asked, lane->flow))) {
		return TP_RELAYED;
	}
	return tp_relay_any(host, pkt, &lane->asked, lane->flow);
}

/* verdicts[i] says what became of pkts[i]; count <= TP_BURST. */
static TP_INLINE void tp_relay_burst(
	struct tp_host *host, struct tp_packet *pkts, enum tp_verdict *verdicts, uint32_t count)
{
	const struct tp_config *config = tp_host_config(host);
	bool enabled = tp_is_enabled(host, config);
	struct tp_lane lanes[TP_BURST] __attribute__((uninitialized));

	for (uint32_t i = 0; i < count; i++) {
		lanes[i].kind = TP_LANE_OTHER;
		if (enabled)
			tp_burst_ask(host, &pkts[i], config, &lanes[i]);
	}
	for (uint32_t i = 0; i < count; i++) {
		lanes[i].flow = NULL;
		if (lanes[i].kind != TP_LANE_OTHER)
			tp_burst_find(host, &lanes[i]);
	}
	for (uint32_t i = 0; i < count; i++)
		verdicts[i] = tp_burst_end(host, &pkts[i], config, &lanes[i]);
}
