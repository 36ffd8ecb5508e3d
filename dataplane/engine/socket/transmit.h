/*
 * A queue of datagrams for sockets, emptied by as few system calls as can be. Neighbours in the
 * queue that differ in nothing but what they say leave as one message, which the kernel cuts
 * up again behind its routing and filters (UDP_SEGMENT); where it cannot, they go one by one. What
 * is queued for one destination leaves in its order. One thread per queue; never blocks.
 */
#pragma once

#include "base/addr.h"

#define TP_UDP_HEAD_SIZE 1024

/* The header fields of an outgoing datagram; ttl 0: the system's default. */
struct tp_udp_marks {
	uint8_t ttl, tos;
	bool dont_fragment;
};

struct tp_udp_counters {
	uint64_t sent;
	uint64_t failed; /* refused by the kernel: no route, too big, buffers full */
	uint64_t joined; /* of those sent: behind another one in its message */
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
