/* What flows.c keeps and audit.c looks at. Nobody else includes this. */
#pragma once

#include "flows.h"

#include "policers.h"

#define RECORD_NO_SLOT UINT32_MAX

/* One flow: in its slot, or missing. */
struct record {
	struct flows *flows;
	TAILQ_ENTRY(record) missing; /* in flows->missing, if is_missing */
	uint32_t slot;
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
 * All that concerns one peer address of one relay: the way there; and how long its channels carry
 * data depends on its permission, which may be gone for a while and come back.
 */
struct peer {
	struct tp_map_link by_key; /* in flows->peers */
	struct peer_key key;
	struct route_user user;
	uint16_t hop;
	struct permission_flows *permission; /* NULL: none now */
	LIST_HEAD(channel_list, channel_flows) channels;
};

struct permission_flows {
	struct record record;
	struct peer *peer;
	uint32_t expires; /* ticks: what its peer's channels have been told */
};

struct channel_flows {
	struct record to_peer, to_client;
	struct peer *peer;
	LIST_ENTRY(channel_flows) link; /* in its peer's channels */
};

/* An allocation's 5-tuple, for as long as it has a relay, and the way to the client. */
struct client_flows {
	struct record record;
	struct route_user user; /* follows from the first grant on */
	uint16_t hop;
	struct policer *number;        /* of note and policer; NULL: all are in use */
	LIST_ENTRY(client_flows) link; /* in flows->clients */
	unsigned relays;
};

/* What the specification of a record does not have from alloc/. */
void record_complete(const struct record *record, struct tp_flow_spec *out);

_Static_assert(TP_LOCALS_MAX <= 32, "bits of flows.own");

struct flows {
	struct tp_table *table;
	struct route *route;
	struct tp_map peers;
	LIST_HEAD(client_list, client_flows) clients;
	struct record_list missing;
	bool limited; /* every allocation's flows name its policer */
	struct policers policers;
	struct tp_addr *listeners;
	size_t listeners_count;
	uint32_t own; /* a bit for each local address that is ours, whoever has ports there */
	/* How many flows of a relay port are missing; touched for few ports, so it costs no memory.
	 */
	uint32_t (*missing_by_port)[65536]; /* [TP_LOCALS_MAX] */
};
