/*
 * Which ports of our relay addresses are free: not bound to by a socket of anybody's. The first who
 * ask in a second get an answer from bind() itself; when many ask, the kernel is asked once for all
 * sockets that there are (sock_diag), and the rest of the second goes by that. One thread; nothing
 * blocks; no privileges.
 */
#pragma once

#include "controlplane/turn/server.h"

struct bound;

/* turn->relays are the addresses; it stays the caller's. */
int bound_new(const struct turn_settings *turn, struct bound **out);
void bound_free(struct bound *bound);

/*
 * `port` of turn->relays[address]. -EADDRINUSE: no; -EADDRNOTAVAIL: the machine has no such
 * address; or what else bind() says. What was bound less than a second ago may be missed.
 */
int bound_check(struct bound *bound, size_t address, uint16_t port, uint64_t now_ns);
