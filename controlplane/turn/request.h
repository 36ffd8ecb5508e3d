/* What the files of turn/ share: the server itself and a request on its way through them. */
#pragma once

#include "server.h"

#include "base/clock.h"
#include "controlplane/auth/ratelimit.h"
#include "controlplane/stun/stun.h"

#define TURN_METHODS_MAX 8
#define TURN_CODES_MAX   24

struct turn_server {
	struct turn_settings
		settings; /* relays: a copy of our own; indexes are the store's pools */
	bool has_external;
	bool draining;
	struct auth *auth;
	struct policy *policy;
	struct turn_effects effects;
	struct alloc_store *store;
	struct ratelimit *unauthenticated; /* NULL: no limit */
	size_t turn_of_relay;              /* round robin */
	uint64_t indications;              /* counts what their transaction ids come from */
	uint64_t requests[TURN_METHODS_MAX][TURN_CODES_MAX];
};

struct turn_request {
	const struct auth_now *now;
	const struct alloc_tuple *tuple;
	struct stun_message message;
	struct allocation *allocation; /* on this 5-tuple; NULL = none */
	struct auth_identity identity; /* key_len 0: not authenticated */
};

/*
 * A handler returns STUN_OK and has put the attributes of the success into `answer`, or says why
 * not and has changed nothing. All but Binding run authenticated; all but Allocate and Binding
 * have an allocation, and it is the user's.
 */
typedef enum stun_code turn_handler(
	struct turn_server *s, struct turn_request *req, struct stun_writer *answer);

turn_handler turn_on_binding, turn_on_allocate, turn_on_refresh, turn_on_create_permission,
	turn_on_channel_bind;

/* The silent half (RFC 8656, 11.2 and 12.6): never an answer. */
void turn_on_send(
	struct turn_server *s, const struct turn_request *req, const struct turn_packet *packet);
void turn_on_channel_data(struct turn_server *s, uint64_t now_ns, const struct alloc_tuple *tuple,
	const struct turn_packet *packet);

/* The lifetime that LIFETIME asks for, by the rules of 7.2; `asked` (may be NULL) as it stands in
 * the request. STUN_BAD_REQUEST: malformed. */
enum stun_code turn_read_lifetime(const struct turn_server *s, const struct stun_message *m,
	uint64_t *lifetime_ns, bool *is_zero);

/*
 * XOR-PEER-ADDRESS: the peer as this host reaches it, and the relay of its family. 400: malformed;
 * 443: the allocation has no relay of that family.
 */
enum stun_code turn_read_peer(const struct turn_server *s, const struct turn_request *req,
	struct stun_attribute attribute, struct tp_addr *peer, struct alloc_relay **relay);

/*
 * May `relay` talk with `peer` (an address of turn_read_peer())? The one place where policy is
 * asked (threat P18). On an own relay address only live relays are peers, and not the allocation's
 * own (P13 to P15); `need_port` false leaves that to the data (CreatePermission names no port).
 */
enum stun_code turn_peer_check(const struct turn_server *s, const struct alloc_relay *relay,
	const struct tp_addr *peer, bool need_port, uint64_t now_ns);

/* The socket and the flows of a relay that has its port. */
int turn_open_relay(struct turn_server *s, struct alloc_relay *relay);

/* Is it a channel's number here? */
bool turn_is_channel(const struct turn_server *s, uint16_t number);

/* A permission for the log, at level debug (RFC 8656, 21.3.2). */
void turn_note_peer(const struct turn_request *req, const struct tp_addr *peer);

/* Behind a 1:1 NAT: the peer as clients name it. */
struct tp_addr turn_peer_outward(const struct turn_server *s, const struct tp_addr *peer);

/* The bandwidth limit is asked last, when nothing else keeps the data from going. */
bool turn_police(const struct turn_server *s, const struct allocation *a,
	enum turn_direction direction, uint64_t now_ns, size_t len);

/* The marks of a relayed packet. False: its hops are used up, it is not relayed. */
bool turn_marks_of(const struct turn_packet *packet, struct turn_marks *out);
