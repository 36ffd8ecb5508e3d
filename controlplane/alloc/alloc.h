/*
 * Allocations, their relayed transport addresses, permissions and channels (RFC 8656, 3): the
 * control plane's truth. What it is told to keep it keeps within the limits, and what it takes
 * (quota, port) it takes together or not at all. No I/O: sockets and tables follow through
 * turn/effects.h. One thread; every object is owned by its allocation, that by the store.
 */
#pragma once

#include "base/addr.h"
#include "base/hash.h"
#include "base/map.h"
#include "ports.h"
#include "timer.h"
#include "controlplane/auth/auth.h"

#include <sys/queue.h>

/* Strangers choose the keys of every table here (threat R11). Random from the first store on. */
extern struct tp_hash_key alloc_hash_key;

enum alloc_transport { ALLOC_UDP = 17 };

/* RFC 8656, 3.2. Compared and hashed as bytes: zero the padding. */
struct alloc_tuple {
	struct tp_addr client;
	struct tp_addr server;
	uint32_t transport;
};

struct allocation;
struct alloc_relay;
struct alloc_store;
struct alloc_user;

struct alloc_traffic {
	uint64_t packets;
	uint64_t bytes;
};

/*
 * Words of the data plane's side of an object, which lie in it: controlplane/flows. Nobody else
 * writes them; zero at first.
 */
enum { ALLOC_PERMISSION_ROOM = 3, ALLOC_CHANNEL_ROOM = 5, ALLOC_RELAY_ROOM = 2, ALLOC_ROOM = 9 };

/* RFC 8656, 9: one peer address of one relay; its port is 0. */
struct alloc_permission {
	struct tp_map_link by_ip; /* in relay->permissions */
	struct tp_addr peer;
	struct alloc_relay *relay;
	struct timer timer;
	uint64_t expires_ns;
	uint64_t flows[ALLOC_PERMISSION_ROOM];
};

/* RFC 8656, 12: a number and a peer address of one relay. */
struct alloc_channel {
	struct tp_map_link by_number; /* in allocation->channels */
	struct tp_map_link by_peer;   /* in relay->channels */
	struct tp_addr peer;
	uint16_t number;
	struct alloc_relay *relay;
	struct timer timer;
	uint64_t expires_ns;
	uint64_t flows[ALLOC_CHANNEL_ROOM];
};

/* A relayed transport address. A dual allocation (RFC 8656, 7.2) has two, each with its own life.
 */
struct alloc_relay {
	struct tp_addr address;  /* where the socket is bound */
	struct tp_addr external; /* what clients are told: differs behind a 1:1 NAT */
	struct allocation *allocation;
	struct tp_map permissions, channels; /* see alloc_next_permission(), alloc_next_channel() */
	struct timer timer;
	uint64_t expires_ns;
	uint8_t pool; /* which of the store's addresses */
	bool open;    /* set by whoever opened a socket for it */
	void *socket; /* the transport's side of it */
	uint64_t flows[ALLOC_RELAY_ROOM];
};

enum { ALLOC_RELAY_V4, ALLOC_RELAY_V6, ALLOC_RELAYS };

/* Whose an allocation is, as it can be told when nothing but that is left of it: keyed hashes. */
struct alloc_owner {
	uint64_t name[2]; /* the whole name */
	uint64_t quota;   /* the part of it that quotas count */
};

struct allocation {
	struct tp_map_link by_tuple, by_id; /* in the store */
	TAILQ_ENTRY(allocation) link;       /* in alloc_all() */
	struct alloc_tuple tuple;
	uint32_t id; /* counts up from 1 */
	struct alloc_owner owner;
	/* A copy. key_len 0: restored, and nobody has proved to be it yet; the name may be cut off.
	 */
	struct auth_identity *identity;
	struct alloc_store *store;
	struct alloc_user *user;                  /* whose quota it is taken from */
	struct alloc_relay *relays[ALLOC_RELAYS]; /* NULL = none of that family */
	struct tp_map channels;                   /* by number */
	struct alloc_traffic sent, received;      /* slow path, and flows that have ended */
	uint64_t flows[ALLOC_ROOM];
	uint64_t request_mark; /* of the Allocate that made it: retransmissions; 0: not answered */
	uint8_t transaction[STUN_TRANSACTION_LEN]; /* and of it alone */
	uint32_t kept;           /* restored: number of the note that it was made of; 0: none */
	uint64_t icmp_window_ns; /* budget of ICMP reports: since when, and how many */
	uint32_t icmp_count;

	/* RFC 8656, 7.2: the family that a dual Allocate did not get, and why; 0 = none. */
	uint16_t missing_code;  /* enum stun_code */
	uint8_t missing_family; /* enum tp_family */

	bool has_token;
	uint8_t token[8]; /* RESERVATION-TOKEN given out */
};

struct alloc_settings {
	const struct tp_addr *addresses; /* relay addresses, ports ignored: the pools */
	const bool *translated; /* of these: behind a 1:1 NAT, known by another name; NULL: none */
	size_t addresses_count;
	uint16_t port_min, port_max;
	/* 0: no limit */
	uint32_t allocations_max;
	uint32_t allocations_per_user;
	uint32_t permissions_per_allocation;
	uint32_t channels_per_allocation;
	struct tp_hash_key owner_key; /* the same in each life, for what is restored */
};

/* Called before the object is freed, whatever ended it: channels and permissions of a relay first,
 * then the relay. They must not change the store. */
struct alloc_hooks {
	void *context;
	void (*end_channel)(void *context, struct alloc_channel *channel);
	void (*end_permission)(void *context, struct alloc_permission *permission);
	void (*end_relay)(void *context, struct alloc_relay *relay);
};

int alloc_store_new(const struct alloc_settings *settings, const struct alloc_hooks *hooks,
	uint64_t now_ns, struct alloc_store **out);
/* Deletes every allocation, then frees. */
void alloc_store_free(struct alloc_store *store);

/* Sets the store's time and ends what is due at it. */
void alloc_store_advance(struct alloc_store *store, uint64_t now_ns);
uint64_t alloc_store_next(const struct alloc_store *store);

/* What is due but not yet swept is not found. */
struct allocation *alloc_find(
	const struct alloc_store *store, const struct alloc_tuple *tuple, uint64_t now_ns);
struct alloc_relay *alloc_find_relay(
	const struct alloc_store *store, const struct tp_addr *address, uint64_t now_ns);
struct allocation *alloc_find_id(const struct alloc_store *store, uint32_t id);
/* Oldest first. */
TAILQ_HEAD(alloc_list, allocation);
const struct alloc_list *alloc_all(const struct alloc_store *store);

/*
 * A walk over all of them that may pause, whatever the store does meanwhile: what ends is left out,
 * what is made is met at the end. The store has to outlive it.
 */
struct alloc_walk {
	LIST_ENTRY(alloc_walk) link;
	struct allocation *next;
};
void alloc_walk_begin(struct alloc_store *store, struct alloc_walk *walk);
struct allocation *alloc_walk_next(struct alloc_walk *walk); /* NULL: that was the last one */
void alloc_walk_end(struct alloc_walk *walk);
uint32_t alloc_count(const struct alloc_store *store);
/*
 * Does what `relay` sends to `peer` come to another relay of ours, without a 1:1 NAT at either of
 * the two? Then neither address has another name, and the data plane can do it all.
 */
bool alloc_is_hairpin(const struct alloc_relay *relay, const struct tp_addr *peer);
/* Ports that relays or reservations hold. */
size_t alloc_ports_in_use(const struct alloc_store *store);

/*
 * An allocation without relays, already in the tables and counted. -EDQUOT: the user's quota;
 * -ENOSPC: the server's; -ENOMEM.
 */
int alloc_new(struct alloc_store *store, const struct alloc_tuple *tuple,
	const struct auth_identity *identity, struct allocation **out);
void alloc_delete(struct allocation *a);

/*
 * The same from a former life, by its id. name: as much as is known of it, for people. -EEXIST: the
 * id or the 5-tuple is taken; else as alloc_new(). The relay: -ENOENT: no such relay address or
 * port any more; -EEXIST: the allocation has one of that family; -EADDRINUSE; -ENOMEM.
 */
struct alloc_restored {
	uint32_t id, kept;
	struct alloc_tuple tuple;
	struct alloc_owner owner;
	bool time_limited;
	const char *name;
	size_t name_len;
};
int alloc_restore(
	struct alloc_store *store, const struct alloc_restored *from, struct allocation **out);
int alloc_restore_relay(struct allocation *a, const struct tp_addr *address, uint64_t expires_ns,
	struct alloc_relay **out);

/* Is it this user's? By the whole name, that of a restored one too. */
bool alloc_is_owned_by(const struct allocation *a, const char *name, size_t len);
/* By the name or the part of it that quotas count. */
bool alloc_counts_for(const struct allocation *a, const char *name, size_t len);
/* The owner of a restored allocation has shown who it is. Out of memory: it has to once more. */
void alloc_prove(struct allocation *a, const struct auth_identity *identity);

/*
 * Adds the relay of the pool's family, which the allocation must not have yet. PORTS_PAIR makes
 * the reservation too and sets the allocation's token. -ENOSPC: no such port; -EDQUOT: too many
 * reservations of this user; -ENOMEM.
 */
int alloc_add_relay(struct allocation *a, uint8_t pool, enum ports_wish wish, uint64_t expires_ns,
	struct alloc_relay **out);
/* The same from a reservation. -ENOENT: unknown, lapsed, used, or another user's (N16). */
int alloc_redeem(struct allocation *a, const uint8_t token[8], uint64_t expires_ns,
	struct alloc_relay **out);
/* Takes back the reservation that the allocation has made, if any. */
void alloc_unreserve(struct allocation *a);
void alloc_extend_relay(struct alloc_relay *relay, uint64_t expires_ns);
/* The allocation stays, if only without relays: its caller decides. */
void alloc_delete_relay(struct alloc_relay *relay);
bool alloc_has_relays(const struct allocation *a);

/* Could `more` new permissions (channels) be added? */
bool alloc_room_for_permissions(const struct allocation *a, uint32_t more);
bool alloc_room_for_channel(const struct allocation *a);
/* Installs or refreshes; the port of `peer` is ignored. -ENOSPC: the limit; -ENOMEM. */
int alloc_permit(struct alloc_relay *relay, const struct tp_addr *peer, uint64_t expires_ns,
	struct alloc_permission **out);
struct alloc_permission *alloc_find_permission(
	const struct alloc_relay *relay, const struct tp_addr *peer, uint64_t now_ns);
/* All, those that are due too: after NULL comes the first. It may be deleted once the next is
 * known. */
struct alloc_permission *alloc_next_permission(
	const struct alloc_relay *relay, const struct alloc_permission *permission);
void alloc_delete_permission(struct alloc_permission *permission);

/* A new channel; number and peer must both be unbound. -ENOSPC: the limit; -ENOMEM. */
int alloc_bind(struct alloc_relay *relay, uint16_t number, const struct tp_addr *peer,
	uint64_t expires_ns, struct alloc_channel **out);
void alloc_extend_channel(struct alloc_channel *channel, uint64_t expires_ns);
struct alloc_channel *alloc_find_channel(
	const struct allocation *a, uint16_t number, uint64_t now_ns);
struct alloc_channel *alloc_find_channel_to(
	const struct alloc_relay *relay, const struct tp_addr *peer, uint64_t now_ns);
/* As alloc_next_permission(). */
struct alloc_channel *alloc_next_channel(
	const struct alloc_relay *relay, const struct alloc_channel *channel);
void alloc_delete_channel(struct alloc_channel *channel);

/*
 * A bounded memory of requests that have ended allocations or whose allocation has ended: a copy
 * of one, late or replayed, must not work again (TURN-7.2-34, threat N20).
 */
void alloc_remember(struct alloc_store *store, const struct alloc_tuple *tuple,
	const uint8_t transaction[STUN_TRANSACTION_LEN]);
bool alloc_remembers(const struct alloc_store *store, const struct alloc_tuple *tuple,
	const uint8_t transaction[STUN_TRANSACTION_LEN]);
