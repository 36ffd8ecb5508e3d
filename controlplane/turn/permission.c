/* CreatePermission (RFC 8656, 10.2): all of the peers or none. One thread; nothing blocks. */
#include "request.h"

struct peer {
	struct tp_addr ip;
	struct alloc_relay *relay;
};

static bool is_among(const struct peer *peers, size_t count, const struct tp_addr *ip)
{
	for (size_t i = 0; i < count; i++)
		if (tp_addr_equal(&peers[i].ip, ip))
			return true;
	return false;
}

/* Every peer is checked before the first is installed. `fresh`: how many permissions are new. */
static enum stun_code read_peers(const struct turn_server *s, const struct turn_request *req,
	struct peer peers[STUN_ATTRIBUTES_MAX], size_t *count, uint32_t *fresh)
{
	uint64_t now_ns = req->now->mono_ns;
	struct stun_attribute a;
	size_t cursor = 0;

	while ((a = stun_next(&req->message, STUN_ATTR_XOR_PEER_ADDRESS, &cursor)).value) {
		struct peer *peer = &peers[*count];
		enum stun_code code = turn_read_peer(s, req, a, &peer->ip, &peer->relay);

		if (code == STUN_OK)
			code = turn_peer_check(s, peer->relay, &peer->ip, false, now_ns);
		if (code != STUN_OK)
			return code;
		peer->ip.port = 0;
		if (is_among(peers, *count, &peer->ip))
			continue;
		if (!alloc_find_permission(peer->relay, &peer->ip, now_ns))
			(*fresh)++;
		if (++*count == STUN_ATTRIBUTES_MAX)
			break;
	}
	return *count > 0 ? STUN_OK : STUN_BAD_REQUEST;
}

enum stun_code turn_on_create_permission(
	struct turn_server *s, struct turn_request *req, struct stun_writer *answer)
{
	uint64_t ends = req->now->mono_ns + s->settings.permission_lifetime_ns;
	struct peer peers[STUN_ATTRIBUTES_MAX];
	struct alloc_permission *permission;
	enum stun_code code;
	uint32_t fresh = 0;
	size_t count = 0;

	(void)answer;
	code = read_peers(s, req, peers, &count, &fresh);
	if (code != STUN_OK)
		return code;
	if (fresh > 0 && !alloc_room_for_permissions(req->allocation, fresh))
		return STUN_INSUFFICIENT_CAPACITY;
	for (size_t i = 0; i < count; i++) {
		if (alloc_permit(peers[i].relay, &peers[i].ip, ends, &permission) < 0)
			return STUN_INSUFFICIENT_CAPACITY;
		s->effects.grant_permission(s->effects.context, permission);
		turn_note_peer(req, &peers[i].ip);
	}
	return STUN_OK;
}
