/*
 * Ordinary sockets, and batches of datagrams from them: what `engine: socket` relays with, and the
 * slow path under every other engine; transmit.h sends. One thread per tp_udp_rx. Sockets are
 * non-blocking.
 */
#pragma once

#include "base/addr.h"

#define TP_UDP_BATCH 32

/*
 * TP_UDP_LISTENER: large buffers. TP_UDP_RELAY: ICMP errors are kept for tp_udp_next_error().
 * TP_UDP_STEERED: gets what others steer to it, whatever the destination, which is reported; the
 * local address is one that no packet has, of the family of `local`. TP_UDP_SENDING: receives
 * nothing.
 */
enum tp_udp_role { TP_UDP_LISTENER, TP_UDP_RELAY, TP_UDP_STEERED, TP_UDP_SENDING };

/* Could a socket be bound to it now? 0; -EADDRINUSE, -EADDRNOTAVAIL and what else bind() says. */
int tp_udp_probe(const struct tp_addr *local);

/* Bound to `local`; TTL and TOS of what arrives are reported; DF is clear unless asked for. */
int tp_udp_open(const struct tp_addr *local, enum tp_udp_role role, int *out);

struct tp_udp_packet {
	uint8_t *bytes; /* inside the tp_udp_rx: valid until its next tp_udp_receive() */
	size_t len;
	struct tp_addr remote;
	struct tp_addr local; /* TP_UDP_STEERED: where it was sent to */
	uint8_t ttl, tos;
};

struct tp_udp_rx;

int tp_udp_rx_new(struct tp_udp_rx **out);
void tp_udp_rx_free(struct tp_udp_rx *rx);

/* Up to TP_UDP_BATCH datagrams, without waiting; 0 when there are none. *packets is rx's own. */
size_t tp_udp_receive(struct tp_udp_rx *rx, int fd, const struct tp_udp_packet **packets);

/* An ICMP error that the kernel kept for a datagram sent from this socket. */
struct tp_udp_error {
	struct tp_addr destination; /* of the datagram that caused it */
	uint8_t type, code;         /* ICMPv4 or ICMPv6, by the destination's family */
	uint32_t data;              /* next-hop MTU, where the type has one */
};
bool tp_udp_next_error(int fd, struct tp_udp_error *out);
