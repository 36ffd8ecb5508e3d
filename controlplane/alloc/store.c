/*
 * The store: allocations and their relays, found by 5-tuple, id and relayed address. It owns all
 * of them. One thread; nothing blocks.
 */
#include "store.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

#include "base/cleanup.h"

struct tp_hash_key alloc_hash_key;

static int add_pools(struct alloc_store *store, const struct alloc_settings *settings)
{
	store->pools = calloc(settings->addresses_count, sizeof(*store->pools));
	if (!store->pools)
		return -ENOMEM;
	for (size_t i = 0; i < settings->addresses_count; i++) {
		struct alloc_pool *pool = &store->pools[i];
		int r = ports_new(settings->port_min, settings->port_max, &pool->ports);

		if (r < 0)
			return r;
		pool->address = tp_addr_with_port(&settings->addresses[i], 0);
		pool->translated = settings->translated && settings->translated[i];
		store->pools_count++;
	}
	return 0;
}

static void store_cleanup(struct alloc_store **store)
{
	alloc_store_free(*store);
}

int alloc_store_new(const struct alloc_settings *settings, const struct alloc_hooks *hooks,
	uint64_t now_ns, struct alloc_store **out)
{
	TP_CLEANUP(store_cleanup) struct alloc_store *store = NULL;
	int r;

	/* A pool is named by one byte. */
	if (settings->addresses_count == 0 || settings->addresses_count > UINT8_MAX)
		return -EINVAL;
	store = calloc(1, sizeof(*store));
	if (!store)
		return -ENOMEM;
	store->limits = *settings;
	store->limits.addresses = NULL;
	store->limits.translated = NULL;
	store->hooks = *hooks;
	store->now_ns = now_ns;
	TAILQ_INIT(&store->all);
	LIST_INIT(&store->walks);
	if (alloc_hash_key.k[0] == 0 &&
		getrandom(&alloc_hash_key, sizeof(alloc_hash_key), 0) != sizeof(alloc_hash_key))
		return -EIO;
	r = timer_wheel_new(now_ns, &store->wheel);
	if (r == 0)
		r = add_pools(store, settings);
	if (r == 0)
		*out = TP_TAKE(store);
	return r;
}

void alloc_store_free(struct alloc_store *store)
{
	struct allocation *a;

	if (!store)
		return;
	while ((a = TAILQ_FIRST(&store->all)))
		alloc_delete(a);
	alloc_reservations_free(store);
	for (size_t i = 0; i < store->pools_count; i++)
		ports_free(store->pools[i].ports);
	free(store->pools);
	timer_wheel_free(store->wheel);
	free(store);
}

void alloc_store_advance(struct alloc_store *store, uint64_t now_ns)
{
	if (now_ns > store->now_ns)
		store->now_ns = now_ns;
	timer_wheel_advance(store->wheel, store->now_ns);
}

uint64_t alloc_store_next(const struct alloc_store *store)
{
	return timer_wheel_next(store->wheel);
}

static struct allocation *find_tuple(
	const struct alloc_store *store, const struct alloc_tuple *tuple)
{
	struct tp_map_link *link =
		tp_map_first(&store->by_tuple, alloc_hash(tuple, sizeof(*tuple)));

	for (; link; link = tp_map_next(link)) {
		struct allocation *a = TP_CONTAINER(link, struct allocation, by_tuple);

		if (memcmp(&a->tuple, tuple, sizeof(*tuple)) == 0)
			return a;
	}
	return NULL;
}

struct allocation *alloc_find(
	const struct alloc_store *store, const struct alloc_tuple *tuple, uint64_t now_ns)
{
	struct allocation *a = find_tuple(store, tuple);

	for (int i = 0; a && i < ALLOC_RELAYS; i++)
		if (a->relays[i] && a->relays[i]->expires_ns > now_ns)
			return a;
	return NULL;
}

static int find_pool(const struct alloc_store *store, const struct tp_addr *address, uint8_t *out)
{
	for (size_t i = 0; i < store->pools_count; i++) {
		if (tp_addr_equal_ip(&store->pools[i].address, address)) {
			*out = (uint8_t)i;
			return 0;
		}
	}
	return -ENOENT;
}

struct alloc_relay *alloc_find_relay(
	const struct alloc_store *store, const struct tp_addr *address, uint64_t now_ns)
{
	struct alloc_relay *relay;
	uint8_t pool;

	if (find_pool(store, address, &pool) < 0)
		return NULL;
	relay = ports_user(store->pools[pool].ports, address->port);
	return relay && relay->expires_ns > now_ns ? relay : NULL;
}

struct allocation *alloc_find_id(const struct alloc_store *store, uint32_t id)
{
	struct tp_map_link *link = tp_map_first(&store->by_id, id);

	for (; link; link = tp_map_next(link)) {
		struct allocation *a = TP_CONTAINER(link, struct allocation, by_id);

		if (a->id == id)
			return a;
	}
	return NULL;
}

const struct alloc_list *alloc_all(const struct alloc_store *store)
{
	return &store->all;
}

uint32_t alloc_count(const struct alloc_store *store)
{
	return store->by_id.count;
}

bool alloc_is_hairpin(const struct alloc_relay *relay, const struct tp_addr *peer)
{
	const struct alloc_store *store = relay->allocation->store;

	for (size_t i = 0; i < store->pools_count; i++)
		if (tp_addr_equal_ip(&store->pools[i].address, peer))
			return !store->pools[i].translated && !store->pools[relay->pool].translated;
	return false;
}

size_t alloc_ports_in_use(const struct alloc_store *store)
{
	size_t sum = 0;

	for (size_t i = 0; i < store->pools_count; i++)
		sum += ports_in_use(store->pools[i].ports);
	return sum;
}

static uint32_t unused_id(struct alloc_store *store)
{
	do
		store->last_id++;
	while (store->last_id == 0 || alloc_find_id(store, store->last_id));
	return store->last_id;
}

static int take_quota(struct alloc_store *store, struct allocation *a)
{
	uint32_t max = store->limits.allocations_max;
	uint32_t per_user = store->limits.allocations_per_user;

	if (max && alloc_count(store) >= max)
		return -ENOSPC;
	a->user = alloc_user_get(store, a->owner.quota);
	if (!a->user)
		return -ENOMEM;
	if (per_user && a->user->allocations >= per_user) {
		alloc_user_put(store, a->user);
		return -EDQUOT;
	}
	a->user->allocations++;
	return 0;
}

static void give_quota(struct allocation *a)
{
	a->user->allocations--;
	alloc_user_put(a->store, a->user);
}

static void free_allocation(struct allocation *a)
{
	if (!a)
		return;
	auth_identity_free(a->identity);
	free(a);
}

static void allocation_cleanup(struct allocation **a)
{
	free_allocation(*a);
}

/* `a` is complete but for its quota and its place in the tables. */
static int admit(struct alloc_store *store, struct allocation *a)
{
	int r = take_quota(store, a);

	if (r < 0)
		return r;
	tp_map_add(&store->by_tuple, &a->by_tuple, alloc_hash(&a->tuple, sizeof(a->tuple)));
	/* Nobody chooses them, and counted up they spread by themselves. */
	tp_map_add(&store->by_id, &a->by_id, a->id);
	TAILQ_INSERT_TAIL(&store->all, a, link);
	return 0;
}

static struct allocation *new_allocation(struct alloc_store *store, const struct alloc_tuple *tuple,
	const struct auth_identity *identity)
{
	struct allocation *a = calloc(1, sizeof(*a));

	if (!a)
		return NULL;
	a->tuple = *tuple;
	a->store = store;
	a->identity = auth_identity_copy(identity);
	if (a->identity)
		return a;
	free(a);
	return NULL;
}

int alloc_new(struct alloc_store *store, const struct alloc_tuple *tuple,
	const struct auth_identity *identity, struct allocation **out)
{
	TP_CLEANUP(allocation_cleanup)
	struct allocation *a = new_allocation(store, tuple, identity);
	int r;

	if (!a)
		return -ENOMEM;
	a->owner = alloc_owner_of(store, identity);
	a->id = unused_id(store);
	r = admit(store, a);
	if (r == 0)
		*out = TP_TAKE(a);
	return r;
}

static bool is_taken(const struct alloc_store *store, const struct alloc_restored *from)
{
	return find_tuple(store, &from->tuple) || alloc_find_id(store, from->id);
}

int alloc_restore(
	struct alloc_store *store, const struct alloc_restored *from, struct allocation **out)
{
	TP_CLEANUP(allocation_cleanup) struct allocation *a = NULL;
	struct auth_identity identity = {
		.username = from->name,
		.username_len =
			from->name_len < AUTH_USERNAME_MAX ? from->name_len : AUTH_USERNAME_MAX,
		.time_limited = from->time_limited,
	};
	int r;

	if (is_taken(store, from))
		return -EEXIST;
	a = new_allocation(store, &from->tuple, &identity);
	if (!a)
		return -ENOMEM;
	a->id = from->id;
	a->kept = from->kept;
	a->owner = from->owner;
	r = admit(store, a);
	if (r < 0)
		return r;
	/* Numbers go on where the former life was. */
	if (a->id > store->last_id)
		store->last_id = a->id;
	*out = TP_TAKE(a);
	return 0;
}

void alloc_prove(struct allocation *a, const struct auth_identity *identity)
{
	struct auth_identity *proved = auth_identity_copy(identity);

	if (!proved)
		return;
	auth_identity_free(a->identity);
	a->identity = proved;
}

void alloc_walk_begin(struct alloc_store *store, struct alloc_walk *walk)
{
	walk->next = TAILQ_FIRST(&store->all);
	LIST_INSERT_HEAD(&store->walks, walk, link);
}

struct allocation *alloc_walk_next(struct alloc_walk *walk)
{
	struct allocation *a = walk->next;

	if (a)
		walk->next = TAILQ_NEXT(a, link);
	return a;
}

void alloc_walk_end(struct alloc_walk *walk)
{
	LIST_REMOVE(walk, link);
}

static void step_over(struct alloc_store *store, const struct allocation *a)
{
	struct alloc_walk *walk;

	LIST_FOREACH(walk, &store->walks, link) {
		if (walk->next == a)
			walk->next = TAILQ_NEXT(a, link);
	}
}

void alloc_delete(struct allocation *a)
{
	struct alloc_store *store = a->store;

	for (int i = 0; i < ALLOC_RELAYS; i++)
		if (a->relays[i])
			alloc_delete_relay(a->relays[i]);
	if (a->request_mark != 0) /* else nobody was told of it */
		alloc_remember(store, &a->tuple, a->transaction);
	tp_map_remove(&store->by_tuple, &a->by_tuple);
	tp_map_shrink(&store->by_tuple);
	tp_map_remove(&store->by_id, &a->by_id);
	tp_map_shrink(&store->by_id);
	step_over(store, a);
	TAILQ_REMOVE(&store->all, a, link);
	give_quota(a);
	free_allocation(a);
}

static void relay_is_due(struct timer *timer, uint64_t now_ns)
{
	struct alloc_relay *relay = TP_CONTAINER(timer, struct alloc_relay, timer);
	struct allocation *a = relay->allocation;

	(void)now_ns;
	alloc_delete_relay(relay);
	if (!alloc_has_relays(a))
		alloc_delete(a);
}

int alloc_make_relay(struct allocation *a, uint8_t pool, uint16_t port, uint64_t expires_ns,
	struct alloc_relay **out)
{
	struct alloc_store *store = a->store;
	struct alloc_relay *relay = calloc(1, sizeof(*relay));

	if (!relay)
		return -ENOMEM;
	relay->address = tp_addr_with_port(&store->pools[pool].address, port);
	relay->external = relay->address;
	relay->allocation = a;
	relay->pool = pool;
	relay->timer.fire = relay_is_due;
	ports_set_user(store->pools[pool].ports, port, relay);
	alloc_extend_relay(relay, expires_ns);
	a->relays[relay->address.family == TP_IPV4 ? ALLOC_RELAY_V4 : ALLOC_RELAY_V6] = relay;
	*out = relay;
	return 0;
}

int alloc_add_relay(struct allocation *a, uint8_t pool, enum ports_wish wish, uint64_t expires_ns,
	struct alloc_relay **out)
{
	struct alloc_store *store = a->store;
	struct ports *ports = store->pools[pool].ports;
	uint16_t port;
	int r;

	r = ports_take(ports, wish, store->now_ns, &port);
	if (r < 0)
		return r;
	if (wish == PORTS_PAIR) {
		r = alloc_reserve(a, pool, port + 1);
		if (r < 0) {
			ports_give(ports, port + 1, store->now_ns);
			ports_give(ports, port, store->now_ns);
			return r;
		}
	}
	r = alloc_make_relay(a, pool, port, expires_ns, out);
	if (r < 0) {
		alloc_unreserve(a);
		ports_give(ports, port, store->now_ns);
	}
	return r;
}

int alloc_restore_relay(struct allocation *a, const struct tp_addr *address, uint64_t expires_ns,
	struct alloc_relay **out)
{
	struct alloc_store *store = a->store;
	uint8_t pool = 0;
	int r = find_pool(store, address, &pool);

	if (a->relays[address->family == TP_IPV4 ? ALLOC_RELAY_V4 : ALLOC_RELAY_V6])
		return -EEXIST;
	if (r == 0)
		r = ports_claim(store->pools[pool].ports, address->port);
	if (r < 0)
		return r == -ERANGE ? -ENOENT : r;
	r = alloc_make_relay(a, pool, address->port, expires_ns, out);
	if (r < 0)
		ports_give(store->pools[pool].ports, address->port, store->now_ns);
	return r;
}

void alloc_extend_relay(struct alloc_relay *relay, uint64_t expires_ns)
{
	relay->expires_ns = expires_ns;
	timer_arm(relay->allocation->store->wheel, &relay->timer, expires_ns);
}

void alloc_delete_relay(struct alloc_relay *relay)
{
	struct allocation *a = relay->allocation;
	struct alloc_store *store = a->store;
	struct alloc_channel *channel, *next_channel;
	struct alloc_permission *permission, *next_permission;

	for (channel = alloc_next_channel(relay, NULL); channel; channel = next_channel) {
		next_channel = alloc_next_channel(relay, channel);
		alloc_delete_channel(channel);
	}
	permission = alloc_next_permission(relay, NULL);
	for (; permission; permission = next_permission) {
		next_permission = alloc_next_permission(relay, permission);
		alloc_delete_permission(permission);
	}
	store->hooks.end_relay(store->hooks.context, relay);
	timer_cancel(store->wheel, &relay->timer);
	a->relays[relay->address.family == TP_IPV4 ? ALLOC_RELAY_V4 : ALLOC_RELAY_V6] = NULL;
	ports_give(store->pools[relay->pool].ports, relay->address.port, store->now_ns);
	free(relay);
}

bool alloc_has_relays(const struct allocation *a)
{
	return a->relays[ALLOC_RELAY_V4] || a->relays[ALLOC_RELAY_V6];
}

static uint64_t past_hash(
	const struct alloc_tuple *tuple, const uint8_t transaction[STUN_TRANSACTION_LEN])
{
	uint8_t key[sizeof(*tuple) + STUN_TRANSACTION_LEN];

	memcpy(key, tuple, sizeof(*tuple));
	memcpy(key + sizeof(*tuple), transaction, STUN_TRANSACTION_LEN);
	return tp_siphash13(&alloc_hash_key, key, sizeof(key)) | 1;
}

void alloc_remember(struct alloc_store *store, const struct alloc_tuple *tuple,
	const uint8_t transaction[STUN_TRANSACTION_LEN])
{
	uint64_t hash = past_hash(tuple, transaction);
	struct alloc_past *past = &store->past[(hash >> 1) % ALLOC_PAST_SIZE];

	past->hash = hash;
	past->until_ns = store->now_ns + ALLOC_PAST_NS;
}

bool alloc_remembers(const struct alloc_store *store, const struct alloc_tuple *tuple,
	const uint8_t transaction[STUN_TRANSACTION_LEN])
{
	uint64_t hash = past_hash(tuple, transaction);
	const struct alloc_past *past = &store->past[(hash >> 1) % ALLOC_PAST_SIZE];

	return past->hash == hash && past->until_ns > store->now_ns;
}
