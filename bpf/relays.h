/*
 * SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
 *
 * What the program that steers packets to relayed addresses (relays.bpf.c) shares with its loader.
 */
#pragma once

#include <stdint.h>

#define RELAYS_ADDRESSES_MAX 32

/*
 * The ports of an address are spread over so many sockets: a flood to one port fills the receive
 * buffer that it has in common with a sixteenth of the others. A power of 2.
 */
#define RELAYS_SHARDS 16

/* The sockets' map: all of the first address, all of the second ... */
#define RELAYS_SOCKET(address, port) ((address)*RELAYS_SHARDS + (port) % RELAYS_SHARDS)

/* IPv4 is v4-mapped; words as they lie in memory. */
struct relays_address {
	uint64_t ip[2];
};

/* An element for each address: a bit for each port that is ours. The loader's side writes. */
struct relays_ports {
	uint64_t words[65536 / 64];
};
