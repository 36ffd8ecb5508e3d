/*
 * How datagrams get from and to relayed transport addresses, below transport/udp.c: each address
 * has a socket of its own (relays_each.c), or all share a few (relays_shared.c). One struct of
 * functions per kind. One thread; nothing blocks.
 */
#pragma once

#include "controlplane/config/config.h"
#include "controlplane/turn/server.h"
#include "dataplane/engine/engine.h"
#include "dataplane/engine/socket/transmit.h"
#include "dataplane/engine/socket/udp.h"

struct event_base;

struct relays; /* each kind has its own layout */

/* All of it stays the caller's and outlives the relays. */
struct relays_options {
	struct event_base *base;
	struct tp_udp_rx *rx;
	struct tp_udp_tx *tx;             /* flushed after each batch of received packets */
	const struct turn_settings *turn; /* what can be opened: turn->relays[alloc_relay.pool] */
};

struct relays_ops {
	const char *kind; /* as in the configuration and in `status` */

	/*
	 * May need privileges, which nothing after it does. -errno, and `reason` says why this kind
	 * cannot be had here.
	 */
	int (*start)(const struct relays_options *options, struct relays **out,
		char reason[TP_REASON_SIZE]);

	/* Who gets packets and ICMP errors once the event loop runs. */
	int (*serve)(struct relays *relays, struct turn_server *server);

	/*
	 * From here on packets to relay->address are ours. -EADDRINUSE: another process has the
	 * port; -EADDRNOTAVAIL: the machine has no such address at the moment.
	 */
	int (*open)(struct relays *relays, struct alloc_relay *relay);
	/* No longer; what was queued for sending must have been flushed. */
	void (*close)(struct relays *relays, struct alloc_relay *relay);

	/* Queues one datagram from the relay; `data` must stay until the flush. */
	void (*send)(struct relays *relays, struct alloc_relay *from, const struct tp_addr *peer,
		const void *data, size_t data_len, struct tp_udp_marks marks);

	/* Packets that found a receive buffer full. NULL: nobody counts them. */
	uint64_t (*overflowed)(const struct relays *relays);

	/* All are closed. */
	void (*stop)(struct relays *relays);
};

extern const struct relays_ops relays_each;
extern const struct relays_ops relays_shared; /* absent when built with -Dxdp=disabled */

/*
 * For both kinds: reads a socket until it is empty, but only so long that the others get their turn
 * (threat R17), and sends what comes of it. Returns how many packets there were.
 */
typedef void relays_take(void *arg, uint64_t now_ns, const struct tp_udp_packet *packet);
size_t relays_read(const struct relays_options *options, int fd, relays_take *take, void *arg);

/*
 * What is wanted; `auto` is shared sockets where BPF is allowed and the kernel keeps the ports for
 * us, else one socket each. Blocks on the kernel. -errno, and out->reason says why not.
 */
struct relays_choice {
	const struct relays_ops *ops;
	struct relays *relays;
	char reason[TP_REASON_SIZE]; /* why this kind */
};
int relays_start(const struct relays_options *options, enum config_relay_sockets wanted,
	struct relays_choice *out);
