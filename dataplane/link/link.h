/*
 * How turnpike-dataplane and turnpiked find each other: a Unix seqpacket socket beside the control
 * socket, whose messages carry the shared tables as file descriptors. turnpiked listens; either
 * side may start first, restart, or die, and the other goes on with the memory it has mapped.
 *
 *   dataplane -> HELLO   ABI, layout, engine, interfaces, workers; with the tables it holds, if any
 *   turnpiked -> TABLES  their shape and descriptors: the ones offered, when they fit, else new
 * ones
 *
 * The tables outlive each process alone: a restarted turnpiked takes back the memory that the
 * workers have mapped (and clears it before use); restarted workers get it from turnpiked. When a
 * restarted turnpiked needs tables of another shape, the workers cannot follow without privileges:
 * turnpike-dataplane says so and exits with 1, for its supervisor to start it anew.
 *
 * Nobody but root and the service's user may connect (mode 0600, peer credentials checked).
 */
#pragma once

#include "dataplane/engine/engine.h"

#define TP_LINK_NAME "dataplane.sock" /* in the folder of the control socket */

/* The shared tables as what can be handed to another process. */
struct tp_tables {
	struct tp_memory memory; /* mapped here */
	int fds[TP_REGIONS];     /* one a region; the same one several times where they share it */
	uint64_t offsets[TP_REGIONS];
	bool are_maps; /* BPF maps (afxdp); else files of huge or plain pages (dpdk) */
};

struct tp_hello {
	char engine[16];
	uint32_t workers;
	uint32_t interfaces_count;
	struct tp_engine_interface interfaces[TP_INTERFACES_MAX]; /* mode: see link.c */
};
