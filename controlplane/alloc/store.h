/* What the files of alloc/ share: the store itself. Nobody else includes this. */
#pragma once

#include "alloc.h"

#define ALLOC_RESERVATION_NS UINT64_C(30000000000) /* RFC 8656, 7.2: at least 30 s */

/* Quotas count what a name holds; gone with the last of it. */
struct alloc_user {
	struct tp_map_link by_name; /* in the store */
	uint32_t allocations;
	uint32_t reservations;
	uint64_t name; /* hashed: of a restored allocation nothing else is known */
};

struct alloc_pool {
	struct tp_addr address;
	struct ports *ports;
	bool translated;
};

struct alloc_reservation {
	struct tp_map_link by_token; /* in the store */
	uint8_t token[8];
	uint8_t pool;
	uint16_t port;
	struct timer timer;
	struct alloc_owner owner; /* whose whole name it is (REST-13) */
	struct alloc_user *user;
	struct alloc_store *store;
};

struct alloc_past {
	uint64_t hash; /* of 5-tuple and transaction; 0 = none */
	uint64_t until_ns;
};
#define ALLOC_PAST_SIZE 8192
/* As long as a nonce may live: after that a copy fails for its nonce. */
#define ALLOC_PAST_NS UINT64_C(3600000000000)

struct alloc_store {
	struct alloc_settings limits; /* addresses: NULL */
	struct alloc_hooks hooks;
	struct timer_wheel *wheel;
	uint64_t now_ns;
	struct alloc_list all;
	LIST_HEAD(, alloc_walk) walks;
	struct tp_map by_tuple, by_id;
	struct tp_map reservations, users;
	uint32_t last_id;
	struct alloc_pool *pools;
	size_t pools_count;
	struct alloc_past past[ALLOC_PAST_SIZE]; /* a newer one takes the slot of an older one */
};

static inline uint32_t alloc_hash(const void *key, size_t len)
{
	return (uint32_t)tp_siphash13(&alloc_hash_key, key, len);
}

/* quota.c: the hashes of a name. */
struct alloc_owner alloc_owner_of(
	const struct alloc_store *store, const struct auth_identity *identity);

/* The user of that name (alloc_owner.quota), made if it is new. NULL: out of memory. */
struct alloc_user *alloc_user_get(struct alloc_store *store, uint64_t name);
/* Frees the user if nothing is held any more. */
void alloc_user_put(struct alloc_store *store, struct alloc_user *user);

int alloc_reserve(struct allocation *a, uint8_t pool, uint16_t port);
void alloc_reservations_free(struct alloc_store *store);

/* Makes the relay of a port that is already taken; on failure the port stays the caller's. */
int alloc_make_relay(struct allocation *a, uint8_t pool, uint16_t port, uint64_t expires_ns,
	struct alloc_relay **out);
