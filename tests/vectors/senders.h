/*
 * Clients of the world that have whole allocations: a relay of either family, permissions for the
 * peer of either family and a channel to it, and some that grant each other's relays. Each sender
 * is there twice, as an IPv4 and as an IPv6 client. And packets of theirs: every way there is from
 * a client to a peer, back, and round by way of a relay.
 */
#pragma once

#include "probe.h"

enum sender {
	SENDER_PLAIN,
	SENDER_VLAN,
	SENDER_REDIRECT,
	SENDER_SMALL,
	SENDER_UNROUTED,
	SENDER_LAPSED,
	SENDER_LIMITED, /* by the policer SENDER_POLICER */
	SENDER_ROUND,   /* these grant the relays: it binds channels to the next three's */
	SENDER_ROUND_DATA,
	SENDER_ROUND_CHANNEL, /* it binds channels to SENDER_ROUND's */
	SENDER_ROUND_LAPSED,
	SENDER_ROUND_LIMITED,
	SENDERS
};

#define SENDER_POLICER 5
#define SENDER_NOBODY  SENDERS

struct way {
	enum sender who;
	bool down;                    /* from a peer to `who`; else from `who` */
	enum tp_family client, relay; /* of `who`, and of the way beyond the relay */
	bool channel;                 /* up: ChannelData; down: from the channel's peer */
	bool round;                   /* the peer is the relay of: */
	enum sender whom;             /* SENDER_NOBODY: of no allocation, see port */
	enum tp_family whom_client;
	uint16_t port;    /* of the peer; 0: as usual */
	const char *peer; /* its address, in XOR-PEER-ADDRESS; NULL: as usual */
	size_t size;
	struct frame_spec frame; /* what is unusual */
	struct patch patch;
};

void senders_open(struct world *world);
uint16_t sender_relay_port(enum sender who, enum tp_family client);

void way_build(const struct way *way, struct frame_spec *spec, struct frame *out);

/* What it leaves as when it is relayed, and where; or, wrapped, by the kernel's IP output. */
void way_expect(const struct way *way, const struct world *world, const struct frame_spec *in,
	bool output, struct frame *out, uint32_t *egress);
