/*
 * Allocations, their relayed transport addresses, permissions and channels (RFC 8656, 3): the
 * control plane's truth. What it is told to keep it keeps within the limits, and what it takes
 * (quota, port) it takes together or not at all. No I/O: sockets and tables follow through
 * turn/effects.h. One thread; every object is owned by its allocation, that by the store.
 */
#pragma once

#include "base/addr.h"
#include "controlplane/alloc/timer.h"
#include "controlplane/auth/auth.h"

#include <sys/queue.h>
#include <uthash.h>

enum alloc_transport { ALLOC_UDP = 17 };

/* RFC 8656, 3.2. Compared and hashed as bytes: zero the padding. */
struct alloc_tuple {
	struct tp_addr client;
	struct tp_addr server;
	uint32_t transport;
};

struct allocation;
struct alloc_relay;

struct alloc_traffic {
	uint64_t packets;
	uint64_t bytes;
};

/* RFC 8656, 9: one peer address of one relay; its port is 0. */
struct alloc_permission {
	UT_hash_handle by_ip; /* in relay->permissions */
	struct tp_addr peer;
	struct alloc_relay *relay;
	struct timer timer;
	uint64_t expires_ns;
	void *flows; /* the data plane's side of it: controlplane/flows */
};

/* RFC 8656, 12: a number and a peer address of one relay. */
struct alloc_channel {
	UT_hash_handle by_peer; /* in relay->channels */
	struct tp_addr peer;
	struct alloc_relay *relay;
	struct timer timer;
	uint64_t expires_ns;
	uint16_t number;
	void *flows;
};

/* A relayed transport address. A dual allocation (RFC 8656, 7.2) has two, each with its own life.
 */
struct alloc_relay {
	UT_hash_handle by_address; /* in the store */
	struct tp_addr address;    /* where the socket is bound */
	struct tp_addr external;   /* what clients are told: differs behind a 1:1 NAT */
	struct allocation *allocation;
	struct alloc_permission *permissions;
	struct alloc_channel *channels;
	uint32_t permissions_count;
	struct timer timer;
	uint64_t expires_ns;
	void *socket; /* the transport's side of it */
};

enum { ALLOC_RELAY_V4, ALLOC_RELAY_V6, ALLOC_RELAYS };

struct allocation {
	UT_hash_handle by_tuple; /* in the store */
	UT_hash_handle by_id;
	struct alloc_tuple tuple;
	uint32_t id; /* counts up from 1 */
	struct auth_identity *identity;
	struct alloc_relay *relays[ALLOC_RELAYS]; /* NULL = none of that family */
	struct alloc_channel **channels;          /* by number - 0x4000, grown as needed */
	uint16_t channels_size;
	uint16_t channels_count;
	uint8_t transaction[STUN_TRANSACTION_LEN]; /* of the Allocate that made it */
	uint64_t request_hash;                     /* and of all its bytes: retransmissions */
	uint8_t token[8];                          /* RESERVATION-TOKEN given out, if has_token */
	bool has_token;
	struct alloc_traffic sent, received; /* slow path, and flows that have ended */
};
