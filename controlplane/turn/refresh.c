/* Refresh (RFC 8656, 8.2). One thread; nothing blocks. */
#include "request.h"

static enum stun_code read_families(const struct turn_request *req, bool family[ALLOC_RELAYS])
{
	struct stun_attribute a = stun_find(&req->message, STUN_ATTR_REQUESTED_ADDRESS_FAMILY);

	if (a.value && a.len != 4)
		return STUN_BAD_REQUEST;
	family[ALLOC_RELAY_V4] = !a.value || a.value[0] == 1;
	family[ALLOC_RELAY_V6] = !a.value || a.value[0] == 2;
	for (int i = 0; i < ALLOC_RELAYS; i++)
		if (family[i] && req->allocation->relays[i])
			return STUN_OK;
	return STUN_PEER_ADDRESS_FAMILY_MISMATCH;
}

static void end_relays(struct turn_server *s, struct turn_request *req, const bool *family)
{
	struct allocation *a = req->allocation;

	for (int i = 0; i < ALLOC_RELAYS; i++)
		if (family[i] && a->relays[i])
			alloc_delete_relay(a->relays[i]);
	if (!alloc_has_relays(a)) {
		alloc_delete(a);
		req->allocation = NULL;
	}
	/* A copy of this request must not end the next allocation of this client (N20). */
	alloc_remember(s->store, req->tuple, req->message.transaction);
}

/* What is granted ends with its relay at the latest: when that moves, so may the grants. */
static void extend(struct turn_server *s, struct alloc_relay *relay, uint64_t ends_ns)
{
	struct alloc_permission *p;
	struct alloc_channel *c;

	alloc_extend_relay(relay, ends_ns);
	s->effects.extend_relay(s->effects.context, relay);
	for (p = alloc_next_permission(relay, NULL); p; p = alloc_next_permission(relay, p))
		s->effects.grant_permission(s->effects.context, p);
	for (c = alloc_next_channel(relay, NULL); c; c = alloc_next_channel(relay, c))
		s->effects.grant_channel(s->effects.context, c);
}

enum stun_code turn_on_refresh(
	struct turn_server *s, struct turn_request *req, struct stun_writer *answer)
{
	bool family[ALLOC_RELAYS], is_zero;
	uint64_t lifetime_ns;
	enum stun_code code;

	if (alloc_remembers(s->store, req->tuple, req->message.transaction))
		return STUN_ALLOCATION_MISMATCH;
	code = turn_read_lifetime(s, &req->message, &lifetime_ns, &is_zero);
	if (code == STUN_OK)
		code = read_families(req, family);
	if (code != STUN_OK)
		return code;
	if (is_zero) {
		end_relays(s, req, family);
		lifetime_ns = 0;
	} else {
		for (int i = 0; i < ALLOC_RELAYS; i++)
			if (family[i] && req->allocation->relays[i])
				extend(s, req->allocation->relays[i],
					req->now->mono_ns + lifetime_ns);
	}
	stun_put_u32(answer, STUN_ATTR_LIFETIME, (uint32_t)(lifetime_ns / TP_NS_PER_S));
	return STUN_OK;
}
