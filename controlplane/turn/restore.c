/*
 * What was granted in a former life, granted again: through the same checks of configuration and
 * policy as a client's requests, so that what no longer fits is left out. One thread; nothing
 * blocks.
 */
#include "request.h"

#include <errno.h>

static int restore_relay(struct turn_server *s, struct allocation *a,
	const struct turn_kept_relay *kept, uint64_t now_ns)
{
	struct alloc_relay *relay;
	int r;

	if (kept->address.family == TP_NO_FAMILY || kept->expires_ns <= now_ns)
		return -ETIME;
	r = alloc_restore_relay(a, &kept->address, kept->expires_ns, &relay);
	if (r < 0)
		return r;
	r = turn_open_relay(s, relay);
	if (r < 0)
		alloc_delete_relay(relay);
	return r;
}

int turn_server_restore(struct turn_server *s, const struct alloc_restored *from,
	const struct turn_kept_relay relays[ALLOC_RELAYS], uint64_t now_ns)
{
	struct allocation *a;
	int r = alloc_restore(s->store, from, &a), why = -ETIME;

	if (r < 0)
		return r;
	for (int family = 0; family < ALLOC_RELAYS; family++) {
		r = restore_relay(s, a, &relays[family], now_ns);
		if (r < 0 && r != -ETIME)
			why = r;
	}
	if (alloc_has_relays(a))
		return 0;
	alloc_delete(a);
	return why;
}

/* The relay that a grant is for, if it and all that goes before it are still there. */
static int find_relay(struct turn_server *s, const struct turn_kept_grant *grant, uint64_t now_ns,
	struct alloc_relay **out)
{
	struct alloc_relay *relay = alloc_find_relay(s->store, &grant->relay, now_ns);
	const struct allocation *a = relay ? relay->allocation : NULL;

	if (!a || a->id != grant->allocation || !tp_addr_equal(&a->tuple.client, &grant->client) ||
		!tp_addr_equal(&a->tuple.server, &grant->server))
		return -ENOENT;
	if (grant->expires_ns <= now_ns)
		return -ETIME;
	/* Which relays there are is not known before all are restored: the data asks for that. */
	if (turn_peer_check(s, relay, &grant->peer, false, now_ns) != STUN_OK)
		return -EACCES;
	*out = relay;
	return 0;
}

int turn_server_restore_permission(
	struct turn_server *s, const struct turn_kept_grant *grant, uint64_t now_ns)
{
	struct alloc_permission *permission;
	struct alloc_relay *relay;
	int r = find_relay(s, grant, now_ns, &relay);

	if (r == 0)
		r = alloc_permit(relay, &grant->peer, grant->expires_ns, &permission);
	if (r == 0)
		s->effects.grant_permission(s->effects.context, permission);
	return r;
}

static bool is_bound(
	const struct alloc_relay *relay, const struct turn_kept_grant *grant, uint64_t now_ns)
{
	return alloc_find_channel(relay->allocation, grant->channel, now_ns) ||
	       alloc_find_channel_to(relay, &grant->peer, now_ns);
}

int turn_server_restore_channel(
	struct turn_server *s, const struct turn_kept_grant *grant, uint64_t now_ns)
{
	struct alloc_channel *channel;
	struct alloc_relay *relay;
	int r = find_relay(s, grant, now_ns, &relay);

	if (r < 0 || is_bound(relay, grant, now_ns))
		return r;
	if (!turn_is_channel(s, grant->channel))
		return -EACCES;
	r = alloc_bind(relay, grant->channel, &grant->peer, grant->expires_ns, &channel);
	if (r == 0)
		s->effects.grant_channel(s->effects.context, channel);
	return r;
}
