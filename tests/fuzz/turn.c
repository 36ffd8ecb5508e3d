/*
 * turn/, alloc/ and flows/: the input is what clients, peers, time and the operator do. See
 * turn_world.h for what must hold.
 */
#include "turn_world.h"

#include <errno.h>

#define OPS_MAX 200

static const char *const peers[] = {"8.8.8.8:1000", "8.8.8.8:2000", "8.8.4.4:1000", "8.8.9.1:1000",
	"9.9.9.9:53", "185.1.1.1:50000", "185.1.1.1:50001", "185.2.2.2:50002", "127.0.0.1:80",
	"8.8.8.8:0", "10.0.0.1:80", "[2606:4700::1111]:1000", "[2606:4700::2222]:1000",
	"[2a00:1::1]:50000", "[2a00:1::1]:50001", "[::ffff:8.8.8.8]:1000"};

static struct tp_addr take_peer(struct feed *feed)
{
	uint8_t pick = feed_u8(feed), ip[16] = {0};
	enum tp_family family = pick & 1 ? TP_IPV6 : TP_IPV4;
	struct feed raw;
	struct tp_addr peer;

	if (pick % 32 < COUNT(peers)) {
		MUST(tp_addr_parse(peers[pick % 32], &peer) == 0);
		return peer;
	}
	raw = feed_take(feed, family == TP_IPV4 ? 4 : 16);
	memcpy(ip, raw.bytes, raw.len);
	return tp_addr_make(family, ip, feed_u16(feed));
}

static uint16_t take_channel(struct feed *feed)
{
	uint8_t pick = feed_u8(feed);

	return pick < 240 ? (uint16_t)(0x4000 + pick % 8) : feed_u16(feed);
}

static void put_raw(struct feed *feed, struct stun_writer *w, uint16_t type)
{
	struct feed value = feed_take(feed, feed_u8(feed) % 64);

	stun_put(w, type, value.bytes, value.len);
}

static void put_attribute(
	struct feed *feed, const struct world *world, const struct client *c, struct stun_writer *w)
{
	static const uint32_t lifetimes[] = {0, 1, 60, 600, 777, 3600, 100000, UINT32_MAX};
	static const uint16_t types[] = {STUN_ATTR_EVEN_PORT, STUN_ATTR_REQUESTED_TRANSPORT,
		STUN_ATTR_LIFETIME, STUN_ATTR_CHANNEL_NUMBER, STUN_ATTR_XOR_PEER_ADDRESS,
		STUN_ATTR_DATA, STUN_ATTR_RESERVATION_TOKEN, STUN_ATTR_USERNAME};
	uint8_t pick = feed_u8(feed);
	struct tp_addr peer;

	switch (pick % 16) {
	case 0:
	case 1:
	case 2:
		peer = take_peer(feed);
		stun_put_xor_address(w, STUN_ATTR_XOR_PEER_ADDRESS, &peer);
		break;
	case 3:
	case 4:
		stun_put_u32(w, STUN_ATTR_CHANNEL_NUMBER, (uint32_t)take_channel(feed) << 16);
		break;
	case 5:
		stun_put_u32(w, STUN_ATTR_LIFETIME, lifetimes[pick >> 5]);
		break;
	case 6:
	case 7:
		stun_put_u32(w, STUN_ATTR_REQUESTED_TRANSPORT, UINT32_C(17) << 24);
		break;
	case 8:
		stun_put(w, STUN_ATTR_EVEN_PORT, pick & 16 ? "\x80" : "", 1);
		break;
	case 9:
		stun_put_u32(
			w, STUN_ATTR_REQUESTED_ADDRESS_FAMILY, UINT32_C(1) << (24 + (pick >> 7)));
		break;
	case 10:
		stun_put_u32(w, STUN_ATTR_ADDITIONAL_ADDRESS_FAMILY, UINT32_C(2) << 24);
		break;
	case 11:
		stun_put(w, STUN_ATTR_RESERVATION_TOKEN,
			world->clients[(size_t)(c - world->clients + (pick >> 6)) % CLIENTS].token,
			8);
		break;
	case 12:
		stun_put(w, STUN_ATTR_DONT_FRAGMENT, "", 0);
		break;
	case 13:
		put_raw(feed, w, STUN_ATTR_DATA);
		break;
	case 14:
		put_raw(feed, w, types[pick >> 5]);
		break;
	case 15:
		put_raw(feed, w, feed_u16(feed));
		break;
	}
}

static void start(struct feed *feed, const struct world *world, struct client *c,
	struct stun_writer *w, enum stun_class class, uint16_t method)
{
	uint8_t transaction[STUN_TRANSACTION_LEN] = {(uint8_t)(c - world->clients)};

	c->transactions++;
	memcpy(transaction + 4, &c->transactions, 4);
	stun_begin(w, c->request, sizeof(c->request), class, method, transaction);
	/* So that most Allocates are complete. */
	if (method == STUN_METHOD_ALLOCATE && feed_u8(feed) % 8)
		stun_put_u32(w, STUN_ATTR_REQUESTED_TRANSPORT, UINT32_C(17) << 24);
	for (uint8_t left = feed_u8(feed) % 6; left > 0; left--)
		put_attribute(feed, world, c, w);
}

static void put_credentials(
	const struct world *world, const struct client *c, uint8_t how, struct stun_writer *w)
{
	uint64_t made_ns = world->now.mono_ns - (how == 1 ? 700 * TP_NS_PER_S : 0);
	char nonce[AUTH_NONCE_LEN];

	MUST(auth_nonce_make(REALM, &c->tuple.client, made_ns, nonce));
	stun_put(w, STUN_ATTR_USERNAME, c->user, strlen(c->user));
	stun_put(w, STUN_ATTR_REALM, REALM, strlen(REALM));
	stun_put(w, STUN_ATTR_NONCE, nonce, sizeof(nonce));
	stun_put_integrity(w, how == 2 ? STUN_SHA256 : STUN_SHA1, c->key, sizeof(c->key));
}

static void op_request(struct feed *feed, struct world *world, struct client *c, uint16_t method)
{
	struct stun_writer w;
	uint8_t how;

	start(feed, world, c, &w, STUN_REQUEST, method);
	how = feed_u8(feed) % 16;
	if (how != 3)
		put_credentials(world, c, how, &w);
	if (how & 4)
		stun_put_fingerprint(&w);
	c->request_len = stun_finish(&w);
	world_deliver(world, c, c->request, c->request_len, 64);
}

static void op_again(struct world *world, struct client *c)
{
	world_deliver(world, c, c->request, c->request_len, 64);
}

static void op_send(struct feed *feed, struct world *world, struct client *c)
{
	struct stun_writer w;

	start(feed, world, c, &w, STUN_INDICATION, STUN_METHOD_SEND);
	c->request_len = stun_finish(&w);
	world_deliver(world, c, c->request, c->request_len, feed_u8(feed));
}

static void op_channel_data(struct feed *feed, struct world *world, struct client *c)
{
	uint16_t channel = take_channel(feed);
	struct feed data = feed_take(feed, feed_u8(feed) % 64);
	uint8_t bytes[80] = {(uint8_t)(channel >> 8), (uint8_t)channel, 0, (uint8_t)data.len};
	uint8_t padding = feed_u8(feed);

	memcpy(bytes + 4, data.bytes, data.len);
	bytes[3] = (uint8_t)(bytes[3] + (padding >> 5));
	world_deliver(world, c, bytes, 4 + data.len + padding % 8, 64);
}

static void op_raw(struct feed *feed, struct world *world, struct client *c)
{
	struct feed data = feed_take(feed, feed_u8(feed));

	world_deliver(world, c, data.bytes, data.len, 64);
}

/* A relay of that client, if it has one. */
static struct alloc_relay *relay_of(struct world *world, const struct client *c, uint8_t which)
{
	const struct allocation *a;

	TAILQ_FOREACH(a, turn_server_allocations(world->server), link)
		if (memcmp(&a->tuple, &c->tuple, sizeof(a->tuple)) == 0)
			return a->relays[which % ALLOC_RELAYS];
	return NULL;
}

static void op_peer(struct feed *feed, struct world *world, const struct client *c)
{
	struct alloc_relay *relay = relay_of(world, c, feed_u8(feed));
	struct tp_addr peer = take_peer(feed);
	struct feed data = feed_take(feed, feed_u8(feed) % 64);

	if (relay && relay->address.family == peer.family)
		world_deliver_peer(world, relay, &peer, data, feed_u8(feed));
}

static void op_icmp(struct feed *feed, struct world *world, const struct client *c)
{
	struct alloc_relay *relay = relay_of(world, c, feed_u8(feed));
	struct tp_addr peer = take_peer(feed);
	struct turn_icmp icmp = {feed_u8(feed), feed_u8(feed), feed_u32(feed)};

	if (relay && relay->address.family == peer.family)
		turn_server_icmp(world->server, world->now.mono_ns, relay, &peer, &icmp);
}

static void op_time(struct feed *feed, struct world *world)
{
	static const uint16_t seconds[] = {0, 1, 30, 60, 299, 300, 600, 4000};
	uint64_t next = turn_server_next(world->server);
	uint8_t pick = feed_u8(feed);

	if (pick & 8 && next != UINT64_MAX) {
		MUST(next > world->now.mono_ns || pick & 16);
		world_pass(world, next > world->now.mono_ns ? next - world->now.mono_ns : 0);
	} else {
		world_pass(world, seconds[pick % 8] * TP_NS_PER_S + (pick >> 4));
	}
}

static void op_delete(struct feed *feed, struct world *world)
{
	struct allocation *a = turn_server_find(world->server, feed_u8(feed) % 16);

	if (a)
		turn_server_delete(world->server, a);
}

static void op_policy(struct feed *feed, struct world *world)
{
	static const char *const nets[] = {"8.8.8.0/24", "9.9.9.9", "0.0.0.0/0", "2606:4700::/32",
		"185.1.1.1", "10.0.0.0/8", "8.8.4.4", "2a00:1::/32"};
	uint8_t pick = feed_u8(feed);
	char error[128];

	MUST(policy_add_rule(world->policy, pick & 8, nets[pick % 8], error) == 0);
	turn_server_recheck_policy(world->server);
}

/* The machine gets another address, or another way to everybody. */
static void op_netlink(struct feed *feed, struct world *world)
{
	struct policy_prefix never = {take_peer(feed), 0};
	struct policy_locals locals = {.never = &never, .never_count = 1};

	never.length = (uint8_t)(tp_addr_bytes_len(&never.ip) * 8);
	never.ip.port = 0;
	if (feed_u8(feed) & 1) {
		MUST(policy_set_locals(world->policy, &locals) == 0);
		turn_server_recheck_policy(world->server);
	}
	world_change_routes(feed_u8(feed) % 4);
}

static void op_trouble(struct feed *feed, struct world *world)
{
	static const int errors[] = {-EADDRINUSE, -EMFILE, -ENOMEM, -EACCES};
	uint8_t pick = feed_u8(feed);

	world->fail_opens = pick >> 4;
	world->fail_with = errors[pick % 4];
	turn_server_drain(world->server, pick & 4 && pick & 8);
}

static void run_op(struct feed *feed, struct world *world)
{
	static const uint16_t methods[] = {STUN_METHOD_ALLOCATE, STUN_METHOD_CREATE_PERMISSION,
		STUN_METHOD_CHANNEL_BIND, STUN_METHOD_REFRESH, STUN_METHOD_ALLOCATE,
		STUN_METHOD_CHANNEL_BIND, STUN_METHOD_BINDING, 0xabc};
	uint8_t op = feed_u8(feed);
	struct client *c = &world->clients[(op >> 5) % CLIENTS];

	switch (op % 32) {
	case 8:
	case 9:
		op_channel_data(feed, world, c);
		break;
	case 10:
	case 11:
		op_send(feed, world, c);
		break;
	case 12:
	case 13:
		op_peer(feed, world, c);
		break;
	case 14:
		op_icmp(feed, world, c);
		break;
	case 15:
	case 16:
		op_time(feed, world);
		break;
	case 17:
		op_delete(feed, world);
		break;
	case 18:
		op_policy(feed, world);
		break;
	case 19:
		op_trouble(feed, world);
		break;
	case 20:
	case 21:
		op_again(world, c);
		break;
	case 23:
		op_netlink(feed, world);
		break;
	case 22:
		op_raw(feed, world, c);
		break;
	default:
		op_request(feed, world, c, methods[op % 8]);
		break;
	}
}

/* The audit looks at two million ports: for some inputs only, but always for the same. */
static bool is_audited(const uint8_t *data, size_t size)
{
	uint32_t hash = 2166136261;

	for (size_t i = 0; i < size; i++)
		hash = (hash ^ data[i]) * 16777619;
	return (hash >> 16) % 256 == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct world world;
	struct feed feed = {data, size};

	world_begin(&world, feed_u8(&feed));
	for (size_t ops = 0; feed.len > 0 && ops < OPS_MAX; ops++) {
		run_op(&feed, &world);
		world_check(&world);
	}
	if (is_audited(data, size))
		world_audit(&world);
	world_end(&world);
	return 0;
}
