#include "frame.h"

#include <stdlib.h>
#include <string.h>

#define IPV4 0x0800
#define IPV6 0x86dd
#define VLAN 0x8100
#define UDP  17
#define DATA 0x0013 /* attribute */

void frame_put16(struct frame *frame, size_t at, uint16_t value)
{
	frame->bytes[at] = (uint8_t)(value >> 8);
	frame->bytes[at + 1] = (uint8_t)value;
}

uint16_t frame_get16(const struct frame *frame, size_t at)
{
	return (uint16_t)(frame->bytes[at] << 8 | frame->bytes[at + 1]);
}

static uint32_t add(uint32_t sum, const uint8_t *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++)
		sum += i & 1 ? bytes[i] : (uint32_t)bytes[i] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

/* l4_len bytes from l4 on, with the pseudo header of RFC 768 or RFC 8200, 8.1. */
static uint16_t udp_sum(const struct frame *frame, size_t l4_len)
{
	const uint8_t *l3 = frame->bytes + frame->l3;
	uint32_t sum = UDP + (uint32_t)l4_len;

	if (l3[0] >> 4 == 4)
		sum = add(sum, l3 + 12, 8);
	else
		sum = add(sum, l3 + 8, 32);
	return (uint16_t)add(sum, frame->bytes + frame->l4, l4_len);
}

static uint16_t ip_sum(const struct frame *frame)
{
	const uint8_t *l3 = frame->bytes + frame->l3;

	return (uint16_t)add(0, l3, (size_t)(l3[0] & 15) * 4);
}

bool frame_ip_checksum_ok(const struct frame *frame)
{
	return frame->bytes[frame->l3] >> 4 == 6 || ip_sum(frame) == 0xffff;
}

bool frame_udp_checksum_ok(const struct frame *frame)
{
	return frame_get16(frame, frame->l4 + 6) != 0 &&
	       udp_sum(frame, frame_get16(frame, frame->l4 + 4)) == 0xffff;
}

bool frame_udp_checksum_kept(const struct frame *before, const struct frame *after)
{
	if (frame_get16(before, before->l4 + 6) == 0)
		return after->bytes[after->l3] >> 4 == 6 ? frame_udp_checksum_ok(after)
							 : frame_get16(after, after->l4 + 6) == 0;
	return frame_udp_checksum_ok(before) == frame_udp_checksum_ok(after);
}

bool frame_locate(struct frame *frame)
{
	uint16_t type = frame_get16(frame, 12);

	frame->l3 = 14;
	if (type == VLAN || type == 0x88a8) {
		type = frame_get16(frame, 16);
		frame->l3 = 18;
	}
	if (type != IPV4 && type != IPV6)
		return false;
	frame->l4 = frame->l3 + (type == IPV4 ? 20 : 40);
	frame->payload = frame->l4 + 8;
	return frame->len >= frame->payload &&
	       frame->bytes[frame->l3 + (type == IPV4 ? 9 : 6)] == UDP;
}

static bool is_data_indication(const struct frame *frame)
{
	static const uint8_t cookie[4] = {0x21, 0x12, 0xa4, 0x42};
	const uint8_t *message = frame->bytes + frame->payload;

	return frame->len >= frame->payload + 36 && frame_get16(frame, frame->payload) == 0x0017 &&
	       memcmp(message + 4, cookie, sizeof(cookie)) == 0;
}

/* As it would be, had the bytes from `at` on been others: wrong stays as wrong. */
static void mend(struct frame *frame, size_t checksum_at, uint32_t sum_before, uint32_t sum_after)
{
	uint32_t sum = (uint16_t)~frame_get16(frame, checksum_at);

	sum = add(sum + sum_after + (uint16_t)~sum_before, NULL, 0);
	frame_put16(frame, checksum_at, (uint16_t)~sum);
}

static void forget_transaction(struct frame *frame, uint8_t transaction[FRAME_TRANSACTION])
{
	uint8_t *message = frame->bytes + frame->payload;
	bool ipv6 = message[25] == 2 && frame->len >= frame->payload + 48;
	size_t checksum_at = frame->l4 + 6, len = ipv6 ? 44 : 20;
	uint32_t before = add(0, message, len);

	memcpy(transaction, message + 8, FRAME_TRANSACTION);
	memset(message + 8, 0, FRAME_TRANSACTION);
	for (size_t i = 0; ipv6 && i < FRAME_TRANSACTION; i++)
		message[32 + i] ^= transaction[i];
	if (frame_get16(frame, checksum_at) == 0)
		return;
	mend(frame, checksum_at, before, add(0, message, len));
	if (frame_get16(frame, checksum_at) == 0)
		frame_put16(frame, checksum_at, 0xffff);
}

static void forget_id(struct frame *frame)
{
	mend(frame, frame->l3 + 10, frame_get16(frame, frame->l3 + 4), 0);
	frame_put16(frame, frame->l3 + 4, 0);
}

void frame_forget_random(
	const struct frame *in, struct frame *out, uint8_t transaction[FRAME_TRANSACTION])
{
	struct frame before = *in;
	bool v4_in, v4_out;

	if (!frame_locate(&before) || !frame_locate(out))
		return;
	if (is_data_indication(out))
		forget_transaction(out, transaction);
	v4_in = before.bytes[before.l3] >> 4 == 4;
	v4_out = out->bytes[out->l3] >> 4 == 4;
	if (v4_in || !v4_out || frame_get16(out, out->l3 + 6) & 0x4000)
		return;
	forget_id(out);
}

void frame_forget_kernel(struct frame *frame)
{
	if (!frame_locate(frame))
		return;
	memset(frame->bytes, 0, 12);
	if (frame->bytes[frame->l3] >> 4 == 4) {
		forget_id(frame);
		return;
	}
	frame->bytes[frame->l3 + 1] &= 0xf0;
	frame_put16(frame, frame->l3 + 2, 0);
}

static void put(struct frame *frame, const void *bytes, size_t len)
{
	if (len)
		memcpy(frame->bytes + frame->len, bytes, len);
	frame->len += len;
}

void frame_wrap(const uint8_t *packet, size_t len, struct frame *out)
{
	memset(out->bytes, 0, 12);
	frame_put16(out, 12, packet[0] >> 4 == 4 ? IPV4 : IPV6);
	out->len = 14;
	put(out, packet, len);
}

static void put16(struct frame *frame, uint16_t value)
{
	frame->len += 2;
	frame_put16(frame, frame->len - 2, value);
}

static void fill(struct frame *frame, uint8_t byte, size_t len)
{
	memset(frame->bytes + frame->len, byte, len);
	frame->len += len;
}

static void put_link(const struct frame_spec *spec, struct frame *out)
{
	put(out, spec->link_destination, 6);
	put(out, spec->link_source, 6);
	for (int i = 0; i < 2 && spec->vlan[i]; i++) {
		put16(out, i == 0 && spec->vlan_type ? spec->vlan_type : VLAN);
		put16(out, spec->vlan[i]);
	}
	put16(out, spec->source.family == TP_IPV4 ? IPV4 : IPV6);
}

static void put_ipv4(const struct frame_spec *spec, size_t udp_len, struct frame *out)
{
	uint16_t checksum;

	put16(out, (uint16_t)((0x45 + spec->options) << 8 | spec->tos));
	put16(out, (uint16_t)(20 + 4 * spec->options + udp_len));
	put16(out, spec->id);
	put16(out, spec->fragment);
	put16(out, (uint16_t)(spec->ttl << 8 | UDP));
	put16(out, 0);
	put(out, tp_addr_bytes(&spec->source), 4);
	put(out, tp_addr_bytes(&spec->destination), 4);
	fill(out, 1, 4 * (size_t)spec->options);
	checksum = (uint16_t)~ip_sum(out);
	if (spec->wrong_ip_checksum)
		checksum = (uint16_t)add((uint32_t)checksum + 0x0101, NULL, 0);
	frame_put16(out, out->l3 + 10, checksum);
}

static void put_ipv6(const struct frame_spec *spec, size_t udp_len, struct frame *out)
{
	static const uint8_t extension[8] = {UDP, 0, 1, 4};
	uint32_t first = 6u << 28 | (uint32_t)spec->tos << 20 | spec->label;

	put16(out, (uint16_t)(first >> 16));
	put16(out, (uint16_t)first);
	put16(out, (uint16_t)(udp_len + (spec->options ? 8 : 0)));
	put16(out, (uint16_t)((spec->options ? spec->extension : UDP) << 8 | spec->ttl));
	put(out, spec->source.ip, 16);
	put(out, spec->destination.ip, 16);
	if (spec->options)
		put(out, extension, 8);
}

static void put_udp_checksum(const struct frame_spec *spec, size_t udp_len, struct frame *out)
{
	uint16_t checksum = (uint16_t)~udp_sum(out, udp_len);

	if (spec->checksum == CHECKSUM_NONE)
		return;
	if (spec->checksum == CHECKSUM_WRONG)
		checksum = (uint16_t)add((uint32_t)checksum + 0x1234, NULL, 0);
	frame_put16(out, out->l4 + 6, checksum ? checksum : 0xffff);
}

static void put_head(struct frame *out, uint16_t type, size_t len)
{
	put16(out, type);
	put16(out, (uint16_t)len);
}

static void put_attribute(struct frame *out, uint16_t type, const void *value, size_t len)
{
	put_head(out, type, len);
	put(out, value, len);
	fill(out, type == DATA ? 0 : 0x20, -len & 3);
}

/* RFC 8489, 14.2. */
static void put_peer(struct frame *out, size_t message, const struct tp_addr *peer, bool wrong_len)
{
	size_t len = tp_addr_bytes_len(peer);
	uint8_t value[20] = {0, peer->family == TP_IPV4 ? 1 : 2, (uint8_t)(peer->port >> 8 ^ 0x21),
		(uint8_t)(peer->port ^ 0x12)};

	for (size_t i = 0; i < len; i++)
		value[4 + i] = tp_addr_bytes(peer)[i] ^ out->bytes[message + 4 + i];
	put_attribute(out, 0x0012, value, wrong_len ? 12 : 4 + len);
}

static uint32_t crc32_of(const uint8_t *bytes, size_t len)
{
	uint32_t crc = ~0u;

	for (size_t i = 0; i < len; i++) {
		crc ^= bytes[i];
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
	}
	return ~crc;
}

static void set_message_len(struct frame *out, size_t message)
{
	frame_put16(out, message + 2, (uint16_t)(out->len - message - 20));
}

/* The length counts it already (RFC 8489, 14.7). */
static void put_fingerprint(struct frame *out, size_t message, uint32_t mistake)
{
	size_t at = out->len;
	uint32_t crc;

	put_head(out, 0x8028, 4);
	fill(out, 0, 4);
	set_message_len(out, message);
	crc = crc32_of(out->bytes + message, at - message) ^ 0x5354554e ^ mistake;
	frame_put16(out, at + 4, (uint16_t)(crc >> 16));
	frame_put16(out, at + 6, (uint16_t)crc);
}

static void put_named(
	const struct frame_spec *spec, struct frame *out, size_t message, char attribute)
{
	static const uint8_t filler[300] = "turnpike test";
	struct tp_addr other = spec->peer;

	other.port ^= 0x0101;
	switch (attribute) {
	case 'X':
	case 'x':
	case 'i':
		put_peer(out, message, attribute == 'x' ? &other : &spec->peer, attribute == 'i');
		break;
	case 'D':
		put_attribute(out, DATA, spec->data, spec->data_len);
		break;
	case 'd':
		put_attribute(out, DATA, filler, 9);
		break;
	case 'N':
		put_attribute(out, 0x001a, NULL, 0);
		break;
	case 'S':
		put_attribute(out, 0x8022, filler, 13);
		break;
	case 'L':
		put_attribute(out, 0x8022, filler, 300);
		break;
	case 'O':
		put_attribute(out, 0xc001, filler, 3);
		break;
	case 'U':
		put_attribute(out, 0x7ff0, filler, 4);
		break;
	case 'M':
		put_attribute(out, 0x0008, filler, 20);
		break;
	case 'F':
	case 'f':
		put_fingerprint(out, message, attribute == 'f');
		break;
	case 'e':
		put_head(out, 0x8022, 5);
		fill(out, 0, 4);
		break;
	default:
		abort();
	}
}

static void put_message(const struct frame_spec *spec, struct frame *out)
{
	size_t message = out->len;

	put16(out, spec->message);
	put16(out, 0);
	put16(out, 0x2112);
	put16(out, 0xa442);
	fill(out, spec->transaction, FRAME_TRANSACTION);
	for (const char *a = spec->attributes ? spec->attributes : "XD"; *a; a++)
		put_named(spec, out, message, *a);
	set_message_len(out, message);
}

static void put_payload(const struct frame_spec *spec, struct frame *out)
{
	if (spec->message) {
		put_message(spec, out);
		return;
	}
	if (spec->channel)
		put_head(out, spec->channel, spec->data_len);
	put(out, spec->data, spec->data_len);
	fill(out, spec->padding_byte, spec->padding);
}

void frame_build(const struct frame_spec *spec, struct frame *out)
{
	static struct frame payload;
	size_t udp_len;

	payload.len = 0;
	put_payload(spec, &payload);
	udp_len = 8 + payload.len;
	out->len = 0;
	put_link(spec, out);
	out->l3 = out->len;
	if (spec->source.family == TP_IPV4)
		put_ipv4(spec, udp_len, out);
	else
		put_ipv6(spec, udp_len, out);

	out->l4 = out->len;
	put16(out, spec->source.port);
	put16(out, spec->destination.port);
	put16(out, (uint16_t)udp_len);
	put16(out, 0);
	out->payload = out->len;
	put(out, payload.bytes, payload.len);
	put_udp_checksum(spec, udp_len, out);
	fill(out, 0xee, spec->trailer);
}
