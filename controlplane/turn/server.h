/*
 * The TURN server (RFC 8656) without I/O: time, 5-tuple and bytes go in, effects come out.
 * One thread. Nothing blocks.
 */
#pragma once

#include "controlplane/alloc/alloc.h"
#include "controlplane/auth/auth.h"
#include "controlplane/policy/policy.h"
#include "effects.h"

struct turn_relay_address {
	struct tp_addr address;
	struct tp_addr external; /* family 0: the same */
};

struct turn_settings {
	const struct turn_relay_address *relays;
	size_t relays_count;
	uint16_t port_min, port_max;
	uint32_t allocations_max;
	uint32_t allocations_per_user;
	uint32_t permissions_per_allocation;
	uint32_t channels_per_allocation;
	uint32_t unauthenticated_replies_per_source; /* per second */
	uint64_t lifetime_default_ns, lifetime_max_ns;
	uint64_t permission_lifetime_ns, channel_lifetime_ns;
	bool rfc5766_channels;
	struct tp_hash_key owner_key; /* see alloc_settings */
};

struct turn_server;

/*
 * auth, policy and effects stay the caller's and must outlive the server. Tells the policy which
 * addresses are relay addresses (the bound ones and the external ones).
 */
int turn_server_new(const struct turn_settings *settings, struct auth *auth, struct policy *policy,
	const struct turn_effects *effects, uint64_t now_ns, struct turn_server **out);
/* Ends every allocation (effects are called), then frees. */
void turn_server_free(struct turn_server *server);

/*
 * A datagram as it came: its marks, and where it is. Behind bytes[len] TURN_PACKET_ROOM more bytes
 * must be writable: the padding of a Data indication goes there, so that nothing is copied.
 */
#define TURN_PACKET_ROOM 4
struct turn_packet {
	uint8_t *bytes;
	size_t len;
	uint8_t ttl, tos;
};

void turn_server_from_client(struct turn_server *server, const struct auth_now *now,
	const struct alloc_tuple *tuple, const struct turn_packet *packet);

void turn_server_from_peer(struct turn_server *server, uint64_t now_ns, struct alloc_relay *relay,
	const struct tp_addr *peer, const struct turn_packet *packet);

/* RFC 8656, 11.5: an ICMP error about a datagram from `relay` to `peer`. */
struct turn_icmp {
	uint8_t type, code;
	uint32_t data; /* next-hop MTU where the type has one */
};
void turn_server_icmp(struct turn_server *server, uint64_t now_ns, struct alloc_relay *relay,
	const struct tp_addr *peer, const struct turn_icmp *icmp);

/* Expires what is due; next() says when to call again (UINT64_MAX: no need). */
void turn_server_advance(struct turn_server *server, uint64_t now_ns);
uint64_t turn_server_next(const struct turn_server *server);

/*
 * What a former life has granted, before the first packet: an allocation with those of its relays
 * that still fit the settings, opened; then permissions and channels by relayed address, first all
 * permissions, since what the peers send depends on them. A call that refuses has done nothing:
 * -errno of alloc_restore() or alloc_restore_relay(), or of the effect; -ENOENT: no such
 * allocation; -ETIME: over; -EACCES: the policy forbids it; -ENOSPC: a limit.
 */
struct turn_kept_relay {
	struct tp_addr address; /* family 0: none */
	uint64_t expires_ns;
};
int turn_server_restore(struct turn_server *server, const struct alloc_restored *from,
	const struct turn_kept_relay relays[ALLOC_RELAYS], uint64_t now_ns);

struct turn_kept_grant {
	uint32_t allocation;
	struct tp_addr relay, peer;
	uint64_t expires_ns;
	struct tp_addr client, server; /* the two ends of its 5-tuple */
	uint16_t channel;              /* 0: a permission */
};
int turn_server_restore_permission(
	struct turn_server *server, const struct turn_kept_grant *grant, uint64_t now_ns);
/* One that is there already is left as it is. */
int turn_server_restore_channel(
	struct turn_server *server, const struct turn_kept_grant *grant, uint64_t now_ns);

/* Looking in from outside (control socket). */
const struct alloc_list *turn_server_allocations(
	const struct turn_server *server);                                        /* alloc_all() */
void turn_server_walk(const struct turn_server *server, struct alloc_walk *walk); /* begins one */
struct allocation *turn_server_find(struct turn_server *server, uint32_t id);
void turn_server_delete(struct turn_server *server, struct allocation *allocation);
uint32_t turn_server_count(const struct turn_server *server);

/* Draining: new allocations get 508, the ones that live are served (DP-19-3). */
void turn_server_drain(struct turn_server *server, bool on);
bool turn_server_is_draining(const struct turn_server *server);

/* After the policy has changed: ends permissions and channels that it no longer allows (P22). */
void turn_server_recheck_policy(struct turn_server *server);

/*
 * Request counters: for each method what the answers were. `visit` is called for every pair that
 * has happened; code 0 is success; "silent" ones are counted under STUN_DISCARD.
 */
void turn_server_visit_requests(const struct turn_server *server,
	void (*visit)(void *arg, const char *method, int code, uint64_t count), void *arg);
