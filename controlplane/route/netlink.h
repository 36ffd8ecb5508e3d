/*
 * rtnetlink as the structs that route/ works with: two sockets, one for questions (answered by the
 * kernel before send(2) returns, so asking does not wait) and one that listens to changes
 * (non-blocking). One thread. No privileges needed.
 */
#pragma once

#include "base/addr.h"

#include <libmnl/libmnl.h>

struct netlink {
	struct mnl_socket *questions;
	struct mnl_socket *changes;
	uint32_t sequence;
	uint8_t *buffer; /* of NETLINK_BUFFER_SIZE */
};

int netlink_open(struct netlink *nl);
void netlink_close(struct netlink *nl);
int netlink_changes_fd(const struct netlink *nl);

/* Hands on all that has changed. -ENOBUFS: some of it was lost, dump again. */
int netlink_read_changes(struct netlink *nl, mnl_cb_t each, void *arg);

/*
 * type: RTM_GETLINK, RTM_GETADDR, RTM_GETROUTE; both families. Tries again while it changes
 * meanwhile, so an entry may come several times; -EINTR: it never kept still, some may be missing.
 */
int netlink_dump(struct netlink *nl, uint16_t type, mnl_cb_t each, void *arg);

struct netlink_link {
	uint32_t ifindex;
	uint32_t parent; /* of a VLAN (802.1Q) in this namespace; else 0 */
	uint16_t vlan;   /* its number */
	bool up;         /* administratively and by carrier */
	bool ethernet;   /* it has a MAC address of 6 bytes */
	uint8_t mac[6];
	uint32_t mtu;
};
bool netlink_parse_link(const struct nlmsghdr *message, struct netlink_link *out);

struct netlink_address {
	struct tp_addr own;
	struct tp_addr subnet;    /* any address of it: the other end on point-to-point links */
	struct tp_addr broadcast; /* no family: it has none */
	uint8_t length;
};
bool netlink_parse_address(const struct nlmsghdr *message, struct netlink_address *out);

struct netlink_neighbour {
	uint32_t ifindex;
	struct tp_addr ip;
	bool usable; /* it has a MAC address and the kernel would send to it */
	uint8_t mac[6];
};
bool netlink_parse_neighbour(const struct nlmsghdr *message, struct netlink_neighbour *out);

struct netlink_route {
	bool unicast; /* and the kernel puts nothing around what goes there (MPLS, SRv6) */
	bool cloned;  /* a cache entry: no change of the routes */
	uint32_t ifindex;
	uint32_t mtu;           /* 0: the link's */
	struct tp_addr gateway; /* no family: on the link */
};
/* Of a multipath route no path; but an answer of netlink_route_to() is never one. */
bool netlink_parse_route(const struct nlmsghdr *message, struct netlink_route *out);

/* Those of all paths. */
void netlink_each_gateway(const struct nlmsghdr *message,
	void (*each)(void *arg, const struct tp_addr *gateway), void *arg);

/* What the kernel would do with a packet from `local` to `remote`. -errno when there is no route.
 */
int netlink_route_to(struct netlink *nl, const struct tp_addr *remote, const struct tp_addr *local,
	struct netlink_route *out);

/* -ENOENT: the kernel knows nothing of it. */
int netlink_neighbour_at(struct netlink *nl, uint32_t ifindex, const struct tp_addr *ip,
	struct netlink_neighbour *out);
