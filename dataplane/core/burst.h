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

/* UP or DOWN, as plain.h asks; of another common shape; of none. */
enum tp_lane_kind {
	TP_LANE_UP = TP_PLAIN_UP,
	TP_LANE_DOWN = TP_PLAIN_DOWN,
	TP_LANE_IPV4,
	TP_LANE_IPV6,
	TP_LANE_OTHER
};

/* Where one packet of a burst stands. */
struct tp_lane {
	uint64_t source, ident; /* UP, DOWN: key of its flow, if it is not as another lane */
	struct tp_flow *flow;   /* where it is looked for; NULL: nowhere */
	uint64_t hash;          /* of the key */
	uint16_t data_len;
	uint8_t kind; /* enum tp_lane_kind */
	uint8_t as;   /* the first lane in a row with this key: often the packets come in trains */
};

#define TP_NO_LANE UINT8_MAX

/* What a flow is looked up with. */
struct tp_search {
	uint64_t salt[3];
	uint32_t buckets;
};

struct tp_burst {
	struct tp_lane lanes[TP_BURST];
	struct tp_asked asked[TP_BURST]; /* of lanes of the other common shapes */
	uint8_t away[TP_BURST];          /* lanes whose record is not at home */
	uint32_t away_count;
	uint32_t odd_count; /* packets that were not relayed by plain.h */
	uint32_t granted;   /* the lane whose key is known to be its flow's, and granted */
	struct tp_shared shared;
};

static TP_INLINE bool tp_lane_is_plain(const struct tp_lane *lane)
{
	return lane->kind <= TP_LANE_DOWN;
}

static TP_INLINE struct tp_found tp_lane_found(struct tp_host *host, const struct tp_lane *lane)
{
	return lane->flow ? (struct tp_found){lane->flow, tp_host_slot(host, lane->flow)}
			  : TP_NOTHING_FOUND;
}

static TP_INLINE struct tp_flow_key tp_lane_key(const struct tp_burst *burst, uint32_t i)
{
	const struct tp_lane *lane = &burst->lanes[burst->lanes[i].as];

	return (struct tp_flow_key){.remote = {0, lane->source}, .ident = lane->ident};
}

/* As common.h would have asked. */
static TP_INLINE struct tp_asked tp_burst_asked(const struct tp_burst *burst, uint32_t i)
{
	const struct tp_lane *lane = &burst->lanes[i];

	if (!tp_lane_is_plain(lane))
		return burst->asked[i];
	return (struct tp_asked){.key = tp_lane_key(burst, i),
		.data_len = lane->data_len,
		.channel_in = lane->kind == TP_LANE_UP};
}

static TP_INLINE struct tp_place tp_lane_place(
	const struct tp_search *search, const struct tp_lane *lane)
{
	return tp_place_of(lane->hash, search->buckets);
}

static TP_INLINE void tp_burst_look(struct tp_host *host, const struct tp_search *search,
	const struct tp_flow_key *key, struct tp_lane *lane)
{
	lane->hash = tp_flow_hash(key, search->salt);
	lane->flow = tp_host_flow(host, tp_lane_place(search, lane).home);
	__builtin_prefetch(lane->flow, 1);
}

static TP_OUT_OF_LINE void tp_burst_ask_common(struct tp_host *host, const struct tp_packet *pkt,
	const struct tp_config *config, const struct tp_search *search, struct tp_burst *burst,
	uint32_t i)
{
	struct tp_lane *lane = &burst->lanes[i];
	struct tp_asked *asked = &burst->asked[i];

	if (tp_begin_common(host, pkt, config, true, asked))
		lane->kind = TP_LANE_IPV4;
	else if (tp_begin_common(host, pkt, config, false, asked))
		lane->kind = TP_LANE_IPV6;
	else
		lane->kind = TP_LANE_OTHER;
	lane->as = (uint8_t)i;
	if (lane->kind != TP_LANE_OTHER)
		tp_burst_look(host, search, &asked->key, lane);
}

/* `last` is the lane from which the plain packet before has its key. */
static TP_INLINE void tp_burst_ask_plain(struct tp_host *host, const struct tp_packet *pkt,
	const struct tp_search *search, struct tp_burst *burst, uint32_t i,
	const struct tp_lane **last, const struct tp_plain_words *in, enum tp_plain plain)
{
	struct tp_flow_key key = tp_plain_key(in, &burst->shared.likes[plain], plain);
	struct tp_lane *lane = &burst->lanes[i];

	lane->data_len = (uint16_t)(pkt->end - pkt->data - TP_COMMON_HEADERS(true) +
				    (plain == TP_PLAIN_UP ? 0 : TP_CHANNELDATA_LEN));
	lane->kind = (uint8_t)plain;
	if (key.ident == (*last)->ident && key.remote[1] == (*last)->source) {
		lane->as = (*last)->as;
		lane->flow = (*last)->flow;
		return;
	}
	*last = lane;
	lane->as = (uint8_t)i;
	lane->source = key.remote[1];
	lane->ident = key.ident;
	tp_burst_look(host, search, &key, lane);
}

static TP_INLINE void tp_burst_ask(struct tp_host *host, const struct tp_packet *pkt,
	const struct tp_config *config, const struct tp_search *search, struct tp_burst *burst,
	uint32_t i, const struct tp_lane **last)
{
	struct tp_plain_words in TP_UNSET;
	enum tp_plain plain = tp_plain_begin(host, pkt, config, &burst->shared, &in);

	if (TP_LIKELY(plain == TP_PLAIN_UP))
		tp_burst_ask_plain(host, pkt, search, burst, i, last, &in, TP_PLAIN_UP);
	else if (TP_LIKELY(plain == TP_PLAIN_DOWN))
		tp_burst_ask_plain(host, pkt, search, burst, i, last, &in, TP_PLAIN_DOWN);
	else
		tp_burst_ask_common(host, pkt, config, search, burst, i);
}

/* What plain.h has left. */
static TP_OUT_OF_LINE enum tp_verdict tp_burst_end_common(
	struct tp_host *host, struct tp_packet *pkt, struct tp_burst *burst, uint32_t i)
{
	struct tp_found found = tp_lane_found(host, &burst->lanes[i]);
	struct tp_asked asked = tp_burst_asked(burst, i);

	burst->odd_count++;
	if (burst->lanes[i].kind == TP_LANE_IPV6 ? tp_end_common(host, pkt, false, &asked, found)
						 : tp_end_common(host, pkt, true, &asked, found))
		return TP_RELAYED;
	return tp_relay_any(host, pkt, &asked, found);
}

/* Its flow is found. True: relayed by plain.h. */
static TP_INLINE bool tp_burst_end_plain(struct tp_host *host, struct tp_packet *pkt,
	struct tp_burst *burst, const struct tp_lane *lane)
{
	uint16_t data_len = lane->data_len;

	if (TP_UNLIKELY(lane->as != burst->granted)) {
		burst->granted = TP_NO_LANE;
		if (!tp_lane_is_plain(lane) ||
			!tp_plain_is_granted(host, lane->flow, &burst->shared.exit))
			return false;
		burst->granted = lane->as;
	}
	if (TP_LIKELY(lane->kind == TP_LANE_UP))
		return tp_plain_end(host, pkt, true, data_len, &burst->shared, lane->flow);
	return tp_plain_end(host, pkt, false, data_len, &burst->shared, lane->flow);
}

/* The first slot with the tag: nearly always the right one. */
static TP_INLINE void tp_burst_find(
	struct tp_host *host, const struct tp_search *search, struct tp_burst *burst, uint32_t i)
{
	struct tp_lane *lane = &burst->lanes[i];
	struct tp_place place = tp_lane_place(search, lane);

	if (lane->as != i)
		return;
	lane->flow = NULL;
	for (int choice = 0; choice < 2; choice++) {
		uint32_t bucket = place.bucket[choice];
		uint64_t match = tp_tags_equal(tp_host_bucket(host, bucket), place.tag);

		if (!match)
			continue;
		lane->flow = tp_host_flow(host, bucket * TP_BUCKET_SLOTS + tp_lowest_slot(match));
		__builtin_prefetch(lane->flow, 1);
		return;
	}
}

static TP_INLINE enum tp_verdict tp_burst_end_away(struct tp_host *host, struct tp_packet *pkt,
	const struct tp_config *config, struct tp_burst *burst, uint32_t i)
{
	struct tp_lane *lane = &burst->lanes[i];

	lane->flow = burst->lanes[lane->as].flow;
	if (lane->as != burst->granted) {
		struct tp_asked asked = tp_burst_asked(burst, i);

		if (TP_UNLIKELY(!lane->flow || !tp_is_flow(lane->flow, &asked.key)))
			lane->flow = tp_find_flow(host, config, &asked.key).flow;
		if (TP_UNLIKELY(!lane->flow)) {
			burst->odd_count++;
			return tp_relay_any(host, pkt, &asked, TP_NOTHING_FOUND);
		}
	}
	if (TP_LIKELY(tp_burst_end_plain(host, pkt, burst, lane)))
		return TP_RELAYED;
	return tp_burst_end_common(host, pkt, burst, i);
}

static TP_OUT_OF_LINE void tp_burst_away(struct tp_host *host, struct tp_packet *pkts,
	const struct tp_config *config, const struct tp_search *search, struct tp_burst *burst,
	enum tp_verdict *verdicts)
{
	/* A record may have come home meanwhile: what was granted there says nothing here. */
	burst->granted = TP_NO_LANE;
	for (uint32_t i = 0; i < burst->away_count; i++)
		tp_burst_find(host, search, burst, burst->away[i]);
	for (uint32_t i = 0; i < burst->away_count; i++) {
		uint32_t at = burst->away[i];

		verdicts[at] = tp_burst_end_away(host, &pkts[at], config, burst, at);
	}
}

static TP_OUT_OF_LINE enum tp_verdict tp_burst_other(
	struct tp_host *host, struct tp_packet *pkt, struct tp_burst *burst)
{
	burst->odd_count++;
	return tp_relay_any(host, pkt, NULL, TP_NOTHING_FOUND);
}

static TP_INLINE bool tp_burst_is_home(const struct tp_burst *burst, uint32_t i)
{
	const struct tp_lane *lane = &burst->lanes[i];
	struct tp_flow_key plain = tp_lane_key(burst, i);

	if (TP_LIKELY(tp_lane_is_plain(lane)))
		return tp_is_flow(lane->flow, &plain);
	return tp_is_flow(lane->flow, &burst->asked[i].key);
}

/* Not at home: asks for its tags. */
static TP_OUT_OF_LINE void tp_burst_put_off(
	struct tp_host *host, const struct tp_search *search, struct tp_burst *burst, uint32_t i)
{
	struct tp_place place = tp_lane_place(search, &burst->lanes[i]);

	burst->away[burst->away_count++] = (uint8_t)i;
	if (burst->lanes[i].as != i)
		return;
	__builtin_prefetch(tp_host_bucket(host, place.bucket[0]));
	__builtin_prefetch(tp_host_bucket(host, place.bucket[1]));
}

/* Done, or put off; its verdict is already RELAYED. */
static TP_INLINE void tp_burst_at_home(struct tp_host *host, struct tp_packet *pkt,
	const struct tp_search *search, struct tp_burst *burst, uint32_t i,
	enum tp_verdict *verdict)
{
	struct tp_lane *lane = &burst->lanes[i];

	if (lane->as != burst->granted) {
		if (TP_UNLIKELY(lane->kind == TP_LANE_OTHER)) {
			*verdict = tp_burst_other(host, pkt, burst);
			return;
		}
		if (TP_UNLIKELY(!tp_burst_is_home(burst, i))) {
			tp_burst_put_off(host, search, burst, i);
			return;
		}
	}
	if (TP_UNLIKELY(!tp_burst_end_plain(host, pkt, burst, lane)))
		*verdict = tp_burst_end_common(host, pkt, burst, i);
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
	const struct tp_lane nobody = {0}, *last = &nobody;
	struct tp_search search;

	if (TP_UNLIKELY(!tp_is_enabled(host, config))) {
		tp_burst_off(host, pkts, verdicts, count);
		return false;
	}
	search = (struct tp_search){.salt = {config->salt[0], config->salt[1], config->salt[2]},
		.buckets = tp_host_buckets(host, config)};
	burst.away_count = 0;
	burst.odd_count = 0;
	burst.granted = TP_NO_LANE;
	tp_shared_open(&burst.shared);
	__builtin_memset(verdicts, TP_RELAYED, count * sizeof(*verdicts));
	for (uint32_t i = 0; i < count; i++)
		tp_burst_ask(host, &pkts[i], config, &search, &burst, i, &last);
	for (uint32_t i = 0; i < count; i++)
		tp_burst_at_home(host, &pkts[i], &search, &burst, i, &verdicts[i]);
	if (burst.away_count)
		tp_burst_away(host, pkts, config, &search, &burst, verdicts);
	tp_shared_close(host, &burst.shared);
	return burst.odd_count == 0;
}
