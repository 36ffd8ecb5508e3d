/* See turn_world.h. One thread; time is made up. */
#include "turn_world.h"

#include "base/log.h"

#include <openssl/evp.h>

#define ANSWER_MAX 548

/* Stands in for route/: everybody who follows, and a next hop that the remote's last byte tells. */
static LIST_HEAD(, route_user) followers = LIST_HEAD_INITIALIZER(followers);

/* Nobody looks behind a destination's pointer: where it leads is the next hop. */
static char hops[65536];

static void set_hop(struct route_user *user, uint16_t next_hop)
{
	user->destination = (struct route_destination *)&hops[next_hop];
}

uint16_t route_follow(struct route *route, struct route_user *user, const struct tp_addr *remote,
	const struct tp_addr *local)
{
	MUST(remote->family == local->family && !user->destination);
	set_hop(user, remote->ip[15]);
	LIST_INSERT_HEAD(&followers, user, link);
	return remote->ip[15];
}

void route_unfollow(struct route *route, struct route_user *user)
{
	if (user->destination)
		LIST_REMOVE(user, link);
	user->destination = NULL;
}

uint16_t route_next_hop(const struct route_user *user)
{
	if (!user->destination)
		return TP_NO_NEXT_HOP_YET;
	return (uint16_t)((const char *)user->destination - hops);
}

void world_change_routes(uint16_t next_hop)
{
	struct route_user *user;

	LIST_FOREACH(user, &followers, link) {
		set_hop(user, next_hop);
		user->changed(user, next_hop);
	}
}

static size_t place_of(const struct world *w, const struct tp_addr *address)
{
	for (size_t i = 0; i < w->open_count; i++)
		if (tp_addr_equal(&w->open[i], address))
			return i;
	return SIZE_MAX;
}

static void check_answer(struct world *w, const struct stun_message *m)
{
	struct stun_attribute token = stun_find(m, STUN_ATTR_RESERVATION_TOKEN);

	MUST(m->class == STUN_SUCCESS || m->class == STUN_ERROR);
	MUST(m->len <= ANSWER_MAX && m->unknown_count == 0);
	MUST(w->asking && w->answers++ == 0);
	if (m->integrity_at)
		MUST(stun_check_integrity(m, w->asking->key, sizeof(w->asking->key)));
	if (token.value) {
		MUST(token.len == 8);
		memcpy(((struct client *)w->asking)->token, token.value, 8);
	}
}

static void send_client(void *context, const struct alloc_tuple *to, const void *head,
	size_t head_len, const void *data, size_t data_len, struct turn_marks marks)
{
	struct world *w = context;
	struct stun_message m;
	uint8_t *all = malloc(head_len + data_len);

	MUST(all && head_len > 0 && head_len <= TURN_HEAD_MAX);
	memcpy(all, head, head_len);
	if (data_len > 0)
		memcpy(all + head_len, data, data_len);
	if (*all >= 0x40) {
		MUST(*all <= 0x7f && head_len == 4);
		MUST((size_t)(all[2] << 8 | all[3]) == data_len);
	} else {
		MUST(stun_parse(all, head_len + data_len, &m) == 0);
		if (m.class == STUN_INDICATION)
			MUST(m.method == STUN_METHOD_DATA);
		else
			check_answer(w, &m);
	}
	if (w->asking)
		MUST(memcmp(to, &w->asking->tuple, sizeof(*to)) == 0 || *all >= 0x40 ||
			m.class == STUN_INDICATION);
	free(all);
}

static void send_peer(void *context, struct alloc_relay *from, const struct tp_addr *peer,
	const void *data, size_t data_len, struct turn_marks marks)
{
	struct world *w = context;

	MUST(from->open && place_of(w, &from->address) != SIZE_MAX);
	MUST(peer->family == from->address.family && peer->port != 0);
	MUST(!tp_addr_equal(peer, &from->address));
	/* A channel outlives its permission towards the peer (RFC 8656, 12.6 and 12.7). */
	MUST(alloc_find_permission(from, peer, w->now.mono_ns) ||
		alloc_find_channel_to(from, peer, w->now.mono_ns));
	MUST(policy_check(w->policy, peer, NULL) != POLICY_DENY);
	MUST(data_len <= UINT16_MAX);
	fuzz_touch(data, data_len);
}

static int open_relay(void *context, struct alloc_relay *relay)
{
	struct world *w = context;
	int err;

	MUST(relay->address.port >= w->settings.port_min);
	MUST(relay->address.port <= w->settings.port_max);
	MUST(place_of(w, &relay->address) == SIZE_MAX);
	if (w->fail_opens > 0) {
		w->fail_opens--;
		return w->fail_with;
	}
	err = flows_open_relay(w->flows, relay);
	if (err)
		return err;
	MUST(w->open_count < RELAYS_MAX);
	w->open[w->open_count++] = relay->address;
	return 0;
}

static void extend_relay(void *context, struct alloc_relay *relay)
{
	struct world *w = context;

	MUST(place_of(w, &relay->address) != SIZE_MAX);
	flows_extend_relay(w->flows, relay);
}

static void close_relay(void *context, struct alloc_relay *relay)
{
	struct world *w = context;
	size_t place = place_of(w, &relay->address);

	MUST(place != SIZE_MAX);
	flows_close_relay(w->flows, relay);
	w->open[place] = w->open[--w->open_count];
}

static void grant_permission(void *context, struct alloc_permission *permission)
{
	struct world *w = context;

	MUST(place_of(w, &permission->relay->address) != SIZE_MAX);
	MUST(permission->expires_ns > w->now.mono_ns);
	flows_grant_permission(w->flows, permission);
}

static void revoke_permission(void *context, struct alloc_permission *permission)
{
	flows_revoke_permission(((struct world *)context)->flows, permission);
}

static void grant_channel(void *context, struct alloc_channel *channel)
{
	struct world *w = context;

	MUST(place_of(w, &channel->relay->address) != SIZE_MAX);
	/* `flows` tells a grant from a refresh. */
	MUST(channel->flows[0] ||
		alloc_find_permission(channel->relay, &channel->peer, w->now.mono_ns));
	MUST(channel->number >= 0x4000 && channel->number <= 0x7fff);
	flows_grant_channel(w->flows, channel);
}

static void revoke_channel(void *context, struct alloc_channel *channel)
{
	flows_revoke_channel(((struct world *)context)->flows, channel);
}

static struct tp_addr addr(const char *text)
{
	struct tp_addr a;

	MUST(tp_addr_parse(text, &a) == 0);
	return a;
}

static void make_clients(struct world *w)
{
	static const char *const passwords[] = {"secret-a", "secret-b"};
	static const char *const names[] = {"alice", "bob"};
	char text[64];

	for (size_t i = 0; i < CLIENTS; i++) {
		struct client *c = &w->clients[i];
		bool v6 = i == CLIENTS - 1;

		c->user = names[i % 2];
		c->tuple.transport = ALLOC_UDP;
		c->tuple.client = addr(v6 ? "[2a00:9::1]:4000" : "185.9.9.9:4000");
		c->tuple.client.port = (uint16_t)(c->tuple.client.port + i);
		c->tuple.server = addr(v6 ? "[2a00:1::1]:3478" : "185.1.1.1:3478");
		snprintf(text, sizeof(text), "%s:" REALM ":%s", c->user, passwords[i % 2]);
		MUST(EVP_Digest(text, strlen(text), c->key, NULL, EVP_md5(), NULL) == 1);
	}
}

static void make_table(struct world *w, uint32_t capacity)
{
	struct tp_shape shape;

	MUST(tp_shape_init(capacity, 1, 64, &shape) == 0);
	MUST(tp_memory_create_plain(&shape, &w->memory) == 0);
	MUST(tp_table_create(&w->memory, 0x4fff, &w->table) == 0);
	MUST(flows_new(w->table, NULL, &w->flows) == 0);
	MUST(flows_own_listener(w->flows, &w->clients[0].tuple.server) == 0);
	MUST(flows_own_listener(w->flows, &w->clients[CLIENTS - 1].tuple.server) == 0);
}

static struct auth *the_auth(void)
{
	static const struct auth_user users[] = {{"alice", "secret-a"}, {"bob", "secret-b"}};
	static const struct auth_settings settings = {.realm = REALM,
		.users = users,
		.users_count = COUNT(users),
		.nonce_lifetime_ns = 600 * TP_NS_PER_S};
	static struct auth *auth;

	if (!auth)
		MUST(auth_new(&settings, &auth) == 0);
	return auth;
}

static void choose_settings(struct world *w, uint8_t choice)
{
	w->settings = (struct turn_settings){
		.relays = w->relays,
		.port_min = 50000,
		.port_max = choice & 1 ? 50003 : 50031,
		.allocations_max = choice & 2 ? 3 : 0,
		.allocations_per_user = choice & 4 ? 2 : 0,
		.permissions_per_allocation = choice & 8 ? 2 : 6,
		.channels_per_allocation = choice & 8 ? 2 : 5,
		.unauthenticated_replies_per_source = choice & 16 ? 3 : 0,
		.lifetime_default_ns = 600 * TP_NS_PER_S,
		.lifetime_max_ns = 3600 * TP_NS_PER_S,
		.permission_lifetime_ns = 300 * TP_NS_PER_S,
		.channel_lifetime_ns = 600 * TP_NS_PER_S,
		.rfc5766_channels = choice & 32,
	};
	w->relays[w->settings.relays_count].address = addr("185.1.1.1:0");
	if (choice & 64)
		w->relays[w->settings.relays_count].external = addr("185.2.2.2:0");
	w->settings.relays_count++;
	if (!(choice & 128))
		w->relays[w->settings.relays_count++].address = addr("[2a00:1::1]:0");
}

static bool police(void *context, const struct allocation *allocation,
	enum turn_direction direction, uint64_t now_ns, size_t len)
{
	MUST(len <= UINT16_MAX);
	return flows_police(((struct world *)context)->flows, allocation,
		direction == TURN_TO_PEER ? TP_CLIENT_TO_PEER : TP_PEER_TO_CLIENT, now_ns,
		(uint32_t)len);
}

void world_begin(struct world *w, uint8_t choice)
{
	const struct turn_effects effects = {w, send_client, send_peer, open_relay, extend_relay,
		close_relay, grant_permission, revoke_permission, grant_channel, revoke_channel,
		police};
	char error[128];

	memset(w, 0, sizeof(*w));
	tp_log_set_level(TP_LOG_ERROR);
	/* The flows' sweep compares with the real clock: not behind it. */
	w->now = (struct auth_now){tp_clock_now_ns() + TP_NS_PER_S, 1700000000};
	choose_settings(w, choice);
	make_clients(w);
	make_table(w, choice & 16 ? 1 : 128);
	if (choice % 3 == 0)
		flows_set_bandwidth(w->flows, 64000);
	w->auth = the_auth();
	MUST(policy_new(&w->policy) == 0);
	MUST(policy_add_rule(w->policy, false, "8.8.9.0/24", error) == 0);
	MUST(turn_server_new(
		     &w->settings, w->auth, w->policy, &effects, w->now.mono_ns, &w->server) == 0);
}

void world_end(struct world *w)
{
	w->asking = NULL;
	turn_server_free(w->server);
	policy_free(w->policy);
	MUST(w->open_count == 0 && LIST_EMPTY(&followers));
	MUST(tp_table_live(w->table) == 0 && tp_table_unplaced(w->table) == 0);
	flows_free(w->flows);
	tp_table_destroy(w->table);
	tp_memory_destroy_plain(&w->memory);
}

static size_t check_relay(const struct world *w, const struct alloc_relay *relay)
{
	struct alloc_permission *p;
	size_t permissions = 0;

	MUST(relay->open && place_of(w, &relay->address) != SIZE_MAX);
	for (p = alloc_next_permission(relay, NULL); p; p = alloc_next_permission(relay, p)) {
		MUST(p->relay == relay && p->peer.port == 0);
		permissions++;
	}
	MUST(permissions == relay->permissions.count);
	return permissions;
}

static void check_allocation(const struct world *w, const struct allocation *a)
{
	struct alloc_channel *c;
	size_t permissions = 0, channels = 0;

	struct alloc_traffic sent = {0}, received = {0};

	MUST(alloc_has_relays(a));
	flows_add_traffic(w->flows, a, &sent, &received);
	MUST(sent.packets == 0 && received.packets == 0);
	for (size_t i = 0; i < ALLOC_RELAYS; i++) {
		const struct alloc_relay *relay = a->relays[i];

		if (!relay)
			continue;
		permissions += check_relay(w, relay);
		for (c = alloc_next_channel(relay, NULL); c; c = alloc_next_channel(relay, c)) {
			MUST(alloc_find_channel(a, c->number, 0) == c);
			channels++;
		}
	}
	MUST(channels == a->channels.count);
	MUST(permissions <= w->settings.permissions_per_allocation);
	MUST(channels <= w->settings.channels_per_allocation);
}

void world_check(struct world *w)
{
	size_t count = 0, relays = 0, of_user[2] = {0};
	struct allocation *a;

	TAILQ_FOREACH(a, turn_server_allocations(w->server), link) {
		check_allocation(w, a);
		count++;
		of_user[a->identity->username_len == 3]++;
		for (size_t i = 0; i < ALLOC_RELAYS; i++)
			relays += a->relays[i] != NULL;
	}
	MUST(count == turn_server_count(w->server) && relays == w->open_count);
	MUST(!w->settings.allocations_max || count <= w->settings.allocations_max);
	for (size_t i = 0; i < COUNT(of_user); i++)
		MUST(!w->settings.allocations_per_user ||
			of_user[i] <= w->settings.allocations_per_user);
}

static void print_difference(void *arg, const char *text)
{
	fprintf(stderr, "audit: %s\n", text);
}

void world_audit(struct world *w)
{
	MUST(flows_audit(w->flows, turn_server_allocations(w->server), print_difference, NULL) ==
		0);
}

void world_pass(struct world *w, uint64_t ns)
{
	w->now.mono_ns += ns;
	w->now.unix_s += ns / TP_NS_PER_S;
	turn_server_advance(w->server, w->now.mono_ns);
	flows_sweep(w->flows, w->now.mono_ns);
}

void world_deliver(struct world *w, struct client *c, const uint8_t *bytes, size_t len, uint8_t ttl)
{
	uint8_t *copy = malloc(len + TURN_PACKET_ROOM);
	struct turn_packet packet = {copy, len, ttl, 0};

	MUST(copy);
	if (len > 0)
		memcpy(copy, bytes, len);
	w->asking = c;
	w->answers = 0;
	turn_server_from_client(w->server, &w->now, &c->tuple, &packet);
	w->asking = NULL;
	free(copy);
}

void world_deliver_peer(struct world *w, struct alloc_relay *relay, const struct tp_addr *peer,
	struct feed data, uint8_t ttl)
{
	uint8_t *copy = malloc(data.len + TURN_PACKET_ROOM);
	struct turn_packet packet = {copy, data.len, ttl, 0};

	MUST(copy);
	if (data.len > 0)
		memcpy(copy, data.bytes, data.len);
	turn_server_from_peer(w->server, w->now.mono_ns, relay, peer, &packet);
	free(copy);
}
