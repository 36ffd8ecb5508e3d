/*
 * Who frames go to: the interface and the MAC addresses between an own address and a remote one, as
 * the kernel knows them. Of the network namespace in which it was opened. One thread.
 */
#pragma once

#include "controlplane/route/netlink.h"
#include "frame.h"

#define HOPS_MAX 256

struct hops {
	struct netlink netlink;
	struct tp_addr local;
	int probe; /* sends what makes the kernel look for a neighbour */
	struct {
		struct tp_addr remote;
		uint32_t ifindex;
		struct frame_macs macs;
	} known[HOPS_MAX];
	unsigned count;
};

/* Ends the program when it cannot. */
void hops_begin(struct hops *hops, const struct tp_addr *local);
void hops_end(struct hops *hops);

/* Ends the program when there is no way or the neighbour does not answer; ports are ignored.
 * ifindex may be NULL. */
const struct frame_macs *hops_to(
	struct hops *hops, const struct tp_addr *remote, uint32_t *ifindex);
