/*
 * SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
 *
 * The two STUN messages that carry data: Send indications as they come from clients, Data
 * indications as they go to them (RFC 8656, 11). What is read here means what the control plane
 * reads in it (controlplane/stun, turn/indication.c and data.c); what is odd is left to it.
 */
#pragma once

#include "checksum.h"
#include "packet.h"
#include "verdict.h"

#define TP_STUN_LEN       20
#define TP_STUN_SEND      0x0016 /* class and method of indications */
#define TP_STUN_DATA      0x0017
#define TP_STUN_COOKIE    UINT32_C(0x42a41221) /* 0x2112a442 as it lies in memory */
#define TP_STUN_PORT_MASK UINT16_C(0x1221)     /* its upper half, likewise */
#define TP_STUN_LEN_MAX   0x7fff               /* of a message that is looked at here */

#define TP_ATTRIBUTE_LEN    4 /* type and length */
#define TP_ATTRIBUTES_MAX   8 /* in a message that is looked at here */
#define TP_XOR_PEER_ADDRESS 0x0012
#define TP_DATA             0x0013
#define TP_DONT_FRAGMENT    0x001a
#define TP_FINGERPRINT      0x8028
#define TP_OPTIONAL         0x8000 /* from here on: comprehension-optional */

/*
 * The comprehension-required ones that the control plane knows (STUN_ATTRIBUTES in
 * controlplane/stun/stun.h), bit by type: they make no sense in an indication, and some end it.
 */
#define TP_KNOWN_ATTRIBUTES                                                                        \
	(UINT64_C(1) << 0x01 | UINT64_C(1) << 0x06 | UINT64_C(1) << 0x08 | UINT64_C(1) << 0x09 |   \
		UINT64_C(1) << 0x0a | UINT64_C(1) << 0x0c | UINT64_C(1) << 0x0d |                  \
		UINT64_C(1) << 0x12 | UINT64_C(1) << 0x13 | UINT64_C(1) << 0x14 |                  \
		UINT64_C(1) << 0x15 | UINT64_C(1) << 0x16 | UINT64_C(1) << 0x17 |                  \
		UINT64_C(1) << 0x18 | UINT64_C(1) << 0x19 | UINT64_C(1) << 0x1a |                  \
		UINT64_C(1) << 0x1c | UINT64_C(1) << 0x1d | UINT64_C(1) << 0x1e |                  \
		UINT64_C(1) << 0x20 | UINT64_C(1) << 0x22)

/* An address and a port as an attribute names them: v4-mapped or IPv6. */
struct tp_endpoint {
	uint64_t ip[2];
	tp_be16 port;
	bool v4;
};

/* Where things begin in a Send indication: their attributes' heads; 0 = not there. */
struct tp_send {
	uint32_t at; /* the attribute to be read next */
	uint32_t peer_at;
	uint32_t data_at;
	bool dont_fragment;
	bool fingerprint;
};

/* By type and cookie, of a message's first eight bytes. */
static TP_INLINE bool tp_is_send(uint64_t first)
{
	return (uint16_t)first == tp_to_be16(TP_STUN_SEND).be &&
	       (uint32_t)(first >> 32) == TP_STUN_COOKIE;
}

/* Do the message's length and the datagram's agree? At least its header is there. */
static TP_INLINE bool tp_is_stun_len(const uint8_t *message, uint32_t len)
{
	return len % 4 == 0 && tp_from_be16(((const tp_be16 *)message)[1]) == len - TP_STUN_LEN;
}

static TP_INLINE bool tp_is_known_attribute(uint32_t type)
{
	return type < 64 && (TP_KNOWN_ATTRIBUTES >> type & 1);
}

static TP_INLINE uint32_t tp_padded(uint32_t len)
{
	return (len + 3) & ~UINT32_C(3);
}

static TP_INLINE uint32_t tp_padding_of(uint32_t len)
{
	return -len & TP_PADDING_MAX;
}

/* Of its kind the first one counts (RFC 8489, 14). `end_at`: where the next one begins. */
static TP_INLINE enum tp_verdict tp_take_attribute(
	uint32_t type, uint32_t at, uint32_t end_at, uint32_t message_len, struct tp_send *out)
{
	switch (type) {
	case TP_XOR_PEER_ADDRESS:
		out->peer_at = out->peer_at ? out->peer_at : at;
		return TP_RELAYED;
	case TP_DATA:
		out->data_at = out->data_at ? out->data_at : at;
		return TP_RELAYED;
	case TP_DONT_FRAGMENT:
		out->dont_fragment = true;
		return TP_RELAYED;
	case TP_FINGERPRINT:
		out->fingerprint = true;
		/* Not the last one, it ends the message all the same (RFC 8489, 14.7). */
		return end_at == message_len && end_at - at == 2 * TP_ATTRIBUTE_LEN ? TP_RELAYED
										    : TP_CONTROL;
	default:
		if (type >= TP_OPTIONAL)
			return TP_RELAYED;
		return tp_is_known_attribute(type) ? TP_CONTROL : TP_UNKNOWN_ATTRIBUTE;
	}
}

/* The attribute at out->at, which is before the message's end; then that is where the next one is.
 */
static TP_INLINE enum tp_verdict tp_read_attribute_at(const struct tp_packet *pkt,
	const uint8_t *message, uint32_t message_len, struct tp_send *out)
{
	uint32_t at = out->at, word, end_at;
	const uint8_t *head = message + (at & TP_STUN_LEN_MAX);

	TP_KEEP(head);
	if (head + TP_ATTRIBUTE_LEN > pkt->end)
		return TP_MALFORMED;
	word = __builtin_bswap32(tp_get32(head));
	end_at = at + TP_ATTRIBUTE_LEN + tp_padded(word & 0xffff);
	if (end_at > message_len)
		return TP_MALFORMED;
	out->at = end_at;
	return tp_take_attribute(word >> 16, at, end_at, message_len, out);
}

/*
 * RFC 8489, 14.2: IPv6 is masked with cookie and transaction, which stand behind each other. The
 * attribute is added to the wide sum.
 */
static TP_INLINE enum tp_verdict tp_read_peer(const struct tp_packet *pkt, const uint8_t *message,
	const uint8_t *attribute, struct tp_endpoint *out, uint64_t *sum)
{
	uint32_t kind, len;

	if (attribute + TP_ATTRIBUTE_LEN + 8 > pkt->end || message + TP_STUN_LEN > pkt->end)
		return TP_INCOMPLETE;
	len = tp_from_be16(((const tp_be16 *)attribute)[1]);
	kind = attribute[5];
	out->port.be = ((const tp_be16 *)attribute)[3].be ^ TP_STUN_PORT_MASK;
	out->v4 = kind == 1;
	*sum += tp_sum_wide(tp_get64(attribute));
	if (kind == 1 && len == 8) {
		out->ip[0] = 0;
		out->ip[1] = tp_map_v4(tp_get32(attribute + 8) ^ TP_STUN_COOKIE);
		*sum += tp_get32(attribute + 8);
		return TP_RELAYED;
	}
	if (kind != 2 || len != 20 || attribute + TP_ATTRIBUTE_LEN + 20 > pkt->end)
		return TP_INCOMPLETE;
	out->ip[0] = tp_get64(attribute + 8) ^ tp_get64(message + 4);
	out->ip[1] = tp_get64(attribute + 16) ^ tp_get64(message + 12);
	*sum += tp_sum_wide(tp_get64(attribute + 8)) + tp_sum_wide(tp_get64(attribute + 16));
	/* ::ffff:a.b.c.d would pass for a.b.c.d. */
	return tp_is_v4(out->ip) ? TP_FORBIDDEN : TP_RELAYED;
}

static TP_INLINE uint32_t tp_data_head_len(bool peer_is_v4)
{
	return TP_STUN_LEN + 3 * TP_ATTRIBUTE_LEN + (peer_is_v4 ? 4 : 16);
}

static TP_INLINE uint32_t tp_attribute(uint16_t type, uint32_t len)
{
	return tp_to_be16(type).be | (uint32_t)tp_to_be16((uint16_t)len).be << 16;
}

/* What an XOR-PEER-ADDRESS says in front of the address. */
static TP_INLINE uint32_t tp_masked_port(const struct tp_endpoint *peer)
{
	return tp_to_be16(peer->v4 ? 1 : 2).be |
	       (uint32_t)(uint16_t)(peer->port.be ^ TP_STUN_PORT_MASK) << 16;
}

/*
 * A Data indication up to where the data begins; all of it is added to the wide sum. An IPv6
 * address is masked with cookie and transaction. False cannot happen: it is how the bounds are
 * shown to the BPF verifier.
 */
static TP_INLINE bool tp_write_data_head(const struct tp_packet *pkt, uint8_t *at,
	const struct tp_endpoint *peer, uint32_t data_len, uint64_t transaction,
	uint32_t transaction_rest, uint64_t *sum)
{
	uint32_t len = tp_data_head_len(peer->v4) + tp_padded(data_len) - TP_STUN_LEN;
	uint32_t data = tp_attribute(TP_DATA, data_len);

	if (at + TP_STUN_LEN + 3 * TP_ATTRIBUTE_LEN + 4 > pkt->end)
		return false;
	tp_put64_sum(at, tp_attribute(TP_STUN_DATA, len) | (uint64_t)TP_STUN_COOKIE << 32, sum);
	tp_put64_sum(at + 8, transaction, sum);
	tp_put32_sum(at + 16, transaction_rest, sum);
	tp_put32_sum(at + 20, tp_attribute(TP_XOR_PEER_ADDRESS, peer->v4 ? 8 : 20), sum);
	tp_put32_sum(at + 24, tp_masked_port(peer), sum);
	if (peer->v4) {
		tp_put32_sum(at + 28, (uint32_t)(peer->ip[1] >> 32) ^ TP_STUN_COOKIE, sum);
		tp_put32_sum(at + 32, data, sum);
		return true;
	}
	if (at + TP_STUN_LEN + 3 * TP_ATTRIBUTE_LEN + 16 > pkt->end)
		return false;
	tp_put64_sum(at + 28, peer->ip[0] ^ (TP_STUN_COOKIE | transaction << 32), sum);
	tp_put64_sum(
		at + 36, peer->ip[1] ^ (transaction >> 32 | (uint64_t)transaction_rest << 32), sum);
	tp_put32_sum(at + 44, data, sum);
	return true;
}
