/* Which peers, under which name: policy, own relays, 1:1 NAT. One thread; nothing blocks. */
#include "request.h"

#include "base/log.h"

static struct tp_addr peer_inward(const struct turn_server *s, const struct tp_addr *peer)
{
	for (size_t i = 0; s->has_external && i < s->settings.relays_count; i++)
		if (tp_addr_equal_ip(peer, &s->settings.relays[i].external))
			return tp_addr_with_port(&s->settings.relays[i].address, peer->port);
	return *peer;
}

struct tp_addr turn_peer_outward(const struct turn_server *s, const struct tp_addr *peer)
{
	for (size_t i = 0; s->has_external && i < s->settings.relays_count; i++)
		if (tp_addr_equal_ip(peer, &s->settings.relays[i].address))
			return tp_addr_with_port(&s->settings.relays[i].external, peer->port);
	return *peer;
}

enum stun_code turn_read_peer(const struct turn_server *s, const struct turn_request *req,
	struct stun_attribute attribute, struct tp_addr *peer, struct alloc_relay **relay)
{
	struct tp_addr named;

	if (!attribute.value || stun_read_xor_address(&req->message, attribute, &named) < 0)
		return STUN_BAD_REQUEST;
	*relay = req->allocation->relays[named.family == TP_IPV4 ? ALLOC_RELAY_V4 : ALLOC_RELAY_V6];
	*peer = peer_inward(s, &named);
	return *relay ? STUN_OK : STUN_PEER_ADDRESS_FAMILY_MISMATCH;
}

void turn_note_peer(const struct turn_request *req, const struct tp_addr *peer)
{
	char client[TP_ADDR_TEXT], ip[TP_ADDR_TEXT];

	tp_debug("allocation %u: %s may reach %s", req->allocation->id,
		tp_addr_text(&req->tuple->client, client), tp_addr_ip_text(peer, ip));
}

enum stun_code turn_peer_check(const struct turn_server *s, const struct alloc_relay *relay,
	const struct tp_addr *peer, bool need_port, uint64_t now_ns)
{
	const struct alloc_relay *other;
	enum policy_verdict verdict;

	verdict = policy_check(s->policy, peer, NULL);
	if (verdict != POLICY_RELAYS_ONLY)
		return verdict == POLICY_ALLOW ? STUN_OK : STUN_FORBIDDEN;
	if (!need_port)
		return STUN_OK;
	other = alloc_find_relay(s->store, peer, now_ns);
	return other && other->allocation != relay->allocation ? STUN_OK : STUN_FORBIDDEN;
}
