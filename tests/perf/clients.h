/*
 * TURN clients, many at a time: each has a socket, an allocation and its channels. One thread.
 * What goes wrong ends the program with a line on stderr and exit code 1.
 */
#pragma once

#include "base/addr.h"
#include "controlplane/stun/stun.h"
#include "histogram.h"

#include <stdbool.h>

enum client_step { CLIENT_CHALLENGE, CLIENT_ALLOCATE, CLIENT_BIND, CLIENT_DONE };

struct client {
	int fd; /* connected to the server, non-blocking */
	enum client_step step;
	unsigned channel; /* being bound */
	unsigned tries;   /* of a request */
	unsigned stale;   /* nonces refused in a row */
	uint64_t sent_ns;
	struct tp_addr relay;
	uint8_t transaction[STUN_TRANSACTION_LEN];
	char realm[128], nonce[128];
};

struct clients_settings {
	struct tp_addr server;
	struct tp_addr local; /* of client 0; the others have the ports behind; port 0: any */
	const char *user, *password;
	unsigned allocations, channels;
	unsigned window;     /* clients that are being served at a time */
	unsigned lifetime_s; /* of allocations */
	bool pairs;          /* peers are each other's relayed addresses */
	/* Of channel `channel` of any client; unused with pairs. */
	struct tp_addr (*peer_of)(const struct clients_settings *settings, unsigned channel);
	struct tp_addr peer;
};

struct clients {
	struct clients_settings settings;
	struct client *all;
	int epoll; /* data.u32 is the client's index */
	unsigned started, finished;
	uint64_t answers[HISTOGRAM_SLOTS]; /* how long requests took that were sent once, ns */
};

#define CLIENTS_FIRST_CHANNEL 0x4000u

/* Allocations and channels made when it returns; call it once, on a zeroed struct. */
void clients_make(struct clients *l, const struct clients_settings *settings);

/* Deletes the allocations, as far as the server answers; closes the sockets. */
void clients_end(struct clients *l);
