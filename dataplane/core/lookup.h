/*
 * SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
 *
 * From a parsed packet to the flow that says how to rewrite it: local address, state of the port,
 * then one record, found by its tag in one of two buckets. Reads tables that another core writes at
 * the same time (flow.h: publishing rules); writes nothing.
 */
#pragma once

#include "address.h"
#include "checksum.h"
#include "flow.h"
#include "host.h"
#include "order.h"
#include "parse.h"
#include "stun.h"
#include "verdict.h"

#define TP_NO_SLOT UINT32_MAX

/* A record and where it lies; no flow: there is none. */
struct tp_found {
	struct tp_flow *flow;
	uint32_t slot;
};

#define TP_NOTHING_FOUND ((struct tp_found){NULL, TP_NO_SLOT})

static TP_INLINE bool tp_is_enabled(struct tp_host *host, const struct tp_config *config)
{
	return config && TP_READ_ONCE(config->gate) == tp_host_layout(host) &&
	       tp_host_layout(host) != 0;
}

static TP_INLINE bool tp_find_local(
	struct tp_host *host, const struct tp_config *config, const uint64_t ip[2], uint32_t *index)
{
	uint32_t count = TP_READ_ONCE(config->locals);

	for (uint32_t i = 0; i < TP_LOCALS_MAX; i++) {
		const struct tp_local *local;

		if (i >= count)
			break;
		local = tp_host_local(host, i);
		if (local && local->ip[1] == ip[1] && local->ip[0] == ip[0]) {
			*index = TP_FORGET(i);
			return true;
		}
	}
	return false;
}

/* Older verifiers take the result of a byte swap for unbounded: the mask must not be optimised
 * away.
 */
static TP_INLINE uint8_t tp_port_state(const struct tp_ports *ports, uint16_t port)
{
	uint32_t index = port;

	TP_KEEP(index);
	return TP_READ_ONCE(ports->state[index & 0xffff]);
}

static TP_INLINE bool tp_is_own(
	struct tp_host *host, const struct tp_config *config, const uint64_t ip[2])
{
	uint32_t index;

	return TP_UNLIKELY(TP_READ_ONCE(config->own_mask) & tp_own_bit(ip)) &&
	       tp_find_local(host, config, ip, &index);
}

/* What nobody honest sends to a port of ours. IPv6 ::ffff:a.b.c.d would pass for a.b.c.d. */
static TP_INLINE enum tp_verdict tp_check_sender(
	struct tp_host *host, const struct tp_config *config, const struct tp_headers *in)
{
	if (tp_is_malformed(in))
		return TP_MALFORMED;
	if (tp_source_port(in) == 0 || tp_is_martian(in->source, in->v4) ||
		(!in->v4 && tp_is_v4(in->source)))
		return TP_BAD_SOURCE;
	if (tp_is_own(host, config, in->source))
		return TP_BAD_SOURCE;
	if (!in->v4 && tp_udp_checksum(in) == 0)
		return TP_NO_CHECKSUM;
	return tp_has_surplus(in) ? TP_OPTIONS : TP_RELAYED;
}

static TP_INLINE struct tp_flow_key tp_key_of(
	const struct tp_headers *in, uint32_t local, enum tp_flow_kind kind, tp_be16 channel)
{
	uint32_t ports = kind == TP_FLOW_PERMISSION ? in->ports & 0xffff0000 : in->ports;

	/* The fields of `ident`, written as the one word in which they are compared. */
	return (struct tp_flow_key){
		.remote = {in->source[0], in->source[1]},
		.ident = (uint64_t)ports | (uint64_t)channel.be << 32 |
			 (uint64_t)(uint8_t)local << 48 | (uint64_t)kind << 56,
	};
}

static TP_INLINE uint64_t tp_tags_of(const struct tp_bucket *bucket)
{
	return *(const volatile uint64_t *)(const void *)bucket->tags;
}

/*
 * The slots of a bucket with this tag: bit 8 * i for slot i. The borrow of a lane that matches may
 * make the next one seem to: the record tells.
 */
static TP_INLINE uint64_t tp_tags_equal(uint64_t tags, uint8_t tag)
{
	const uint64_t ones = UINT64_C(0x0101010101010101);
	uint64_t lanes = tags ^ ones * tag;

	return ((lanes - ones) & ~lanes & ones << 7) >> 7;
}

/* Slot of the lowest set bit. BPF cannot count zeros; this constant puts its number on top. */
static TP_INLINE uint32_t tp_lowest_slot(uint64_t match)
{
	return (uint32_t)(((match & -match) * UINT64_C(0x0020406080a0c0e0)) >> 61);
}

static TP_INLINE bool tp_is_flow(const struct tp_flow *flow, const struct tp_flow_key *key)
{
	if (TP_READ_ONCE(flow->key.ident) != key->ident)
		return false;
	TP_READ_FENCE();
	return flow->key.remote[1] == key->remote[1] && flow->key.remote[0] == key->remote[0];
}

static TP_INLINE bool tp_find_in_bucket(struct tp_host *host, uint32_t index, uint8_t tag,
	const struct tp_flow_key *key, struct tp_found *found)
{
	const struct tp_bucket *bucket = tp_host_bucket(host, index);
	uint64_t match;

	if (!bucket)
		return false;
	match = tp_tags_equal(tp_tags_of(bucket), tag);
	for (int i = 0; i < TP_BUCKET_SLOTS && match; i++, match &= match - 1) {
		found->slot = index * TP_BUCKET_SLOTS + tp_lowest_slot(match);
		found->flow = tp_host_flow(host, found->slot);
		if (found->flow && TP_LIKELY(tp_is_flow(found->flow, key)))
			return true;
	}
	return false;
}

/*
 * One tag, before its record: the tags of a million flows stay in cache, and the record of another
 * flow does not have to come from memory only to be told apart.
 */
static TP_INLINE struct tp_found tp_find_at_home(struct tp_host *host, const struct tp_place *place)
{
	const struct tp_bucket *bucket = tp_host_bucket(host, place->bucket[0]);
	struct tp_found found = {NULL, place->home};

	if (TP_LIKELY(bucket && TP_READ_ONCE(bucket->tags[place->home & (TP_BUCKET_SLOTS - 1)]) ==
					place->tag))
		found.flow = tp_host_flow(host, place->home);
	return found;
}

/*
 * The slot whose tag says that it is the one, without a branch: home, else the lowest of the first
 * bucket, else of the second. When there is none, the second's first: its record tells.
 */
static TP_INLINE uint32_t tp_slot_by_tags(
	const struct tp_place *place, uint64_t first, uint64_t second)
{
	uint32_t home = place->home % TP_BUCKET_SLOTS;
	uint64_t turned = first >> 8 * home | first << (64 - 8 * home) % 64; /* home is lowest */
	uint64_t here = tp_tags_equal(turned, place->tag);
	uint64_t there = tp_tags_equal(second, place->tag);
	uint64_t none_here = -((here - 1) >> 63); /* all ones if so */
	uint32_t bucket =
		place->bucket[0] ^ ((place->bucket[0] ^ place->bucket[1]) & (uint32_t)none_here);
	uint32_t lane = tp_lowest_slot(here | (there & none_here)) + (home & ~(uint32_t)none_here);

	return bucket * TP_BUCKET_SLOTS + lane % TP_BUCKET_SLOTS;
}

/*
 * Where memory has to be waited for, a wrong turn costs what could be asked for meanwhile, and the
 * next packets' records with it. So nothing is decided before all is on its way: the tags of both
 * buckets, and the record at home, which is right most often and in the same page else.
 */
static TP_INLINE struct tp_found tp_find_by_tags(struct tp_host *host, const struct tp_place *place)
{
	const struct tp_bucket *first = tp_host_bucket(host, place->bucket[0]);
	const struct tp_bucket *second = tp_host_bucket(host, place->bucket[1]);
	const struct tp_flow *home = tp_host_flow(host, place->home);
	struct tp_found found = TP_NOTHING_FOUND;

	if (!first || !second || !home)
		return found;
	(void)TP_READ_ONCE(home->key.ident);
	found.slot = tp_slot_by_tags(place, tp_tags_of(first), tp_tags_of(second));
	found.flow = tp_host_flow(host, found.slot);
	return found;
}

static TP_INLINE struct tp_found tp_find_flow(
	struct tp_host *host, const struct tp_config *config, const struct tp_flow_key *key)
{
	uint32_t buckets = tp_host_buckets(host, config);
	struct tp_place place = tp_place_of(tp_flow_hash(key, config->salt), buckets);
	struct tp_found found = TP_LIKELY(buckets <= TP_BUCKETS_NEAR)
					? tp_find_at_home(host, &place)
					: tp_find_by_tags(host, &place);

	if (TP_LIKELY(found.flow && tp_is_flow(found.flow, key)))
		return found;
	if (tp_find_in_bucket(host, place.bucket[0], place.tag, key, &found) ||
		tp_find_in_bucket(host, place.bucket[1], place.tag, key, &found))
		return found;
	return TP_NOTHING_FOUND;
}

static TP_COLD uint32_t tp_find_slot(
	struct tp_host *host, uint64_t remote0, uint64_t remote1, uint64_t ident)
{
	const struct tp_config *config = tp_host_config(host);
	struct tp_flow_key key = {.remote = {remote0, remote1}, .ident = ident};

	return config ? tp_find_flow(host, config, &key).slot : TP_NO_SLOT;
}

/*
 * The same as tp_find_flow() for a second, rarer question about the packet: only what is not at
 * home is worth a call.
 */
static TP_INLINE struct tp_found tp_find_other(
	struct tp_host *host, uint64_t remote0, uint64_t remote1, uint64_t ident)
{
	const struct tp_config *config = tp_host_config(host);
	struct tp_flow_key key = {.remote = {remote0, remote1}, .ident = ident};
	struct tp_found found;
	struct tp_place place;

	if (!config)
		return TP_NOTHING_FOUND;
	place = tp_place_of(tp_flow_hash(&key, config->salt), tp_host_buckets(host, config));
	found = tp_find_at_home(host, &place);
	if (TP_LIKELY(found.flow && tp_is_flow(found.flow, &key)))
		return found;
	found.slot = tp_host_find_slot(host, remote0, remote1, ident);
	found.flow = found.slot == TP_NO_SLOT ? NULL : tp_host_flow(host, found.slot);
	return found;
}

static TP_INLINE bool tp_is_expired(struct tp_host *host, const struct tp_flow *flow)
{
	return tp_host_ticks(host) >= TP_READ_ONCE(flow->expires);
}

/* A flow may exist that found no slot: then only the control plane can tell. */
static TP_INLINE enum tp_verdict tp_without_flow(const struct tp_config *config)
{
	return TP_READ_ONCE(config->unplaced) ? TP_UNPLACED : TP_NO_FLOW;
}

/*
 * No such channel. A client may send on one right behind its ChannelBind (RFC 8656, 12): the packet
 * then has to queue up behind the request, so whoever has an allocation is heard. Strangers are
 * not.
 */
static TP_INLINE enum tp_verdict tp_without_channel(struct tp_host *host,
	const struct tp_config *config, const struct tp_headers *in, uint32_t local)
{
	struct tp_flow_key key = tp_key_of(in, local, TP_FLOW_CLIENT, (tp_be16){0});

	return tp_host_find_slot(host, key.remote[0], key.remote[1], key.ident) != TP_NO_SLOT
		       ? TP_UNBOUND
		       : tp_without_flow(config);
}

/* A Send indication (RFC 8656, 11.2): of a client of ours, or it goes no further. */
static TP_INLINE enum tp_verdict tp_find_sender(struct tp_host *host, const struct tp_packet *pkt,
	const struct tp_config *config, const struct tp_headers *in, uint32_t local,
	struct tp_found *found)
{
	const uint8_t *message = in->udp + TP_UDP_LEN;
	uint32_t message_len = (uint32_t)in->udp_len - TP_UDP_LEN;
	struct tp_flow_key key = tp_key_of(in, local, TP_FLOW_CLIENT, (tp_be16){0});

	if (message_len < TP_STUN_LEN || message + TP_STUN_LEN > pkt->end ||
		!tp_is_send(tp_get64(message)))
		return TP_CONTROL;
	if (!tp_is_stun_len(message, message_len))
		return TP_MALFORMED;
	*found = tp_find_other(host, key.remote[0], key.remote[1], key.ident);
	return found->flow ? TP_RELAYED : tp_without_flow(config);
}

/* ChannelData of a client (RFC 8656, 12.4 and 12.6). */
static TP_INLINE enum tp_verdict tp_find_channel(struct tp_host *host, const struct tp_packet *pkt,
	const struct tp_config *config, const struct tp_headers *in, uint32_t local,
	struct tp_found *found)
{
	const uint8_t *payload = in->udp + TP_UDP_LEN;
	const struct tp_channeldata *header = (const void *)payload;
	uint32_t payload_len = (uint32_t)in->udp_len - TP_UDP_LEN, len;
	struct tp_flow_key key;

	if (payload_len < TP_CHANNELDATA_LEN || payload + TP_CHANNELDATA_LEN > pkt->end)
		return TP_MALFORMED;
	len = tp_from_be16(header->len);
	if (len > payload_len - TP_CHANNELDATA_LEN)
		return TP_MALFORMED;
	if (payload_len - TP_CHANNELDATA_LEN - len > TP_PADDING_MAX)
		return TP_PADDED;
	key = tp_key_of(in, local, TP_FLOW_CHANNEL, header->channel);
	*found = tp_find_flow(host, config, &key);
	if (TP_UNLIKELY(!found->flow))
		return tp_without_channel(host, config, in, local);
	return tp_is_expired(host, found->flow) ? TP_EXPIRED : TP_RELAYED;
}

/* What comes to a listener: data in either wrapping, or what the control plane answers. */
static TP_INLINE enum tp_verdict tp_find_client(struct tp_host *host, const struct tp_packet *pkt,
	const struct tp_config *config, const struct tp_headers *in, uint32_t local,
	struct tp_found *found)
{
	const uint8_t *payload = in->udp + TP_UDP_LEN;

	if (in->udp_len == TP_UDP_LEN || payload + 1 > pkt->end)
		return TP_CONTROL;
	if (payload[0] >= 0x40 && payload[0] <= config->channel_max >> 8)
		return tp_find_channel(host, pkt, config, in, local, found);
	return tp_find_sender(host, pkt, config, in, local, found);
}

/* A peer's datagram (RFC 8656, 11.3 and 12.7): of a channel, or at least with a permission. */
static TP_INLINE enum tp_verdict tp_find_peer(struct tp_host *host, const struct tp_config *config,
	const struct tp_headers *in, uint32_t local, struct tp_found *found)
{
	struct tp_flow_key key = tp_key_of(in, local, TP_FLOW_PEER, (tp_be16){0});

	*found = tp_find_flow(host, config, &key);
	if (TP_LIKELY(found->flow && !tp_is_expired(host, found->flow)))
		return TP_RELAYED;
	key = tp_key_of(in, local, TP_FLOW_PERMISSION, (tp_be16){0});
	*found = tp_find_other(host, key.remote[0], key.remote[1], key.ident);
	if (!found->flow)
		return tp_without_flow(config);
	return tp_is_expired(host, found->flow) ? TP_EXPIRED : TP_RELAYED;
}

/* TP_RELAYED: `found` is the packet's; a sender's CLIENT flow does not say yet where it goes. */
static TP_INLINE enum tp_verdict tp_find(struct tp_host *host, const struct tp_packet *pkt,
	const struct tp_config *config, const struct tp_headers *in, struct tp_found *found)
{
	const struct tp_ports *ports;
	enum tp_verdict verdict;
	uint32_t local;
	uint8_t state;

	if (!tp_find_local(host, config, in->destination, &local))
		return TP_NOT_OURS;
	ports = tp_host_ports(host, local);
	if (!ports)
		return TP_NOT_OURS;
	state = tp_port_state(ports, tp_destination_port(in));
	if (state == TP_PORT_NOT_OURS || state > TP_PORT_LISTENER)
		return TP_NOT_OURS;

	verdict = tp_check_sender(host, config, in);
	if (TP_UNLIKELY(verdict != TP_RELAYED))
		return verdict;
	if (state == TP_PORT_LISTENER)
		return tp_find_client(host, pkt, config, in, local, found);
	if (state == TP_PORT_RELAY)
		return tp_find_peer(host, config, in, local, found);
	return TP_SLOW_PORT;
}
