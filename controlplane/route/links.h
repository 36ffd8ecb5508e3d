/*
 * The machine's links, and which of them an engine sends on: its interfaces themselves, or a VLAN
 * above one. Owned by struct route.
 */
#pragma once

#include "netlink.h"

/* Out of memory: an element that finds no place has no hh.tbl (threat R20). */
#define HASH_NONFATAL_OOM 1
#include <uthash.h>

struct link {
	UT_hash_handle hh;
	uint32_t ifindex;
	struct netlink_link is;
	bool seen; /* since links_expect_all() */
};

struct links {
	struct link *by_index;
	uint32_t *interfaces; /* the engine's, in its order */
	size_t interfaces_count;
};

int links_init(struct links *links, const uint32_t *ifindexes, size_t count);
void links_clear(struct links *links);

/* A RTM_NEWLINK or RTM_DELLINK. True when something of it changed that next hops depend on. */
bool links_update(struct links *links, const struct nlmsghdr *message);

/* Around a full dump: what it did not name is gone. */
void links_expect_all(struct links *links);
void links_drop_unseen(struct links *links);

/* Where an engine would put a packet that leaves by `ifindex`. */
struct links_exit {
	uint32_t ifindex;
	uint16_t interface;
	uint16_t vlan; /* 0 = untagged */
	uint8_t source[6];
	uint32_t mtu;
	bool up;
};
/* False: not by an interface of the engine. */
bool links_find_exit(const struct links *links, uint32_t ifindex, struct links_exit *out);
