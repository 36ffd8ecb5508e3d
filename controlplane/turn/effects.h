/*
 * What the TURN server does to the world, as a table of functions: sockets and shared tables behind
 * them in turnpiked, a notebook in the tests. Grants and revocations are done when the function
 * returns, so an answer can never leave before the tables say the same.
 */
#pragma once

#include "controlplane/alloc/alloc.h"

/* Header fields that cross the relay (RFC 8656, 14). */
struct turn_marks {
	uint8_t ttl; /* of the outgoing packet; 0 = the system's default */
	uint8_t tos; /* DSCP and ECN */
	bool dont_fragment;
};

enum turn_direction { TURN_TO_PEER, TURN_TO_CLIENT };

struct turn_effects {
	void *context;

	/*
	 * To the client, from the address it knows us by. `head` (at most TURN_HEAD_MAX bytes) is
	 * copied; `data` may be referred to until the batch of received packets is done.
	 */
	void (*send_client)(void *context, const struct alloc_tuple *to, const void *head,
		size_t head_len, const void *data, size_t data_len, struct turn_marks marks);

	/* From the relayed address. `data` as above. */
	void (*send_peer)(void *context, struct alloc_relay *from, const struct tp_addr *peer,
		const void *data, size_t data_len, struct turn_marks marks);

	/* Binds relay->address and owns its port. -EADDRINUSE: try another port. */
	int (*open_relay)(void *context, struct alloc_relay *relay);
	/* It lives until another moment than it was opened with. */
	void (*extend_relay)(void *context, struct alloc_relay *relay);
	/* No packet of it is relayed once this returns. */
	void (*close_relay)(void *context, struct alloc_relay *relay);

	/* New, or it or its relay was refreshed: the objects hold what is to be true. Failure to
	 * place it is no error. */
	void (*grant_permission)(void *context, struct alloc_permission *permission);
	void (*revoke_permission)(void *context, struct alloc_permission *permission);
	void (*grant_channel)(void *context, struct alloc_channel *channel);
	void (*revoke_channel)(void *context, struct alloc_channel *channel);

	/* The bandwidth limit: may `len` bytes of data go? They are paid for if they may; otherwise
	 * they are counted and nothing is sent. */
	bool (*police)(void *context, const struct allocation *allocation,
		enum turn_direction direction, uint64_t now_ns, size_t len);
};

#define TURN_HEAD_MAX 1024
