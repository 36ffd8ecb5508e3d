/*
 * The program that steers packets to relayed addresses into a few sockets (bpf/relays.bpf.c), and
 * the ports that it knows as ours. Opening and attaching need privileges and block on the kernel;
 * the rest does neither. The program goes with the process.
 */
#pragma once

#include "controlplane/turn/server.h"
#include "dataplane/engine/engine.h"

struct steer;

/* Loaded; no port is ours. -errno, and `reason` says why not. */
int steer_open(const struct turn_settings *turn, struct steer **out, char reason[TP_REASON_SIZE]);
void steer_close(struct steer *steer);

/* The socket for the ports of turn->relays[address] that are `shard` modulo RELAYS_SHARDS. */
int steer_to(struct steer *steer, size_t address, unsigned shard, int fd);

/* Of all ICMP errors a raw socket gets those that quote a port of ours. */
int steer_filter(struct steer *steer, int fd, bool ipv6);

/* From here on the program decides, in the network namespace of the caller. */
int steer_attach(struct steer *steer, char reason[TP_REASON_SIZE]);

/* Packets that the kernel looks at after this go to the socket, or no longer. */
void steer_own(struct steer *steer, size_t address, uint16_t port, bool ours);
