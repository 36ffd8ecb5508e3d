/* ChannelBind and ChannelData from the client (RFC 8656, 12). One thread; nothing blocks. */
#include "request.h"

enum {
	CHANNEL_MIN = 0x4000,
	CHANNEL_MAX = 0x4FFF,
	CHANNEL_MAX_5766 = 0x7FFE, /* RFC 5766, 11 */
	CHANNEL_HEAD_LEN = 4,
};

struct binding {
	uint16_t number;
	struct tp_addr peer;
	struct alloc_relay *relay;
	struct alloc_channel *bound; /* already, to be refreshed */
};

static uint16_t read_be16(const uint8_t *bytes)
{
	return (uint16_t)(bytes[0] << 8 | bytes[1]);
}

bool turn_is_channel(const struct turn_server *s, uint16_t number)
{
	return number >= CHANNEL_MIN &&
	       number <= (s->settings.rfc5766_channels ? CHANNEL_MAX_5766 : CHANNEL_MAX);
}

static enum stun_code read_binding(
	const struct turn_server *s, const struct turn_request *req, struct binding *b)
{
	struct stun_attribute number = stun_find(&req->message, STUN_ATTR_CHANNEL_NUMBER);
	struct stun_attribute peer = stun_find(&req->message, STUN_ATTR_XOR_PEER_ADDRESS);
	enum stun_code code;

	if (!number.value || number.len != 4)
		return STUN_BAD_REQUEST;
	b->number = read_be16(number.value);
	if (!turn_is_channel(s, b->number))
		return STUN_BAD_REQUEST;
	code = turn_read_peer(s, req, peer, &b->peer, &b->relay);
	if (code != STUN_OK)
		return code;
	if (b->peer.port == 0)
		return STUN_BAD_REQUEST; /* no destination (TURN-12.2-12) */
	return turn_peer_check(s, b->relay, &b->peer, true, req->now->mono_ns);
}

/* A number has one peer and a peer one number (12.2). */
static enum stun_code find_bound(const struct turn_request *req, struct binding *b)
{
	uint64_t now_ns = req->now->mono_ns;
	struct alloc_channel *by_peer = alloc_find_channel_to(b->relay, &b->peer, now_ns);

	b->bound = alloc_find_channel(req->allocation, b->number, now_ns);
	return b->bound == by_peer ? STUN_OK : STUN_BAD_REQUEST;
}

static bool has_room(const struct turn_request *req, const struct binding *b)
{
	uint32_t fresh = alloc_find_permission(b->relay, &b->peer, req->now->mono_ns) ? 0 : 1;

	if (fresh && !alloc_room_for_permissions(req->allocation, fresh))
		return false;
	return b->bound || alloc_room_for_channel(req->allocation);
}

enum stun_code turn_on_channel_bind(
	struct turn_server *s, struct turn_request *req, struct stun_writer *answer)
{
	uint64_t channel_ends = req->now->mono_ns + s->settings.channel_lifetime_ns;
	uint64_t permission_ends = req->now->mono_ns + s->settings.permission_lifetime_ns;
	struct alloc_permission *permission;
	struct alloc_channel *channel;
	struct binding b;
	enum stun_code code;

	(void)answer;
	code = read_binding(s, req, &b);
	if (code == STUN_OK)
		code = find_bound(req, &b);
	if (code != STUN_OK)
		return code;
	if (!has_room(req, &b))
		return STUN_INSUFFICIENT_CAPACITY;
	channel = b.bound;
	if (!channel && alloc_bind(b.relay, b.number, &b.peer, channel_ends, &channel) < 0)
		return STUN_INSUFFICIENT_CAPACITY;
	if (alloc_permit(b.relay, &b.peer, permission_ends, &permission) < 0) {
		if (!b.bound)
			alloc_delete_channel(channel);
		return STUN_INSUFFICIENT_CAPACITY;
	}
	alloc_extend_channel(channel, channel_ends);
	turn_note_peer(req, &b.peer);
	s->effects.grant_permission(s->effects.context, permission);
	s->effects.grant_channel(s->effects.context, channel);
	return STUN_OK;
}

/*
 * DEC-7: a bound channel is enough, as 12.6 has it; the permission is not asked for. The policy is:
 * where a relay of ours was when the channel was bound, anything else may listen by now (P13).
 */
void turn_on_channel_data(struct turn_server *s, uint64_t now_ns, const struct alloc_tuple *tuple,
	const struct turn_packet *packet)
{
	const struct alloc_channel *channel;
	struct turn_marks marks;
	struct allocation *a;
	size_t len;

	if (packet->len < CHANNEL_HEAD_LEN || !turn_is_channel(s, read_be16(packet->bytes)))
		return;
	len = read_be16(packet->bytes + 2);
	if (len > packet->len - CHANNEL_HEAD_LEN)
		return;
	a = alloc_find(s->store, tuple, now_ns);
	channel = a ? alloc_find_channel(a, read_be16(packet->bytes), now_ns) : NULL;
	if (!channel || !turn_marks_of(packet, &marks) ||
		turn_peer_check(s, channel->relay, &channel->peer, true, now_ns) != STUN_OK ||
		!turn_police(s, a, TURN_TO_PEER, now_ns, len))
		return;
	a->sent.packets++;
	a->sent.bytes += len;
	s->effects.send_peer(s->effects.context, channel->relay, &channel->peer,
		packet->bytes + CHANNEL_HEAD_LEN, len, marks);
}
