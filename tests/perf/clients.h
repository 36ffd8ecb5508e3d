/*
 * TURN clients, many at a time: each has an address of an end, an allocation and its channels. They
 * are made, renewed while traffic runs, and deleted; a window of them has a request under way. One
 * thread at a time. What the server refuses is said on stderr.
 */
#pragma once

#include "base/addr.h"
#include "controlplane/stun/stun.h"
#include "end.h"
#include "histogram.h"

#include <stdatomic.h>
#include <stdbool.h>

enum client_step {
	CLIENT_CHALLENGE, /* Allocate without credentials, for the realm and a nonce */
	CLIENT_ALLOCATE,
	CLIENT_BIND,
	CLIENT_DONE,
	CLIENT_REFRESH, /* then its channels are bound again, and permissions with them */
	CLIENT_DELETE,
	CLIENT_GONE
};

struct client {
	struct tp_addr relay;
	uint32_t due_s;   /* when to be renewed */
	uint32_t slot;    /* of its request under way */
	uint16_t channel; /* being bound */
	uint8_t step;     /* enum client_step */
	uint8_t stale;    /* nonces refused in a row */
	char nonce[128];
};

struct request {
	uint32_t client; /* CLIENTS_NOBODY: none is under way */
	unsigned tries;
	uint64_t sent_ns;
	uint8_t transaction[STUN_TRANSACTION_LEN];
};

struct clients_settings {
	struct tp_addr server;
	const char *user, *password;
	unsigned allocations, channels;
	unsigned window;     /* requests under way at a time */
	unsigned lifetime_s; /* of allocations, as asked for */
	unsigned renew_s;    /* after that time everything is refreshed; or earlier */
	bool pairs;          /* peers are each other's relayed addresses */
	/* Of a channel of a client; unused with pairs. */
	struct tp_addr (*peer_of)(void *arg, unsigned client, unsigned channel);
	void *arg;
	const atomic_bool *stop; /* making ends early; NULL: it does not */
	void (*progress)(unsigned done, unsigned of, const char *what); /* now and then, or NULL */
};

struct clients {
	struct clients_settings settings;
	struct end *end;
	struct client *all;
	struct request *requests; /* of the window */
	uint32_t *idle_slots;
	unsigned idle;              /* of them */
	unsigned started, finished; /* being made or deleted */
	unsigned renewed;           /* the next to be renewed */
	atomic_uint lost;           /* the server did not want to renew them */
	unsigned unanswered;        /* deletions */
	bool making, has_failed;
	uint64_t checked_ns;
	char realm[128];
	uint8_t key[16];
	uint64_t answers[HISTOGRAM_SLOTS]; /* how long requests took that were sent once, ns */
};

#define CLIENTS_NOBODY        UINT32_MAX
#define CLIENTS_FIRST_CHANNEL 0x4000u

/* Allocations and channels made when it returns; or has_failed, or stopped. Call it once, on a
 * zeroed struct. The end has an address for each. */
void clients_make(struct clients *l, const struct clients_settings *settings, struct end *end);

/* A datagram that came to the end: false if it is no answer. */
bool clients_take(struct clients *l, const struct datagram *datagram);

/* Sends again what was not answered, and renews what is due. To be called ten times a second. */
void clients_tick(struct clients *l);

/* Takes what comes to the end for a tenth of a second at most, and ticks. */
void clients_wait(struct clients *l);

/* Deletes the allocations, as far as the server answers. */
void clients_end(struct clients *l);
