/* What flows.c keeps and audit.c looks at. Nobody else includes this. */
#pragma once

#include "flows.h"

#define RECORD_NO_SLOT UINT32_MAX

/* One flow: in its slot, or missing. */
struct record {
	struct flows *flows;
	struct route_user user;      /* of the way that its packets leave by */
	TAILQ_ENTRY(record) missing; /* in flows->missing, if is_missing */
	uint32_t slot;
	uint16_t next_hop;
	uint8_t kind; /* enum tp_flow_kind */
	bool is_missing;
	union {
		struct alloc_permission *permission;
		struct alloc_channel *channel;
		struct allocation *client;
	};
};

TAILQ_HEAD(record_list, record);

struct peer_key {
	const struct alloc_relay *relay;
	uint8_t ip[16];
};

/*
 * All that concerns one peer address of one relay: how long its channels carry data depends on its
 * permission, which may be gone for a while and come back.
 */
struct peer {
	UT_hash_handle hh;
	struct peer_key key;
	struct permission_flows *permission; /* NULL: none now */
	LIST_HEAD(channel_list, channel_flows) channels;
};

struct permission_flows {
	struct record record;
	struct peer *peer;
};

struct channel_flows {
	struct record to_peer, to_client;
	struct peer *peer;
	LIST_ENTRY(channel_flows) link; /* in its peer's channels */
};

/* An allocation's 5-tuple, for as long as it has a relay. */
struct client_flows {
	struct record record;
	LIST_ENTRY(client_flows) link; /* in flows->clients */
	unsigned relays;
};

struct flows {
	struct tp_table *table;
	struct route *route;
	struct peer *peers;
	LIST_HEAD(client_list, client_flows) clients;
	struct record_list missing;
	struct tp_addr *listeners;
	size_t listeners_count;
	/* How many flows of a relay port are missing; touched for few ports, so it costs no memory.
	 */
	uint32_t (*missing_by_port)[65536]; /* [TP_LOCALS_MAX] */
};
