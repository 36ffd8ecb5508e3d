/*
 * SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
 *
 * The fast path for a polling worker: a burst of frames at a time. A look-up waits for memory: each
 * pass asks for the lines of all packets that the next one reads, so a burst waits about as long as
 * one packet would. First every packet's key, and the record at home; then which of them lie there,
 * without a branch, since of many flows a quarter does not and nobody can guess which; for those,
 * tags and then records; at the end the packets, in their order. Include host_native.h before.
 */
#pragma once

#include "plain.h"

#define TP_BURST 64

/* IPv4 as plain.h asks, UP or DOWN; likewise IPv6; of another common shape; of none. */
enum tp_lane_kind {
	TP_LANE_UP = TP_PLAIN_UP,
	TP_LANE_DOWN = TP_PLAIN_DOWN,
	TP_LANE_UP_IPV6,
	TP_LANE_DOWN_IPV6,
	TP_LANE_IPV4,
	TP_LANE_IPV6,
	TP_LANE_OTHER
};

/* Where one packet of a burst stands. */
struct tp_lane {
	uint16_t data_len;
	uint8_t kind; /* enum tp_lane_kind */
	uint8_t as;   /* the first lane in a row with this key: often the packets come in trains */

	/* Of that lane only. */
	struct tp_flow_key key;
	struct tp_flow *flow; /* where it is looked for; NULL: there is none */
	uint64_t hash;        /* of the key */
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
	uint8_t own[TP_BURST];           /* lanes that look for a flow */
	uint8_t away[TP_BURST];          /* those of them whose record is not at home */
	uint32_t odd_count;              /* packets that were not relayed by plain.h */
	uint32_t granted;                /* the lane whose flow is known to be granted */
	struct tp_flow *flow;            /* of that lane */
	struct tp_shared shared;
};

static TP_INLINE bool tp_lane_is_plain(const struct tp_lane *lane)
{
	return lane->kind <= TP_LANE_DOWN_IPV6;
}

static TP_INLINE bool tp_lane_is_v4(const struct tp_lane *lane)
{
	return lane->kind <= TP_LANE_DOWN || lane->kind == TP_LANE_IPV4;
}

/* As common.h would have asked. */
static TP_INLINE struct tp_asked tp_burst_asked(const struct tp_burst *burst, uint32_t i)
{
	const struct tp_lane *lane = &burst->lanes[i];

	if (!tp_lane_is_plain(lane))
		return burst->asked[i];
	return (struct tp_asked){.key = burst->lanes[lane->as].key,
		.data_len = lane->data_len,
		.channel_in = lane->kind == TP_LANE_UP || lane->kind == TP_LANE_UP_IPV6};
}

static TP_INLINE struct tp_place tp_lane_place(
	const struct tp_search *search, const struct tp_lane *lane)
{
	return tp_place_of(lane->hash, search->buckets);
}

/* The lane looks for the flow of its key. */
static TP_INLINE void tp_burst_look(
	struct tp_host *host, const struct tp_search *search, struct tp_burst *burst, uint32_t i)
{
	struct tp_lane *lane = &burst->lanes[i];

	lane->hash = tp_flow_hash(&lane->key, search->salt);
	lane->flow = tp_host_flow(host, tp_lane_place(search, lane).home);
	__builtin_prefetch(lane->flow, 1);
}

/* What has become of a packet's question. */
enum tp_ask {
	TP_ASK_NOT, /* it is not the kind of packet that was meant */
	TP_ASK_AS,  /* another lane's */
	TP_ASK_OWN
};

/* `last` is the lane from which the plain packet of that family before has its key. */
static TP_INLINE enum tp_ask tp_burst_ask_plain(struct tp_host *host, const struct tp_packet *pkt,
	bool v4, const struct tp_search *search, struct tp_burst *burst, uint32_t i,
	const struct tp_lane **last, const struct tp_plain_words *in, enum tp_plain plain)
{
	struct tp_alike *alike = tp_alike_of(&burst->shared, v4);
	struct tp_flow_key key = tp_plain_key(in, &alike->likes[plain], plain);
	struct tp_lane *lane = &burst->lanes[i];

	lane->data_len = (uint16_t)(pkt->end - pkt->data - TP_COMMON_HEADERS(v4) +
				    (plain == TP_PLAIN_UP ? 0 : TP_CHANNELDATA_LEN));
	lane->kind = (uint8_t)(plain + (v4 ? TP_LANE_UP : TP_LANE_UP_IPV6));
	if (key.ident == (*last)->key.ident && key.remote[1] == (*last)->key.remote[1] &&
		(v4 || key.remote[0] == (*last)->key.remote[0])) {
		lane->as = (*last)->as;
		return TP_ASK_AS;
	}
	*last = lane;
	lane->as = (uint8_t)i;
	lane->key = key;
	tp_burst_look(host, search, burst, i);
	return TP_ASK_OWN;
}

static TP_INLINE enum tp_ask tp_burst_ask_family(struct tp_host *host, const struct tp_packet *pkt,
	bool v4, const struct tp_config *config, const struct tp_search *search,
	struct tp_burst *burst, uint32_t i, const struct tp_lane **last)
{
	struct tp_plain_words in TP_UNSET;
	enum tp_plain plain = tp_plain_begin(host, pkt, config, v4, &burst->shared, &in);

	if (TP_LIKELY(plain == TP_PLAIN_UP))
		return tp_burst_ask_plain(host, pkt, v4, search, burst, i, last, &in, TP_PLAIN_UP);
	if (TP_LIKELY(plain == TP_PLAIN_DOWN))
		return tp_burst_ask_plain(
			host, pkt, v4, search, burst, i, last, &in, TP_PLAIN_DOWN);
	return TP_ASK_NOT;
}

static TP_OUT_OF_LINE enum tp_ask tp_burst_ask_common(struct tp_host *host,
	const struct tp_packet *pkt, const struct tp_config *config, const struct tp_search *search,
	struct tp_burst *burst, uint32_t i)
{
	struct tp_lane *lane = &burst->lanes[i];
	struct tp_asked *asked = &burst->asked[i];

	lane->as = (uint8_t)i;
	if (tp_begin_common(host, pkt, config, true, asked))
		lane->kind = TP_LANE_IPV4;
	else if (tp_begin_common(host, pkt, config, false, asked))
		lane->kind = TP_LANE_IPV6;
	else
		lane->kind = TP_LANE_OTHER;
	if (lane->kind == TP_LANE_OTHER)
		return TP_ASK_NOT;
	lane->key = asked->key;
	tp_burst_look(host, search, burst, i);
	return TP_ASK_OWN;
}

/* Out of line, where plain IPv4 does not wait for its registers. */
static TP_OUT_OF_LINE enum tp_ask tp_burst_ask_rest(struct tp_host *host,
	const struct tp_packet *pkt, const struct tp_config *config, const struct tp_search *search,
	struct tp_burst *burst, uint32_t i, const struct tp_lane **last)
{
	enum tp_ask ask;

	if (TP_UNLIKELY(!burst->shared.has_ipv6))
		tp_shared_open_ipv6(&burst->shared);
	ask = tp_burst_ask_family(host, pkt, false, config, search, burst, i, last);
	return ask == TP_ASK_NOT ? tp_burst_ask_common(host, pkt, config, search, burst, i) : ask;
}

/* How many look for a flow. */
static TP_INLINE uint32_t tp_burst_ask(struct tp_host *host, const struct tp_packet *pkts,
	const struct tp_config *config, const struct tp_search *search, struct tp_burst *burst,
	uint32_t count)
{
	const struct tp_lane nobody = {0}, *last = &nobody, *last_ipv6 = &nobody;
	uint32_t own = 0;

	for (uint32_t i = 0; i < count; i++) {
		enum tp_ask ask =
			tp_burst_ask_family(host, &pkts[i], true, config, search, burst, i, &last);

		if (TP_UNLIKELY(ask == TP_ASK_NOT))
			ask = tp_burst_ask_rest(
				host, &pkts[i], config, search, burst, i, &last_ipv6);
		if (ask == TP_ASK_OWN)
			burst->own[own++] = (uint8_t)i;
	}
	return own;
}

/* tp_is_flow() without branches: of many flows nobody can guess which are at home. */
static TP_INLINE bool tp_lane_is_home(const struct tp_lane *lane)
{
	uint64_t differs = TP_READ_ONCE(lane->flow->key.ident) ^ lane->key.ident;

	TP_READ_FENCE();
	differs |= lane->flow->key.remote[1] ^ lane->key.remote[1];
	differs |= lane->flow->key.remote[0] ^ lane->key.remote[0];
	return differs == 0;
}

/* How many are not at home. */
static TP_INLINE uint32_t tp_burst_sort(struct tp_burst *burst, uint32_t own)
{
	uint32_t away = 0;

	for (uint32_t k = 0; k < own; k++) {
		uint8_t i = burst->own[k];

		burst->away[away] = i;
		away += !tp_lane_is_home(&burst->lanes[i]);
	}
	return away;
}

/* The first slot with the tag: nearly always the right one. Where none has it, still home. */
static TP_INLINE void tp_burst_find(
	struct tp_host *host, const struct tp_search *search, struct tp_lane *lane)
{
	struct tp_place place = tp_lane_place(search, lane);
	uint64_t first =
		tp_tags_equal(tp_tags_of(tp_host_bucket(host, place.bucket[0])), place.tag);
	uint64_t second =
		tp_tags_equal(tp_tags_of(tp_host_bucket(host, place.bucket[1])), place.tag);
	uint64_t other = -(uint64_t)(first == 0); /* the second bucket: again without a branch */
	uint32_t bucket = place.bucket[0] ^ ((place.bucket[0] ^ place.bucket[1]) & (uint32_t)other);
	uint64_t match = first | (second & other);

	if (TP_UNLIKELY(!match))
		return;
	lane->flow = tp_host_flow(host, bucket * TP_BUCKET_SLOTS + tp_lowest_slot(match));
	__builtin_prefetch(lane->flow, 1);
}

/* Tags, then records: each asked for before the first is needed. */
static TP_OUT_OF_LINE void tp_burst_away(struct tp_host *host, const struct tp_config *config,
	const struct tp_search *search, struct tp_burst *burst, uint32_t count)
{
	for (uint32_t k = 0; k < count; k++) {
		struct tp_place place = tp_lane_place(search, &burst->lanes[burst->away[k]]);

		__builtin_prefetch(tp_host_bucket(host, place.bucket[0]));
		__builtin_prefetch(tp_host_bucket(host, place.bucket[1]));
	}
	for (uint32_t k = 0; k < count; k++)
		tp_burst_find(host, search, &burst->lanes[burst->away[k]]);
	for (uint32_t k = 0; k < count; k++) {
		struct tp_lane *lane = &burst->lanes[burst->away[k]];

		if (TP_UNLIKELY(!tp_is_flow(lane->flow, &lane->key)))
			lane->flow = tp_find_flow(host, config, &lane->key).flow;
	}
}

/* What plain.h has left. */
static TP_OUT_OF_LINE enum tp_verdict tp_burst_end_odd(
	struct tp_host *host, struct tp_packet *pkt, struct tp_burst *burst, uint32_t i)
{
	const struct tp_lane *lane = &burst->lanes[i];
	struct tp_found found = TP_NOTHING_FOUND;
	struct tp_asked asked;

	burst->odd_count++;
	if (lane->kind == TP_LANE_OTHER)
		return tp_relay_any(host, pkt, NULL, found);
	asked = tp_burst_asked(burst, i);
	found.flow = burst->lanes[lane->as].flow;
	if (!found.flow)
		return tp_relay_any(host, pkt, &asked, found);
	found.slot = tp_host_slot(host, found.flow);
	if (tp_lane_is_v4(lane) ? tp_end_common(host, pkt, true, &asked, found)
				: tp_end_common(host, pkt, false, &asked, found))
		return TP_RELAYED;
	return tp_relay_any(host, pkt, &asked, found);
}

/* burst->flow is the plain packet's, and granted. */
static TP_INLINE bool tp_burst_grant(
	struct tp_host *host, bool v4, struct tp_burst *burst, const struct tp_lane *lane)
{
	struct tp_flow *flow;

	if (TP_LIKELY(lane->as == burst->granted))
		return true;
	burst->granted = TP_NO_LANE;
	flow = burst->lanes[lane->as].flow;
	if (TP_UNLIKELY(!flow || !tp_plain_is_granted(host, flow, v4, &burst->shared)))
		return false;
	burst->flow = flow;
	burst->granted = lane->as;
	return true;
}

static TP_INLINE bool tp_burst_end_family(struct tp_host *host, struct tp_packet *pkt, bool v4,
	struct tp_burst *burst, const struct tp_lane *lane)
{
	uint16_t data_len = lane->data_len;

	if (TP_UNLIKELY(!tp_burst_grant(host, v4, burst, lane)))
		return false;
	if (TP_LIKELY(lane->kind == (v4 ? TP_LANE_UP : TP_LANE_UP_IPV6)))
		return tp_plain_end(host, pkt, v4, true, data_len, &burst->shared, burst->flow);
	return tp_plain_end(host, pkt, v4, false, data_len, &burst->shared, burst->flow);
}

static TP_OUT_OF_LINE bool tp_burst_end_ipv6(struct tp_host *host, struct tp_packet *pkt,
	struct tp_burst *burst, const struct tp_lane *lane)
{
	return tp_burst_end_family(host, pkt, false, burst, lane);
}

/* True: relayed by plain.h. */
static TP_INLINE bool tp_burst_end_plain(
	struct tp_host *host, struct tp_packet *pkt, struct tp_burst *burst, uint32_t i)
{
	const struct tp_lane *lane = &burst->lanes[i];

	if (TP_LIKELY(lane->kind <= TP_LANE_DOWN))
		return tp_burst_end_family(host, pkt, true, burst, lane);
	return lane->kind <= TP_LANE_DOWN_IPV6 && tp_burst_end_ipv6(host, pkt, burst, lane);
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
	uint32_t away;

	if (TP_UNLIKELY(!tp_is_enabled(host, config))) {
		tp_burst_off(host, pkts, verdicts, count);
		return false;
	}
	search = (struct tp_search){.salt = {config->salt[0], config->salt[1], config->salt[2]},
		.buckets = tp_host_buckets(host, config)};
	burst.odd_count = 0;
	burst.granted = TP_NO_LANE;
	tp_shared_open(&burst.shared);
	__builtin_memset(verdicts, TP_RELAYED, count * sizeof(*verdicts));
	away = tp_burst_sort(&burst, tp_burst_ask(host, pkts, config, &search, &burst, count));
	if (away)
		tp_burst_away(host, config, &search, &burst, away);
	for (uint32_t i = 0; i < count; i++) {
		if (TP_UNLIKELY(!tp_burst_end_plain(host, &pkts[i], &burst, i)))
			verdicts[i] = tp_burst_end_odd(host, &pkts[i], &burst, i);
	}
	tp_shared_close(host, &burst.shared);
	return burst.odd_count == 0;
}
