/*
 * UDP listeners and relayed transport addresses as sockets on an event loop: hands datagrams to the
 * TURN server and carries out its effects. One thread; nothing blocks.
 */
#pragma once

#include "controlplane/config/config.h"
#include "controlplane/flows/flows.h"
#include "controlplane/turn/server.h"
#include "dataplane/core/flow.h"

#include <event2/event.h>

struct udp_transport;

/* base and flows stay the caller's. */
int udp_transport_new(struct event_base *base, struct flows *flows, struct udp_transport **out);
void udp_transport_free(struct udp_transport *transport);

/* Binds a listener (may need privileges); packets wait in it until udp_transport_serve(). */
int udp_transport_listen(struct udp_transport *transport, const struct tp_addr *address);

/*
 * The sockets of the relayed addresses of `turn`, which must outlive the transport; may need
 * privileges. Before the first relay. -errno, and the reason says why they cannot be had.
 */
int udp_transport_open_relays(struct udp_transport *transport, const struct turn_settings *turn,
	enum config_relay_sockets wanted);
/* Which kind they are, as in the configuration, and why. */
const char *udp_transport_relays_kind(const struct udp_transport *transport);
const char *udp_transport_relays_reason(const struct udp_transport *transport);

/* What turn_server_new() wants; valid as long as the transport. */
struct turn_effects udp_transport_effects(struct udp_transport *transport);

/* Starts reading. The server must outlive the last event. */
int udp_transport_serve(struct udp_transport *transport, struct turn_server *server);

/* Sends what a call of the server outside of a packet has left behind, and re-arms its timer. */
void udp_transport_settle(struct udp_transport *transport);

/* Media that passed through sockets, by direction. */
struct alloc_traffic udp_transport_traffic(
	const struct udp_transport *transport, enum tp_direction direction);

/* Media that came to sockets above the bandwidth limit. */
uint64_t udp_transport_policed(const struct udp_transport *transport);

/* Packets to relayed addresses that found a receive buffer full; false: nobody counts them. */
bool udp_transport_overflowed(const struct udp_transport *transport, uint64_t *out);

/* Datagrams, of clients' answers as well, that left behind another one in one message. */
uint64_t udp_transport_joined(const struct udp_transport *transport);

/* Datagrams that the kernel would not send. */
uint64_t udp_transport_failed(const struct udp_transport *transport);
