/*
 * Datagrams from any relayed transport address, without a socket for each: raw sockets get them
 * with their UDP header. One thread; nothing blocks.
 */
#pragma once

#include "dataplane/engine/socket/transmit.h"

struct sender {
	int fds[2][2]; /* by family (IPv6) and DF; -1: not open */
};

/* Of the families that are asked for; needs privileges. */
int sender_open(struct sender *sender, bool ipv4, bool ipv6);
void sender_close(struct sender *sender);

/* As tp_udp_queue(); `from` and `to` are of one family, which was opened. */
void sender_queue(const struct sender *sender, struct tp_udp_tx *tx, const struct tp_addr *from,
	const struct tp_addr *to, const void *data, size_t data_len, struct tp_udp_marks marks);
