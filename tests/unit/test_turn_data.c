/* What the TURN server relays, and to whom: permissions, indications, channels, own relays, ICMP.
 * Every check carries the conformance or threat row it stands for. */
#include "turn_world.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

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

		world_begin(permission_rows[i].families, usual);
		if (permission_rows[i].families == DUAL)
			allocate_dual(&c);
		else
			allocate(&c);
		WANT(permission_rows[i].row,
			ask(&c, STUN_METHOD_CREATE_PERMISSION, permission_rows[i].attrs),
			permission_rows[i].want);
		if (permission_rows[i].want != 0)
			WANT(permission_rows[i].row, w.book.permissions, 0);
		world_end();
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

		world_begin(i < 3 ? DUAL : V4, usual);
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
		world_end();
	}
}

static void permissions(void **state)
{
	struct client c = client(1000, "alice"), d = client(1001, "alice");
	char peer[32];

	(void)state;
	world_begin(V4, usual);
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
	for (int i = 0; i < 8; i++) {
		snprintf(peer, sizeof(peer), "8.8.7.%d:5", i);
		WANT("fill", permit(&d, peer), 0);
	}
	WANT("TURN-10.2-9 all or none",
		ask(&d, STUN_METHOD_CREATE_PERMISSION, ATTRS(PEER(P2), PEER("8.8.6.1:1"))), 508);
	WANT("TURN-10.2-9 all or none", FROM_PEER(&d, P2), 0);
	WANT("a repeated address takes one place",
		ask(&d, STUN_METHOD_CREATE_PERMISSION, ATTRS(PEER(P2), PEER(P2))), 0);
	WANT("delete", refresh(&c, DELETE), 0);
	allocate(&c);
	WANT("TURN-9-5, TURN-8.2-8", FROM_PEER(&c, P1), 0);
	world_end();
}

static void permissions_last_300_seconds(void **state)
{
	struct client c = client(1000, "alice");

	(void)state;
	world_begin(V4, usual);
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
	world_end();
}

/* Send and Data */

static void send_indications(void **state)
{
	struct client c = client(1000, "alice"), stranger = client(1001, "alice");
	struct tp_addr relay;

	(void)state;
	world_begin(V4, usual);
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
	world_end();
}

static void data_from_peers(void **state)
{
	static const char text[] = "0123456789abcdef";
	struct client c = client(1000, "alice");
	uint8_t before[12];
	char big[1200];

	(void)state;
	world_begin(V4, usual);
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
	world_end();
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
	world_begin(V4, usual);
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
	world_end();
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
		world_begin(V4, settings);
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
		world_end();
	}
}

static void channels(void **state)
{
	struct client c = client(1000, "alice"), d = client(1001, "alice");
	char peer[32];

	(void)state;
	world_begin(V4, usual);
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
	world_end();
}

static void a_bind_without_room_for_its_permission_changes_nothing(void **state)
{
	struct turn_settings settings = usual;
	struct client c = client(1000, "alice");

	(void)state;
	settings.permissions_per_allocation = 1;
	world_begin(V4, settings);
	allocate(&c);
	WANT("perm", permit(&c, P1), 0);
	WANT("R15", bind_channel(&c, 0x4000, P2), 508);
	WANT("R15", w.book.channels, 0);
	WANT("R15", bind_channel(&c, 0x4000, P1), 0);
	world_end();
}

static void all_4096_channels(void **state) /* TURN-12-6 */
{
	struct turn_settings settings = usual;
	struct client c = client(1000, "alice");
	char peer[32];

	(void)state;
	settings.channels_per_allocation = 4096;
	world_begin(V4, settings);
	allocate(&c);
	for (int i = 0; i < 4096; i++) {
		snprintf(peer, sizeof(peer), "8.8.8.8:%d", 1 + i);
		WANT("TURN-12-6", bind_channel(&c, (uint16_t)(0x4FFF - i), peer), 0);
	}
	WANT("TURN-12-6", FROM_PEER(&c, "8.8.8.8:4096"), 0x4000);
	world_end();
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
	world_begin(V4, usual);
	allocate(&c);
	WANT("bind", bind_channel(&c, 0x4000, P1), 0);
	for (size_t i = 0; i < sizeof(channel_data_rows) / sizeof(channel_data_rows[0]); i++) {
		bool relayed_it =
			send_channel(&c, channel_data_rows[i].bytes, channel_data_rows[i].len);

		WANT(channel_data_rows[i].row, relayed_it ? (int)w.book.peer_len : -1,
			channel_data_rows[i].relayed);
	}
	WANT("TURN-5-17, L06", send_channel(&stranger, "\x40\0\0\1a", 5), false);
	world_end();
}

static void channels_last_600_seconds(void **state)
{
	struct client c = client(1000, "alice");

	(void)state;
	world_begin(V4, usual);
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
	pass(400);
	WANT("TURN-12-3 [slow] refresh", bind_channel(&c, 0x4000, P2), 0);
	pass(599);
	WANT("TURN-12-3 [slow] 599 s after it", send_channel(&c, "\x40\0\0\2hi", 6), true);
	world_end();
}

static void allocations_last_as_long_as_said(void **state)
{
	struct client c = client(1000, "alice");

	(void)state;
	world_begin(V4, usual);
	allocate(&c);
	pass(400);
	WANT("bind", bind_channel(&c, 0x4000, P1), 0);
	pass(199);
	WANT("[slow] 599 s", FROM_PEER(&c, P1), 0x4000);
	w.now.mono_ns += TP_NS_PER_S;
	WANT("TURN-6-4 [slow] due, not swept", FROM_PEER(&c, P1), 0);
	WANT("TURN-6-4 [slow]", send_channel(&c, "\x40\0\0\2hi", 6), false);
	turn_server_advance(w.server, w.now.mono_ns);
	WANT("TURN-7.2-21 [slow]", turn_server_count(w.server), 0);
	WANT("TURN-7.2-21 [slow]", w.book.relays + w.book.permissions + w.book.channels, 0);
	WANT("TURN-7.2-21 [slow]", refresh(&c, NO_ATTRS), 437);
	assert_true(turn_server_next(w.server) == UINT64_MAX);
	allocate(&c);
	w.now.mono_ns += 600 * TP_NS_PER_S;
	WANT("a new one where one is due, not swept", ask(&c, STUN_METHOD_ALLOCATE, ATTRS(UDP)), 0);
	WANT("only one", turn_server_count(w.server), 1);
	world_end();
}

static void nonces_become_stale(void **state)
{
	struct client c = client(1000, "alice"), moved;

	(void)state;
	world_begin(V4, usual);
	WANT("long", ask(&c, STUN_METHOD_ALLOCATE, ATTRS(UDP, LIFETIME("\0\0\x0E\x10"))), 0);
	moved = c;
	moved.tuple.client.port = 1001;
	WANT("N03 from another port", ask_once(&moved, STUN_METHOD_REFRESH, NO_ATTRS), 438);
	pass(601);
	WANT("N20, N03 [slow]", ask_once(&c, STUN_METHOD_REFRESH, NO_ATTRS), 438);
	assert_non_null(stun_find(&c.answer, STUN_ATTR_NONCE).value);
	WANT("438 changes nothing", turn_server_count(w.server), 1);
	WANT("with the fresh one", refresh(&c, NO_ATTRS), 0);
	world_end();
}

/* Relays of this server as peers */

static void relay_to_relay(void **state)
{
	struct client a = client(1000, "alice"), b = client(1001, "bob");
	char of_a[TP_ADDR_TEXT], of_b[TP_ADDR_TEXT];
	struct tp_addr address_a, address_b;

	(void)state;
	world_begin(V4, usual);
	allocate(&a);
	address_a = relayed(&a, TP_IPV4);
	tp_addr_text(&address_a, of_a);
	allocate(&b);
	address_b = relayed(&b, TP_IPV4);
	tp_addr_text(&address_b, of_b);
	assert_true(alloc_is_hairpin(relay_of(&a, &address_b), &address_b));
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
	WANT("P13 nor on the channel", send_channel(&a, "\x40\0\0\x01x", 5), false);
	WANT("P13 no live relay any more", bind_channel(&a, 0x4000, of_b), 403);
	world_end();
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
	world_begin(NAT, usual);
	allocate(&a);
	told_a = relayed(&a, TP_IPV4);
	allocate(&b);
	told_b = relayed(&b, TP_IPV4);
	assert_int_equal(told_a.ip[13], 2); /* 185.2.2.2 */
	inner_a = allocation_of(&a)->relays[ALLOC_RELAY_V4]->address;
	assert_int_equal(inner_a.ip[13], 1);
	assert_int_equal(inner_a.port, told_a.port);
	/* It has another name: not for the data plane to relay. */
	assert_false(alloc_is_hairpin(relay_of(&b, &inner_a), &inner_a));
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
	world_end();
}

static void rules_that_change_end_what_they_forbid(void **state) /* P22 */
{
	struct client c = client(1000, "alice");
	char error[128];

	(void)state;
	world_begin(V4, usual);
	allocate(&c);
	WANT("bind", bind_channel(&c, 0x4000, P1), 0);
	WANT("perm", permit(&c, P2), 0);
	assert_int_equal(policy_add_rule(w.policy, false, "8.8.8.8/32", error), 0);
	turn_server_recheck_policy(w.server);
	WANT("P22", w.book.channels, 0);
	WANT("P22", w.book.permissions, 1);
	WANT("P22", send_channel(&c, "\x40\0\0\2hi", 6), false);
	world_end();
}

/* The bandwidth limit */

static bool peer_sends(struct client *c, const char *peer, size_t len)
{
	uint8_t bytes[64 + TURN_PACKET_ROOM] = {0};
	struct turn_packet packet = {bytes, len, 64, 0};
	struct tp_addr from = addr(peer);
	size_t before = w.book.to_client;

	turn_server_from_peer(w.server, w.now.mono_ns, relay_of(c, &from), &from, &packet);
	return w.book.to_client > before;
}

static void what_is_over_the_limit_ends_here(void **state)
{
	struct client c = client(1000, "alice");
	const struct allocation *a;

	(void)state;
	for (int over = 0; over < 2; over++) {
		world_begin(V4, usual);
		allocate(&c);
		a = allocation_of(&c);
		WANT("bind", bind_channel(&c, 0x4000, P1), 0);
		WANT("permit", permit(&c, P2), 0);
		w.book.over_limit = over;
		/* What nobody granted is not asked about: it must not use up the others' share. */
		send_to(&c, "8.8.8.9:1");
		send_channel(&c, "\x40\1\0\2hi", 6);
		peer_sends(&c, "8.8.8.9:1", 5);
		WANT("asked", w.book.policed, 0);

		WANT("ChannelData", send_channel(&c, "\x40\0\0\2hi", 6), !over);
		WANT("its data, not its header", w.book.policed_len, 2);
		WANT("direction", w.book.policed_direction, TURN_TO_PEER);
		WANT("Send", send_to(&c, P2), !over);
		WANT("direction", w.book.policed_direction, TURN_TO_PEER);
		WANT("asked", w.book.policed, 2);
		WANT("a channel's peer", peer_sends(&c, P1, 7), !over);
		WANT("its data", w.book.policed_len, 7);
		WANT("direction", w.book.policed_direction, TURN_TO_CLIENT);
		WANT("another peer", peer_sends(&c, P2, 9), !over);
		WANT("its data", w.book.policed_len, 9);
		WANT("asked once each", w.book.policed, 4);
		WANT("counted", a->sent.packets, over ? 0 : 2);
		WANT("counted", a->received.packets, over ? 0 : 2);
		WANT("counted", a->received.bytes, over ? 0 : 16);
		world_end();
	}
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

		world_begin(DUAL, usual);
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
		world_end();
	}
}

static void icmp_is_limited_and_changes_nothing(void **state) /* TURN-11.5-8, F17 */
{
	struct client c = client(1000, "alice");
	struct tp_addr peer = addr(P1);
	size_t before;

	(void)state;
	world_begin(V4, usual);
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
	world_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
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
		cmocka_unit_test(what_is_over_the_limit_ends_here),
		cmocka_unit_test(icmp_errors),
		cmocka_unit_test(icmp_is_limited_and_changes_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
