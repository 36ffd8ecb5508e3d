/*
 * Sockets for those of the shared relayed addresses that send to one peer datagram after datagram:
 * raw sockets send them one by one, one that is bound to the address joins them (transmit.h).
 * Nothing is received there: the steering program comes before it. One thread; nothing blocks.
 */
#pragma once

#include "controlplane/turn/server.h"
#include "dataplane/engine/socket/transmit.h"

struct bursts;

/* `tx` is what the sockets are for; it stays the caller's. */
int bursts_new(struct tp_udp_tx *tx, struct bursts **out);
/* None is open. */
void bursts_free(struct bursts *bursts);

/*
 * To be asked for each datagram from a relayed address, before it is queued. -1: it has no socket,
 * and need not have one; valid until the next call.
 */
int bursts_socket(struct bursts *bursts, struct alloc_relay *from, const struct tp_addr *peer,
	size_t data_len);

/* What was queued for the relay must have been flushed. */
void bursts_close(struct bursts *bursts, struct alloc_relay *relay);
