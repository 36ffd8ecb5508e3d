/* Requests to the TURN server: Binding, Allocate, Refresh, and what the operator may do. Every
 * check carries the conformance or threat row it stands for. */
#include "turn_world.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* Binding, and what is no message for us */

static void binding(void **state)
{
	struct client c = client(1000, "alice");
	struct tp_addr mapped;

	(void)state;
	world_begin(V4, usual);
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
	world_end();
}

static void a_fingerprint_is_mirrored(void **state)
{
	struct client c = client(1000, "alice");
	struct stun_writer writer;

	(void)state;
	world_begin(V4, usual);
	start(&c, &writer, STUN_REQUEST, STUN_METHOD_BINDING, NO_ATTRS);
	stun_put_fingerprint(&writer);
	c.request_len = stun_finish(&writer);
	WANT("STUN-12-7", deliver_request(&c, false), 0);
	assert_true(c.answer.has_fingerprint);
	world_end();
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
	world_begin(V4, usual);
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
	world_end();
}

static void replies_to_strangers_are_limited_and_clients_are_not(void **state)
{
	struct client known = client(1, "alice"), stranger = client(2, "bob");
	struct turn_settings settings = usual;
	size_t answered = 0;

	(void)state;
	settings.unauthenticated_replies_per_source = 10;
	world_begin(V4, settings);
	allocate(&known);
	for (int i = 0; i < 1000; i++)
		answered += ask_bare(&stranger, STUN_METHOD_ALLOCATE, NO_ATTRS) == 401;
	assert_in_range(answered, 1, 20); /* L02 */
	learn_nonce(&stranger);
	WANT("R12 credentials in hand", ask_once(&stranger, STUN_METHOD_ALLOCATE, ATTRS(UDP)), 0);
	WANT("R12 then deleted", refresh(&stranger, DELETE), 0);
	WANT("STUN-16.1.2-2", ask_bare(&stranger, STUN_METHOD_BINDING, NO_ATTRS), NONE);
	for (int i = 0; i < 100; i++)
		WANT("authenticated", refresh(&known, NO_ATTRS), 0);
	WANT("a client's keepalive", ask_bare(&known, STUN_METHOD_BINDING, NO_ATTRS), 0);
	world_end();
}

/* Allocate: one request each */

#define TOKEN BYTES(RESERVATION_TOKEN, "12345678")

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

		world_begin(row->families, usual);
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
		world_end();
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
		world_begin(rows[i].families, settings);
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
		world_end();
	}
}

static void one_allocation_for_each_5_tuple(void **state)
{
	struct client c = client(1000, "alice"), d = client(1001, "alice");
	struct client e = client(1000, "alice");
	struct tp_addr address;
	struct allocation *a;

	(void)state;
	world_begin(V4, usual);
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
	world_end();
}

static void other_users_touch_nothing(void **state) /* N12 */
{
	struct client owner = client(1000, "alice"), thief = client(1000, "bob");

	(void)state;
	world_begin(V4, usual);
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
	world_end();
}

/* Kills the server; the next one has nothing but what a note has of the allocation on c's 5-tuple.
 */
static void restart_with(const struct client *c, uint64_t lives_s)
{
	const struct allocation *a = allocation_of(c);
	struct alloc_restored from = {
		.id = a->id, .tuple = a->tuple, .owner = a->owner, .name = "al", .name_len = 2};
	struct turn_kept_relay relays[ALLOC_RELAYS] = {
		{a->relays[ALLOC_RELAY_V4]->address, a->relays[ALLOC_RELAY_V4]->expires_ns}};
	struct turn_kept_grant grant = {
		.allocation = a->id,
		.relay = relays[0].address,
		.peer = addr(P1),
		.expires_ns = w.now.mono_ns + lives_s * TP_NS_PER_S,
		.client = a->tuple.client,
		.server = a->tuple.server,
	};

	world_end();
	world_begin(V4, usual);
	assert_int_equal(turn_server_restore(w.server, &from, relays, w.now.mono_ns), 0);
	assert_int_equal(turn_server_restore(w.server, &from, relays, w.now.mono_ns), -EEXIST);
	assert_int_equal(turn_server_restore_permission(w.server, &grant, w.now.mono_ns), 0);
	grant.allocation++;
	assert_int_equal(turn_server_restore_permission(w.server, &grant, w.now.mono_ns), -ENOENT);
	grant.allocation--;
	grant.channel = 0x4000;
	assert_int_equal(turn_server_restore_channel(w.server, &grant, w.now.mono_ns), 0);
	grant.peer = addr("8.8.9.1:1"); /* not by this policy */
	grant.channel = 0x4001;
	assert_int_equal(turn_server_restore_channel(w.server, &grant, w.now.mono_ns), -EACCES);
	grant.expires_ns = w.now.mono_ns;
	assert_int_equal(turn_server_restore_channel(w.server, &grant, w.now.mono_ns), -ETIME);
	assert_int_equal(w.book.permissions, 1);
	assert_int_equal(w.book.channels, 1);
}

/* Of an allocation that is restored nothing but a hash says whose it is. */
static void a_restored_allocation_is_its_owners(void **state) /* N12 */
{
	struct client owner = client(1000, "alice"), thief = client(1000, "bob");

	(void)state;
	world_begin(V4, usual);
	allocate(&owner);
	restart_with(&owner, 100);
	WANT("data needs no credentials", send_to(&owner, P1), true);
	WANT("N12 Refresh", refresh(&thief, DELETE), 441);
	WANT("N12 CreatePermission", permit(&thief, P1), 441);
	WANT("437", ask(&thief, STUN_METHOD_ALLOCATE, ATTRS(UDP)), 437);
	WANT("437", ask(&owner, STUN_METHOD_ALLOCATE, ATTRS(UDP)), 437);
	assert_int_equal(allocation_of(&owner)->identity->key_len, 0);
	assert_string_equal(allocation_of(&owner)->identity->username, "al");
	WANT("the owner", refresh(&owner, NO_ATTRS), 0);
	assert_string_equal(allocation_of(&owner)->identity->username, "alice");
	assert_int_equal(w.book.extended, 1);
	WANT("N12 Refresh", refresh(&thief, DELETE), 441);
	WANT("the same channel", bind_channel(&owner, 0x4000, P1), 0);
	WANT("another peer", bind_channel(&owner, 0x4000, "8.8.8.8:1"), 400);
	WANT("the end", refresh(&owner, DELETE), 0);
	assert_int_equal(turn_server_count(w.server), 0);
	world_end();
}

/* It ends when it would have ended, with nobody having asked. */
static void a_restored_allocation_ends(void **state)
{
	struct client owner = client(1000, "alice");

	(void)state;
	world_begin(V4, usual);
	allocate(&owner);
	restart_with(&owner, 100);
	pass(99);
	assert_int_equal(w.book.channels, 1);
	pass(2);
	assert_int_equal(w.book.channels, 0);
	assert_int_equal(w.book.permissions, 0);
	pass(500);
	assert_int_equal(turn_server_count(w.server), 0);
	world_end();
}

static void retransmissions(void **state)
{
	struct client c = client(1000, "alice");
	struct tp_addr address, repeated;
	struct stun_attribute token;
	uint8_t value[8];

	(void)state;
	world_begin(DUAL, usual);
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
	world_end();
}

static void a_late_duplicate_makes_nothing(void **state) /* TURN-7.2-34 */
{
	struct client c = client(1000, "alice"), deleting;
	uint8_t made[2048];
	size_t made_len;

	(void)state;
	world_begin(V4, usual);
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
	world_end();
}

static void quotas(void **state)
{
	struct client a[3], b = client(2000, "bob");
	struct turn_settings settings = usual;

	(void)state;
	settings.allocations_per_user = 2;
	world_begin(V4, settings);
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
	world_end();
}

static void ports_run_out_and_come_back(void **state)
{
	struct turn_settings settings = usual;
	struct client c[5];

	(void)state;
	settings.port_max = settings.port_min + 3;
	world_begin(V4, settings);
	for (uint16_t i = 0; i < 5; i++)
		c[i] = client((uint16_t)(1000 + i), "alice");
	for (int i = 0; i < 4; i++)
		allocate(&c[i]);
	WANT("TURN-7.2-17", ask(&c[4], STUN_METHOD_ALLOCATE, ATTRS(UDP)), 508);
	WANT("delete", refresh(&c[0], DELETE), 0);
	WANT("TURN-7.2-17 one freed", ask(&c[4], STUN_METHOD_ALLOCATE, ATTRS(UDP)), 0);
	world_end();
}

static void ports_that_others_hold_are_skipped(void **state)
{
	struct client c = client(1000, "alice");

	(void)state;
	world_begin(V4, usual);
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
	world_end();
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

		world_begin(V4, usual);
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
		world_end();
	}
}

static void even_ports(void **state)
{
	struct turn_settings settings = usual;
	struct client c = client(1000, "alice");

	(void)state;
	settings.port_max = settings.port_min + 19;
	world_begin(V4, settings);
	for (int i = 0; i < 30; i++) {
		WANT("R05, TURN-7.2-26", ask(&c, STUN_METHOD_ALLOCATE, ATTRS(UDP, EVEN("\x7F"))),
			0);
		assert_int_equal(relayed(&c, TP_IPV4).port % 2, 0);
		assert_null(stun_find(&c.answer, STUN_ATTR_RESERVATION_TOKEN).value);
		WANT("delete", refresh(&c, DELETE), 0);
	}
	world_end();
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
	world_begin(V4, usual);
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
	world_end();
}

static void attributes_behind_the_integrity_do_not_count(void **state) /* N06 */
{
	struct client c = client(1000, "alice");

	(void)state;
	world_begin(V4, usual);
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
	world_end();
}

static void a_dual_allocation_has_two_lives(void **state)
{
	struct client c = client(1000, "alice");

	(void)state;
	world_begin(DUAL, usual);
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
	world_end();
}

static void each_family_expires_by_itself(void **state)
{
	struct client c = client(1000, "alice");

	(void)state;
	world_begin(DUAL, usual);
	allocate_dual(&c);
	WANT("longer v4", refresh(&c, ATTRS(LIFETIME("\0\0\7\x08"), RAF("\1\0\0\0"))), 0);
	pass(601);
	assert_int_equal(w.book.relays, 1);
	WANT("TURN-8.2-3 [slow]", refresh(&c, ATTRS(RAF("\2\0\0\0"))), 443);
	WANT("v4 lives", refresh(&c, ATTRS(RAF("\1\0\0\0"))), 0);
	world_end();
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
	world_begin(V4, usual);
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
	world_end();
}

/* DP-19-1: no byte of a request may matter to the server's health; ASan looks on. */
static void damaged_requests_do_no_harm(void **state)
{
	struct client c = client(1000, "alice");
	uint8_t good[2048];
	size_t len;

	(void)state;
	world_begin(DUAL, usual);
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
	world_end();
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
		cmocka_unit_test(a_restored_allocation_is_its_owners),
		cmocka_unit_test(a_restored_allocation_ends),
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
		cmocka_unit_test(operators),
		cmocka_unit_test(damaged_requests_do_no_harm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
