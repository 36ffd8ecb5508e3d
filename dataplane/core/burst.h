/*
 * SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
 *
 * The fast path for a polling worker: a burst of frames at a time. A look-up waits for memory: each
 * pass asks for the lines of all packets that the next one reads, so a burst waits about as long as
 * one packet would. Packets whose record lies at home, nearly all, are done after two passes; the
 * rest needs two more, over the tags and then the record. Include host_native.h before.
 */
#pragma once

#include "relay.h"

#define TP_BURST 64

/* Where one packet of a burst stands. */
struct tp_lane {
	struct tp_asked asked;
	struct tp_place place;
	struct tp_found found; /* away from home; no flow: none found */
	enum { TP_LANE_OTHER, TP_LANE_IPV4, TP_LANE_IPV6 } kind;
};

struct tp_burst {
	struct tp_lane lanes[TP_BURST];
	uint8_t away[TP_BURST]; /* lanes whose record is not at home */
	uint32_t away_count;
};

static TP_INLINE void tp_burst_ask(struct tp_host *host, const struct tp_packet *pkt,
	const struct tp_config *config, struct tp_lane *lane)
{
	if (TP_LIKELY(tp_begin_common(host, pkt, config, true, &lane->asked))) {
		lane->kind = TP_LANE_IPV4;
	} else if (tp_begin_common(host, pkt, config, false, &lane->asked)) {
		lane->kind = TP_LANE_IPV6;
	} else {
		lane->kind = TP_LANE_OTHER;
		return;
	}
	lane->place = tp_place_of(
		tp_flow_hash(&lane->asked.key, config->salt), TP_READ_ONCE(config->bucket_mask));
	__builtin_prefetch(tp_host_flow(host, lane->place.home), 1);
}

static TP_INLINE enum tp_verdict tp_burst_end(
	struct tp_host *host, struct tp_packet *pkt, struct tp_lane *lane, struct tp_found found)
{
	if (TP_LIKELY(lane->kind == TP_LANE_IPV4)) {
		if (TP_LIKELY(tp_end_common(host, pkt, true, &lane->asked, found)))
			return TP_RELAYED;
	} else if (TP_LIKELY(tp_end_common(host, pkt, false, &lane->asked, found))) {
		return TP_RELAYED;
	}
	return tp_relay_any(host, pkt, &lane->asked, found);
}

/* The first slot with the tag: nearly always the right one. */
static TP_INLINE void tp_burst_find(struct tp_host *host, struct tp_lane *lane)
{
	lane->found = TP_NOTHING_FOUND;
	for (int i = 0; i < 2; i++) {
		uint32_t bucket = lane->place.bucket[i];
		uint64_t match = tp_tags_equal(tp_host_bucket(host, bucket), lane->place.tag);

		if (!match)
			continue;
		lane->found.slot = bucket * TP_BUCKET_SLOTS + tp_lowest_slot(match);
		lane->found.flow = tp_host_flow(host, lane->found.slot);
		__builtin_prefetch(lane->found.flow, 1);
		return;
	}
}

static TP_INLINE enum tp_verdict tp_burst_end_away(struct tp_host *host, struct tp_packet *pkt,
	const struct tp_config *config, struct tp_lane *lane)
{
	if (TP_UNLIKELY(!lane->found.flow || !tp_is_flow(lane->found.flow, &lane->asked.key)))
		lane->found = tp_find_flow(host, config, &lane->asked.key);
	if (TP_UNLIKELY(!lane->found.flow))
		return tp_relay_any(host, pkt, &lane->asked, lane->found);
	return tp_burst_end(host, pkt, lane, lane->found);
}

static TP_OUT_OF_LINE void tp_burst_away(struct tp_host *host, struct tp_packet *pkts,
	const struct tp_config *config, struct tp_burst *burst, enum tp_verdict *verdicts)
{
	for (uint32_t i = 0; i < burst->away_count; i++)
		tp_burst_find(host, &burst->lanes[burst->away[i]]);
	for (uint32_t i = 0; i < burst->away_count; i++) {
		uint32_t at = burst->away[i];

		verdicts[at] = tp_burst_end_away(host, &pkts[at], config, &burst->lanes[at]);
	}
}

/* Done, or asked for its tags. */
static TP_INLINE void tp_burst_at_home(struct tp_host *host, struct tp_packet *pkt,
	struct tp_burst *burst, uint32_t i, enum tp_verdict *verdict)
{
	struct tp_lane *lane = &burst->lanes[i];
	struct tp_found home;

	if (TP_UNLIKELY(lane->kind == TP_LANE_OTHER)) {
		*verdict = tp_relay_any(host, pkt, NULL, TP_NOTHING_FOUND);
		return;
	}
	home = (struct tp_found){tp_host_flow(host, lane->place.home), lane->place.home};
	if (TP_LIKELY(tp_is_flow(home.flow, &lane->asked.key))) {
		*verdict = tp_burst_end(host, pkt, lane, home);
		return;
	}
	burst->away[burst->away_count++] = (uint8_t)i;
	__builtin_prefetch(tp_host_bucket(host, lane->place.bucket[0]));
	__builtin_prefetch(tp_host_bucket(host, lane->place.bucket[1]));
}

/* verdicts[i] says what became of pkts[i]; count <= TP_BURST. */
static TP_INLINE void tp_relay_burst(
	struct tp_host *host, struct tp_packet *pkts, enum tp_verdict *verdicts, uint32_t count)
{
	const struct tp_config *config = tp_host_config(host);
	struct tp_burst burst __attribute__((uninitialized));

	if (TP_UNLIKELY(!tp_is_enabled(host, config))) {
		for (uint32_t i = 0; i < count; i++)
			verdicts[i] = tp_relay_any(host, &pkts[i], NULL, TP_NOTHING_FOUND);
		return;
	}
	burst.away_count = 0;
	for (uint32_t i = 0; i < count; i++)
		tp_burst_ask(host, &pkts[i], config, &burst.lanes[i]);
	for (uint32_t i = 0; i < count; i++)
		tp_burst_at_home(host, &pkts[i], &burst, i, &verdicts[i]);
	if (burst.away_count)
		tp_burst_away(host, pkts, config, &burst, verdicts);
}
