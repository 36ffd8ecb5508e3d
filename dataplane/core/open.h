/*
 * SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
 *
 * Finds the data in a packet, and sums up what lies around it. These functions read the packet and
 * nothing else, so a host may run each by itself.
 */
#pragma once

#include "checksum.h"
#include "crc32.h"
#include "host.h"
#include "stun.h"
#include "way.h"

/* What lies around the data is summed up word by word: no more of it than this. */
#define TP_AROUND_MAX 256

/* Reads what the headers say; the look-up has checked them. */
static TP_INLINE enum tp_verdict tp_begin_way(
	const struct tp_packet *pkt, bool v4, struct tp_way *way)
{
	uint32_t ip_at = way->link_len & 0x1f, udp_at = ip_at + tp_ip_len(v4);
	const uint8_t *ip = pkt->data + ip_at, *udp = pkt->data + udp_at;
	tp_be16 len;

	if (udp + TP_UDP_LEN > pkt->end || ip + tp_ip_len(v4) > pkt->end)
		return TP_MALFORMED;
	len = ((const struct tp_udp *)udp)->len;
	way->v4 = v4;
	way->ports = tp_get32(udp);
	way->payload_at = (uint16_t)(udp_at + TP_UDP_LEN);
	way->payload_len = (uint16_t)(tp_from_be16(len) - TP_UDP_LEN);
	way->old_sum = way->ports + 2 * (uint64_t)len.be;
	if (v4)
		way->old_sum += tp_sum_wide(tp_get64(ip + 12));
	else
		way->old_sum += tp_sum_wide(tp_get64(ip + 8)) + tp_sum_wide(tp_get64(ip + 16)) +
				tp_sum_wide(tp_get64(ip + 24)) + tp_sum_wide(tp_get64(ip + 32));
	return way->payload_len <= TP_STUN_LEN_MAX ? TP_RELAYED : TP_TOO_BIG;
}

/* The same for what only the headers that leave are made of. False cannot happen. */
static TP_INLINE bool tp_read_rest(const struct tp_packet *pkt, struct tp_way *way)
{
	const uint8_t *ip = pkt->data + (way->link_len & 0x1f);
	const uint8_t *udp = ip + tp_ip_len(way->v4);
	uint16_t checksum;

	if (udp + TP_UDP_LEN > pkt->end)
		return false;
	tp_read_marks(ip, way->v4, &way->marks);
	checksum = ((const struct tp_udp *)udp)->checksum.be;
	way->old_sum = checksum ? way->old_sum + checksum : 0;
	return true;
}

/* A place in the frame, made anew each time: the verifier then remembers nothing of earlier ones.
 */
static TP_INLINE const uint8_t *tp_place_in(const struct tp_packet *pkt, uint32_t offset)
{
	const uint8_t *at = pkt->data;

	TP_KEEP(offset);
	at += offset & TP_STUN_LEN_MAX;
	TP_KEEP(at);
	return at;
}

/* From an even place in the frame; `len` is a multiple of 4. The sum is wide. */
static TP_INLINE bool tp_sum_words_at(
	const struct tp_packet *pkt, uint32_t offset, uint32_t len, uint64_t *sum)
{
	const uint8_t *at = tp_place_in(pkt, offset);

	if (len > TP_AROUND_MAX)
		return false;
	for (uint32_t i = 8; i <= TP_AROUND_MAX && i <= len; i += 8, at += 8) {
		TP_KEEP(at);
		if (at + 8 > pkt->end)
			return false;
		*sum += tp_sum_wide(tp_get64(at));
	}
	if (!(len & 4))
		return true;
	at = tp_place_in(pkt, offset + len - 4);
	if (at + 4 > pkt->end)
		return false;
	*sum += tp_get32(at);
	return true;
}

/* Up to three bytes; whether the first one's place is odd decides which half of its word it is. */
static TP_INLINE uint32_t tp_sum_bytes_at(
	const struct tp_packet *pkt, const uint8_t *from, uint32_t len, uint32_t place)
{
	uint32_t sum = 0;

	for (uint32_t i = 0; i < TP_PADDING_MAX; i++, from++) {
		TP_KEEP(from);
		if (i >= len || from + 1 > pkt->end)
			break;
		sum += (uint32_t)*from << (((place + i) & 1) * 8);
	}
	return sum;
}

/* TP_CONTROL: there is more around the data than a packet of media has. */
static TP_INLINE enum tp_verdict tp_sum_around(const struct tp_packet *pkt, struct tp_way *way)
{
	uint32_t data_at = way->data_at, data_len = way->data_len;
	uint32_t end = way->payload_at + data_at + data_len;
	uint32_t behind = way->payload_len - data_at - data_len;
	uint32_t odd = behind <= TP_PADDING_MAX ? behind : tp_padded(data_len) - data_len;
	uint64_t sum = 0;

	if (!tp_sum_words_at(pkt, way->payload_at, data_at, &sum))
		return TP_CONTROL;
	if (odd)
		sum += tp_sum_bytes_at(pkt, tp_place_in(pkt, end), odd, data_len);
	if (behind > odd && !tp_sum_words_at(pkt, end + odd, behind - odd, &sum))
		return TP_CONTROL;
	way->old_sum += tp_sum_fold_wide(sum);
	return TP_RELAYED;
}

/* The look-up has seen that the lengths are right. */
static TP_INLINE enum tp_verdict tp_open_channeldata(
	const struct tp_packet *pkt, struct tp_way *way)
{
	const struct tp_channeldata *header = (const void *)(pkt->data + (way->payload_at & 0x7f));

	if ((const uint8_t *)header + TP_CHANNELDATA_LEN > pkt->end)
		return TP_MALFORMED;
	way->data_at = TP_CHANNELDATA_LEN;
	way->data_len = tp_from_be16(header->len);
	return TP_RELAYED;
}

/* ChannelData without padding, which needs no loop. */
static TP_INLINE bool tp_open_usual_channeldata(const struct tp_packet *pkt, struct tp_way *way)
{
	const struct tp_channeldata *header = (const void *)(pkt->data + (way->payload_at & 0x7f));

	if ((const uint8_t *)header + TP_CHANNELDATA_LEN > pkt->end)
		return false;
	way->data_at = TP_CHANNELDATA_LEN;
	way->data_len = (uint16_t)(way->payload_len - TP_CHANNELDATA_LEN);
	if (tp_from_be16(header->len) != way->data_len)
		return false;
	way->old_sum += tp_get32(header);
	return true;
}

/* A Send's next attribute. */
static TP_INLINE enum tp_verdict tp_read_attribute(const struct tp_packet *pkt, struct tp_way *way)
{
	return tp_read_attribute_at(
		pkt, pkt->data + (way->payload_at & 0x7f), way->payload_len, &way->send);
}

/* RFC 8656, 11.2, when its attributes have been read. */
static TP_INLINE enum tp_verdict tp_open_send(const struct tp_packet *pkt, struct tp_way *way)
{
	const uint8_t *message = pkt->data + (way->payload_at & 0x7f), *data;
	const struct tp_send *send = &way->send;
	enum tp_verdict verdict;
	uint64_t sum = 0; /* tp_sum_around() takes it again with the rest */

	if (!send->peer_at || !send->data_at)
		return TP_INCOMPLETE;
	verdict = tp_read_peer(
		pkt, message, message + (send->peer_at & TP_STUN_LEN_MAX), &way->peer, &sum);
	if (verdict != TP_RELAYED)
		return verdict;
	data = tp_place_in(pkt, way->payload_at + send->data_at);
	if (data + TP_ATTRIBUTE_LEN > pkt->end)
		return TP_MALFORMED;
	way->data_at = (uint16_t)(send->data_at + TP_ATTRIBUTE_LEN);
	way->data_len = tp_from_be16(((const tp_be16 *)data)[1]);
	way->has_fingerprint = send->fingerprint;
	way->dont_fragment = send->dont_fragment;
	return TP_RELAYED;
}

/* The peer's address; of the attribute nothing has been looked at. */
static TP_INLINE bool tp_open_usual_peer(const struct tp_packet *pkt, const uint8_t *message,
	uint32_t at, struct tp_way *way, uint64_t *sum)
{
	const uint8_t *attribute = message + (at & TP_STUN_LEN_MAX);

	TP_KEEP(attribute);
	return tp_read_peer(pkt, message, attribute, &way->peer, sum) == TP_RELAYED &&
	       (uint16_t)tp_get32(attribute) == tp_to_be16(TP_XOR_PEER_ADDRESS).be;
}

/* The head of the data, and the padding behind them. */
static TP_INLINE bool tp_open_usual_data(const struct tp_packet *pkt, const uint8_t *message,
	uint32_t at, struct tp_way *way, uint64_t *sum)
{
	const uint8_t *attribute = message + (at & TP_STUN_LEN_MAX), *padding;
	uint32_t head;

	TP_KEEP(attribute);
	if (attribute + TP_ATTRIBUTE_LEN > pkt->end)
		return false;
	head = tp_get32(attribute);
	way->data_at = (uint16_t)(at + TP_ATTRIBUTE_LEN);
	way->data_len = __builtin_bswap16((uint16_t)(head >> 16));
	padding = tp_place_in(pkt, (uint32_t)way->payload_at + way->data_at + way->data_len);
	*sum += head + tp_sum_bytes_at(pkt, padding, tp_padding_of(way->data_len), way->data_len);
	return (uint16_t)head == tp_to_be16(TP_DATA).be;
}

/* Behind both of them: nothing, or a FINGERPRINT. */
static TP_INLINE bool tp_end_usual_send(const struct tp_packet *pkt, const uint8_t *message,
	uint32_t at, struct tp_way *way, uint64_t *sum)
{
	const uint8_t *attribute = message + (at & TP_STUN_LEN_MAX);

	if (TP_LIKELY(at == way->payload_len))
		return true;
	TP_KEEP(attribute);
	if (at + 2 * TP_ATTRIBUTE_LEN != way->payload_len ||
		attribute + 2 * TP_ATTRIBUTE_LEN > pkt->end ||
		tp_get32(attribute) != tp_attribute(TP_FINGERPRINT, TP_ATTRIBUTE_LEN))
		return false;
	way->has_fingerprint = true;
	*sum += tp_sum_wide(tp_get64(attribute));
	return true;
}

/*
 * The Send that nearly all are: the peer's address and the data, in either order, and perhaps a
 * FINGERPRINT. The same as tp_open() and tp_sum_around() say of it, without a loop; false: they
 * have to look.
 */
static TP_INLINE bool tp_open_usual_send(const struct tp_packet *pkt, struct tp_way *way)
{
	const uint8_t *message = pkt->data + (way->payload_at & 0x7f);
	uint32_t peer_at = TP_STUN_LEN, data_at = TP_STUN_LEN, first, end;
	uint64_t sum;

	if (message + TP_STUN_LEN + TP_ATTRIBUTE_LEN > pkt->end)
		return false;
	first = __builtin_bswap32(tp_get32(message + TP_STUN_LEN));
	end = TP_STUN_LEN + TP_ATTRIBUTE_LEN + tp_padded(first & 0xffff);
	if (first >> 16 == TP_DATA)
		peer_at = end;
	else
		data_at = end;
	sum = tp_sum_wide(tp_get64(message)) + tp_sum_wide(tp_get64(message + 8)) +
	      tp_get32(message + 16);
	if (!tp_open_usual_peer(pkt, message, peer_at, way, &sum) ||
		!tp_open_usual_data(pkt, message, data_at, way, &sum))
		return false;
	end += TP_ATTRIBUTE_LEN;
	if (peer_at < data_at)
		end += tp_padded(way->data_len);
	else
		end += way->peer.v4 ? 8 : 20;
	if (!tp_end_usual_send(pkt, message, end, way, &sum))
		return false;
	way->old_sum += sum;
	return true;
}

/* A client's packet: finds the data in it. */
static TP_INLINE enum tp_verdict tp_open(const struct tp_packet *pkt, struct tp_way *way)
{
	return way->is_send ? tp_open_send(pkt, way) : tp_open_channeldata(pkt, way);
}

/* RFC 8489, 7 and 14.7. It is the last attribute and lies within the message. */
static TP_INLINE enum tp_verdict tp_check_fingerprint(
	const struct tp_packet *pkt, uint32_t message_at, uint32_t message_len)
{
	uint32_t covered_len = message_len - 2 * TP_ATTRIBUTE_LEN;
	const uint8_t *message = pkt->data + (message_at & 0x7f);
	const uint8_t *attribute = message + (covered_len & TP_STUN_LEN_MAX);
	uint32_t crc;

	if (attribute + 2 * TP_ATTRIBUTE_LEN > pkt->end)
		return TP_MALFORMED;
	if (!tp_crc32(pkt, message, covered_len, &crc))
		return TP_CONTROL;
	crc ^= TP_FINGERPRINT_XOR;
	return tp_get32(attribute + TP_ATTRIBUTE_LEN) == __builtin_bswap32(crc) ? TP_RELAYED
										: TP_MALFORMED;
}

/*
 * What is not the common path is big, so a host may have its own way of calling it: tp_usual() and
 * tp_any() (relay.h), in the latter tp_general() (general.h), and in that the functions of this
 * file. After the first three nothing of `pkt` is valid any more unless the verdict's fate is PASS.
 */
static TP_INLINE enum tp_verdict tp_host_usual(struct tp_host *host, struct tp_packet *pkt,
	struct tp_way *way, const struct tp_asked *asked, struct tp_found found);
static TP_INLINE enum tp_verdict tp_host_any(
	struct tp_host *host, struct tp_packet *pkt, struct tp_way *way);
static TP_INLINE enum tp_verdict tp_host_general(
	struct tp_host *host, struct tp_packet *pkt, struct tp_way *way, struct tp_flow *flow);
static TP_INLINE enum tp_verdict tp_host_read_attribute(
	struct tp_host *host, const struct tp_packet *pkt, struct tp_way *way);
static TP_INLINE enum tp_verdict tp_host_open(
	struct tp_host *host, const struct tp_packet *pkt, struct tp_way *way);
static TP_INLINE enum tp_verdict tp_host_sum_around(
	struct tp_host *host, const struct tp_packet *pkt, struct tp_way *way);
static TP_INLINE enum tp_verdict tp_host_check_fingerprint(struct tp_host *host,
	const struct tp_packet *pkt, uint32_t message_at, uint32_t message_len);
