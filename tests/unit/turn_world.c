/* See turn_world.h. */
#include "turn_world.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include <openssl/evp.h>

struct world w;

const struct turn_settings usual = {
	.port_min = 50000,
	.port_max = 59999,
	.permissions_per_allocation = 10,
	.channels_per_allocation = 8,
	.lifetime_default_ns = 600 * TP_NS_PER_S,
	.lifetime_max_ns = 3600 * TP_NS_PER_S,
	.permission_lifetime_ns = 300 * TP_NS_PER_S,
	.channel_lifetime_ns = 600 * TP_NS_PER_S,
};

static void send_client(void *context, const struct alloc_tuple *to, const void *head,
	size_t head_len, const void *data, size_t data_len, struct turn_marks marks)
{
	struct notebook *book = context;

	assert_true(head_len <= TURN_HEAD_MAX);
	assert_true(head_len + data_len <= sizeof(book->client));
	memcpy(book->client, head, head_len);
	if (data_len > 0)
		memcpy(book->client + head_len, data, data_len);
	book->client_len = head_len + data_len;
	book->client_to = *to;
	book->client_marks = marks;
	book->to_client++;
}

static void send_peer(void *context, struct alloc_relay *from, const struct tp_addr *peer,
	const void *data, size_t data_len, struct turn_marks marks)
{
	struct notebook *book = context;

	assert_true(from->open);
	assert_true(data_len <= sizeof(book->peer));
	if (data_len > 0)
		memcpy(book->peer, data, data_len);
	book->peer_len = data_len;
	book->peer_from = from->address;
	book->peer_to = *peer;
	book->peer_marks = marks;
	book->to_peer++;
}

static int open_relay(void *context, struct alloc_relay *relay)
{
	struct notebook *book = context;

	(void)relay;
	book->opened++;
	if (book->fail_opens > 0) {
		book->fail_opens--;
		return book->fail_with;
	}
	book->relays++;
	return 0;
}

static void extend_relay(void *context, struct alloc_relay *relay)
{
	assert_true(relay->open);
	((struct notebook *)context)->extended++;
}

static void close_relay(void *context, struct alloc_relay *relay)
{
	assert_int_equal(relay->channels.count, 0);
	assert_int_equal(relay->permissions.count, 0);
	((struct notebook *)context)->relays--;
}

/* `flows` tells a grant from a refresh, as in turnpiked. */
static void grant_permission(void *context, struct alloc_permission *permission)
{
	struct notebook *book = context;

	book->permissions += permission->flows[0] ? 0 : 1;
	permission->flows[0] = 1;
}

static void revoke_permission(void *context, struct alloc_permission *permission)
{
	((struct notebook *)context)->permissions -= permission->flows[0] ? 1 : 0;
}

static void grant_channel(void *context, struct alloc_channel *channel)
{
	struct notebook *book = context;

	if (!channel->flows[0])
		assert_non_null(
			alloc_find_permission(channel->relay, &channel->peer, w.now.mono_ns));
	book->channels += channel->flows[0] ? 0 : 1;
	channel->flows[0] = 1;
}

static void revoke_channel(void *context, struct alloc_channel *channel)
{
	((struct notebook *)context)->channels -= channel->flows[0] ? 1 : 0;
}

static bool police(void *context, const struct allocation *allocation,
	enum turn_direction direction, uint64_t now_ns, size_t len)
{
	struct notebook *book = context;

	assert_non_null(allocation);
	assert_true(now_ns == w.now.mono_ns);
	book->policed++;
	book->policed_len = len;
	book->policed_direction = direction;
	return !book->over_limit;
}

struct tp_addr addr(const char *text)
{
	struct tp_addr a;

	if (tp_addr_parse(text, &a) < 0 && tp_addr_parse_ip(text, &a) < 0)
		fail_msg("not an address: %s", text);
	return a;
}

void world_begin(int families, struct turn_settings settings)
{
	static const struct auth_user users[] = {{"alice", "secret-a"}, {"bob", "secret-b"}};
	const struct auth_settings auth = {.realm = REALM,
		.users = users,
		.users_count = 2,
		.nonce_lifetime_ns = 600 * TP_NS_PER_S};
	const struct turn_effects effects = {&w.book, send_client, send_peer, open_relay,
		extend_relay, close_relay, grant_permission, revoke_permission, grant_channel,
		revoke_channel, police};
	struct turn_relay_address relays[2] = {0};
	char error[128];

	memset(&w, 0, sizeof(w));
	w.now = (struct auth_now){1000 * TP_NS_PER_S + 12345, 1700000000};
	if (families & (V4 | NAT))
		relays[settings.relays_count++].address = addr("185.1.1.1");
	if (families & NAT)
		relays[0].external = addr("185.2.2.2");
	if (families & V6)
		relays[settings.relays_count++].address = addr("2a00:1::1");
	settings.relays = relays;
	assert_int_equal(auth_new(&auth, &w.auth), 0);
	assert_int_equal(policy_new(&w.policy), 0);
	assert_int_equal(policy_add_rule(w.policy, false, "8.8.9.0/24", error), 0);
	assert_int_equal(
		turn_server_new(&settings, w.auth, w.policy, &effects, w.now.mono_ns, &w.server),
		0);
}

void world_end(void)
{
	turn_server_free(w.server);
	policy_free(w.policy);
	auth_free(w.auth);
	WANT("all relays closed", w.book.relays, 0);
	WANT("all permissions revoked", w.book.permissions, 0);
	WANT("all channels revoked", w.book.channels, 0);
}

void pass(uint64_t seconds)
{
	w.now.mono_ns += seconds * TP_NS_PER_S;
	w.now.unix_s += seconds;
	turn_server_advance(w.server, w.now.mono_ns);
}

/* Clients */

struct client client(uint16_t port, const char *user)
{
	struct client c = {.user = user, .tuple.transport = ALLOC_UDP};
	const char *password = strcmp(user, "alice") == 0 ? "secret-a" : "secret-b";
	char text[128];

	c.tuple.client = addr("185.9.9.9");
	c.tuple.client.port = port;
	c.tuple.server = addr("185.1.1.1");
	c.tuple.server.port = 3478;
	snprintf(text, sizeof(text), "%s:" REALM ":%s", user, password);
	assert_int_equal(EVP_Digest(text, strlen(text), c.key, NULL, EVP_md5(), NULL), 1);
	return c;
}

static void put_attrs(struct stun_writer *writer, const struct attr *attrs)
{
	for (; attrs->type != 0; attrs++) {
		if (attrs->peer) {
			struct tp_addr a = addr(attrs->peer);

			stun_put_xor_address(writer, attrs->type, &a);
		} else {
			stun_put(writer, attrs->type, attrs->bytes, attrs->len);
		}
	}
}

void start(struct client *c, struct stun_writer *writer, enum stun_class class, int method,
	const struct attr *attrs)
{
	uint8_t transaction[STUN_TRANSACTION_LEN] = {0xAB};

	if (!c->same_transaction)
		c->transactions++;
	c->same_transaction = false;
	memcpy(transaction + 2, &c->tuple.client.port, 2);
	memcpy(transaction + 4, &c->transactions, 4);
	stun_begin(writer, c->request, sizeof(c->request), class, (uint16_t)method, transaction);
	put_attrs(writer, attrs);
}

void deliver_marked(struct client *c, const void *bytes, size_t len, uint8_t ttl, uint8_t tos)
{
	uint8_t *copy = malloc(len + TURN_PACKET_ROOM); /* its edges are guarded by ASan */
	struct turn_packet packet = {copy, len, ttl, tos};

	memcpy(copy, bytes, len);
	turn_server_from_client(w.server, &w.now, &c->tuple, &packet);
	free(copy);
}

int deliver_request(struct client *c, bool authenticated)
{
	size_t before = w.book.to_client;
	struct stun_message asked;
	struct stun_attribute error;

	assert_int_equal(stun_parse(c->request, c->request_len, &asked), 0);
	deliver_marked(c, c->request, c->request_len, 64, 0);
	if (w.book.to_client == before)
		return NONE;
	assert_int_equal(w.book.to_client, before + 1);
	assert_memory_equal(&w.book.client_to, &c->tuple, sizeof(c->tuple));
	assert_true(w.book.client_len <= 548);
	assert_int_equal(stun_parse(w.book.client, w.book.client_len, &c->answer), 0);
	assert_int_equal(c->answer.method, asked.method);
	assert_memory_equal(c->answer.transaction, asked.transaction, STUN_TRANSACTION_LEN);
	assert_int_equal(c->answer.has_fingerprint, asked.has_fingerprint);
	assert_null(stun_find(&c->answer, STUN_ATTR_USERNAME).value);
	assert_null(stun_find(&c->answer, STUN_ATTR_SOFTWARE).value);
	assert_int_equal(c->answer.integrity_at != 0, authenticated);
	if (authenticated)
		assert_true(stun_check_integrity(&c->answer, c->key, sizeof(c->key)));
	if (c->answer.class == STUN_SUCCESS)
		return 0;
	assert_int_equal(c->answer.class, STUN_ERROR);
	error = stun_find(&c->answer, STUN_ATTR_ERROR_CODE);
	assert_non_null(error.value);
	assert_int_equal(error.len, 4); /* F15: no reason phrase */
	return error.value[2] * 100 + error.value[3];
}

int ask_bare(struct client *c, int method, const struct attr *attrs)
{
	struct stun_writer writer;

	start(c, &writer, STUN_REQUEST, method, attrs);
	c->request_len = stun_finish(&writer);
	return deliver_request(c, false);
}

void learn_nonce(struct client *c)
{
	struct stun_attribute nonce = stun_find(&c->answer, STUN_ATTR_NONCE);

	assert_non_null(nonce.value);
	assert_non_null(stun_find(&c->answer, STUN_ATTR_REALM).value);
	assert_true(nonce.len <= sizeof(c->nonce));
	memcpy(c->nonce, nonce.value, nonce.len);
	c->nonce_len = nonce.len;
}

int ask_once(struct client *c, int method, const struct attr *attrs)
{
	struct stun_writer writer;

	start(c, &writer, STUN_REQUEST, method, attrs);
	stun_put(&writer, STUN_ATTR_USERNAME, c->user, strlen(c->user));
	stun_put(&writer, STUN_ATTR_REALM, REALM, strlen(REALM));
	stun_put(&writer, STUN_ATTR_NONCE, c->nonce, c->nonce_len);
	stun_put_integrity(&writer, STUN_SHA1, c->key, sizeof(c->key));
	c->request_len = stun_finish(&writer);
	return deliver_request(c, true);
}

int ask(struct client *c, int method, const struct attr *attrs)
{
	bool same = c->same_transaction;
	int code;

	if (c->nonce_len == 0) {
		WANT("N01 no credentials", ask_bare(c, method, attrs), 401);
		learn_nonce(c);
	}
	c->same_transaction = same;
	code = ask_once(c, method, attrs);
	if (code != 438)
		return code;
	learn_nonce(c);
	return ask_once(c, method, attrs);
}

int again(struct client *c)
{
	return deliver_request(c, true);
}

void allocate(struct client *c)
{
	WANT("alloc()", ask(c, STUN_METHOD_ALLOCATE, ATTRS(UDP)), 0);
}

void allocate_dual(struct client *c)
{
	WANT("TURN-7.2-9b",
		ask(c, STUN_METHOD_ALLOCATE,
			ATTRS(UDP, BYTES(ADDITIONAL_ADDRESS_FAMILY, "\2\0\0\0"))),
		0);
}

int permit(struct client *c, const char *peer)
{
	return ask(c, STUN_METHOD_CREATE_PERMISSION, ATTRS(PEER(peer)));
}

int bind_channel(struct client *c, uint16_t number, const char *peer)
{
	char value[4] = {(char)(number >> 8), (char)number, 0, 0};
	const struct attr attrs[] = {
		{.type = STUN_ATTR_CHANNEL_NUMBER, .len = 4, .bytes = value}, PEER(peer), {0}};

	return ask(c, STUN_METHOD_CHANNEL_BIND, attrs);
}

int refresh(struct client *c, const struct attr *attrs)
{
	return ask(c, STUN_METHOD_REFRESH, attrs);
}

uint32_t lifetime_of(const struct client *c)
{
	uint32_t lifetime = UINT32_MAX;

	assert_int_equal(stun_read_u32(stun_find(&c->answer, STUN_ATTR_LIFETIME), &lifetime), 0);
	return lifetime;
}

struct tp_addr relayed(const struct client *c, enum tp_family family)
{
	struct tp_addr a, none = {0};
	struct stun_attribute attribute;
	size_t cursor = 0;

	while ((attribute = stun_next(&c->answer, STUN_ATTR_XOR_RELAYED_ADDRESS, &cursor)).value) {
		assert_int_equal(stun_read_xor_address(&c->answer, attribute, &a), 0);
		if (a.family == family)
			return a;
	}
	return none;
}

struct allocation *allocation_of(const struct client *c)
{
	struct allocation *a;

	TAILQ_FOREACH(a, turn_server_allocations(w.server), link)
		if (memcmp(&a->tuple, &c->tuple, sizeof(a->tuple)) == 0)
			return a;
	return NULL;
}

struct alloc_relay *relay_of(const struct client *c, const struct tp_addr *peer)
{
	struct allocation *a = allocation_of(c);

	assert_non_null(a);
	return a->relays[peer->family == TP_IPV4 ? ALLOC_RELAY_V4 : ALLOC_RELAY_V6];
}

bool send_indication(struct client *c, const struct attr *attrs)
{
	size_t before = w.book.to_peer, answers = w.book.to_client;
	struct stun_writer writer;

	start(c, &writer, STUN_INDICATION, STUN_METHOD_SEND, attrs);
	c->request_len = stun_finish(&writer);
	deliver_marked(c, c->request, c->request_len, 64, 0);
	assert_int_equal(w.book.to_client, answers); /* STUN-6.3.2-2 */
	return w.book.to_peer > before;
}

bool send_to(struct client *c, const char *peer)
{
	return send_indication(c, ATTRS(PEER(peer), BYTES(DATA, "hello")));
}

bool send_channel(struct client *c, const char *bytes, size_t len)
{
	size_t before = w.book.to_peer;

	deliver_marked(c, bytes, len, 64, 0);
	return w.book.to_peer > before;
}

int from_peer(struct client *c, const char *text, const char *data, size_t len)
{
	struct tp_addr peer = addr(text), named;
	size_t before = w.book.to_client;
	uint8_t *copy = malloc(len + TURN_PACKET_ROOM);
	struct turn_packet packet = {copy, len, 64, 0};
	struct stun_attribute got;
	struct stun_message m;

	memset(copy, 0xEE, len + TURN_PACKET_ROOM);
	memcpy(copy, data, len);
	turn_server_from_peer(w.server, w.now.mono_ns, relay_of(c, &peer), &peer, &packet);
	free(copy);
	if (w.book.to_client == before)
		return 0;
	assert_memory_equal(&w.book.client_to, &c->tuple, sizeof(c->tuple));
	if (w.book.client[0] >= 0x40) {
		assert_int_equal(w.book.client[2] << 8 | w.book.client[3], len);
		assert_int_equal(w.book.client_len, 4 + len);
		assert_memory_equal(w.book.client + 4, data, len);
		return w.book.client[0] << 8 | w.book.client[1];
	}
	assert_int_equal(stun_parse(w.book.client, w.book.client_len, &m), 0);
	assert_int_equal(m.class, STUN_INDICATION);
	assert_int_equal(m.method, STUN_METHOD_DATA);
	assert_int_equal(m.integrity_at, 0);
	assert_int_equal(
		stun_read_xor_address(&m, stun_find(&m, STUN_ATTR_XOR_PEER_ADDRESS), &named), 0);
	assert_memory_equal(&named, &peer, sizeof(peer));
	got = stun_find(&m, STUN_ATTR_DATA);
	assert_non_null(got.value);
	assert_int_equal(got.len, len);
	assert_memory_equal(got.value, data, len);
	for (size_t i = len; i % 4 != 0; i++)
		assert_int_equal(got.value[i], 0); /* STUN-14-2 */
	return 1;
}
