/*
 * The tables in which the vectors run: a server with a listener and a relay address in both
 * families, and one lane per thing that can be wrong with a flow. A lane is an allocation of the
 * same client with one channel; its relay port is 0xc000 + the low byte of the channel unless said.
 */
#pragma once

#include "dataplane/table/table.h"

#define WORLD_INGRESS           1 /* ifindex; BPF_PROG_TEST_RUN's is the loopback's */
#define WORLD_LISTENER_PORT     3478
#define WORLD_KNOWN_CLIENT_PORT 40009 /* has an allocation, but no channel */
#define WORLD_CHANNEL           0x4001

enum world_address { CLIENT, PEER, LISTENER, RELAY };

enum world_hop {
	HOP_PLAIN = 1,
	HOP_VLAN,
	HOP_REDIRECT, /* leaves by another interface */
	HOP_FOREIGN,  /* by one that is not the engine's */
	HOP_UNRESOLVED,
	HOP_SMALL,   /* MTU 1280 */
	HOP_BUSY,    /* being written */
	HOP_NOWHERE, /* without an interface, at a place that has none */
	HOPS_END,
};

struct world_lane {
	uint16_t channel;
	uint16_t port; /* relay port; 0 = by the channel */
	enum world_hop hop;
	const char *peer4, *peer6;     /* NULL = PEER */
	const char *client4, *client6; /* NULL = CLIENT */
	bool expired;
	bool translated; /* the other side has the other family */
};

/* Relay ports without a channel. */
enum world_port {
	PORT_PERMISSION = 50100,      /* a permission, no channel */
	PORT_LAPSED = 50101,          /* a permission that has expired */
	PORT_UNGRANTED = 50102,       /* an allocation that granted nothing */
	PORT_SLOW = 50103,            /* served by the control plane */
	PORT_CHANNEL_OVER = 50104,    /* expired channel, live permission */
	PORT_EVERYTHING_OVER = 50105, /* expired channel, expired permission */
	PORT_CLOSED = 50106,          /* not ours */
};

struct world {
	struct tp_memory memory;
	struct tp_table *table;
	struct tp_next_hop hops[HOPS_END];
	uint32_t interfaces[TP_INTERFACES_MAX]; /* ifindex by place */
	bool outputs;                           /* the host does (core/host.h) */
};

/* redirect_ifindex: of HOP_REDIRECT. Ends the program when anything fails. */
void world_create(struct world *world, uint32_t redirect_ifindex);
void world_create_for(
	struct world *world, uint32_t redirect_ifindex, uint32_t capacity); /* flows */
void world_destroy(struct world *world);

struct tp_addr world_address(enum tp_family family, enum world_address which);

/* NULL when no lane has that channel. */
const struct world_lane *world_lane(uint16_t channel);
const struct world_lane *world_lane_at(size_t index);
size_t world_lanes(void);
uint16_t world_lane_port(const struct world_lane *lane);
struct tp_addr world_lane_peer(const struct world_lane *lane, enum tp_family family);
struct tp_addr world_lane_client(const struct world_lane *lane, enum tp_family family);

/* What was counted for the flow in a slot; and is that the same in other tables? */
struct tp_flow_counters world_counted(const struct tp_memory *memory, uint32_t slot);
bool world_counted_equally(const struct tp_memory *a, const struct tp_memory *b, uint32_t slot);

/* The label of the flow with this remote and local port; the tables draw it at random. */
uint32_t world_label(const struct world *world, const struct tp_addr *remote, uint16_t local_port,
	enum tp_flow_kind kind, uint16_t channel);
