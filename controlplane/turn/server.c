/*
 * The TURN server: sorts what arrives, checks in the order of RFC 8489, 6.3 and RFC 8656, and turns
 * the verdict of a handler into the answer. Owns the allocations. One thread; nothing blocks.
 */
#include "request.h"

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/log.h"

struct method {
	uint16_t number;
	const char *name;
	turn_handler *handle;
	bool is_open; /* without credentials */
	bool makes_allocation;
};

static const struct method methods[] = {
	{STUN_METHOD_BINDING, "binding", turn_on_binding, .is_open = true},
	{STUN_METHOD_ALLOCATE, "allocate", turn_on_allocate, .makes_allocation = true},
	{STUN_METHOD_REFRESH, "refresh", turn_on_refresh},
	{STUN_METHOD_CREATE_PERMISSION, "create_permission", turn_on_create_permission},
	{STUN_METHOD_CHANNEL_BIND, "channel_bind", turn_on_channel_bind},
	{0, "other", NULL}, /* the end; counts what is none of these */
};

static const enum stun_code codes[] = {STUN_OK, STUN_TRY_ALTERNATE, STUN_BAD_REQUEST,
	STUN_UNAUTHENTICATED, STUN_FORBIDDEN, STUN_UNKNOWN_ATTRIBUTE, STUN_ALLOCATION_MISMATCH,
	STUN_STALE_NONCE, STUN_ADDRESS_FAMILY_NOT_SUPPORTED, STUN_WRONG_CREDENTIALS,
	STUN_UNSUPPORTED_TRANSPORT, STUN_PEER_ADDRESS_FAMILY_MISMATCH,
	STUN_ALLOCATION_QUOTA_REACHED, STUN_SERVER_ERROR, STUN_INSUFFICIENT_CAPACITY, STUN_DISCARD};

enum {
	METHODS = sizeof(methods) / sizeof(methods[0]),
	CODES = sizeof(codes) / sizeof(codes[0]),
};
_Static_assert(METHODS <= TURN_METHODS_MAX && (int)CODES <= TURN_CODES_MAX, "counters");

/* RFC 8489, 6.1: what fits every path. */
enum { ANSWER_MAX = 548 };

static void end_channel(void *context, struct alloc_channel *channel)
{
	struct turn_server *s = context;

	s->effects.revoke_channel(s->effects.context, channel);
}

static void end_permission(void *context, struct alloc_permission *permission)
{
	struct turn_server *s = context;

	s->effects.revoke_permission(s->effects.context, permission);
}

static void end_relay(void *context, struct alloc_relay *relay)
{
	struct turn_server *s = context;

	if (relay->open)
		s->effects.close_relay(s->effects.context, relay);
	relay->open = false;
}

static int copy_relays(struct turn_server *s, const struct turn_settings *settings)
{
	struct turn_relay_address *relays;
	int r = 0;

	relays = calloc(settings->relays_count, sizeof(*relays));
	if (!relays)
		return -ENOMEM;
	s->settings.relays = relays;
	for (size_t i = 0; r == 0 && i < settings->relays_count; i++) {
		relays[i] = settings->relays[i];
		if (relays[i].external.family == TP_NO_FAMILY)
			relays[i].external = relays[i].address;
		r = policy_add_relay_address(s->policy, &relays[i].address);
		if (r < 0 || tp_addr_equal_ip(&relays[i].external, &relays[i].address))
			continue;
		s->has_external = true;
		r = policy_add_relay_address(s->policy, &relays[i].external);
	}
	return r;
}

static int make_store(struct turn_server *s, uint64_t now_ns)
{
	TP_AUTO_FREE struct tp_addr *addresses = NULL;
	TP_AUTO_FREE bool *translated = NULL;
	struct alloc_hooks hooks = {s, end_channel, end_permission, end_relay};
	struct alloc_settings limits = {
		.addresses_count = s->settings.relays_count,
		.port_min = s->settings.port_min,
		.port_max = s->settings.port_max,
		.allocations_max = s->settings.allocations_max,
		.allocations_per_user = s->settings.allocations_per_user,
		.permissions_per_allocation = s->settings.permissions_per_allocation,
		.channels_per_allocation = s->settings.channels_per_allocation,
		.owner_key = s->settings.owner_key,
	};

	addresses = calloc(s->settings.relays_count, sizeof(*addresses));
	translated = calloc(s->settings.relays_count, sizeof(*translated));
	if (!addresses || !translated)
		return -ENOMEM;
	for (size_t i = 0; i < s->settings.relays_count; i++) {
		const struct turn_relay_address *relay = &s->settings.relays[i];

		addresses[i] = relay->address;
		translated[i] = !tp_addr_equal_ip(&relay->address, &relay->external);
	}
	limits.addresses = addresses;
	limits.translated = translated;
	return alloc_store_new(&limits, &hooks, now_ns, &s->store);
}

static void server_cleanup(struct turn_server **s)
{
	turn_server_free(*s);
}

int turn_server_new(const struct turn_settings *settings, struct auth *auth, struct policy *policy,
	const struct turn_effects *effects, uint64_t now_ns, struct turn_server **out)
{
	TP_CLEANUP(server_cleanup) struct turn_server *s = NULL;
	int r;

	if (settings->relays_count == 0)
		return -EINVAL;
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->settings = *settings;
	s->settings.relays = NULL;
	s->auth = auth;
	s->policy = policy;
	s->effects = *effects;
	r = copy_relays(s, settings);
	if (r == 0)
		r = make_store(s, now_ns);
	if (r == 0 && settings->unauthenticated_replies_per_source > 0)
		r = ratelimit_new(
			settings->unauthenticated_replies_per_source, &s->unauthenticated);
	if (r == 0)
		*out = TP_TAKE(s);
	return r;
}

void turn_server_free(struct turn_server *s)
{
	if (!s)
		return;
	alloc_store_free(s->store);
	ratelimit_free(s->unauthenticated);
	free((void *)s->settings.relays);
	free(s);
}

static void count(struct turn_server *s, const struct method *method, enum stun_code code)
{
	size_t i = 0;

	while (i < CODES - 1 && codes[i] != code)
		i++;
	s->requests[method - methods][i]++;
}

static void put_unknown(struct stun_writer *w, const struct stun_message *m)
{
	uint8_t list[2 * STUN_UNKNOWN_MAX];

	for (size_t i = 0; i < m->unknown_count; i++) {
		list[2 * i] = (uint8_t)(m->unknown[i] >> 8);
		list[2 * i + 1] = (uint8_t)m->unknown[i];
	}
	stun_put(w, STUN_ATTR_UNKNOWN_ATTRIBUTES, list, 2 * (size_t)m->unknown_count);
}

static void put_refusal(struct turn_server *s, const struct turn_request *req, enum stun_code code,
	struct stun_writer *w)
{
	stun_begin(w, w->bytes, w->size, STUN_ERROR, req->message.method, req->message.transaction);
	stun_put_error(w, code);
	if (code == STUN_UNKNOWN_ATTRIBUTE)
		put_unknown(w, &req->message);
	if (code == STUN_UNAUTHENTICATED || code == STUN_STALE_NONCE)
		auth_put_challenge(s->auth, req->now, &req->tuple->client, w);
}

static void send_answer(
	struct turn_server *s, const struct turn_request *req, struct stun_writer *w)
{
	size_t len;

	if (req->identity.key_len > 0)
		stun_put_integrity(
			w, req->identity.answer, req->identity.key, req->identity.key_len);
	if (req->message.has_fingerprint)
		stun_put_fingerprint(w);
	len = stun_finish(w);
	if (len > 0)
		s->effects.send_client(s->effects.context, req->tuple, w->bytes, len, NULL, 0,
			(struct turn_marks){0});
}

/*
 * Of a restored allocation nobody's key is known, only whether a name is its owner's: then the name
 * is held, in full, so that it counts as it did when the allocation was made (REST-7).
 */
static const struct auth_identity *held_by(
	const struct turn_request *req, struct auth_identity *room)
{
	const struct allocation *a = req->allocation;
	struct stun_attribute name;

	if (!a || a->identity->key_len > 0)
		return a ? a->identity : NULL;
	name = stun_find(&req->message, STUN_ATTR_USERNAME);
	if (!name.value || name.len > AUTH_USERNAME_MAX ||
		!alloc_is_owned_by(a, (const char *)name.value, name.len))
		return NULL;
	*room = (struct auth_identity){
		.username = (const char *)name.value,
		.username_len = name.len,
		.time_limited = a->identity->time_limited,
	};
	return room;
}

/* The allocation on this 5-tuple is somebody's: this one's? */
static bool is_owner(const struct turn_request *req)
{
	struct allocation *a = req->allocation;

	if (!alloc_is_owned_by(a, req->identity.username, req->identity.username_len))
		return false;
	if (a->identity->key_len == 0)
		alloc_prove(a, &req->identity);
	return true;
}

static enum stun_code handle(struct turn_server *s, const struct method *method,
	struct turn_request *req, struct stun_writer *answer)
{
	struct auth_identity room;
	const struct auth_identity *held = held_by(req, &room);
	enum stun_code code = STUN_OK;

	if (!method->is_open)
		code = auth_check(s->auth, req->now, &req->tuple->client, &req->message, held,
			&req->identity);
	if (code != STUN_OK)
		return code;
	if (req->message.unknown_count > 0)
		return STUN_UNKNOWN_ATTRIBUTE;
	if (!method->is_open && !method->makes_allocation) {
		if (!req->allocation)
			return STUN_ALLOCATION_MISMATCH;
		if (!is_owner(req))
			return STUN_WRONG_CREDENTIALS;
	}
	return method->handle(s, req, answer);
}

/* Clients that have proved themselves are never held back, not even where this one request has
 * not: whoever may have an allocation on its 5-tuple. */
static bool may_answer(struct turn_server *s, const struct turn_request *req, bool had_allocation)
{
	if (req->identity.key_len > 0 || had_allocation || !s->unauthenticated)
		return true;
	return ratelimit_allow(s->unauthenticated, &req->tuple->client, req->now->mono_ns);
}

static void on_request(struct turn_server *s, struct turn_request *req)
{
	bool had_allocation = req->allocation != NULL;
	const struct method *method = methods;
	uint8_t bytes[ANSWER_MAX];
	struct stun_writer answer;
	enum stun_code code;

	while (method->handle && method->number != req->message.method)
		method++;
	if (!method->handle) {
		count(s, method, STUN_DISCARD);
		return;
	}
	stun_begin(&answer, bytes, sizeof(bytes), STUN_SUCCESS, method->number,
		req->message.transaction);
	code = handle(s, method, req, &answer);
	if (code != STUN_DISCARD && !may_answer(s, req, had_allocation))
		code = STUN_DISCARD;
	count(s, method, code);
	if (code == STUN_DISCARD)
		return;
	if (code != STUN_OK)
		put_refusal(s, req, code, &answer);
	send_answer(s, req, &answer);
}

static void on_message(struct turn_server *s, const struct auth_now *now,
	const struct alloc_tuple *tuple, const struct turn_packet *packet)
{
	struct turn_request req = {.now = now, .tuple = tuple};

	/* Silence towards tunnels (P06), and where no answer could go (P23). */
	if (tuple->client.port == 0 || !policy_client_allowed(s->policy, &tuple->client) ||
		stun_parse(packet->bytes, packet->len, &req.message) < 0) {
		count(s, &methods[METHODS - 1], STUN_DISCARD);
		return;
	}
	req.allocation = alloc_find(s->store, tuple, now->mono_ns);
	if (req.message.class == STUN_REQUEST)
		on_request(s, &req);
	else if (req.message.class == STUN_INDICATION && req.message.method == STUN_METHOD_SEND)
		turn_on_send(s, &req, packet);
	/* Other indications and every response: never answered (L03). */
}

void turn_server_from_client(struct turn_server *s, const struct auth_now *now,
	const struct alloc_tuple *tuple, const struct turn_packet *packet)
{
	/* First of all: what is due at this instant is gone before the packet is looked at. */
	alloc_store_advance(s->store, now->mono_ns);
	if (packet->len > 0 && (packet->bytes[0] & 0xC0) == 0x40)
		turn_on_channel_data(s, now->mono_ns, tuple, packet);
	else if (stun_is(packet->bytes, packet->len))
		on_message(s, now, tuple, packet);
}

void turn_server_advance(struct turn_server *s, uint64_t now_ns)
{
	alloc_store_advance(s->store, now_ns);
}

uint64_t turn_server_next(const struct turn_server *s)
{
	return alloc_store_next(s->store);
}

const struct alloc_list *turn_server_allocations(const struct turn_server *s)
{
	return alloc_all(s->store);
}

void turn_server_walk(const struct turn_server *s, struct alloc_walk *walk)
{
	alloc_walk_begin(s->store, walk);
}

struct allocation *turn_server_find(struct turn_server *s, uint32_t id)
{
	return alloc_find_id(s->store, id);
}

void turn_server_delete(struct turn_server *s, struct allocation *a)
{
	(void)s;
	alloc_delete(a);
}

uint32_t turn_server_count(const struct turn_server *s)
{
	return alloc_count(s->store);
}

void turn_server_drain(struct turn_server *s, bool on)
{
	s->draining = on;
}

bool turn_server_is_draining(const struct turn_server *s)
{
	return s->draining;
}

static void recheck_relay(struct turn_server *s, struct alloc_relay *relay)
{
	struct alloc_channel *channel, *next_channel;
	struct alloc_permission *permission, *next_permission;

	for (channel = alloc_next_channel(relay, NULL); channel; channel = next_channel) {
		next_channel = alloc_next_channel(relay, channel);
		if (turn_peer_check(s, relay, &channel->peer, false, 0) != STUN_OK)
			alloc_delete_channel(channel);
	}
	permission = alloc_next_permission(relay, NULL);
	for (; permission; permission = next_permission) {
		next_permission = alloc_next_permission(relay, permission);
		if (turn_peer_check(s, relay, &permission->peer, false, 0) != STUN_OK)
			alloc_delete_permission(permission);
	}
}

void turn_server_recheck_policy(struct turn_server *s)
{
	const struct allocation *a;

	TAILQ_FOREACH(a, alloc_all(s->store), link)
		for (int i = 0; i < ALLOC_RELAYS; i++)
			if (a->relays[i])
				recheck_relay(s, a->relays[i]);
}

void turn_server_visit_requests(const struct turn_server *s,
	void (*visit)(void *arg, const char *method, int code, uint64_t count), void *arg)
{
	for (size_t i = 0; i < METHODS; i++)
		for (size_t j = 0; j < CODES; j++)
			if (s->requests[i][j] > 0)
				visit(arg, methods[i].name, codes[j], s->requests[i][j]);
}
