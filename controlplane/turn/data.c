/*
 * From peers to the client: ChannelData, Data indications, ICMP errors (RFC 8656, 11.3, 11.5 and
 * 12.5). One thread; nothing blocks, nothing is allocated.
 */
#include "request.h"

enum {
	ICMP_REPORTS_PER_S = 10, /* per allocation: a hint, not a stream (TURN-11.5-8) */
	ATTRIBUTE_HEAD_LEN = 4,
};

static void put_be16(uint8_t *out, size_t value)
{
	out[0] = (uint8_t)(value >> 8);
	out[1] = (uint8_t)value;
}

bool turn_marks_of(const struct turn_packet *packet, struct turn_marks *out)
{
	*out = (struct turn_marks){.ttl = (uint8_t)(packet->ttl - 1), .tos = packet->tos};
	return packet->ttl > 1;
}

bool turn_police(const struct turn_server *s, const struct allocation *a,
	enum turn_direction direction, uint64_t now_ns, size_t len)
{
	return s->effects.police(s->effects.context, a, direction, now_ns, len);
}

static void send_channel_data(struct turn_server *s, const struct alloc_channel *channel,
	const struct turn_packet *packet, struct turn_marks marks)
{
	uint8_t head[4];

	put_be16(head, channel->number);
	put_be16(head + 2, packet->len);
	s->effects.send_client(s->effects.context, &channel->relay->allocation->tuple, head,
		sizeof(head), packet->bytes, packet->len, marks);
}

static void begin_data(
	struct turn_server *s, struct stun_writer *w, uint8_t head[128], const struct tp_addr *peer)
{
	struct tp_addr named = turn_peer_outward(s, peer);
	uint64_t transaction[2];

	/* Never the same, and not to be guessed, without a system call for each packet. */
	for (size_t i = 0; i < 2; i++, s->indications++)
		transaction[i] =
			tp_siphash(&alloc_hash_key, &s->indications, sizeof(s->indications));
	stun_begin(w, head, 128, STUN_INDICATION, STUN_METHOD_DATA, (const uint8_t *)transaction);
	stun_put_xor_address(w, STUN_ATTR_XOR_PEER_ADDRESS, &named);
}

/* The payload stays where it is: only what stands before it is written, and its padding behind. */
static void send_data(struct turn_server *s, const struct alloc_relay *relay,
	const struct tp_addr *peer, const struct turn_packet *packet, struct turn_marks marks)
{
	size_t padded = (packet->len + 3) & ~(size_t)3;
	struct stun_writer w;
	uint8_t head[128];
	size_t len;

	begin_data(s, &w, head, peer);
	len = stun_finish(&w);
	if (len == 0)
		return;
	put_be16(head + len, STUN_ATTR_DATA);
	put_be16(head + len + 2, packet->len);
	len += ATTRIBUTE_HEAD_LEN;
	if (len - STUN_HEADER_LEN + padded > UINT16_MAX)
		return;
	put_be16(head + 2, len - STUN_HEADER_LEN + padded);
	memset(packet->bytes + packet->len, 0, padded - packet->len);
	s->effects.send_client(s->effects.context, &relay->allocation->tuple, head, len,
		packet->bytes, padded, marks);
}

void turn_server_from_peer(struct turn_server *s, uint64_t now_ns, struct alloc_relay *relay,
	const struct tp_addr *peer, const struct turn_packet *packet)
{
	const struct alloc_channel *channel;
	struct turn_marks marks;

	/* A source port of 0 cannot be answered (P23). */
	if (relay->expires_ns <= now_ns || peer->port == 0 || packet->len > UINT16_MAX)
		return;
	if (!alloc_find_permission(relay, peer, now_ns) ||
		turn_peer_check(s, relay, peer, true, now_ns) != STUN_OK)
		return;
	if (!turn_marks_of(packet, &marks) ||
		!turn_police(s, relay->allocation, TURN_TO_CLIENT, now_ns, packet->len))
		return;
	relay->allocation->received.packets++;
	relay->allocation->received.bytes += packet->len;
	channel = alloc_find_channel_to(relay, peer, now_ns);
	if (channel)
		send_channel_data(s, channel, packet, marks);
	else
		send_data(s, relay, peer, packet, marks);
}

static bool is_reported(const struct alloc_relay *relay, const struct turn_icmp *icmp)
{
	if (relay->address.family == TP_IPV4)
		return icmp->type == 3 || icmp->type == 11;
	return icmp->type >= 1 && icmp->type <= 3;
}

static bool carries_mtu(const struct alloc_relay *relay, const struct turn_icmp *icmp)
{
	if (relay->address.family == TP_IPV4)
		return icmp->type == 3 && icmp->code == 4;
	return icmp->type == 2;
}

static bool take_icmp_budget(struct allocation *a, uint64_t now_ns)
{
	if (a->icmp_count == 0 || now_ns - a->icmp_window_ns >= TP_NS_PER_S) {
		a->icmp_window_ns = now_ns;
		a->icmp_count = 0;
	}
	if (a->icmp_count >= ICMP_REPORTS_PER_S)
		return false;
	a->icmp_count++;
	return true;
}

void turn_server_icmp(struct turn_server *s, uint64_t now_ns, struct alloc_relay *relay,
	const struct tp_addr *peer, const struct turn_icmp *icmp)
{
	uint32_t data = carries_mtu(relay, icmp) ? icmp->data : 0;
	uint8_t value[8] = {0, 0, icmp->type, icmp->code, (uint8_t)(data >> 24),
		(uint8_t)(data >> 16), (uint8_t)(data >> 8), (uint8_t)data};
	struct stun_writer w;
	uint8_t head[128];
	size_t len;

	if (relay->expires_ns <= now_ns || !is_reported(relay, icmp) ||
		!alloc_find_permission(relay, peer, now_ns))
		return;
	if (!take_icmp_budget(relay->allocation, now_ns))
		return;
	begin_data(s, &w, head, peer);
	stun_put(&w, STUN_ATTR_ICMP, value, sizeof(value));
	len = stun_finish(&w);
	if (len > 0)
		s->effects.send_client(s->effects.context, &relay->allocation->tuple, head, len,
			NULL, 0, (struct turn_marks){0});
}
