/*
 * The machine's own addresses, broadcasts, gateways and subnets, as policy/ wants to know them.
 * Owned by struct route.
 */
#pragma once

#include "netlink.h"
#include "route.h"

struct locals {
	struct route_local *list; /* sorted, no entry twice */
	size_t count;
};

void locals_clear(struct locals *locals);

/* Asks the kernel for all of it. 1: it differs from before; 0: it does not; or -errno. */
int locals_refresh(struct locals *locals, struct netlink *nl);

/* Is this gateway in the list already? */
bool locals_has(const struct locals *locals, const struct tp_addr *ip);
