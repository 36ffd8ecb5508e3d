/*
 * Datagrams in batches over ordinary sockets: what `engine: socket` relays with, and the slow path
 * under every other engine. One thread per tp_udp_rx and tp_udp_tx. Sockets are non-blocking.
 */
#pragma once

#include "base/addr.h"

#define TP_UDP_BATCH     32
#define TP_UDP_HEAD_SIZE 1024

/*
 * TP_UDP_LISTENER: large buffers. TP_UDP_RELAY: ICMP errors are kept for tp_udp_next_error().
 * TP_UDP_STEERED: gets what others steer to it, whatever the destination, which is reported; the
 * local address is one that no packet has, of the family of `local`.
 */
enum tp_udp_role { TP_UDP_LISTENER, TP_UDP_RELAY, TP_UDP_STEERED };

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

/* The header fields of an outgoing datagram; ttl 0: the system's default. */
struct tp_udp_marks {
	uint8_t ttl, tos;
	bool dont_fragment;
};

struct tp_udp_counters {
	uint64_t sent;
	uint64_t failed; /* refused by the kernel: no route, too big, buffers full */
};

struct tp_udp_tx;

int tp_udp_tx_new(struct tp_udp_tx **out);
void tp_udp_tx_free(struct tp_udp_tx *tx);

/*
 * Queues one datagram, head then data. `head` (at most TP_UDP_HEAD_SIZE) is copied, `data` must
 * stay until the flush. Flushes by itself when the queue is full.
 */
void tp_udp_queue(struct tp_udp_tx *tx, int fd, const struct tp_addr *to, const void *head,
	size_t head_len, const void *data, size_t data_len, struct tp_udp_marks marks);
/*
 * The same through a socket that has no address of its own: `from` is the source. DF is the
 * socket's business.
 */
void tp_udp_queue_from(struct tp_udp_tx *tx, int fd, const struct tp_addr *from,
	const struct tp_addr *to, const void *head, size_t head_len, const void *data,
	size_t data_len, struct tp_udp_marks marks);
void tp_udp_flush(struct tp_udp_tx *tx);
struct tp_udp_counters tp_udp_tx_counters(const struct tp_udp_tx *tx);
