/*
 * SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
 *
 * The fast path for a polling worker: a burst of frames at a time. A look-up waits for memory: each
 * pass asks for the lines of all packets that the next one reads, so a burst waits about as long as
 * one packet would. Packets whose record lies at home, nearly all, are done after two passes; the
 * rest needs two more, over the tags and then the record. Include host_native.h before.
 */
#pragma once

#include "plain.h"

#define TP_BURST 64

/* UP from a client, or DOWN to one, as plain.h asks; of another common shape; of none. */
enum tp_lane_kind { TP_LANE_UP, TP_LANE_DOWN, TP_LANE_IPV4, TP_LANE_IPV6, TP_LANE_OTHER };

/* Where one packet of a burst stands. */
struct tp_lane {
	struct tp_asked asked;
	uint64_t hash;
	struct tp_flow *flow; /* where it is looked for; NULL: nowhere */
	enum tp_lane_kind kind;
};

/* What a flow is looked up with. */
struct tp_search {
	uint64_t salt[3];
	uint32_t bucket_mask;
};

struct tp_burst {
	struct tp_lane lanes[TP_BURST];
	uint8_t away[TP_BURST]; /* lanes whose record is not at home */
	uint32_t away_count;
	uint32_t odd_count; /* packets that were not relayed by plain.h */
	struct tp_shared shared;
};

static TP_INLINE struct tp_found tp_lane_found(struct tp_host *host, const struct tp_lane *lane)
{
	return lane->flow ? (struct tp_found){lane->flow, tp_host_slot(host, lane->flow)}
			  : TP_NOTHING_FOUND;
}

static TP_OUT_OF_LINE enum tp_lane_kind tp_burst_ask_common(struct tp_host *host,
	const struct tp_packet *pkt, const struct tp_config *config, struct tp_asked *out)
{
	if (tp_begin_common(host, pkt, config, true, out))
		return TP_LANE_IPV4;
	return tp_begin_common(host, pkt, config, false, out) ? TP_LANE_IPV6 : TP_LANE_OTHER;
}

static TP_INLINE void tp_burst_look(struct tp_host *host, const struct tp_asked *asked,
	const struct tp_search *search, struct tp_lane *lane)
{
	lane->hash = tp_flow_hash(&asked->key, search->salt);
	lane->flow = tp_host_flow(host, tp_place_of(lane->hash, search->bucket_mask).home);
	lane->asked = *asked;
	__builtin_prefetch(lane->flow, 1);
}

static TP_INLINE void tp_burst_ask(struct tp_host *host, const struct tp_packet *pkt,
	const struct tp_config *config, const struct tp_search *search, struct tp_here *here,
	struct tp_lane *lane)
{
	struct tp_asked asked TP_UNSET;

	if (TP_LIKELY(tp_plain_begin(host, pkt, config, here, &asked))) {
		tp_burst_look(host, &asked, search, lane);
		lane->kind = asked.channel_in ? TP_LANE_UP : TP_LANE_DOWN;
		return;
	}
	lane->kind = tp_burst_ask_common(host, pkt, config, &lane->asked);
	if (lane->kind != TP_LANE_OTHER)
		tp_burst_look(host, &lane->asked, search, lane);
}

/* What plain.h has left. */
static TP_OUT_OF_LINE enum tp_verdict tp_burst_end_common(
	struct tp_host *host, struct tp_packet *pkt, const struct tp_lane *lane)
{
	struct tp_found found = tp_lane_found(host, lane);

	if (lane->kind == TP_LANE_IPV6 ? tp_end_common(host, pkt, false, &lane->asked, found)
				       : tp_end_common(host, pkt, true, &lane->asked, found))
		return TP_RELAYED;
	return tp_relay_any(host, pkt, &lane->asked, found);
}

/* Its flow is found. */
static TP_INLINE enum tp_verdict tp_burst_end(
	struct tp_host *host, struct tp_packet *pkt, struct tp_burst *burst, struct tp_lane *lane)
{
	uint16_t data_len = lane->asked.data_len;

	if (TP_LIKELY(lane->kind == TP_LANE_UP)) {
		if (TP_LIKELY(tp_plain_end(host, pkt, true, data_len, &burst->shared, lane->flow)))
			return TP_RELAYED;
	} else if (TP_LIKELY(lane->kind == TP_LANE_DOWN)) {
		if (TP_LIKELY(tp_plain_end(host, pkt, false, data_len, &burst->shared, lane->flow)))
			return TP_RELAYED;
	}
	burst->odd_count++;
	return tp_burst_end_common(host, pkt, lane);
}

/* The first slot with the tag: nearly always the right one. */
static TP_INLINE void tp_burst_find(
	struct tp_host *host, const struct tp_search *search, struct tp_lane *lane)
{
	struct tp_place place = tp_place_of(lane->hash, search->bucket_mask);

	lane->flow = NULL;
	for (int i = 0; i < 2; i++) {
		uint32_t bucket = place.bucket[i];
		uint64_t match = tp_tags_equal(tp_host_bucket(host, bucket), place.tag);

		if (!match)
			continue;
		lane->flow = tp_host_flow(host, bucket * TP_BUCKET_SLOTS + tp_lowest_slot(match));
		__builtin_prefetch(lane->flow, 1);
		return;
	}
}

static TP_INLINE enum tp_verdict tp_burst_end_away(struct tp_host *host, struct tp_packet *pkt,
	const struct tp_config *config, struct tp_burst *burst, struct tp_lane *lane)
{
	if (TP_UNLIKELY(!lane->flow || !tp_is_flow(lane->flow, &lane->asked.key)))
		lane->flow = tp_find_flow(host, config, &lane->asked.key).flow;
	if (TP_LIKELY(lane->flow))
		return tp_burst_end(host, pkt, burst, lane);
	burst->odd_count++;
	return tp_relay_any(host, pkt, &lane->asked, TP_NOTHING_FOUND);
}

static TP_OUT_OF_LINE void tp_burst_away(struct tp_host *host, struct tp_packet *pkts,
	const struct tp_config *config, const struct tp_search *search, struct tp_burst *burst,
	enum tp_verdict *verdicts)
{
	for (uint32_t i = 0; i < burst->away_count; i++)
		tp_burst_find(host, search, &burst->lanes[burst->away[i]]);
	for (uint32_t i = 0; i < burst->away_count; i++) {
		uint32_t at = burst->away[i];

		verdicts[at] = tp_burst_end_away(host, &pkts[at], config, burst, &burst->lanes[at]);
	}
}

static TP_OUT_OF_LINE enum tp_verdict tp_burst_other(
	struct tp_host *host, struct tp_packet *pkt, struct tp_burst *burst)
{
	burst->odd_count++;
	return tp_relay_any(host, pkt, NULL, TP_NOTHING_FOUND);
}

/* Done, or asked for its tags. */
static TP_INLINE void tp_burst_at_home(struct tp_host *host, struct tp_packet *pkt,
	const struct tp_search *search, struct tp_burst *burst, uint32_t i,
	enum tp_verdict *verdict)
{
	struct tp_lane *lane = &burst->lanes[i];
	struct tp_place place;

	if (TP_UNLIKELY(lane->kind == TP_LANE_OTHER)) {
		*verdict = tp_burst_other(host, pkt, burst);
		return;
	}
	if (TP_LIKELY(tp_is_flow(lane->flow, &lane->asked.key))) {
		*verdict = tp_burst_end(host, pkt, burst, lane);
		return;
	}
	burst->away[burst->away_count++] = (uint8_t)i;
	place = tp_place_of(lane->hash, search->bucket_mask);
	__builtin_prefetch(tp_host_bucket(host, place.bucket[0]));
	__builtin_prefetch(tp_host_bucket(host, place.bucket[1]));
}

static TP_OUT_OF_LINE void tp_burst_off(
	struct tp_host *host, struct tp_packet *pkts, enum tp_verdict *verdicts, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		verdicts[i] = tp_relay_any(host, &pkts[i], NULL, TP_NOTHING_FOUND);
}

/*
 * verdicts[i] says what became of pkts[i]; count <= TP_BURST. True: all of them were relayed, which
 * saves a look at each.
 */
static TP_INLINE bool tp_relay_burst(
	struct tp_host *host, struct tp_packet *pkts, enum tp_verdict *verdicts, uint32_t count)
{
	const struct tp_config *config = tp_host_config(host);
	struct tp_burst burst TP_UNSET;
	struct tp_search search;

	if (TP_UNLIKELY(!tp_is_enabled(host, config))) {
		tp_burst_off(host, pkts, verdicts, count);
		return false;
	}
	search = (struct tp_search){.salt = {config->salt[0], config->salt[1], config->salt[2]},
		.bucket_mask = TP_READ_ONCE(config->bucket_mask)};
	burst.away_count = 0;
	burst.odd_count = 0;
	tp_shared_open(host, &burst.shared);
	for (uint32_t i = 0; i < count; i++)
		tp_burst_ask(host, &pkts[i], config, &search, &burst.shared.here, &burst.lanes[i]);
	for (uint32_t i = 0; i < count; i++)
		tp_burst_at_home(host, &pkts[i], &search, &burst, i, &verdicts[i]);
	if (burst.away_count)
		tp_burst_away(host, pkts, config, &search, &burst, verdicts);
	tp_shared_count(host, &burst.shared);
	return burst.odd_count == 0;
}
