/* Send indications from the client (RFC 8656, 11.2). One thread; nothing blocks. */
#include "request.h"

/* Only where neither side is IPv6 (13.1 to 13.3: the packet's own header decides there). */
static bool wants_dont_fragment(const struct turn_request *req, const struct alloc_relay *relay)
{
	return relay->address.family == TP_IPV4 && req->tuple->client.family == TP_IPV4 &&
	       stun_find(&req->message, STUN_ATTR_DONT_FRAGMENT).value;
}

void turn_on_send(
	struct turn_server *s, const struct turn_request *req, const struct turn_packet *packet)
{
	const struct stun_message *m = &req->message;
	struct stun_attribute data = stun_find(m, STUN_ATTR_DATA);
	uint64_t now_ns = req->now->mono_ns;
	struct alloc_relay *relay;
	struct turn_marks marks;
	struct tp_addr peer;

	if (!req->allocation || m->unknown_count > 0 || !data.value)
		return;
	if (turn_read_peer(s, req, stun_find(m, STUN_ATTR_XOR_PEER_ADDRESS), &peer, &relay) !=
		STUN_OK)
		return;
	if (peer.port == 0 || !alloc_find_permission(relay, &peer, now_ns))
		return;
	if (turn_peer_check(s, relay, &peer, true, now_ns) != STUN_OK ||
		!turn_marks_of(packet, &marks) ||
		!turn_police(s, req->allocation, TURN_TO_PEER, now_ns, data.len))
		return;
	marks.dont_fragment = wants_dont_fragment(req, relay);
	req->allocation->sent.packets++;
	req->allocation->sent.bytes += data.len;
	s->effects.send_peer(s->effects.context, relay, &peer, data.value, data.len, marks);
}
