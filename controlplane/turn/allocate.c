/* Allocate (RFC 8656, 7.2). One thread; nothing blocks. */
#include "request.h"

#include "base/log.h"

#include <errno.h>

/* Ports that another process holds are skipped, but not for ever. */
enum { OPEN_ATTEMPTS = 16 };

struct wishes {
	bool family[ALLOC_RELAYS];
	bool dual; /* one of the two is enough */
	enum ports_wish port;
	const uint8_t *token; /* NULL = none */
	uint64_t lifetime_ns;
};

enum stun_code turn_read_lifetime(const struct turn_server *s, const struct stun_message *m,
	uint64_t *lifetime_ns, bool *is_zero)
{
	struct stun_attribute attribute = stun_find(m, STUN_ATTR_LIFETIME);
	uint32_t asked_s = 0;
	uint64_t asked_ns;

	if (attribute.value && stun_read_u32(attribute, &asked_s) < 0)
		return STUN_BAD_REQUEST;
	asked_ns = asked_s * TP_NS_PER_S;
	if (asked_ns > s->settings.lifetime_max_ns)
		asked_ns = s->settings.lifetime_max_ns;
	*lifetime_ns = asked_ns > s->settings.lifetime_default_ns ? asked_ns
								  : s->settings.lifetime_default_ns;
	*is_zero = attribute.value && asked_s == 0;
	return STUN_OK;
}

static enum stun_code read_transport(const struct stun_message *m)
{
	struct stun_attribute a = stun_find(m, STUN_ATTR_REQUESTED_TRANSPORT);

	if (!a.value || a.len != 4)
		return STUN_BAD_REQUEST;
	return a.value[0] == ALLOC_UDP ? STUN_OK : STUN_UNSUPPORTED_TRANSPORT;
}

static enum stun_code read_token(const struct stun_message *m, struct wishes *w)
{
	struct stun_attribute token = stun_find(m, STUN_ATTR_RESERVATION_TOKEN);

	if (!token.value)
		return STUN_OK;
	if (token.len != 8 || stun_find(m, STUN_ATTR_EVEN_PORT).value ||
		stun_find(m, STUN_ATTR_REQUESTED_ADDRESS_FAMILY).value ||
		stun_find(m, STUN_ATTR_ADDITIONAL_ADDRESS_FAMILY).value)
		return STUN_BAD_REQUEST;
	w->token = token.value;
	return STUN_OK;
}

static enum stun_code read_families(const struct stun_message *m, struct wishes *w)
{
	struct stun_attribute requested = stun_find(m, STUN_ATTR_REQUESTED_ADDRESS_FAMILY);
	struct stun_attribute additional = stun_find(m, STUN_ATTR_ADDITIONAL_ADDRESS_FAMILY);

	if (requested.value && additional.value)
		return STUN_BAD_REQUEST;
	if (additional.value && (additional.len != 4 || additional.value[0] != 2))
		return STUN_BAD_REQUEST;
	if (requested.value && requested.len != 4)
		return STUN_BAD_REQUEST;
	if (requested.value && requested.value[0] != 1 && requested.value[0] != 2)
		return STUN_ADDRESS_FAMILY_NOT_SUPPORTED; /* DEC-13 */
	w->dual = additional.value;
	w->family[ALLOC_RELAY_V6] = w->dual || (requested.value && requested.value[0] == 2);
	w->family[ALLOC_RELAY_V4] = w->dual || !w->family[ALLOC_RELAY_V6];
	return STUN_OK;
}

static enum stun_code read_even_port(const struct stun_message *m, struct wishes *w)
{
	struct stun_attribute even = stun_find(m, STUN_ATTR_EVEN_PORT);

	if (!even.value)
		return STUN_OK;
	if (even.len != 1)
		return STUN_BAD_REQUEST;
	w->port = even.value[0] & 0x80 ? PORTS_PAIR : PORTS_EVEN;
	return w->port == PORTS_PAIR && w->dual ? STUN_BAD_REQUEST : STUN_OK;
}

static enum stun_code read_wishes(
	const struct turn_server *s, const struct stun_message *m, struct wishes *w)
{
	enum stun_code code = read_transport(m);
	bool is_zero;

	if (code == STUN_OK)
		code = read_token(m, w);
	if (code == STUN_OK)
		code = read_families(m, w);
	if (code == STUN_OK)
		code = read_even_port(m, w);
	if (code == STUN_OK) /* 0 asks for the default here (TURN-7.2-19) */
		code = turn_read_lifetime(s, m, &w->lifetime_ns, &is_zero);
	return code;
}

static bool is_of_family(const struct turn_server *s, size_t pool, int family)
{
	return s->settings.relays[pool].address.family ==
	       (family == ALLOC_RELAY_V4 ? TP_IPV4 : TP_IPV6);
}

static bool has_family(const struct turn_server *s, int family)
{
	for (size_t pool = 0; pool < s->settings.relays_count; pool++)
		if (is_of_family(s, pool, family))
			return true;
	return false;
}

/* The address that the client talks to already, else a number that only ever grows. */
static size_t preferred_pool(struct turn_server *s, const struct tp_addr *server, int family)
{
	for (size_t pool = 0; pool < s->settings.relays_count; pool++)
		if (is_of_family(s, pool, family) &&
			tp_addr_equal_ip(&s->settings.relays[pool].address, server))
			return pool;
	return s->turn_of_relay++;
}

int turn_open_relay(struct turn_server *s, struct alloc_relay *relay)
{
	const struct tp_addr *external = &s->settings.relays[relay->pool].external;
	int r;

	relay->external = tp_addr_with_port(external, relay->address.port);
	r = s->effects.open_relay(s->effects.context, relay);
	relay->open = r == 0;
	return r;
}

static int add_relay_of(struct turn_server *s, struct allocation *a, size_t pool,
	const struct wishes *w, uint64_t ends)
{
	struct alloc_relay *relay;
	int r = -EADDRINUSE;

	for (int i = 0; r == -EADDRINUSE && i < OPEN_ATTEMPTS; i++) {
		r = alloc_add_relay(a, (uint8_t)pool, w->port, ends, &relay);
		if (r < 0)
			return r;
		r = turn_open_relay(s, relay);
		if (r < 0) {
			alloc_delete_relay(relay);
			alloc_unreserve(a);
		}
	}
	return r;
}

static int add_relay(struct turn_server *s, struct allocation *a, int family,
	const struct wishes *w, uint64_t ends)
{
	size_t first = preferred_pool(s, &a->tuple.server, family);
	int r = -ENOSPC;

	for (size_t i = 0; r < 0 && i < s->settings.relays_count; i++) {
		size_t pool = (first + i) % s->settings.relays_count;

		if (is_of_family(s, pool, family))
			r = add_relay_of(s, a, pool, w, ends);
	}
	return r;
}

static void note_missing(const struct turn_server *s, struct allocation *a, int family)
{
	a->missing_family = family == ALLOC_RELAY_V4 ? TP_IPV4 : TP_IPV6;
	a->missing_code = has_family(s, family) ? STUN_INSUFFICIENT_CAPACITY
						: STUN_ADDRESS_FAMILY_NOT_SUPPORTED;
}

static int add_relays(
	struct turn_server *s, struct allocation *a, const struct wishes *w, uint64_t ends)
{
	struct alloc_relay *relay;
	int r;

	if (w->token) {
		r = alloc_redeem(a, w->token, ends, &relay);
		return r < 0 ? r : turn_open_relay(s, relay);
	}
	for (int family = 0; family < ALLOC_RELAYS; family++) {
		if (!w->family[family])
			continue;
		r = add_relay(s, a, family, w, ends);
		if (r < 0 && !w->dual)
			return r;
		if (r < 0)
			note_missing(s, a, family);
	}
	return alloc_has_relays(a) ? 0 : -ENOSPC;
}

static enum stun_code make_allocation(struct turn_server *s, struct turn_request *req,
	const struct wishes *w, struct allocation **out)
{
	struct allocation *a;
	int r;

	r = alloc_new(s->store, req->tuple, &req->identity, &a);
	if (r < 0)
		return r == -EDQUOT ? STUN_ALLOCATION_QUOTA_REACHED : STUN_INSUFFICIENT_CAPACITY;
	r = add_relays(s, a, w, req->now->mono_ns + w->lifetime_ns);
	if (r < 0) {
		alloc_delete(a);
		return r == -EDQUOT ? STUN_ALLOCATION_QUOTA_REACHED : STUN_INSUFFICIENT_CAPACITY;
	}
	*out = a;
	return STUN_OK;
}

/* Its MAC was right: with other bytes it would have another one. */
static uint64_t mark_of(const struct stun_message *m)
{
	return stun_mac_word(m) | 1;
}

/* The same bytes again, not only the same transaction (TURN-7.2-31). */
static bool is_retransmission(const struct allocation *a, const struct stun_message *m)
{
	return memcmp(a->transaction, m->transaction, STUN_TRANSACTION_LEN) == 0 &&
	       a->request_mark == mark_of(m);
}

static void put_address_error(const struct allocation *a, struct stun_writer *answer)
{
	/* RFC 8656, 18.12: family, then the code as in ERROR-CODE. */
	uint8_t value[4] = {a->missing_family == TP_IPV4 ? 1 : 2, 0,
		(uint8_t)(a->missing_code / 100), (uint8_t)(a->missing_code % 100)};

	stun_put(answer, STUN_ATTR_ADDRESS_ERROR_CODE, value, sizeof(value));
}

static enum stun_code put_success(
	const struct turn_request *req, const struct allocation *a, struct stun_writer *answer)
{
	uint64_t ends = 0;

	for (int family = 0; family < ALLOC_RELAYS; family++) {
		const struct alloc_relay *relay = a->relays[family];

		if (!relay)
			continue;
		stun_put_xor_address(answer, STUN_ATTR_XOR_RELAYED_ADDRESS, &relay->external);
		if (relay->expires_ns > ends)
			ends = relay->expires_ns;
	}
	stun_put_u32(
		answer, STUN_ATTR_LIFETIME, (uint32_t)((ends - req->now->mono_ns) / TP_NS_PER_S));
	stun_put_xor_address(answer, STUN_ATTR_XOR_MAPPED_ADDRESS, &req->tuple->client);
	if (a->has_token)
		stun_put(answer, STUN_ATTR_RESERVATION_TOKEN, a->token, sizeof(a->token));
	if (a->missing_family)
		put_address_error(a, answer);
	return STUN_OK;
}

/* Who used which address when: what an abuse desk asks for (RFC 8656, 21.3.2). */
static void note_allocation(const struct allocation *a)
{
	char client[TP_ADDR_TEXT], relayed[TP_ADDR_TEXT];

	for (int family = 0; family < ALLOC_RELAYS; family++)
		if (a->relays[family])
			tp_debug("allocation %u: %s at %s relayed at %s", a->id,
				a->identity->username, tp_addr_text(&a->tuple.client, client),
				tp_addr_text(&a->relays[family]->external, relayed));
}

enum stun_code turn_on_allocate(
	struct turn_server *s, struct turn_request *req, struct stun_writer *answer)
{
	const struct stun_message *m = &req->message;
	struct allocation *a = req->allocation;
	struct wishes w = {0};
	enum stun_code code;

	if (a && is_retransmission(a, m))
		return put_success(req, a, answer);
	if (a || alloc_remembers(s->store, req->tuple, m->transaction))
		return STUN_ALLOCATION_MISMATCH;
	code = read_wishes(s, m, &w);
	if (code != STUN_OK)
		return code;
	for (int family = 0; family < ALLOC_RELAYS; family++)
		if (w.family[family] && !w.dual && !w.token && !has_family(s, family))
			return STUN_ADDRESS_FAMILY_NOT_SUPPORTED;
	if (s->draining)
		return STUN_INSUFFICIENT_CAPACITY;
	code = make_allocation(s, req, &w, &a);
	if (code != STUN_OK)
		return code;
	memcpy(a->transaction, m->transaction, STUN_TRANSACTION_LEN);
	a->request_mark = mark_of(m);
	note_allocation(a);
	return put_success(req, a, answer);
}
