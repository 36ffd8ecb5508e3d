/* Users by the name that quotas count, and the reservations of RFC 8656, 7.2. One thread. */
#include "store.h"

#include "base/random.h"

#include <errno.h>
#include <stdlib.h>

/* Independent of each other: one key each, made of the store's. */
static uint64_t hash_name(
	const struct alloc_store *store, uint64_t which, const char *name, size_t len)
{
	struct tp_hash_key key = store->limits.owner_key;

	key.k[0] ^= which;
	return tp_siphash(&key, name, len);
}

enum { NAME_LOW = 1, NAME_HIGH, NAME_QUOTA };

struct alloc_owner alloc_owner_of(
	const struct alloc_store *store, const struct auth_identity *identity)
{
	size_t len;
	const char *quota = auth_quota_name(identity, &len);

	return (struct alloc_owner){
		.name = {hash_name(store, NAME_LOW, identity->username, identity->username_len),
			hash_name(store, NAME_HIGH, identity->username, identity->username_len)},
		.quota = hash_name(store, NAME_QUOTA, quota, len),
	};
}

bool alloc_is_owned_by(const struct allocation *a, const char *name, size_t len)
{
	const struct auth_identity *whole = a->identity->key_len > 0 ? a->identity : NULL;

	if (whole)
		return whole->username_len == len && memcmp(whole->username, name, len) == 0;
	return a->owner.name[0] == hash_name(a->store, NAME_LOW, name, len) &&
	       a->owner.name[1] == hash_name(a->store, NAME_HIGH, name, len);
}

static bool same_owner(const struct alloc_owner *a, const struct alloc_owner *b)
{
	return a->name[0] == b->name[0] && a->name[1] == b->name[1];
}

bool alloc_counts_for(const struct allocation *a, const char *name, size_t len)
{
	return alloc_is_owned_by(a, name, len) ||
	       a->owner.quota == hash_name(a->store, NAME_QUOTA, name, len);
}

static struct alloc_user *find_user(const struct alloc_store *store, uint64_t name)
{
	struct tp_map_link *link = tp_map_first(&store->users, (uint32_t)name);

	for (; link; link = tp_map_next(link)) {
		struct alloc_user *user = TP_CONTAINER(link, struct alloc_user, by_name);

		if (user->name == name)
			return user;
	}
	return NULL;
}

struct alloc_user *alloc_user_get(struct alloc_store *store, uint64_t name)
{
	struct alloc_user *user = find_user(store, name);

	if (user)
		return user;
	user = calloc(1, sizeof(*user));
	if (!user)
		return NULL;
	user->name = name;
	/* A keyed hash already. */
	tp_map_add(&store->users, &user->by_name, (uint32_t)name);
	return user;
}

void alloc_user_put(struct alloc_store *store, struct alloc_user *user)
{
	if (user->allocations > 0 || user->reservations > 0)
		return;
	tp_map_remove(&store->users, &user->by_name);
	tp_map_shrink(&store->users);
	free(user);
}

/* The port is whoever's takes over; else the caller gives it back. */
static void end_reservation(struct alloc_reservation *reservation)
{
	struct alloc_store *store = reservation->store;

	timer_cancel(store->wheel, &reservation->timer);
	tp_map_remove(&store->reservations, &reservation->by_token);
	tp_map_shrink(&store->reservations);
	reservation->user->reservations--;
	alloc_user_put(store, reservation->user);
	free(reservation);
}

static void lapse(struct alloc_reservation *reservation)
{
	struct alloc_store *store = reservation->store;

	ports_give(store->pools[reservation->pool].ports, reservation->port, store->now_ns);
	end_reservation(reservation);
}

static void reservation_is_due(struct timer *timer, uint64_t now_ns)
{
	(void)now_ns;
	lapse(TP_CONTAINER(timer, struct alloc_reservation, timer));
}

static uint32_t hash_token(const uint8_t token[8])
{
	return alloc_hash(token, 8);
}

static int add_reservation(struct alloc_store *store, struct alloc_reservation *reservation)
{
	if (!tp_random(reservation->token, sizeof(reservation->token)))
		return -EIO;
	tp_map_add(&store->reservations, &reservation->by_token, hash_token(reservation->token));
	return 0;
}

int alloc_reserve(struct allocation *a, uint8_t pool, uint16_t port)
{
	struct alloc_store *store = a->store;
	struct alloc_reservation *reservation;
	int r;

	/* Else a user could hold the whole range by allocating and deleting. */
	if (store->limits.allocations_per_user &&
		a->user->reservations >= store->limits.allocations_per_user)
		return -EDQUOT;
	reservation = calloc(1, sizeof(*reservation));
	if (!reservation)
		return -ENOMEM;
	r = add_reservation(store, reservation);
	if (r < 0) {
		free(reservation);
		return r;
	}
	reservation->pool = pool;
	reservation->port = port;
	reservation->owner = a->owner;
	reservation->store = store;
	reservation->user = a->user;
	reservation->user->reservations++;
	reservation->timer.fire = reservation_is_due;
	timer_arm(store->wheel, &reservation->timer, store->now_ns + ALLOC_RESERVATION_NS);
	memcpy(a->token, reservation->token, sizeof(a->token));
	a->has_token = true;
	return 0;
}

static struct alloc_reservation *find_reservation(
	const struct alloc_store *store, const uint8_t token[8])
{
	struct tp_map_link *link = tp_map_first(&store->reservations, hash_token(token));

	for (; link; link = tp_map_next(link)) {
		struct alloc_reservation *reservation =
			TP_CONTAINER(link, struct alloc_reservation, by_token);

		if (memcmp(reservation->token, token, sizeof(reservation->token)) == 0)
			return reservation;
	}
	return NULL;
}

int alloc_redeem(
	struct allocation *a, const uint8_t token[8], uint64_t expires_ns, struct alloc_relay **out)
{
	struct alloc_reservation *reservation = find_reservation(a->store, token);
	int r;

	if (!reservation || !same_owner(&reservation->owner, &a->owner))
		return -ENOENT;
	r = alloc_make_relay(a, reservation->pool, reservation->port, expires_ns, out);
	if (r == 0)
		end_reservation(reservation);
	return r;
}

void alloc_unreserve(struct allocation *a)
{
	struct alloc_reservation *reservation =
		a->has_token ? find_reservation(a->store, a->token) : NULL;

	if (reservation)
		lapse(reservation);
	a->has_token = false;
}

void alloc_reservations_free(struct alloc_store *store)
{
	struct tp_map_link *link;

	while ((link = tp_map_after(&store->reservations, NULL)))
		lapse(TP_CONTAINER(link, struct alloc_reservation, by_token));
}
