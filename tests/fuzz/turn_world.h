/*
 * The world of the turn target: clients, effects that keep books, and flows over a table of plain
 * memory behind them. What the server does against its contract ends the program.
 */
#pragma once

#include "fuzz.h"

#include "base/clock.h"
#include "controlplane/auth/nonce.h"
#include "controlplane/flows/flows.h"
#include "controlplane/stun/stun.h"
#include "controlplane/turn/server.h"

#define REALM      "example.org"
#define CLIENTS    5
#define RELAYS_MAX 64

struct client {
	struct alloc_tuple tuple;
	const char *user;
	uint8_t key[16];
	uint8_t token[8]; /* the last reservation */
	uint8_t request[2048];
	size_t request_len;
	uint32_t transactions;
};

struct world {
	struct auth *auth;
	struct policy *policy;
	struct turn_settings settings;
	struct turn_relay_address relays[2];
	struct turn_server *server;
	struct auth_now now;
	struct client clients[CLIENTS];

	struct tp_memory memory;
	struct tp_table *table;
	struct flows *flows;

	const struct client *asking; /* whose packet is being worked on; NULL: nobody's */
	size_t answers;
	struct tp_addr open[RELAYS_MAX]; /* of open relays */
	size_t open_count;
	unsigned fail_opens;
	int fail_with;
};

/* `choice`: bits that decide families, limits and sizes. */
void world_begin(struct world *w, uint8_t choice);
/* Nothing is left when the server has gone. */
void world_end(struct world *w);

/* What holds between any two packets. */
void world_check(struct world *w);
/* Flows and allocations say the same. */
void world_audit(struct world *w);
/* All destinations have another next hop. */
void world_change_routes(uint16_t next_hop);
void world_pass(struct world *w, uint64_t ns);

/* The bytes end where the packet ends, but for the promised room. */
void world_deliver(
	struct world *w, struct client *c, const uint8_t *bytes, size_t len, uint8_t ttl);
void world_deliver_peer(struct world *w, struct alloc_relay *relay, const struct tp_addr *peer,
	struct feed data, uint8_t ttl);
