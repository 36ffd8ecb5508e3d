/* Users by the name that quotas count, and the reservations of RFC 8656, 7.2. One thread. */
#include "store.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/random.h>

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

struct alloc_user *alloc_user_get(struct alloc_store *store, uint64_t name)
{
	struct alloc_user *user;

	HASH_FIND(by_name, store->users, &name, sizeof(name), user);
	if (user)
		return user;
	user = calloc(1, sizeof(*user));
	if (!user)
		return NULL;
	user->name = name;
	HASH_ADD(by_name, store->users, name, sizeof(user->name), user);
	if (user->by_name.tbl)
		return user;
	free(user);
	return NULL;
}

void alloc_user_put(struct alloc_store *store, struct alloc_user *user)
{
	if (user->allocations > 0 || user->reservations > 0)
		return;
	HASH_DELETE(by_name, store->users, user);
	free(user);
}

/* The port is whoever's takes over; else the caller gives it back. */
static void end_reservation(struct alloc_reservation *reservation)
{
	struct alloc_store *store = reservation->store;

	timer_cancel(store->wheel, &reservation->timer);
	HASH_DELETE(by_token, store->reservations, reservation);
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
	lapse((struct alloc_reservation *)((char *)timer -
					   offsetof(struct alloc_reservation, timer)));
}

static int add_reservation(struct alloc_store *store, struct alloc_reservation *reservation)
{
	if (getrandom(reservation->token, sizeof(reservation->token), 0) !=
		sizeof(reservation->token))
		return -EIO;
	HASH_ADD(by_token, store->reservations, token, sizeof(reservation->token), reservation);
	return reservation->by_token.tbl ? 0 : -ENOMEM;
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
	struct alloc_reservation *reservation;

	HASH_FIND(by_token, store->reservations, token, sizeof(reservation->token), reservation);
	return reservation;
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
	struct alloc_reservation *reservation, *next;

	HASH_ITER(by_token, store->reservations, reservation, next)
		lapse(reservation);
}
