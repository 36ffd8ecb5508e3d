/*
 * Transport addresses in a row: consecutive IP addresses, and on each of them the same consecutive
 * ports. They are numbered address by address, so that neighbours in number are different hosts.
 */
#pragma once

#include "base/addr.h"

struct range {
	struct tp_addr first;
	uint32_t addresses, ports; /* at least 1 of each */
};

/* -ERANGE: the last address, or the last port, is not there. */
int range_check(const struct range *range);

struct tp_addr range_at(const struct range *range, uint32_t index);

/* False: it is none of them. */
bool range_find(const struct range *range, const struct tp_addr *address, uint32_t *index);
