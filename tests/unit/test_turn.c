/*
 * The TURN server without I/O: a virtual clock, effects that keep a notebook, requests built here.
 * Every check carries the conformance or threat row it stands for.
 */
#include "controlplane/turn/server.h"

#include "base/clock.h"
#include "controlplane/stun/stun.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <openssl/evp.h>

#define REALM "example.org"
#define P1    "8.8.8.8:1000"
#define P1B   "8.8.8.8:2000"
#define P2    "8.8.4.4:1000"
#define P6    "[2606:4700::1111]:1000"
#define NONE  ((int)STUN_DISCARD)

#define WANT(row, got, want)                                                                       \
	do {                                                                                       \
		int got_ = (int)(got), want_ = (int)(want);                                        \
		if (got_ != want_)                                                                 \
			fail_msg("%s: %d, not %d", (row), got_, want_);                            \
	} while (0)

/* The world around the server */

struct notebook {
	uint8_t client[2048]; /* the last message to a client */
	size_t client_len;
	struct turn_marks client_marks;
	struct alloc_tuple client_to;
	size_t to_client;

	uint8_t peer[2048]; /* the last datagram to a peer */
	size_t peer_len;
	struct turn_marks peer_marks;
	struct tp_addr peer_from, peer_to;
	size_t to_peer;

	size_t relays, permissions, channels; /* alive */
	size_t opened;
	int fail_opens; /* how many of the next ones */
	int fail_with;
};

static struct world {
	struct auth *auth;
	struct policy *policy;
	struct turn_server *server;
	struct auth_now now;
	struct notebook book;
} w;

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

static void close_relay(void *context, struct alloc_relay *relay)
{
	assert_null(relay->channels);
	assert_null(relay->permissions);
	((struct notebook *)context)->relays--;
}

/* `flows` tells a grant from a refresh, as in turnpiked. */
static void grant_permission(void *context, struct alloc_permission *permission)
{
	struct notebook *book = context;

	book->permissions += permission->flows ? 0 : 1;
	permission->flows = book;
}

static void revoke_permission(void *context, struct alloc_permission *permission)
{
	((struct notebook *)context)->permissions -= permission->flows ? 1 : 0;
}

static void grant_channel(void *context, struct alloc_channel *channel)
{
	struct notebook *book = context;

	assert_non_null(alloc_find_permission(channel->relay, &channel->peer, w.now.mono_ns));
	book->channels += channel->flows ? 0 : 1;
	channel->flows = book;
}

static void revoke_channel(void *context, struct alloc_channel *channel)
{
	((struct notebook *)context)->channels -= channel->flows ? 1 : 0;
}

static struct tp_addr addr(const char *text)
{
	struct tp_addr a;

	if (tp_addr_parse(text, &a) < 0 && tp_addr_parse_ip(text, &a) < 0)
		fail_msg("not an address: %s", text);
	return a;
}

enum { V4 = 1, V6 = 2, DUAL = 3, NAT = 4 };

static const struct turn_settings usual = {
	.port_min = 50000,
	.port_max = 59999,
	.permissions_per_allocation = 10,
	.channels_per_allocation = 8,
	.lifetime_default_ns = 600 * TP_NS_PER_S,
	.lifetime_max_ns = 3600 * TP_NS_PER_S,
	.permission_lifetime_ns = 300 * TP_NS_PER_S,
	.channel_lifetime_ns = 600 * TP_NS_PER_S,
};

static void begin(int families, struct turn_settings settings)
{
	static const struct auth_user users[] = {{"alice", "secret-a"}, {"bob", "secret-b"}};
	const struct auth_settings auth = {.realm = REALM,
		.users = users,
		.users_count = 2,
		.nonce_lifetime_ns = 600 * TP_NS_PER_S};
	const struct turn_effects effects = {&w.book, send_client, send_peer, open_relay,
		close_relay, grant_permission, revoke_permission, grant_channel, revoke_channel};
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

/* Whatever a test did: nothing is left when the server has gone. */
static void end(void)
{
	turn_server_free(w.server);
	policy_free(w.policy);
	auth_free(w.auth);
	WANT("all relays closed", w.book.relays, 0);
	WANT("all permissions revoked", w.book.permissions, 0);
	WANT("all channels revoked", w.book.channels, 0);
}

static void pass(uint64_t seconds)
{
	w.now.mono_ns += seconds * TP_NS_PER_S;
	w.now.unix_s += seconds;
	turn_server_advance(w.server, w.now.mono_ns);
}

/* Clients */

struct client {
	struct alloc_tuple tuple;
	const char *user;
	uint8_t key[16];
	char nonce[128];
	size_t nonce_len;
	uint32_t transactions;
	bool same_transaction; /* the next request repeats the last one's */
	uint8_t request[2048]; /* the last one */
	size_t request_len;
	struct stun_message answer; /* in w.book.client */
};

static struct client client(uint16_t port, const char *user)
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

/* One attribute: bytes as they are, or a peer. type 0 ends a list. */
struct attr {
	uint16_t type;
	uint16_t len;
	const char *bytes;
	const char *peer;
};

#define BYTES(name, text)                                                                          \
	{                                                                                          \
		.type = STUN_ATTR_##name, .len = sizeof(text) - 1, .bytes = text                   \
	}
#define PEER(text)                                                                                 \
	{                                                                                          \
		.type = STUN_ATTR_XOR_PEER_ADDRESS, .peer = text                                   \
	}
#define ATTRS(...)                                                                                 \
	(const struct attr[])                                                                      \
	{                                                                                          \
		__VA_ARGS__,                                                                       \
		{                                                                                  \
			0                                                                          \
		}                                                                                  \
	}
#define NO_ATTRS    ((const struct attr[]){{0}})
#define UDP         BYTES(REQUESTED_TRANSPORT, "\x11\0\0\0")
#define LIFETIME(s) BYTES(LIFETIME, s)
#define NUMBER(s)   BYTES(CHANNEL_NUMBER, s)

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

static void start(struct client *c, struct stun_writer *writer, enum stun_class class, int method,
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

static void deliver_marked(
	struct client *c, const void *bytes, size_t len, uint8_t ttl, uint8_t tos)
{
	uint8_t *copy = malloc(len + TURN_PACKET_ROOM); /* its edges are guarded by ASan */
	struct turn_packet packet = {copy, len, ttl, tos};

	memcpy(copy, bytes, len);
	turn_server_from_client(w.server, &w.now, &c->tuple, &packet);
	free(copy);
}

/* The code of the answer, 0 for success, NONE for silence; what every answer must have is checked
 * here. */
static int deliver_request(struct client *c, bool authenticated)
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

static int ask_bare(struct client *c, int method, const struct attr *attrs)
{
	struct stun_writer writer;

	start(c, &writer, STUN_REQUEST, method, attrs);
	c->request_len = stun_finish(&writer);
	return deliver_request(c, false);
}

static void learn_nonce(struct client *c)
{
	struct stun_attribute nonce = stun_find(&c->answer, STUN_ATTR_NONCE);

	assert_non_null(nonce.value);
	assert_non_null(stun_find(&c->answer, STUN_ATTR_REALM).value);
	assert_true(nonce.len <= sizeof(c->nonce));
	memcpy(c->nonce, nonce.value, nonce.len);
	c->nonce_len = nonce.len;
}

static int ask_once(struct client *c, int method, const struct attr *attrs)
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

/* As clients do: with the nonce of a 401 or 438, and again when it has become stale. */
static int ask(struct client *c, int method, const struct attr *attrs)
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

static int again(struct client *c)
{
	return deliver_request(c, true);
}

static void allocate(struct client *c)
{
	WANT("alloc()", ask(c, STUN_METHOD_ALLOCATE, ATTRS(UDP)), 0);
}

static void allocate_dual(struct client *c)
{
	WANT("TURN-7.2-9b",
		ask(c, STUN_METHOD_ALLOCATE,
			ATTRS(UDP, BYTES(ADDITIONAL_ADDRESS_FAMILY, "\2\0\0\0"))),
		0);
}

static int permit(struct client *c, const char *peer)
{
	return ask(c, STUN_METHOD_CREATE_PERMISSION, ATTRS(PEER(peer)));
}

static int bind_channel(struct client *c, uint16_t number, const char *peer)
{
	char value[4] = {(char)(number >> 8), (char)number, 0, 0};
	const struct attr attrs[] = {
		{.type = STUN_ATTR_CHANNEL_NUMBER, .len = 4, .bytes = value}, PEER(peer), {0}};

	return ask(c, STUN_METHOD_CHANNEL_BIND, attrs);
}

static int refresh(struct client *c, const struct attr *attrs)
{
	return ask(c, STUN_METHOD_REFRESH, attrs);
}

#define DELETE ATTRS(LIFETIME("\0\0\0\0"))

static uint32_t lifetime_of(const struct client *c)
{
	uint32_t lifetime = UINT32_MAX;

	assert_int_equal(stun_read_u32(stun_find(&c->answer, STUN_ATTR_LIFETIME), &lifetime), 0);
	return lifetime;
}

/* The relayed address of that family in the answer; family 0 if there is none. */
static struct tp_addr relayed(const struct client *c, enum tp_family family)
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

static struct allocation *allocation_of(const struct client *c)
{
	struct allocation *a;

	for (a = turn_server_allocations(w.server); a; a = a->by_id.next)
		if (memcmp(&a->tuple, &c->tuple, sizeof(a->tuple)) == 0)
			return a;
	return NULL;
}

static struct alloc_relay *relay_of(const struct client *c, const struct tp_addr *peer)
{
	struct allocation *a = allocation_of(c);

	assert_non_null(a);
	return a->relays[peer->family == TP_IPV4 ? ALLOC_RELAY_V4 : ALLOC_RELAY_V6];
}

/* A Send indication; true if something has reached a peer. */
static bool send_indication(struct client *c, const struct attr *attrs)
{
	size_t before = w.book.to_peer, answers = w.book.to_client;
	struct stun_writer writer;

	start(c, &writer, STUN_INDICATION, STUN_METHOD_SEND, attrs);
	c->request_len = stun_finish(&writer);
	deliver_marked(c, c->request, c->request_len, 64, 0);
	assert_int_equal(w.book.to_client, answers); /* STUN-6.3.2-2 */
	return w.book.to_peer > before;
}

static bool send_to(struct client *c, const char *peer)
{
	return send_indication(c, ATTRS(PEER(peer), BYTES(DATA, "hello")));
}

static bool send_channel(struct client *c, const char *bytes, size_t len)
{
	size_t before = w.book.to_peer;

	deliver_marked(c, bytes, len, 64, 0);
	return w.book.to_peer > before;
}

/* What the client gets of a peer's datagram: 0 nothing, 1 a Data indication, else the channel. */
static int from_peer(struct client *c, const char *text, const char *data, size_t len)
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

#define FROM_PEER(c, peer) from_peer(c, peer, "answer", 6)

/* Binding, and what is no message for us */

static void binding(void **state)
{
	struct client c = client(1000, "alice");
	struct tp_addr mapped;

	(void)state;
	begin(V4, usual);
	WANT("STUN-12-4", ask_bare(&c, STUN_METHOD_BINDING, NO_ATTRS), 0);
	assert_int_equal(stun_read_xor_address(&c.answer,
				 stun_find(&c.answer, STUN_ATTR_XOR_MAPPED_ADDRESS), &mapped),
		0);
	assert_memory_equal(&mapped, &c.tuple.client, sizeof(mapped));
	WANT("L01 a small answer", w.book.client_len, 32);
	WANT("STUN-6.3.1-1",
		ask_bare(&c, STUN_METHOD_BINDING,
			ATTRS({.type = 0x7FF0}, {.type = 0x0030}, {.type = 0x7FF0})),
		420);
	WANT("STUN-14.13-1", stun_find(&c.answer, STUN_ATTR_UNKNOWN_ATTRIBUTES).len, 4);
	WANT("STUN-6.3-8", ask_bare(&c, STUN_METHOD_BINDING, ATTRS({.type = 0xC123})), 0);
	WANT("STUN-6.3-9", ask_bare(&c, STUN_METHOD_BINDING, ATTRS(LIFETIME("\0\0\0\0"))), 0);
	WANT("STUN-9.1-0", ask_bare(&c, STUN_METHOD_BINDING, ATTRS(BYTES(USERNAME, "who"))), 0);
	allocate(&c);
	WANT("TURN-5-0", ask_bare(&c, STUN_METHOD_BINDING, NO_ATTRS), 0);
	WANT("TURN-5-0 untouched", refresh(&c, NO_ATTRS), 0);
	end();
}

static void a_fingerprint_is_mirrored(void **state)
{
	struct client c = client(1000, "alice");
	struct stun_writer writer;

	(void)state;
	begin(V4, usual);
	start(&c, &writer, STUN_REQUEST, STUN_METHOD_BINDING, NO_ATTRS);
	stun_put_fingerprint(&writer);
	c.request_len = stun_finish(&writer);
	WANT("STUN-12-7", deliver_request(&c, false), 0);
	assert_true(c.answer.has_fingerprint);
	end();
}

static const struct {
	const char *row;
	uint16_t type;
} silent_types[] = {
	{"STUN-6.3-5", 0x0002},
	{"STUN-6.3-5", 0x0005},
	{"STUN-6.3-5", 0x00FF},
	{"STUN-6.3-6 Allocate indication", 0x0013},
	{"STUN-6.3-6 Refresh indication", 0x0014},
	{"STUN-6.3-6 Send request", 0x0006},
	{"STUN-6.3-6 Data request", 0x0007},
	{"STUN-6.3-6 Data indication", 0x0017},
	{"STUN-6.3.2-3", 0x0011},
	{"L03", 0x0101},
	{"L03", 0x0111},
	{"L03", 0x0103},
	{"L03", 0x0113},
	{"L03", 0x0118},
	{"STUN-5-1", 0x8001},
	{"STUN-5-1", 0xC001},
};

static void silence(void **state)
{
	struct client c = client(1000, "alice");
	struct client tunnel = client(1000, "alice"), zero = client(0, "alice");

	(void)state;
	begin(V4, usual);
	allocate(&c);
	w.book.to_client = 0;
	for (size_t i = 0; i < sizeof(silent_types) / sizeof(silent_types[0]); i++) {
		uint8_t bytes[20] = {(uint8_t)(silent_types[i].type >> 8),
			(uint8_t)silent_types[i].type, 0, 0, 0x21, 0x12, 0xA4, 0x42};

		deliver_marked(&c, bytes, sizeof(bytes), 64, 0);
		WANT(silent_types[i].row, w.book.to_client, 0);
	}
	for (size_t len = 0; len < 20; len++) {
		deliver_marked(&c, "\0\1\0\0\x21\x12\xA4\x42............", len, 64, 0);
		WANT("STUN-6.3-4", w.book.to_client, 0);
	}
	deliver_marked(&c, "\0\1\0\0\0\0\0\0............", 20, 64, 0);
	WANT("F14, TURN-5-1", w.book.to_client, 0);
	tunnel.tuple.client = addr("[2002:808:808::1]:5000");
	WANT("P06 6to4", ask_bare(&tunnel, STUN_METHOD_ALLOCATE, ATTRS(UDP)), NONE);
	tunnel.tuple.client = addr("[2001:0:1::1]:5000");
	WANT("P06 Teredo", ask_bare(&tunnel, STUN_METHOD_ALLOCATE, ATTRS(UDP)), NONE);
	WANT("P23", ask_bare(&zero, STUN_METHOD_BINDING, NO_ATTRS), NONE);
	end();
}

static void replies_to_strangers_are_limited_and_clients_are_not(void **state)
{
	struct client known = client(1, "alice"), stranger = client(2, "bob");
	struct turn_settings settings = usual;
	size_t answered = 0;

	(void)state;
	settings.unauthenticated_replies_per_source = 10;
	begin(V4, settings);
	allocate(&known);
	for (int i = 0; i < 1000; i++)
		answered += ask_bare(&stranger, STUN_METHOD_ALLOCATE, NO_ATTRS) == 401;
	assert_in_range(answered, 1, 20); /* L02 */
	WANT("STUN-16.1.2-2", ask_bare(&stranger, STUN_METHOD_BINDING, NO_ATTRS), NONE);
	for (int i = 0; i < 100; i++)
		WANT("authenticated", refresh(&known, NO_ATTRS), 0);
	WANT("a client's keepalive", ask_bare(&known, STUN_METHOD_BINDING, NO_ATTRS), 0);
	end();
}

/* Allocate: one request each */

#define RAF(s)  BYTES(REQUESTED_ADDRESS_FAMILY, s)
#define AAF(s)  BYTES(ADDITIONAL_ADDRESS_FAMILY, s)
#define EVEN(s) BYTES(EVEN_PORT, s)
#define TOKEN   BYTES(RESERVATION_TOKEN, "12345678")
#define LIST(...)                                                                                  \
	{                                                                                          \
		__VA_ARGS__                                                                        \
	}

static const struct allocate_row {
	const char *row;
	int families;
	struct attr attrs[6];
	int want;
	uint32_t lifetime; /* 0: not looked at */
	int relays;        /* families given; 0: not looked at */
} allocate_rows[] = {
	{"TURN-7.2-3", V4, LIST({.type = STUN_ATTR_DONT_FRAGMENT}), 400},
	{"TURN-7.2-3b len 0", V4, LIST(BYTES(REQUESTED_TRANSPORT, "")), 400},
	{"TURN-7.2-3b len 1", V4, LIST(BYTES(REQUESTED_TRANSPORT, "\x11")), 400},
	{"TURN-7.2-3b len 8", V4, LIST(BYTES(REQUESTED_TRANSPORT, "\x11\0\0\0\0\0\0\0")), 400},
	{"TURN-7.2-3c 0", V4, LIST(BYTES(REQUESTED_TRANSPORT, "\0\0\0\0")), 442},
	{"TURN-7.2-3c 255", V4, LIST(BYTES(REQUESTED_TRANSPORT, "\xFF\0\0\0")), 442},
	{"P25 TCP", V4, LIST(BYTES(REQUESTED_TRANSPORT, "\6\0\0\0")), 442},
	{"TURN-18.8-1", V4, LIST(BYTES(REQUESTED_TRANSPORT, "\x11\xAA\xBB\xCC")), 0, 600, V4},
	{"TURN-7.2-4 df", V4, LIST(UDP, {.type = STUN_ATTR_DONT_FRAGMENT}), 0},
	{"STUN-6.3-10", V4, LIST({.type = 0x7FF0}), 420},
	{"TURN-7.2-18 lifetime none", V4, LIST(UDP), 0, 600},
	{"TURN-7.2-19 lifetime 0", V4, LIST(UDP, LIFETIME("\0\0\0\0")), 0, 600},
	{"TURN-7.2-18 lifetime 1", V4, LIST(UDP, LIFETIME("\0\0\0\1")), 0, 600},
	{"TURN-7.2-18 lifetime 599", V4, LIST(UDP, LIFETIME("\0\0\2\x57")), 0, 600},
	{"TURN-7.2-18 lifetime 600", V4, LIST(UDP, LIFETIME("\0\0\2\x58")), 0, 600},
	{"TURN-7.2-18 lifetime 601", V4, LIST(UDP, LIFETIME("\0\0\2\x59")), 0, 601},
	{"TURN-7.2-18 lifetime 1800", V4, LIST(UDP, LIFETIME("\0\0\7\x08")), 0, 1800},
	{"TURN-7.2-18 lifetime 3600", V4, LIST(UDP, LIFETIME("\0\0\x0E\x10")), 0, 3600},
	{"TURN-7.2-18 lifetime 3601", V4, LIST(UDP, LIFETIME("\0\0\x0E\x11")), 0, 3600},
	{"R10 lifetime ffffffff", V4, LIST(UDP, LIFETIME("\xFF\xFF\xFF\xFF")), 0, 3600},
	{"STUN-14-4 first wins", V4, LIST(UDP, LIFETIME("\0\0\7\x08"), LIFETIME("\0\0\2\x58")), 0,
		1800},
	{"TURN-18.2-1 len 2", V4, LIST(UDP, LIFETIME("\0\0")), 400},
	{"TURN-18.2-1 len 8", V4, LIST(UDP, LIFETIME("\0\0\0\0\0\0\0\0")), 400},
	{"TURN-7.2-7a", DUAL, LIST(UDP), 0, 600, V4},
	{"TURN-7.2-7b", V6, LIST(UDP), 440},
	{"TURN-7.2-7c RAF 2", V4, LIST(UDP, RAF("\2\0\0\0")), 440},
	{"DEC-13 RAF 3", DUAL, LIST(UDP, RAF("\3\0\0\0")), 440},
	{"DEC-13 RAF 0", DUAL, LIST(UDP, RAF("\0\0\0\0")), 440},
	{"TURN-7.2-7d RAF 1", DUAL, LIST(UDP, RAF("\1\0\0\0")), 0, 600, V4},
	{"TURN-7.2-7d RAF 2", DUAL, LIST(UDP, RAF("\2\0\0\0")), 0, 600, V6},
	{"TURN-18.6-1", DUAL, LIST(UDP, RAF("\2\xAA\xBB\xCC")), 0, 600, V6},
	{"TURN-18.6-2 len 1", DUAL, LIST(UDP, RAF("\2")), 400},
	{"TURN-18.6-2 len 8", DUAL, LIST(UDP, RAF("\2\0\0\0\0\0\0\0")), 400},
	{"TURN-7.2-5a RAF", DUAL, LIST(UDP, TOKEN, RAF("\1\0\0\0")), 400},
	{"TURN-7.2-5a AAF", DUAL, LIST(UDP, AAF("\2\0\0\0"), TOKEN), 400},
	{"TURN-7.2-5b R 0", V4, LIST(UDP, TOKEN, EVEN("\0")), 400},
	{"TURN-7.2-5b R 1", V4, LIST(UDP, TOKEN, EVEN("\x80")), 400},
	{"TURN-7.2-5c", V4, LIST(UDP, TOKEN), 508},
	{"TURN-18.10-1 len 4", V4, LIST(UDP, BYTES(RESERVATION_TOKEN, "1234")), 400},
	{"TURN-18.10-1 len 16", V4, LIST(UDP, BYTES(RESERVATION_TOKEN, "1234567812345678")), 400},
	{"TURN-7.2-6", DUAL, LIST(UDP, RAF("\1\0\0\0"), AAF("\2\0\0\0")), 400},
	{"TURN-7.2-6 other order", DUAL, LIST(UDP, AAF("\2\0\0\0"), RAF("\1\0\0\0")), 400},
	{"TURN-7.2-9a", DUAL, LIST(UDP, AAF("\1\0\0\0")), 400},
	{"TURN-7.2-9b", DUAL, LIST(UDP, AAF("\2\0\0\0")), 0, 600, DUAL},
	{"TURN-7.2-9c no v6", V4, LIST(UDP, AAF("\2\0\0\0")), 0, 600, V4},
	{"TURN-7.2-9c no v4", V6, LIST(UDP, AAF("\2\0\0\0")), 0, 600, V6},
	{"TURN-7.2-8a R 1", DUAL, LIST(UDP, EVEN("\x80"), AAF("\2\0\0\0")), 400},
	{"TURN-7.2-8a R 0", DUAL, LIST(UDP, EVEN("\0"), AAF("\2\0\0\0")), 0, 600, DUAL},
	{"TURN-18.7-1 len 0", V4, LIST(UDP, EVEN("")), 400},
	{"TURN-18.7-1 len 4", V4, LIST(UDP, EVEN("\0\0\0\0")), 400},
	{"N13", V4, LIST(UDP, {.type = 0x8030}), 0, 600, V4},
};

static void allocate_requests(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(allocate_rows) / sizeof(allocate_rows[0]); i++) {
		const struct allocate_row *row = &allocate_rows[i];
		struct client c = client(1000, "alice");
		int relays = 0;

		begin(row->families, usual);
		WANT(row->row, ask(&c, STUN_METHOD_ALLOCATE, row->attrs), row->want);
		WANT(row->row, turn_server_count(w.server), row->want == 0 ? 1 : 0);
		if (row->want == 0) {
			relays |= relayed(&c, TP_IPV4).family ? V4 : 0;
			relays |= relayed(&c, TP_IPV6).family ? V6 : 0;
			assert_non_null(stun_find(&c.answer, STUN_ATTR_XOR_MAPPED_ADDRESS).value);
		}
		if (row->relays)
			WANT(row->row, relays, row->relays);
		if (row->lifetime)
			WANT(row->row, lifetime_of(&c), row->lifetime);
		end();
	}
}

static void an_address_error_says_which_family_and_why(void **state) /* TURN-18.12-1 */
{
	static const struct {
		int families;
		bool exhausted;
		const char *value;
	} rows[] = {
		{V4, false, "\2\0\4\x28"}, {V6, false, "\1\0\4\x28"}, {DUAL, true, "\2\0\5\x08"}};

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		struct turn_settings settings = usual;
		struct client c = client(1000, "alice"), other = client(1001, "bob");
		struct stun_attribute error;

		settings.port_max = settings.port_min;
		begin(rows[i].families, settings);
		if (rows[i].exhausted)
			WANT("RAF 2",
				ask(&other, STUN_METHOD_ALLOCATE, ATTRS(UDP, RAF("\2\0\0\0"))), 0);
		WANT("TURN-7.2-9c", ask(&c, STUN_METHOD_ALLOCATE, ATTRS(UDP, AAF("\2\0\0\0"))), 0);
		error = stun_find(&c.answer, STUN_ATTR_ADDRESS_ERROR_CODE);
		assert_non_null(error.value);
		assert_memory_equal(error.value, rows[i].value, 4);
		WANT("TURN-7.2-33", again(&c), 0);
		assert_non_null(stun_find(&c.answer, STUN_ATTR_ADDRESS_ERROR_CODE).value);
		WANT("TURN-7.2-9d", ask(&other, STUN_METHOD_ALLOCATE, ATTRS(UDP, AAF("\2\0\0\0"))),
			rows[i].exhausted ? 437 : 508);
		end();
	}
}

static void one_allocation_for_each_5_tuple(void **state)
{
	struct client c = client(1000, "alice"), d = client(1001, "alice");
	struct client e = client(1000, "alice");
	struct tp_addr address;
	struct allocation *a;

	(void)state;
	begin(V4, usual);
	allocate(&c);
	address = relayed(&c, TP_IPV4);
	WANT("TURN-7.2-2", ask(&c, STUN_METHOD_ALLOCATE, ATTRS(UDP)), 437);
	a = allocation_of(&c);
	assert_memory_equal(&a->relays[ALLOC_RELAY_V4]->external, &address, sizeof(address));
	WANT("TURN-5-14", refresh(&d, NO_ATTRS), 437);
	WANT("TURN-5-15 permission", permit(&d, P1), 437);
	WANT("TURN-5-15 channel", bind_channel(&d, 0x4000, P1), 437);
	WANT("TURN-7.2-2b another client port", ask(&d, STUN_METHOD_ALLOCATE, ATTRS(UDP)), 0);
	e.tuple.server.port = 3479;
	WANT("TURN-7.2-2b another server port", ask(&e, STUN_METHOD_ALLOCATE, ATTRS(UDP)), 0);
	assert_int_equal(turn_server_count(w.server), 3);
	end();
}

static void other_users_touch_nothing(void **state) /* N12 */
{
	struct client owner = client(1000, "alice"), thief = client(1000, "bob");

	(void)state;
	begin(V4, usual);
	allocate(&owner);
	WANT("N12 Refresh", refresh(&thief, DELETE), 441);
	WANT("N12 CreatePermission", permit(&thief, P1), 441);
	WANT("N12 ChannelBind", bind_channel(&thief, 0x4000, P1), 441);
	WANT("TURN-7.2-2 before 441", ask(&thief, STUN_METHOD_ALLOCATE, ATTRS(UDP)), 437);
	assert_int_equal(turn_server_count(w.server), 1);
	assert_int_equal(w.book.permissions, 0);
	thief.tuple.client.port = 1001;
	thief.nonce_len = 0;
	WANT("TURN-5-18", refresh(&thief, DELETE), 437);
	end();
}

static void retransmissions(void **state)
{
	struct client c = client(1000, "alice");
	struct tp_addr address, repeated;
	struct stun_attribute token;
	uint8_t value[8];

	(void)state;
	begin(DUAL, usual);
	WANT("TURN-7.2-27", ask(&c, STUN_METHOD_ALLOCATE, ATTRS(UDP, EVEN("\x80"))), 0);
	address = relayed(&c, TP_IPV4);
	token = stun_find(&c.answer, STUN_ATTR_RESERVATION_TOKEN);
	assert_int_equal(token.len, 8);
	memcpy(value, token.value, 8);
	for (uint64_t at = 0; at <= 39; at += at == 0 ? 5 : 34) {
		pass(at == 0 ? 0 : at == 5 ? 5 : 34);
		WANT("TURN-7.2-30, R09", again(&c), 0);
		repeated = relayed(&c, TP_IPV4);
		assert_memory_equal(&repeated, &address, sizeof(address));
		token = stun_find(&c.answer, STUN_ATTR_RESERVATION_TOKEN);
		assert_memory_equal(token.value, value, 8); /* TURN-7.2-40 */
		WANT("TURN-7.2-30 the rest of the lifetime", lifetime_of(&c), 600 - at);
		WANT("TURN-7.2-32", w.book.relays, 1);
	}
	c.same_transaction = true;
	WANT("TURN-7.2-31", ask_once(&c, STUN_METHOD_ALLOCATE, ATTRS(UDP, LIFETIME("\0\0\7\x08"))),
		437);
	end();
}

static void a_late_duplicate_makes_nothing(void **state) /* TURN-7.2-34 */
{
	struct client c = client(1000, "alice"), deleting;
	uint8_t made[2048];
	size_t made_len;

	(void)state;
	begin(V4, usual);
	allocate(&c);
	memcpy(made, c.request, c.request_len);
	made_len = c.request_len;
	WANT("TURN-8.2-7", refresh(&c, DELETE), 0);
	WANT("TURN-8.2-7 lifetime 0", lifetime_of(&c), 0);
	deleting = c;
	WANT("TURN-8.2-2", again(&c), 437);
	pass(39);
	memcpy(c.request, made, made_len);
	c.request_len = made_len;
	WANT("TURN-7.2-34", again(&c), 437);
	WANT("TURN-7.2-34 no port", w.book.relays, 0);
	WANT("TURN-8.2-8 the same socket again", ask(&c, STUN_METHOD_ALLOCATE, ATTRS(UDP)), 0);
	WANT("N20 Refresh 0 replayed", again(&deleting), 437);
	WANT("N20 untouched", turn_server_count(w.server), 1);
	end();
}

static void quotas(void **state)
{
	struct client a[3], b = client(2000, "bob");
	struct turn_settings settings = usual;

	(void)state;
	settings.allocations_per_user = 2;
	begin(V4, settings);
	for (uint16_t i = 0; i < 3; i++)
		a[i] = client((uint16_t)(1000 + i), "alice");
	allocate(&a[0]);
	allocate(&a[1]);
	WANT("TURN-7.2-10", ask(&a[2], STUN_METHOD_ALLOCATE, ATTRS(UDP)), 486);
	WANT("TURN-7.2-10b", ask(&b, STUN_METHOD_ALLOCATE, ATTRS(UDP)), 0);
	WANT("delete", refresh(&a[0], DELETE), 0);
	WANT("TURN-7.2-10 after a delete", ask(&a[2], STUN_METHOD_ALLOCATE, ATTRS(UDP)), 0);
	WANT("TURN-7.2-10 full again", ask(&a[0], STUN_METHOD_ALLOCATE, ATTRS(UDP)), 486);
	pass(601);
	for (int i = 0; i < 100; i++) {
		allocate(&a[0]);
		WANT("TURN-5-11", again(&a[0]), 0);
		WANT("TURN-5-11", refresh(&a[0], DELETE), 0);
	}
	end();
}

static void ports_run_out_and_come_back(void **state)
{
	struct turn_settings settings = usual;
	struct client c[5];

	(void)state;
	settings.port_max = settings.port_min + 3;
	begin(V4, settings);
	for (uint16_t i = 0; i < 5; i++)
		c[i] = client((uint16_t)(1000 + i), "alice");
	for (int i = 0; i < 4; i++)
		allocate(&c[i]);
	WANT("TURN-7.2-17", ask(&c[4], STUN_METHOD_ALLOCATE, ATTRS(UDP)), 508);
	WANT("delete", refresh(&c[0], DELETE), 0);
	WANT("TURN-7.2-17 one freed", ask(&c[4], STUN_METHOD_ALLOCATE, ATTRS(UDP)), 0);
	end();
}

static void ports_that_others_hold_are_skipped(void **state)
{
	struct client c = client(1000, "alice");

	(void)state;
	begin(V4, usual);
	w.book.fail_with = -EADDRINUSE;
	w.book.fail_opens = 3;
	WANT("in use", ask(&c, STUN_METHOD_ALLOCATE, ATTRS(UDP, EVEN("\x80"))), 0);
	assert_int_equal(w.book.opened, 4);
	assert_int_equal(alloc_ports_in_use(allocation_of(&c)->store), 2);
	WANT("delete", refresh(&c, DELETE), 0);
	w.book.fail_opens = 1000;
	WANT("all in use", ask(&c, STUN_METHOD_ALLOCATE, ATTRS(UDP)), 508);
	assert_in_range(w.book.opened, 5, 40);
	w.book.fail_with = -EMFILE;
	w.book.opened = 0;
	WANT("R14", ask(&c, STUN_METHOD_ALLOCATE, ATTRS(UDP)), 508);
	assert_int_equal(w.book.opened, 1);
	w.book.fail_opens = 0;
	WANT("R15 nothing half-installed", turn_server_count(w.server), 0);
	WANT("a failed Allocate may succeed later (TURN-7.2-35)", again(&c), 0);
	end();
}

static void reservations(void **state)
{
	static const struct {
		const char *row;
		uint64_t after_s;
		const char *user;
		int want;
	} rows[] = {
		{"TURN-7.2-28", 29, "alice", 0},
		{"TURN-7.2-29", 31, "alice", 508},
		{"TURN-7.2-38", 1, "bob", 508},
	};

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		struct client c = client(1000, "alice"), d = client(2000, rows[i].user);
		struct client e = client(3000, rows[i].user);
		struct attr attrs[3] = {UDP, {.type = STUN_ATTR_RESERVATION_TOKEN, .len = 8}};
		uint16_t port;
		char token[8];

		begin(V4, usual);
		WANT("pair", ask(&c, STUN_METHOD_ALLOCATE, ATTRS(UDP, EVEN("\xFF"))), 0);
		port = relayed(&c, TP_IPV4).port;
		assert_int_equal(port % 2, 0);
		memcpy(token, stun_find(&c.answer, STUN_ATTR_RESERVATION_TOKEN).value, 8);
		attrs[1].bytes = token;
		pass(rows[i].after_s);
		d.tuple.server.port = 3479; /* TURN-7.2-36 */
		WANT(rows[i].row, ask(&d, STUN_METHOD_ALLOCATE, attrs), rows[i].want);
		if (rows[i].want == 0)
			assert_int_equal(relayed(&d, TP_IPV4).port, port + 1);
		WANT("TURN-7.2-5c twice", ask(&e, STUN_METHOD_ALLOCATE, attrs), 508);
		end();
	}
}

static void even_ports(void **state)
{
	struct turn_settings settings = usual;
	struct client c = client(1000, "alice");

	(void)state;
	settings.port_max = settings.port_min + 19;
	begin(V4, settings);
	for (int i = 0; i < 30; i++) {
		WANT("R05, TURN-7.2-26", ask(&c, STUN_METHOD_ALLOCATE, ATTRS(UDP, EVEN("\x7F"))),
			0);
		assert_int_equal(relayed(&c, TP_IPV4).port % 2, 0);
		assert_null(stun_find(&c.answer, STUN_ATTR_RESERVATION_TOKEN).value);
		WANT("delete", refresh(&c, DELETE), 0);
	}
	end();
}

/* Refresh */

static void refreshing(void **state)
{
	static const struct {
		const char *row;
		struct attr attrs[3];
		int want;
		uint32_t lifetime;
	} rows[] = {
		{"TURN-8.2-6 none", LIST({0}), 0, 600},
		{"TURN-8.2-6 1", LIST(LIFETIME("\0\0\0\1")), 0, 600},
		{"TURN-8.2-6 601", LIST(LIFETIME("\0\0\2\x59")), 0, 601},
		{"TURN-8.2-6 9999", LIST(LIFETIME("\0\0\x27\x0F")), 0, 3600},
		{"TURN-8.2-9 shorter", LIST({0}), 0, 600},
		{"STUN-14-4", LIST(LIFETIME("\0\0\2\x59"), LIFETIME("\0\0\0\0")), 0, 601},
		{"TURN-8.2-10", LIST(UDP, EVEN("\0")), 0, 600},
		{"TURN-8.2-5", LIST(RAF("\1\0\0\0")), 0, 600},
		{"TURN-8.2-4", LIST(RAF("\2\0\0\0")), 443, 0},
		{"TURN-18.6-2", LIST(RAF("\1")), 400, 0},
		{"TURN-18.2-1", LIST(LIFETIME("\0\0")), 400, 0},
	};
	struct client c = client(1000, "alice");

	(void)state;
	begin(V4, usual);
	allocate(&c);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		WANT(rows[i].row, refresh(&c, rows[i].attrs), rows[i].want);
		if (rows[i].want == 0)
			WANT(rows[i].row, lifetime_of(&c), rows[i].lifetime);
		if (rows[i].want == 0)
			WANT("TURN-8.2-1", again(&c), 0);
	}
	WANT("refresh", refresh(&c, NO_ATTRS), 0);
	pass(599);
	WANT("[slow] alive at 599 s", turn_server_count(w.server), 1);
	pass(1);
	WANT("TURN-8.2-9 [slow] gone at 600 s", turn_server_count(w.server), 0);
	WANT("TURN-5-14 after expiry", refresh(&c, NO_ATTRS), 437);
	end();
}

static void attributes_behind_the_integrity_do_not_count(void **state) /* N06 */
{
	struct client c = client(1000, "alice");

	(void)state;
	begin(V4, usual);
	allocate(&c);
	WANT("refresh", refresh(&c, ATTRS(LIFETIME("\0\0\2\x58"))), 0);
	c.same_transaction = false;
	memcpy(c.request + c.request_len, "\0\x0D\0\4\0\0\0\0", 8);
	c.request_len += 8;
	c.request[3] = (uint8_t)(c.request_len - 20);
	c.request[2] = (uint8_t)((c.request_len - 20) >> 8);
	WANT("N06", again(&c), 0);
	WANT("N06", lifetime_of(&c), 600);
	WANT("N06", turn_server_count(w.server), 1);
	end();
}

static void a_dual_allocation_has_two_lives(void **state)
{
	struct client c = client(1000, "alice");

	(void)state;
	begin(DUAL, usual);
	allocate_dual(&c);
	WANT("TURN-10.2-2 both families",
		ask(&c, STUN_METHOD_CREATE_PERMISSION, ATTRS(PEER(P1), PEER(P6))), 0);
	WANT("v4 channel", bind_channel(&c, 0x4000, P1), 0);
	WANT("v6 channel", bind_channel(&c, 0x4001, P6), 0);
	WANT("TURN-12.2-5 across families", bind_channel(&c, 0x4000, P6), 400);
	WANT("TURN-5-13", FROM_PEER(&c, P6), 0x4001);
	WANT("TURN-8.2-3", refresh(&c, ATTRS(LIFETIME("\0\0\0\0"), RAF("\2\0\0\0"))), 0);
	WANT("TURN-8.1-2", send_channel(&c, "\x40\0\0\2hi", 6), true);
	WANT("TURN-8.1-2", FROM_PEER(&c, P1), 0x4000);
	WANT("TURN-8.2-3 v6 is dead", send_channel(&c, "\x40\1\0\2hi", 6), false);
	WANT("TURN-8.2-4", refresh(&c, ATTRS(RAF("\2\0\0\0"))), 443);
	WANT("TURN-10.2-2", permit(&c, P6), 443);
	WANT("TURN-12.2-2", bind_channel(&c, 0x4001, P6), 443);
	WANT("number free again", bind_channel(&c, 0x4001, P2), 0);
	WANT("TURN-8.1-1", refresh(&c, DELETE), 0);
	WANT("TURN-8.1-1", refresh(&c, DELETE), 437);
	end();
}

static void each_family_expires_by_itself(void **state)
{
	struct client c = client(1000, "alice");

	(void)state;
	begin(DUAL, usual);
	allocate_dual(&c);
	WANT("longer v4", refresh(&c, ATTRS(LIFETIME("\0\0\7\x08"), RAF("\1\0\0\0"))), 0);
	pass(601);
	assert_int_equal(w.book.relays, 1);
	WANT("TURN-8.2-3 [slow]", refresh(&c, ATTRS(RAF("\2\0\0\0"))), 443);
	WANT("v4 lives", refresh(&c, ATTRS(RAF("\1\0\0\0"))), 0);
	end();
}

/* Permissions */

static const struct {
	const char *row;
	int families;
	struct attr attrs[3];
	int want;
} permission_rows[] = {
	{"TURN-10.2-3", V4, LIST({0}), 400},
	{"TURN-10.2-6", V4, LIST(PEER("8.8.8.8:0")), 0},
	{"TURN-10.2-5", V4, LIST(PEER(P1), PEER(P2)), 0},
	{"TURN-10.2-4", V4, LIST(PEER(P1), BYTES(XOR_PEER_ADDRESS, "\0\3\1\1\1\1\1\1")), 400},
	{"P19 family 0", V4, LIST(BYTES(XOR_PEER_ADDRESS, "\0\0\1\1\1\1\1\1")), 400},
	{"P19 family 2, 8 bytes", DUAL, LIST(BYTES(XOR_PEER_ADDRESS, "\0\2\1\1\1\1\1\1")), 400},
	{"P19 family 1, 20 bytes", DUAL,
		LIST(BYTES(XOR_PEER_ADDRESS, "\0\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1")), 400},
	{"P19 5 bytes", V4, LIST(BYTES(XOR_PEER_ADDRESS, "\0\1\1\1\1")), 400},
	{"P19 v6 peer on a v4 allocation", V4, LIST(PEER(P6)), 443},
	{"TURN-10.2-7", V4, LIST(PEER("8.8.9.1:1")), 403},
	{"TURN-10.2-8, P20", V4, LIST(PEER(P1), PEER("127.0.0.1:1")), 403},
	{"P20 other order", V4, LIST(PEER("127.0.0.1:1"), PEER(P1)), 403},
	{"P01", V4, LIST(PEER("127.255.255.254:1")), 403},
	{"P02", V4, LIST(PEER("0.0.0.0:1")), 403},
	{"P02 v6", DUAL, LIST(PEER("[::]:1")), 403},
	{"P01 v6", DUAL, LIST(PEER("[::1]:1")), 403},
	{"P10", V4, LIST(PEER("169.254.169.254:1")), 403},
	{"P12", V4, LIST(PEER("224.0.0.1:1")), 403},
	{"P06, TURN-21.4-3 6to4", DUAL, LIST(PEER("[2002:7f00:1::1]:1")), 403},
	{"P06, TURN-21.4-3 Teredo", DUAL, LIST(PEER("[2001:0:1::1]:1")), 403},
	{"P05", DUAL, LIST(PEER("[64:ff9b::a9fe:a9fe]:1")), 403},
	{"P13 a relay address by itself", V4, LIST(PEER("185.1.1.1:0")), 0},
};

static void permission_requests(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(permission_rows) / sizeof(permission_rows[0]); i++) {
		struct client c = client(1000, "alice");

		begin(permission_rows[i].families, usual);
		if (permission_rows[i].families == DUAL)
			allocate_dual(&c);
		else
			allocate(&c);
		WANT(permission_rows[i].row,
			ask(&c, STUN_METHOD_CREATE_PERMISSION, permission_rows[i].attrs),
			permission_rows[i].want);
		if (permission_rows[i].want != 0)
			WANT(permission_rows[i].row, w.book.permissions, 0);
		end();
	}
}

/* A client may name ::ffff:a.b.c.d; the text form would become IPv4, so the bytes. */
static void v4_mapped_peers_are_refused(void **state) /* TURN-11-P1, P03, P04 */
{
	static const uint8_t ips[][4] = {{127, 0, 0, 1}, {8, 8, 8, 8}, {10, 0, 0, 1}};

	(void)state;
	for (size_t i = 0; i < 6; i++) {
		struct client c = client(1000, "alice");
		uint8_t value[20] = {0, 2, 0x33, 0x33};
		const struct attr attrs[] = {
			{.type = STUN_ATTR_XOR_PEER_ADDRESS, .len = 20, .bytes = (char *)value},
			{0}};

		begin(i < 3 ? DUAL : V4, usual);
		if (i < 3)
			allocate_dual(&c);
		else
			allocate(&c);
		/* XORed with cookie and transaction, the next one's. */
		memset(value + 4, 0, 16);
		value[14] = value[15] = 0xFF;
		memcpy(value + 16, ips[i % 3], 4);
		uint8_t mask[16] = {0x21, 0x12, 0xA4, 0x42, 0xAB};
		uint32_t next = c.transactions + 1;

		memcpy(mask + 6, &c.tuple.client.port, 2);
		memcpy(mask + 8, &next, 4);
		for (size_t j = 0; j < 16; j++)
			value[4 + j] ^= mask[j];
		WANT("TURN-11-P1", ask(&c, STUN_METHOD_CREATE_PERMISSION, attrs),
			i < 3 ? 403 : 443);
		end();
	}
}

static void permissions(void **state)
{
	struct client c = client(1000, "alice"), d = client(1001, "alice");
	char peer[32];

	(void)state;
	begin(V4, usual);
	allocate(&c);
	allocate(&d);
	WANT("TURN-7.2-12, TURN-9-3", FROM_PEER(&c, P1), 0);
	WANT("perm", permit(&c, P1), 0);
	WANT("TURN-10.2-10", stun_find(&c.answer, STUN_ATTR_LIFETIME).value != NULL, 0);
	WANT("TURN-10.2-1", again(&c), 0);
	WANT("TURN-9-2", FROM_PEER(&c, P1B), 1);
	WANT("L05 another address", FROM_PEER(&c, P2), 0);
	WANT("TURN-9-4", FROM_PEER(&d, P1), 0);
	WANT("P23 source port 0", FROM_PEER(&c, "8.8.8.8:0"), 0);
	for (int i = 0; i < 9; i++) {
		snprintf(peer, sizeof(peer), "8.8.7.%d:5", i);
		WANT("R06", permit(&c, peer), 0);
	}
	WANT("TURN-10.2-9", permit(&c, P2), 508);
	WANT("TURN-10.2-9 refresh", permit(&c, P1), 0);
	WANT("TURN-10.2-9 twice the same",
		ask(&d, STUN_METHOD_CREATE_PERMISSION, ATTRS(PEER(P1), PEER(P1B), PEER(P1))), 0);
	WANT("one of three", w.book.permissions, 11);
	WANT("delete", refresh(&c, DELETE), 0);
	allocate(&c);
	WANT("TURN-9-5, TURN-8.2-8", FROM_PEER(&c, P1), 0);
	end();
}

static void permissions_last_300_seconds(void **state)
{
	struct client c = client(1000, "alice");

	(void)state;
	begin(V4, usual);
	WANT("long", ask(&c, STUN_METHOD_ALLOCATE, ATTRS(UDP, LIFETIME("\0\0\x0E\x10"))), 0);
	WANT("perm", permit(&c, P1), 0);
	pass(299);
	WANT("TURN-9-1 [slow] 299 s", FROM_PEER(&c, P1), 1);
	WANT("TURN-9-1 [slow] 299 s", send_to(&c, P1), true);
	w.now.mono_ns += TP_NS_PER_S; /* due, but nobody has swept */
	WANT("TURN-9-1, TURN-9-7 [slow] 300 s", FROM_PEER(&c, P1), 0);
	WANT("TURN-11.2-3 [slow]", send_to(&c, P1), false);
	pass(1);
	WANT("revoked", w.book.permissions, 0);
	WANT("TURN-9-6 [slow] perm", permit(&c, P1), 0);
	pass(200);
	WANT("TURN-9-6 [slow] bind", bind_channel(&c, 0x4000, P1), 0);
	pass(250);
	WANT("TURN-9-6 [slow] at 450 s", FROM_PEER(&c, P1B), 1);
	end();
}

/* Send and Data */

static void send_indications(void **state)
{
	struct client c = client(1000, "alice"), stranger = client(1001, "alice");
	struct tp_addr relay;

	(void)state;
	begin(V4, usual);
	allocate(&c);
	relay = relayed(&c, TP_IPV4);
	WANT("TURN-11.2-3", send_to(&c, P1), false);
	WANT("perm", permit(&c, P1), 0);
	WANT("TURN-11.2-5", send_to(&c, P1), true);
	assert_int_equal(w.book.peer_len, 5);
	assert_memory_equal(w.book.peer, "hello", 5);
	assert_memory_equal(&w.book.peer_from, &relay, sizeof(relay));
	WANT("TURN-11.2-7", send_to(&c, P1B), true);
	assert_int_equal(w.book.peer_to.port, 2000);
	WANT("TURN-13.2-2 hops", w.book.peer_marks.ttl, 63);
	WANT("TURN-14-6 no attribute", w.book.peer_marks.dont_fragment, false);
	WANT("TURN-14-1",
		send_indication(
			&c, ATTRS(PEER(P1), BYTES(DATA, "x"), {.type = STUN_ATTR_DONT_FRAGMENT})),
		true);
	WANT("TURN-14-1", w.book.peer_marks.dont_fragment, true);
	WANT("TURN-11.2-2", send_indication(&c, ATTRS(PEER(P1), BYTES(DATA, ""))), true);
	WANT("TURN-11.2-2", w.book.peer_len, 0);
	WANT("TURN-11.2-1 no DATA", send_indication(&c, ATTRS(PEER(P1))), false);
	WANT("TURN-11.2-1 no XPA", send_indication(&c, ATTRS(BYTES(DATA, ""))), false);
	WANT("STUN-14.1-2",
		send_indication(
			&c, ATTRS(BYTES(XOR_PEER_ADDRESS, "\0\3\1\1\1\1\1\1"), BYTES(DATA, "x"))),
		false);
	WANT("STUN-6.3.2-1",
		send_indication(&c, ATTRS(PEER(P1), BYTES(DATA, "x"), {.type = 0x7FF0})), false);
	WANT("P21 {allowed,denied}",
		send_indication(&c, ATTRS(PEER(P1), PEER("127.0.0.1:1"), BYTES(DATA, "x"))), true);
	assert_int_equal(w.book.peer_to.ip[12], 8);
	WANT("P21 {denied,allowed}",
		send_indication(&c, ATTRS(PEER("127.0.0.1:1"), PEER(P1), BYTES(DATA, "x"))), false);
	WANT("TURN-11.2-0", send_to(&c, P6), false);
	WANT("P23 port 0", send_to(&c, "8.8.8.8:0"), false);
	WANT("TURN-5-16, TURN-5-19", send_to(&stranger, P1), false);
	WANT("R07 ports make no state", w.book.permissions, 1);
	end();
}

static void data_from_peers(void **state)
{
	static const char text[] = "0123456789abcdef";
	struct client c = client(1000, "alice");
	uint8_t before[12];
	char big[1200];

	(void)state;
	begin(V4, usual);
	memset(big, 'x', sizeof(big));
	allocate(&c);
	WANT("perm", permit(&c, P1), 0);
	for (size_t len = 0; len <= 16; len++)
		WANT("TURN-11.3-1, TURN-11.3-3", from_peer(&c, P1, text, len), 1);
	for (size_t len = 1190; len <= sizeof(big); len++)
		WANT("TURN-11.3-1", from_peer(&c, P1, big, len), 1);
	memcpy(before, w.book.client + 8, 12);
	WANT("data", FROM_PEER(&c, P1), 1);
	assert_memory_not_equal(before, w.book.client + 8, 12); /* TURN-11.3-2 */
	WANT("bind", bind_channel(&c, 0x4000, P1), 0);
	WANT("TURN-11.3-4, TURN-12.5-3", FROM_PEER(&c, P1), 0x4000);
	WANT("TURN-11.3-4 another port", FROM_PEER(&c, P1B), 1);
	WANT("TURN-11.2-8", send_to(&c, P1), true);
	assert_int_equal(allocation_of(&c)->received.packets, 17 + 11 + 3);
	assert_int_equal(allocation_of(&c)->sent.bytes, 5);
	end();
}

static void marks(void **state)
{
	static const struct {
		uint8_t ttl, tos;
		bool relayed;
	} rows[] = {{64, 0, true}, {47, 0xB8, true}, {2, 3, true}, {1, 0, false}, {0, 0, false}};
	struct client c = client(1000, "alice");
	struct tp_addr peer = addr(P1);

	(void)state;
	begin(V4, usual);
	allocate(&c);
	WANT("bind", bind_channel(&c, 0x4000, P1), 0);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		size_t to_peer = w.book.to_peer, to_client = w.book.to_client;
		uint8_t bytes[2 + TURN_PACKET_ROOM] = "hi";
		struct turn_packet packet = {bytes, 2, rows[i].ttl, rows[i].tos};

		deliver_marked(&c, "\x40\0\0\2hi", 6, rows[i].ttl, rows[i].tos);
		WANT("TURN-14-10", w.book.to_peer - to_peer, rows[i].relayed);
		turn_server_from_peer(w.server, w.now.mono_ns, relay_of(&c, &peer), &peer, &packet);
		WANT("TURN-14-10 from the peer", w.book.to_client - to_client, rows[i].relayed);
		if (!rows[i].relayed)
			continue;
		WANT("TURN-14-10 hops", w.book.peer_marks.ttl, rows[i].ttl - 1);
		WANT("TURN-14-10 hops", w.book.client_marks.ttl, rows[i].ttl - 1);
		WANT("TURN-14-2, TURN-14-4", w.book.peer_marks.tos, rows[i].tos);
		WANT("TURN-14-2, TURN-14-4", w.book.client_marks.tos, rows[i].tos);
	}
	end();
}

/* Channels */

static const struct {
	const char *row;
	struct attr attrs[3];
	int want;
	bool rfc5766;
} bind_rows[] = {
	{"TURN-12.2-3 no number", LIST(PEER(P1)), 400},
	{"TURN-12.2-3 no peer", LIST(NUMBER("\x40\0\0\0")), 400},
	{"TURN-12.2-4 0x0000", LIST(NUMBER("\0\0\0\0"), PEER(P1)), 400},
	{"TURN-12.2-4 0x3FFF", LIST(NUMBER("\x3F\xFF\0\0"), PEER(P1)), 400},
	{"TURN-12.2-4 0x4000", LIST(NUMBER("\x40\0\0\0"), PEER(P1)), 0},
	{"TURN-12.2-4 0x4FFF", LIST(NUMBER("\x4F\xFF\0\0"), PEER(P1)), 0},
	{"TURN-12.2-4 0x5000", LIST(NUMBER("\x50\0\0\0"), PEER(P1)), 400},
	{"TURN-12.2-4 0x7FFF", LIST(NUMBER("\x7F\xFF\0\0"), PEER(P1)), 400},
	{"TURN-12.2-4 0xFFFF", LIST(NUMBER("\xFF\xFF\0\0"), PEER(P1)), 400},
	{"OLD-5766-11-1 0x5000", LIST(NUMBER("\x50\0\0\0"), PEER(P1)), 0, true},
	{"OLD-5766-11-1 0x7FFE", LIST(NUMBER("\x7F\xFE\0\0"), PEER(P1)), 0, true},
	{"OLD-5766-11-1 0x7FFF", LIST(NUMBER("\x7F\xFF\0\0"), PEER(P1)), 400, true},
	{"OLD-5766-11-1 0x8000", LIST(NUMBER("\x80\0\0\0"), PEER(P1)), 400, true},
	{"TURN-18.1-1", LIST(NUMBER("\x40\0\xFF\xFF"), PEER(P1)), 0},
	{"TURN-18.1-2 len 2", LIST(NUMBER("\x40\0"), PEER(P1)), 400},
	{"TURN-18.1-2 len 8", LIST(NUMBER("\x40\0\0\0\0\0\0\0"), PEER(P1)), 400},
	{"TURN-12.2-12", LIST(NUMBER("\x40\0\0\0"), PEER("8.8.8.8:0")), 400},
	{"TURN-12.2-8", LIST(NUMBER("\x40\0\0\0"), PEER("8.8.9.1:1")), 403},
	{"P01", LIST(NUMBER("\x40\0\0\0"), PEER("127.0.0.1:80")), 403},
	{"P13 own listener", LIST(NUMBER("\x40\0\0\0"), PEER("185.1.1.1:3478")), 403},
	{"TURN-12.2-2", LIST(NUMBER("\x40\0\0\0"), PEER(P6)), 443},
};

static void bind_requests(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(bind_rows) / sizeof(bind_rows[0]); i++) {
		struct turn_settings settings = usual;
		struct client c = client(1000, "alice");

		settings.rfc5766_channels = bind_rows[i].rfc5766;
		begin(V4, settings);
		allocate(&c);
		WANT(bind_rows[i].row, ask(&c, STUN_METHOD_CHANNEL_BIND, bind_rows[i].attrs),
			bind_rows[i].want);
		/* TURN-12.2-11: all or nothing */
		WANT(bind_rows[i].row, w.book.channels, bind_rows[i].want == 0);
		WANT(bind_rows[i].row, w.book.permissions, bind_rows[i].want == 0);
		if (bind_rows[i].want == 0) {
			char data[6] = {bind_rows[i].attrs[0].bytes[0],
				bind_rows[i].attrs[0].bytes[1], 0, 2, 'h', 'i'};

			WANT(bind_rows[i].row, send_channel(&c, data, 6), true);
		}
		end();
	}
}

static void channels(void **state)
{
	struct client c = client(1000, "alice"), d = client(1001, "alice");
	char peer[32];

	(void)state;
	begin(V4, usual);
	allocate(&c);
	allocate(&d);
	WANT("bind", bind_channel(&c, 0x4000, P1), 0);
	WANT("TURN-12.2-1", again(&c), 0);
	WANT("TURN-12.2-5", bind_channel(&c, 0x4000, P2), 400);
	WANT("TURN-12.2-11", FROM_PEER(&c, P2), 0);
	WANT("TURN-12.2-6", bind_channel(&c, 0x4001, P1), 400);
	WANT("TURN-12.2-7", bind_channel(&c, 0x4000, P1), 0);
	WANT("TURN-12-1", bind_channel(&c, 0x4001, P1B), 0);
	WANT("TURN-12-2", bind_channel(&d, 0x4000, P1), 0);
	WANT("TURN-12.2-5 still works", send_channel(&c, "\x40\0\0\2hi", 6), true);
	assert_int_equal(w.book.peer_to.port, 1000);
	WANT("TURN-12.2-10", FROM_PEER(&c, "8.8.8.8:3000"), 1);
	for (int i = 0; i < 6; i++) {
		snprintf(peer, sizeof(peer), "8.8.8.8:%d", 3000 + i);
		WANT("fill", bind_channel(&c, (uint16_t)(0x4100 + i), peer), 0);
	}
	WANT("TURN-12.2-9", bind_channel(&c, 0x4200, "8.8.8.8:4000"), 508);
	WANT("TURN-12.2-9 refresh", bind_channel(&c, 0x4000, P1), 0);
	WANT("delete", refresh(&c, DELETE), 0);
	allocate(&c);
	WANT("TURN-12-7", bind_channel(&c, 0x4000, P2), 0);
	end();
}

static void a_bind_without_room_for_its_permission_changes_nothing(void **state)
{
	struct turn_settings settings = usual;
	struct client c = client(1000, "alice");

	(void)state;
	settings.permissions_per_allocation = 1;
	begin(V4, settings);
	allocate(&c);
	WANT("perm", permit(&c, P1), 0);
	WANT("R15", bind_channel(&c, 0x4000, P2), 508);
	WANT("R15", w.book.channels, 0);
	WANT("R15", bind_channel(&c, 0x4000, P1), 0);
	end();
}

static void all_4096_channels(void **state) /* TURN-12-6 */
{
	struct turn_settings settings = usual;
	struct client c = client(1000, "alice");
	char peer[32];

	(void)state;
	settings.channels_per_allocation = 4096;
	begin(V4, settings);
	allocate(&c);
	for (int i = 0; i < 4096; i++) {
		snprintf(peer, sizeof(peer), "8.8.8.8:%d", 1 + i);
		WANT("TURN-12-6", bind_channel(&c, (uint16_t)(0x4FFF - i), peer), 0);
	}
	WANT("TURN-12-6", FROM_PEER(&c, "8.8.8.8:4096"), 0x4000);
	end();
}

static const struct {
	const char *row;
	const char *bytes;
	size_t len;
	int relayed; /* bytes, -1 = not relayed */
} channel_data_rows[] = {
	{"TURN-12.6-8 length 0", "\x40\0\0\0", 4, 0},
	{"TURN-12.6-8 length 1", "\x40\0\0\1a", 5, 1},
	{"TURN-12.6-8 length 4", "\x40\0\0\4abcd", 8, 4},
	{"F08 less than there is", "\x40\0\0\1abcd", 8, 1},
	{"F08 more than there is", "\x40\0\xFF\xFF\0", 5, -1},
	{"F08 cut header", "\x40\0\0", 3, -1},
	{"one byte", "\x40", 1, -1},
	{"TURN-12.6-6", "\x40\1\0\1a", 5, -1},
	{"TURN-12.6-7", "\x50\0\0\1a", 5, -1},
	{"TURN-12.6-7", "\x7F\xFF\0\1a", 5, -1},
	{"TURN-12.6-7", "\x80\0\0\1a", 5, -1},
	{"TURN-12.6-7", "\xFF\xFF\0\1a", 5, -1},
};

static void channel_data(void **state)
{
	struct client c = client(1000, "alice"), stranger = client(1001, "alice");

	(void)state;
	begin(V4, usual);
	allocate(&c);
	WANT("bind", bind_channel(&c, 0x4000, P1), 0);
	for (size_t i = 0; i < sizeof(channel_data_rows) / sizeof(channel_data_rows[0]); i++) {
		bool relayed_it =
			send_channel(&c, channel_data_rows[i].bytes, channel_data_rows[i].len);

		WANT(channel_data_rows[i].row, relayed_it ? (int)w.book.peer_len : -1,
			channel_data_rows[i].relayed);
	}
	WANT("TURN-5-17, L06", send_channel(&stranger, "\x40\0\0\1a", 5), false);
	end();
}

static void channels_last_600_seconds(void **state)
{
	struct client c = client(1000, "alice");

	(void)state;
	begin(V4, usual);
	WANT("long", ask(&c, STUN_METHOD_ALLOCATE, ATTRS(UDP, LIFETIME("\0\0\x0E\x10"))), 0);
	WANT("bind", bind_channel(&c, 0x4000, P1), 0);
	pass(301);
	WANT("TURN-12.6-4 [slow]", FROM_PEER(&c, P1), 0);
	WANT("TURN-12.6-5, DEC-7 [slow]", send_channel(&c, "\x40\0\0\2hi", 6), true);
	WANT("perm", permit(&c, P1), 0);
	WANT("TURN-12.5-3", FROM_PEER(&c, P1), 0x4000);
	pass(298);
	WANT("TURN-12-3 [slow] 599 s", send_channel(&c, "\x40\0\0\2hi", 6), true);
	WANT("perm", permit(&c, P1), 0);
	w.now.mono_ns += TP_NS_PER_S;
	WANT("TURN-12-3 [slow] 600 s, from the peer", FROM_PEER(&c, P1), 1);
	WANT("TURN-12-3, TURN-12.6-3 [slow] 600 s", send_channel(&c, "\x40\0\0\2hi", 6), false);
	pass(1);
	WANT("TURN-12-4 [slow]", bind_channel(&c, 0x4000, P2), 0);
	end();
}

static void allocations_last_as_long_as_said(void **state)
{
	struct client c = client(1000, "alice");

	(void)state;
	begin(V4, usual);
	allocate(&c);
	WANT("bind", bind_channel(&c, 0x4000, P1), 0);
	pass(300);
	WANT("bind", bind_channel(&c, 0x4000, P1), 0);
	pass(299);
	WANT("[slow] 599 s", FROM_PEER(&c, P1), 0x4000);
	w.now.mono_ns += TP_NS_PER_S;
	WANT("TURN-6-4 [slow] due, not swept", FROM_PEER(&c, P1), 0);
	WANT("TURN-6-4 [slow]", send_channel(&c, "\x40\0\0\2hi", 6), false);
	turn_server_advance(w.server, w.now.mono_ns);
	WANT("TURN-7.2-21 [slow]", turn_server_count(w.server), 0);
	WANT("TURN-7.2-21 [slow]", w.book.relays + w.book.permissions + w.book.channels, 0);
	WANT("TURN-7.2-21 [slow]", refresh(&c, NO_ATTRS), 437);
	assert_true(turn_server_next(w.server) == UINT64_MAX);
	end();
}

static void nonces_become_stale(void **state)
{
	struct client c = client(1000, "alice"), moved;

	(void)state;
	begin(V4, usual);
	WANT("long", ask(&c, STUN_METHOD_ALLOCATE, ATTRS(UDP, LIFETIME("\0\0\x0E\x10"))), 0);
	moved = c;
	moved.tuple.client.port = 1001;
	WANT("N03 from another port", ask_once(&moved, STUN_METHOD_REFRESH, NO_ATTRS), 438);
	pass(601);
	WANT("N20, N03 [slow]", ask_once(&c, STUN_METHOD_REFRESH, NO_ATTRS), 438);
	assert_non_null(stun_find(&c.answer, STUN_ATTR_NONCE).value);
	WANT("438 changes nothing", turn_server_count(w.server), 1);
	WANT("with the fresh one", refresh(&c, NO_ATTRS), 0);
	end();
}

/* Relays of this server as peers */

static void relay_to_relay(void **state)
{
	struct client a = client(1000, "alice"), b = client(1001, "bob");
	char of_a[TP_ADDR_TEXT], of_b[TP_ADDR_TEXT];
	struct tp_addr address_a, address_b;

	(void)state;
	begin(V4, usual);
	allocate(&a);
	address_a = relayed(&a, TP_IPV4);
	tp_addr_text(&address_a, of_a);
	allocate(&b);
	address_b = relayed(&b, TP_IPV4);
	tp_addr_text(&address_b, of_b);
	WANT("TURN-14-P1 perm", permit(&a, of_b), 0);
	WANT("TURN-14-P1 perm", permit(&b, of_a), 0);
	WANT("P14", send_to(&a, of_b), true);
	WANT("P14 arrives", FROM_PEER(&b, of_a), 1);
	WANT("P14 channel", bind_channel(&a, 0x4000, of_b), 0);
	WANT("P15 channel to itself", bind_channel(&a, 0x4001, of_a), 403);
	WANT("P15 Send to itself", send_to(&a, of_a), false);
	WANT("P15 from itself", FROM_PEER(&a, of_a), 0);
	WANT("P13 Send to the listener", send_to(&a, "185.1.1.1:3478"), false);
	WANT("P13 from the listener", FROM_PEER(&a, "185.1.1.1:3478"), 0);
	WANT("delete", refresh(&b, DELETE), 0);
	WANT("P13 no live relay any more", send_to(&a, of_b), false);
	WANT("P13 no live relay any more", bind_channel(&a, 0x4000, of_b), 403);
	end();
}

static void behind_a_1_to_1_nat(void **state)
{
	struct client a = client(1000, "alice"), b = client(1001, "bob");
	struct tp_addr told_a, told_b, inner_a, peer;
	char text_a[TP_ADDR_TEXT], text_b[TP_ADDR_TEXT];
	uint8_t bytes[4 + TURN_PACKET_ROOM] = "data";
	struct turn_packet packet = {bytes, 4, 64, 0};
	struct stun_message m;

	(void)state;
	begin(NAT, usual);
	allocate(&a);
	told_a = relayed(&a, TP_IPV4);
	allocate(&b);
	told_b = relayed(&b, TP_IPV4);
	assert_int_equal(told_a.ip[13], 2); /* 185.2.2.2 */
	inner_a = allocation_of(&a)->relays[ALLOC_RELAY_V4]->address;
	assert_int_equal(inner_a.ip[13], 1);
	assert_int_equal(inner_a.port, told_a.port);
	tp_addr_text(&told_a, text_a);
	tp_addr_text(&told_b, text_b);
	WANT("perm", permit(&a, text_b), 0);
	WANT("perm", permit(&b, text_a), 0);
	WANT("hairpin by the external name", send_to(&a, text_b), true);
	assert_int_equal(w.book.peer_to.ip[13], 1); /* goes to the bound one */
	turn_server_from_peer(w.server, w.now.mono_ns, relay_of(&b, &inner_a), &inner_a, &packet);
	assert_int_equal(stun_parse(w.book.client, w.book.client_len, &m), 0);
	assert_int_equal(
		stun_read_xor_address(&m, stun_find(&m, STUN_ATTR_XOR_PEER_ADDRESS), &peer), 0);
	assert_memory_equal(&peer, &told_a, sizeof(peer));
	WANT("P15 by the external name", bind_channel(&a, 0x4000, text_a), 403);
	end();
}

static void rules_that_change_end_what_they_forbid(void **state) /* P22 */
{
	struct client c = client(1000, "alice");
	char error[128];

	(void)state;
	begin(V4, usual);
	allocate(&c);
	WANT("bind", bind_channel(&c, 0x4000, P1), 0);
	WANT("perm", permit(&c, P2), 0);
	assert_int_equal(policy_add_rule(w.policy, false, "8.8.8.8/32", error), 0);
	turn_server_recheck_policy(w.server);
	WANT("P22", w.book.channels, 0);
	WANT("P22", w.book.permissions, 1);
	WANT("P22", send_channel(&c, "\x40\0\0\2hi", 6), false);
	end();
}

/* ICMP */

static const struct {
	const char *row;
	bool v6;
	struct turn_icmp icmp;
	const char *want; /* NULL: not reported */
} icmp_rows[] = {
	{"TURN-11.5-1, TURN-18.13-1", false, {3, 3, 0}, "\0\0\3\3\0\0\0\0"},
	{"TURN-11.5-1", false, {11, 0, 0}, "\0\0\x0B\0\0\0\0\0"},
	{"TURN-18.13-2", false, {3, 4, 1280}, "\0\0\3\4\0\0\5\0"},
	{"TURN-18.13-3", false, {3, 3, 77}, "\0\0\3\3\0\0\0\0"},
	{"TURN-11.5-2 v4 4", false, {4, 0, 0}, NULL},
	{"TURN-11.5-2 v4 5", false, {5, 0, 0}, NULL},
	{"TURN-11.5-2 v4 12", false, {12, 0, 0}, NULL},
	{"TURN-11.5-1 v6 1", true, {1, 4, 0}, "\0\0\1\4\0\0\0\0"},
	{"TURN-18.13-2 v6", true, {2, 0, 1280}, "\0\0\2\0\0\0\5\0"},
	{"TURN-11.5-1 v6 3", true, {3, 0, 9}, "\0\0\3\0\0\0\0\0"},
	{"TURN-11.5-2 v6 4", true, {4, 0, 0}, NULL},
	{"TURN-11.5-2 v6 11", true, {11, 0, 0}, NULL},
};

static void icmp_errors(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(icmp_rows) / sizeof(icmp_rows[0]); i++) {
		struct tp_addr peer = addr(icmp_rows[i].v6 ? P6 : P1), other = addr(P2), named;
		struct client c = client(1000, "alice");
		struct stun_message m;
		size_t before;

		begin(DUAL, usual);
		allocate_dual(&c);
		WANT("TURN-12.5-4", bind_channel(&c, 0x4000, icmp_rows[i].v6 ? P6 : P1), 0);
		before = w.book.to_client;
		turn_server_icmp(
			w.server, w.now.mono_ns, relay_of(&c, &peer), &peer, &icmp_rows[i].icmp);
		WANT(icmp_rows[i].row, w.book.to_client - before, icmp_rows[i].want != NULL);
		if (icmp_rows[i].want) {
			assert_int_equal(stun_parse(w.book.client, w.book.client_len, &m), 0);
			assert_int_equal(m.method, STUN_METHOD_DATA);
			assert_int_equal(m.class, STUN_INDICATION);
			assert_null(stun_find(&m, STUN_ATTR_DATA).value);
			assert_memory_equal(
				stun_find(&m, STUN_ATTR_ICMP).value, icmp_rows[i].want, 8);
			assert_int_equal(stun_read_xor_address(&m,
						 stun_find(&m, STUN_ATTR_XOR_PEER_ADDRESS), &named),
				0);
			assert_memory_equal(&named, &peer, sizeof(peer)); /* TURN-11.5-7 */
		}
		before = w.book.to_client;
		turn_server_icmp(
			w.server, w.now.mono_ns, relay_of(&c, &other), &other, &icmp_rows[0].icmp);
		WANT("TURN-11.5-6", w.book.to_client - before, 0);
		end();
	}
}

static void icmp_is_limited_and_changes_nothing(void **state) /* TURN-11.5-8, F17 */
{
	struct client c = client(1000, "alice");
	struct tp_addr peer = addr(P1);
	size_t before;

	(void)state;
	begin(V4, usual);
	allocate(&c);
	WANT("bind", bind_channel(&c, 0x4000, P1), 0);
	before = w.book.to_client;
	for (int i = 0; i < 1000; i++)
		turn_server_icmp(
			w.server, w.now.mono_ns, relay_of(&c, &peer), &peer, &icmp_rows[0].icmp);
	WANT("TURN-11.5-8", w.book.to_client - before, 10);
	WANT("F17", FROM_PEER(&c, P1), 0x4000);
	pass(1);
	before = w.book.to_client;
	turn_server_icmp(w.server, w.now.mono_ns, relay_of(&c, &peer), &peer, &icmp_rows[0].icmp);
	WANT("the next second", w.book.to_client - before, 1);
	end();
}

/* The operator's side */

static void add_up(void *arg, const char *method, int code, uint64_t count)
{
	uint64_t *sums = arg;

	if (strcmp(method, "allocate") == 0 && code == 0)
		sums[0] += count;
	if (strcmp(method, "allocate") == 0 && code == 401)
		sums[1] += count;
	if (strcmp(method, "other") == 0 && code == STUN_DISCARD)
		sums[2] += count;
}

static void operators(void **state)
{
	struct client c = client(1000, "alice"), d = client(1001, "alice");
	uint64_t sums[3] = {0};
	uint32_t id;

	(void)state;
	begin(V4, usual);
	allocate(&c);
	id = allocation_of(&c)->id;
	turn_server_drain(w.server, true);
	WANT("DP-19-3", ask(&d, STUN_METHOD_ALLOCATE, ATTRS(UDP)), 508);
	WANT("DP-19-3 the old one lives", refresh(&c, NO_ATTRS), 0);
	turn_server_drain(w.server, false);
	WANT("DP-19-3 over", ask(&d, STUN_METHOD_ALLOCATE, ATTRS(UDP)), 0);
	turn_server_delete(w.server, turn_server_find(w.server, id));
	assert_null(turn_server_find(w.server, id));
	WANT("deleted", refresh(&c, NO_ATTRS), 437);
	deliver_marked(&c, "\0\1\0\4\x21\x12\xA4\x42............", 20, 64, 0);
	turn_server_visit_requests(w.server, add_up, sums);
	WANT("counted", sums[0], 2);
	WANT("counted", sums[1], 2);
	WANT("counted", sums[2], 1);
	end();
}

/* DP-19-1: no byte of a request may matter to the server's health; ASan looks on. */
static void damaged_requests_do_no_harm(void **state)
{
	struct client c = client(1000, "alice");
	uint8_t good[2048];
	size_t len;

	(void)state;
	begin(DUAL, usual);
	allocate_dual(&c);
	WANT("perm", permit(&c, P1), 0);
	WANT("bind", bind_channel(&c, 0x4000, P1), 0);
	memcpy(good, c.request, c.request_len);
	len = c.request_len;
	for (size_t at = 0; at < len; at++) {
		for (int bit = 0; bit < 8; bit++) {
			uint8_t bad[2048];

			memcpy(bad, good, len);
			bad[at] ^= (uint8_t)(1 << bit);
			deliver_marked(&c, bad, len, 64, 0);
		}
		deliver_marked(&c, good, at, 64, 0);
	}
	WANT("alive", refresh(&c, NO_ATTRS), 0);
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(binding),
		cmocka_unit_test(a_fingerprint_is_mirrored),
		cmocka_unit_test(silence),
		cmocka_unit_test(replies_to_strangers_are_limited_and_clients_are_not),
		cmocka_unit_test(allocate_requests),
		cmocka_unit_test(an_address_error_says_which_family_and_why),
		cmocka_unit_test(one_allocation_for_each_5_tuple),
		cmocka_unit_test(other_users_touch_nothing),
		cmocka_unit_test(retransmissions),
		cmocka_unit_test(a_late_duplicate_makes_nothing),
		cmocka_unit_test(quotas),
		cmocka_unit_test(ports_run_out_and_come_back),
		cmocka_unit_test(ports_that_others_hold_are_skipped),
		cmocka_unit_test(reservations),
		cmocka_unit_test(even_ports),
		cmocka_unit_test(refreshing),
		cmocka_unit_test(attributes_behind_the_integrity_do_not_count),
		cmocka_unit_test(a_dual_allocation_has_two_lives),
		cmocka_unit_test(each_family_expires_by_itself),
		cmocka_unit_test(permission_requests),
		cmocka_unit_test(v4_mapped_peers_are_refused),
		cmocka_unit_test(permissions),
		cmocka_unit_test(permissions_last_300_seconds),
		cmocka_unit_test(send_indications),
		cmocka_unit_test(data_from_peers),
		cmocka_unit_test(marks),
		cmocka_unit_test(bind_requests),
		cmocka_unit_test(channels),
		cmocka_unit_test(a_bind_without_room_for_its_permission_changes_nothing),
		cmocka_unit_test(all_4096_channels),
		cmocka_unit_test(channel_data),
		cmocka_unit_test(channels_last_600_seconds),
		cmocka_unit_test(allocations_last_as_long_as_said),
		cmocka_unit_test(nonces_become_stale),
		cmocka_unit_test(relay_to_relay),
		cmocka_unit_test(behind_a_1_to_1_nat),
		cmocka_unit_test(rules_that_change_end_what_they_forbid),
		cmocka_unit_test(icmp_errors),
		cmocka_unit_test(icmp_is_limited_and_changes_nothing),
		cmocka_unit_test(operators),
		cmocka_unit_test(damaged_requests_do_no_harm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
