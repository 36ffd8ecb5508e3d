/* The world around a TURN server under test: a virtual clock, effects that keep a notebook, clients
 * that build their requests. Every answer is checked for what all answers must have. */
#pragma once

#include "controlplane/turn/server.h"

#include "base/clock.h"
#include "controlplane/stun/stun.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define REALM "example.org"
#define P1    "8.8.8.8:1000"
#define P1B   "8.8.8.8:2000"
#define P2    "8.8.4.4:1000"
#define P6    "[2606:4700::1111]:1000"
#define NONE  ((int)STUN_DISCARD)

#define WANT(row, got, want)                                                                       \
	do {                                                                                       \
		int got_ = (int)(got), want_ = (int)(want);                                        \
		if (got_ != want_)                                                                 \
			fail_msg("%s: %d, not %d", (row), got_, want_);                            \
	} while (0)

struct notebook {
	unsigned int extended; /* relays that live on */
	uint8_t client[2048];  /* the last message to a client */
	size_t client_len;
	struct turn_marks client_marks;
	struct alloc_tuple client_to;
	size_t to_client;

	uint8_t peer[2048]; /* the last datagram to a peer */
	size_t peer_len;
	struct turn_marks peer_marks;
	struct tp_addr peer_from, peer_to;
	size_t to_peer;

	size_t relays, permissions, channels; /* alive */
	size_t opened;
	int fail_opens; /* how many of the next ones */
	int fail_with;

	/* Above the bandwidth limit: nothing may go. What was asked: */
	bool over_limit;
	size_t policed;
	size_t policed_len;
	enum turn_direction policed_direction;
};

extern struct world {
	struct auth *auth;
	struct policy *policy;
	struct turn_server *server;
	struct auth_now now;
	struct notebook book;
} w;

/* Which relay addresses the server has; NAT: an IPv4 one with another outside. */
enum { V4 = 1, V6 = 2, DUAL = 3, NAT = 4 };

extern const struct turn_settings usual;

struct client {
	struct alloc_tuple tuple;
	const char *user;
	uint8_t key[16];
	char nonce[128];
	size_t nonce_len;
	uint32_t transactions;
	bool same_transaction; /* the next request repeats the last one's */
	uint8_t request[2048]; /* the last one */
	size_t request_len;
	struct stun_message answer; /* in w.book.client */
};

/* One attribute: bytes as they are, or a peer. type 0 ends a list. */
struct attr {
	uint16_t type;
	uint16_t len;
	const char *bytes;
	const char *peer;
};

#define RAF(s)  BYTES(REQUESTED_ADDRESS_FAMILY, s)
#define AAF(s)  BYTES(ADDITIONAL_ADDRESS_FAMILY, s)
#define EVEN(s) BYTES(EVEN_PORT, s)
#define LIST(...)                                                                                  \
	{                                                                                          \
		__VA_ARGS__                                                                        \
	}
#define BYTES(name, text)                                                                          \
	{                                                                                          \
		.type = STUN_ATTR_##name, .len = sizeof(text) - 1, .bytes = text                   \
	}
#define PEER(text)                                                                                 \
	{                                                                                          \
		.type = STUN_ATTR_XOR_PEER_ADDRESS, .peer = text                                   \
	}
#define ATTRS(...)                                                                                 \
	(const struct attr[])                                                                      \
	{                                                                                          \
		__VA_ARGS__,                                                                       \
		{                                                                                  \
			0                                                                          \
		}                                                                                  \
	}
#define NO_ATTRS           ((const struct attr[]){{0}})
#define UDP                BYTES(REQUESTED_TRANSPORT, "\x11\0\0\0")
#define LIFETIME(s)        BYTES(LIFETIME, s)
#define NUMBER(s)          BYTES(CHANNEL_NUMBER, s)
#define DELETE             ATTRS(LIFETIME("\0\0\0\0"))
#define FROM_PEER(c, peer) from_peer(c, peer, "answer", 6)

struct tp_addr addr(const char *text);
void world_begin(int families, struct turn_settings settings);
/* Whatever a test did: nothing is left when the server has gone. */
void world_end(void);
void pass(uint64_t seconds);
struct client client(uint16_t port, const char *user);
void start(struct client *c, struct stun_writer *writer, enum stun_class class, int method,
	const struct attr *attrs);
void deliver_marked(struct client *c, const void *bytes, size_t len, uint8_t ttl, uint8_t tos);
/* The code of the answer, 0 for success, NONE for silence; what every answer must have is checked
 * here. */
int deliver_request(struct client *c, bool authenticated);
int ask_bare(struct client *c, int method, const struct attr *attrs);
void learn_nonce(struct client *c);
int ask_once(struct client *c, int method, const struct attr *attrs);
/* As clients do: with the nonce of a 401 or 438, and again when it has become stale. */
int ask(struct client *c, int method, const struct attr *attrs);
int again(struct client *c);
void allocate(struct client *c);
void allocate_dual(struct client *c);
int permit(struct client *c, const char *peer);
int bind_channel(struct client *c, uint16_t number, const char *peer);
int refresh(struct client *c, const struct attr *attrs);
uint32_t lifetime_of(const struct client *c);
/* The relayed address of that family in the answer; family 0 if there is none. */
struct tp_addr relayed(const struct client *c, enum tp_family family);
struct allocation *allocation_of(const struct client *c);
struct alloc_relay *relay_of(const struct client *c, const struct tp_addr *peer);
/* A Send indication; true if something has reached a peer. */
bool send_indication(struct client *c, const struct attr *attrs);
bool send_to(struct client *c, const char *peer);
bool send_channel(struct client *c, const char *bytes, size_t len);
/* What the client gets of a peer's datagram: 0 nothing, 1 a Data indication, else the channel. */
int from_peer(struct client *c, const char *text, const char *data, size_t len);
