/* What flows.c keeps and audit.c looks at. Nobody else includes this. */
#pragma once

#include "flows.h"

#include "policers.h"

#define RECORD_NO_SLOT UINT32_MAX

/* One flow: in its slot, or missing. What it is a flow of, it lies in. */
struct record {
	uint32_t slot;
	uint8_t kind; /* enum tp_flow_kind */
	bool is_missing;
};

/* There are few, as a rule, so that records do without links. */
struct missing {
	struct tp_map_link by_record;
	TAILQ_ENTRY(missing) link;
	struct record *record;
};

TAILQ_HEAD(missing_list, missing);

/*
 * All that concerns one peer address of one relay: the way there; and how long its channels carry
 * data depends on its permission, which may be gone for a while and come back.
 */
struct peer {
	struct tp_map_link by_ip; /* in its relay's peers */
	const struct alloc_relay *relay;
	uint8_t ip[16];
	struct route_user user;
	struct permission_flows *permission; /* NULL: none now */
	LIST_HEAD(channel_list, channel_flows) channels;
};

/* In a relay. */
struct relay_flows {
	struct tp_map peers;
};

/* In a permission, once it was granted. */
struct permission_flows {
	struct peer *peer;
	struct record record;
	uint32_t expires; /* ticks: what its peer's channels have been told */
};

/* In a channel, once it was granted. */
struct channel_flows {
	struct peer *peer;
	struct record to_peer, to_client;
	LIST_ENTRY(channel_flows) link; /* in its peer's channels */
};

/* In an allocation, for as long as it has a relay: its 5-tuple, and the way to the client. */
struct client_flows {
	struct flows *flows;
	struct record record;
	uint32_t number; /* of note and policer; 0: all are in use */
	uint32_t relays;
	struct route_user user;        /* follows from the first grant on */
	LIST_ENTRY(client_flows) link; /* in flows->clients */
};

_Static_assert(sizeof(struct permission_flows) <= ALLOC_PERMISSION_ROOM * sizeof(uint64_t) &&
		       sizeof(struct relay_flows) <= ALLOC_RELAY_ROOM * sizeof(uint64_t) &&
		       sizeof(struct channel_flows) <= ALLOC_CHANNEL_ROOM * sizeof(uint64_t) &&
		       sizeof(struct client_flows) <= ALLOC_ROOM * sizeof(uint64_t),
	"what the objects have room for");

static inline struct relay_flows *flows_of_relay(const struct alloc_relay *relay)
{
	return (void *)relay->flows;
}

/* NULL: nothing was granted yet. */
static inline struct permission_flows *flows_of_permission(
	const struct alloc_permission *permission)
{
	struct permission_flows *f = (void *)permission->flows;

	return f->peer ? f : NULL;
}

static inline struct channel_flows *flows_of_channel(const struct alloc_channel *channel)
{
	struct channel_flows *f = (void *)channel->flows;

	return f->peer ? f : NULL;
}

static inline struct client_flows *flows_of_client(const struct allocation *allocation)
{
	struct client_flows *f = (void *)allocation->flows;

	return f->flows ? f : NULL;
}

/* What changes while an audit is under way: it is not to be held against anybody. */
void audit_flow_placed(struct flows_audit *audit, uint32_t slot);
void audit_port_changed(struct flows_audit *audit, uint8_t local, uint16_t port);
void audit_note_made(struct flows_audit *audit, uint32_t number);
void audit_missing_changed(struct flows_audit *audit);

/* What the specification of a record does not have from alloc/. */
void record_complete(const struct record *record, struct tp_flow_spec *out);

_Static_assert(TP_LOCALS_MAX <= 32, "bits of flows.own");

struct flows {
	struct tp_table *table;
	struct route *route;
	LIST_HEAD(client_list, client_flows) clients;
	struct missing_list missing;
	struct tp_map missing_by_record;
	bool limited; /* every allocation's flows name its policer */
	struct policers policers;
	struct tp_addr *listeners;
	size_t listeners_count;
	struct flows_audit *audit; /* NULL: none is under way */
	uint32_t own; /* a bit for each local address that is ours, whoever has ports there */
	/* How many flows of a relay port are missing; touched for few ports, so it costs no memory.
	 */
	uint32_t (*missing_by_port)[65536]; /* [TP_LOCALS_MAX] */
};
