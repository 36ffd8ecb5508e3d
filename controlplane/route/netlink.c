/*
 * rtnetlink messages in and out. The kernel is trusted to be honest, not to be of our age: unknown
 * attributes are skipped, lengths are checked. One thread; nothing blocks (see netlink.h).
 */
#include "netlink.h"

#include "base/cleanup.h"

#include <errno.h>
#include <linux/if_ether.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <net/if.h>

#define NETLINK_BUFFER_SIZE  32768 /* the most that the kernel puts into one answer of a dump */
#define NETLINK_RECEIVE_ROOM (4 << 20)
#define NETLINK_DUMP_TRIES   5

static int open_socket(bool blocking, struct mnl_socket **out)
{
	struct mnl_socket *socket =
		mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC | (blocking ? 0 : SOCK_NONBLOCK));

	if (!socket)
		return -errno;
	if (mnl_socket_bind(socket, 0, MNL_SOCKET_AUTOPID) < 0) {
		int err = -errno;

		mnl_socket_close(socket);
		return err;
	}
	*out = socket;
	return 0;
}

static int subscribe(struct mnl_socket *socket)
{
	static const struct {
		int number;
		bool needed;
	} groups[] = {
		{RTNLGRP_LINK, true},
		{RTNLGRP_NEIGH, true},
		{RTNLGRP_IPV4_IFADDR, true},
		{RTNLGRP_IPV6_IFADDR, false}, /* a kernel without IPv6 has none of these */
		{RTNLGRP_IPV4_ROUTE, true},
		{RTNLGRP_IPV6_ROUTE, false},
		{RTNLGRP_IPV4_RULE, false},
		{RTNLGRP_IPV6_RULE, false},
		{RTNLGRP_NEXTHOP, false},
	};

	for (size_t i = 0; i < sizeof(groups) / sizeof(groups[0]); i++) {
		int group = groups[i].number;

		if (mnl_socket_setsockopt(socket, NETLINK_ADD_MEMBERSHIP, &group, sizeof(group)) <
				0 &&
			groups[i].needed)
			return -errno;
	}
	return 0;
}

/* More room means fewer full dumps; without privileges the system's maximum is what we get. */
static void widen(const struct mnl_socket *socket)
{
	int fd = mnl_socket_get_fd(socket);
	int size = NETLINK_RECEIVE_ROOM;

	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) < 0)
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
}

int netlink_open(struct netlink *nl)
{
	/* An answer that never comes is a kernel bug, which must not stop the relay. */
	struct timeval patience = {.tv_sec = 1};
	int err;

	*nl = (struct netlink){0};
	nl->buffer = malloc(NETLINK_BUFFER_SIZE);
	err = nl->buffer ? open_socket(false, &nl->changes) : -ENOMEM;
	if (!err)
		err = subscribe(nl->changes);
	if (!err)
		err = open_socket(true, &nl->questions);
	if (err) {
		netlink_close(nl);
		return err;
	}
	widen(nl->changes);
	setsockopt(mnl_socket_get_fd(nl->questions), SOL_SOCKET, SO_RCVTIMEO, &patience,
		sizeof(patience));
	return 0;
}

void netlink_close(struct netlink *nl)
{
	if (nl->questions)
		mnl_socket_close(nl->questions);
	if (nl->changes)
		mnl_socket_close(nl->changes);
	free(nl->buffer);
	*nl = (struct netlink){0};
}

int netlink_changes_fd(const struct netlink *nl)
{
	return mnl_socket_get_fd(nl->changes);
}

int netlink_read_changes(struct netlink *nl, mnl_cb_t each, void *arg)
{
	/*
	 * Its own buffer: `each` may ask questions meanwhile. Not more than a few hundred messages
	 * a call, so that a storm of changes cannot keep the caller from its other work.
	 */
	_Alignas(struct nlmsghdr) uint8_t buffer[16384];
	int err = 0;

	for (int budget = 256; budget > 0; budget--) {
		ssize_t len = mnl_socket_recvfrom(nl->changes, buffer, sizeof(buffer));

		if (len > 0) {
			mnl_cb_run(buffer, (size_t)len, 0, 0, each, arg);
			continue;
		}
		if (len < 0 && errno == EINTR)
			continue;
		if (len < 0 && (errno == ENOBUFS || errno == ENOSPC)) {
			err = -ENOBUFS; /* what still waits is newer than the loss: go on */
			continue;
		}
		break;
	}
	return err;
}

/*
 * libmnl would stop at the first message of an interrupted dump and leave the rest in the socket,
 * which the kernel then calls busy: note the flag and take it off.
 */
static bool was_interrupted(void *messages, size_t len)
{
	struct nlmsghdr *message = messages;
	bool interrupted = false;

	for (int left = (int)len; mnl_nlmsg_ok(message, left);
		message = mnl_nlmsg_next(message, &left)) {
		interrupted = interrupted || (message->nlmsg_flags & NLM_F_DUMP_INTR);
		message->nlmsg_flags &= (uint16_t)~NLM_F_DUMP_INTR;
	}
	return interrupted;
}

static int ask(struct netlink *nl, struct nlmsghdr *question, mnl_cb_t each, void *arg)
{
	uint32_t port = mnl_socket_get_portid(nl->questions);
	bool interrupted = false;
	int more;

	question->nlmsg_flags |= NLM_F_REQUEST;
	question->nlmsg_seq = ++nl->sequence;
	if (mnl_socket_sendto(nl->questions, question, question->nlmsg_len) < 0)
		return -errno;
	do {
		ssize_t len = mnl_socket_recvfrom(nl->questions, nl->buffer, NETLINK_BUFFER_SIZE);

		if (len < 0)
			return -errno;
		interrupted = was_interrupted(nl->buffer, (size_t)len) || interrupted;
		more = mnl_cb_run(nl->buffer, (size_t)len, nl->sequence, port, each, arg);
		/* The rest of an earlier question that was given up. */
		if (more < 0 && errno == EPROTO)
			more = MNL_CB_OK;
	} while (more > MNL_CB_STOP);
	if (more < 0)
		return -errno;
	return interrupted ? -EINTR : 0;
}

int netlink_dump(struct netlink *nl, uint16_t type, mnl_cb_t each, void *arg)
{
	_Alignas(struct nlmsghdr) uint8_t buffer[128];
	int err = -EINTR;

	for (int i = 0; i < NETLINK_DUMP_TRIES && err == -EINTR; i++) {
		struct nlmsghdr *question = mnl_nlmsg_put_header(buffer);

		question->nlmsg_type = type;
		question->nlmsg_flags = NLM_F_DUMP;
		mnl_nlmsg_put_extra_header(question, type == RTM_GETLINK ? sizeof(struct ifinfomsg)
						     : type == RTM_GETROUTE
							     ? sizeof(struct rtmsg)
							     : sizeof(struct ifaddrmsg));
		err = ask(nl, question, each, arg);
	}
	return err;
}

static bool address_of(int family, const struct nlattr *attr, struct tp_addr *out)
{
	size_t need = family == AF_INET ? 4 : 16;

	if ((family != AF_INET && family != AF_INET6) || mnl_attr_get_payload_len(attr) < need)
		return false;
	*out = tp_addr_make(family == AF_INET ? TP_IPV4 : TP_IPV6, mnl_attr_get_payload(attr), 0);
	return true;
}

static uint32_t number_of(const struct nlattr *attr)
{
	return mnl_attr_get_payload_len(attr) >= sizeof(uint32_t) ? mnl_attr_get_u32(attr) : 0;
}

static bool mac_of(const struct nlattr *attr, uint8_t out[6])
{
	if (mnl_attr_get_payload_len(attr) != 6)
		return false;
	memcpy(out, mnl_attr_get_payload(attr), 6);
	return true;
}

static uint16_t vlan_of(const struct nlattr *info_data)
{
	const struct nlattr *attr;
	uint16_t protocol = htobe16(ETH_P_8021Q);
	uint16_t id = 0;

	mnl_attr_for_each_nested(attr, info_data)
	{
		if (mnl_attr_get_payload_len(attr) < sizeof(uint16_t))
			continue;
		if (mnl_attr_get_type(attr) == IFLA_VLAN_ID)
			id = mnl_attr_get_u16(attr);
		if (mnl_attr_get_type(attr) == IFLA_VLAN_PROTOCOL)
			protocol = mnl_attr_get_u16(attr);
	}
	return protocol == htobe16(ETH_P_8021Q) ? id : 0;
}

static uint16_t vlan_of_link(const struct nlattr *link_info)
{
	const struct nlattr *attr, *data = NULL;
	bool vlan = false;

	mnl_attr_for_each_nested(attr, link_info)
	{
		if (mnl_attr_get_type(attr) == IFLA_INFO_KIND)
			vlan = mnl_attr_get_payload_len(attr) == sizeof("vlan") &&
			       !memcmp(mnl_attr_get_payload(attr), "vlan", sizeof("vlan"));
		if (mnl_attr_get_type(attr) == IFLA_INFO_DATA)
			data = attr;
	}
	return vlan && data ? vlan_of(data) : 0;
}

bool netlink_parse_link(const struct nlmsghdr *message, struct netlink_link *out)
{
	const struct ifinfomsg *info = mnl_nlmsg_get_payload(message);
	const struct nlattr *attr;
	bool foreign_parent = false;

	/* Other families report their view of the link, such as a bridge its ports. */
	if (info->ifi_family != AF_UNSPEC)
		return false;
	*out = (struct netlink_link){
		.ifindex = (uint32_t)info->ifi_index,
		.up = message->nlmsg_type == RTM_NEWLINK && (info->ifi_flags & IFF_UP) &&
		      (info->ifi_flags & IFF_RUNNING),
	};
	mnl_attr_for_each(attr, message, sizeof(*info))
	{
		switch (mnl_attr_get_type(attr)) {
		case IFLA_ADDRESS:
			out->ethernet = mac_of(attr, out->mac);
			break;
		case IFLA_MTU:
			out->mtu = number_of(attr);
			break;
		case IFLA_LINK:
			out->parent = number_of(attr);
			break;
		case IFLA_LINK_NETNSID:
			foreign_parent = true;
			break;
		case IFLA_LINKINFO:
			out->vlan = vlan_of_link(attr);
			break;
		}
	}
	if (!out->vlan || foreign_parent)
		out->parent = out->vlan = 0;
	return true;
}

bool netlink_parse_address(const struct nlmsghdr *message, struct netlink_address *out)
{
	const struct ifaddrmsg *info = mnl_nlmsg_get_payload(message);
	const struct nlattr *attr;

	*out = (struct netlink_address){.length = info->ifa_prefixlen};
	mnl_attr_for_each(attr, message, sizeof(*info))
	{
		switch (mnl_attr_get_type(attr)) {
		case IFA_LOCAL:
			address_of(info->ifa_family, attr, &out->own);
			break;
		case IFA_ADDRESS:
			address_of(info->ifa_family, attr, &out->subnet);
			break;
		case IFA_BROADCAST:
			address_of(info->ifa_family, attr, &out->broadcast);
			break;
		}
	}
	/* IPv6 names both ends only where there are two. */
	if (!out->own.family)
		out->own = out->subnet;
	if (!out->subnet.family)
		out->subnet = out->own;
	return out->own.family != TP_NO_FAMILY;
}

bool netlink_parse_neighbour(const struct nlmsghdr *message, struct netlink_neighbour *out)
{
	const uint16_t sendable =
		NUD_REACHABLE | NUD_STALE | NUD_DELAY | NUD_PROBE | NUD_PERMANENT | NUD_NOARP;
	const struct ndmsg *info = mnl_nlmsg_get_payload(message);
	const struct nlattr *attr;
	bool has_mac = false;

	*out = (struct netlink_neighbour){.ifindex = (uint32_t)info->ndm_ifindex};
	mnl_attr_for_each(attr, message, sizeof(*info))
	{
		if (mnl_attr_get_type(attr) == NDA_DST)
			address_of(info->ndm_family, attr, &out->ip);
		if (mnl_attr_get_type(attr) == NDA_LLADDR)
			has_mac = mac_of(attr, out->mac);
	}
	out->usable = message->nlmsg_type == RTM_NEWNEIGH && has_mac &&
		      (info->ndm_state & sendable) && !(info->ndm_flags & NTF_PROXY);
	return out->ip.family != TP_NO_FAMILY && !(info->ndm_flags & NTF_PROXY);
}

/* RTA_VIA: a gateway of the other family. */
static void parse_via(const struct nlattr *attr, struct tp_addr *out)
{
	const struct rtvia *via = mnl_attr_get_payload(attr);
	size_t len = mnl_attr_get_payload_len(attr);

	if (len >= sizeof(*via) + 4 && via->rtvia_family == AF_INET)
		*out = tp_addr_make(TP_IPV4, via->rtvia_addr, 0);
	if (len >= sizeof(*via) + 16 && via->rtvia_family == AF_INET6)
		*out = tp_addr_make(TP_IPV6, via->rtvia_addr, 0);
}

static void parse_path(int family, const struct nlattr *attr, struct netlink_route *out)
{
	switch (mnl_attr_get_type(attr)) {
	case RTA_OIF:
		out->ifindex = number_of(attr);
		break;
	case RTA_GATEWAY:
		address_of(family, attr, &out->gateway);
		break;
	case RTA_VIA:
		parse_via(attr, &out->gateway);
		break;
	case RTA_ENCAP_TYPE:
		out->unicast = false;
		break;
	}
}

static void parse_metrics(const struct nlattr *metrics, struct netlink_route *out)
{
	const struct nlattr *attr;

	mnl_attr_for_each_nested(attr, metrics)
	{
		if (mnl_attr_get_type(attr) == RTAX_MTU)
			out->mtu = number_of(attr);
	}
}

bool netlink_parse_route(const struct nlmsghdr *message, struct netlink_route *out)
{
	const struct rtmsg *info = mnl_nlmsg_get_payload(message);
	const struct nlattr *attr;

	*out = (struct netlink_route){
		.unicast = info->rtm_type == RTN_UNICAST,
		.cloned = info->rtm_flags & RTM_F_CLONED,
	};
	mnl_attr_for_each(attr, message, sizeof(*info))
	{
		if (mnl_attr_get_type(attr) == RTA_METRICS)
			parse_metrics(attr, out);
		else
			parse_path(info->rtm_family, attr, out);
	}
	return info->rtm_family == AF_INET || info->rtm_family == AF_INET6;
}

static void each_path_gateway(int family, const struct nlattr *multipath,
	void (*each)(void *arg, const struct tp_addr *gateway), void *arg)
{
	const struct rtnexthop *path = mnl_attr_get_payload(multipath);
	size_t left = mnl_attr_get_payload_len(multipath);

	while (left >= sizeof(*path) && path->rtnh_len >= sizeof(*path) && path->rtnh_len <= left) {
		struct netlink_route one = {0};
		const struct nlattr *attr;
		size_t step = RTNH_ALIGN(path->rtnh_len);

		mnl_attr_for_each_payload((const void *)(path + 1), path->rtnh_len - sizeof(*path))
		{
			parse_path(family, attr, &one);
		}
		if (one.gateway.family)
			each(arg, &one.gateway);
		left -= step < left ? step : left;
		path = (const void *)((const uint8_t *)path + step);
	}
}

void netlink_each_gateway(const struct nlmsghdr *message,
	void (*each)(void *arg, const struct tp_addr *gateway), void *arg)
{
	const struct rtmsg *info = mnl_nlmsg_get_payload(message);
	const struct nlattr *attr;
	struct netlink_route route;

	if (!netlink_parse_route(message, &route) || route.cloned)
		return;
	if (route.gateway.family)
		each(arg, &route.gateway);
	mnl_attr_for_each(attr, message, sizeof(*info))
	{
		if (mnl_attr_get_type(attr) == RTA_MULTIPATH)
			each_path_gateway(info->rtm_family, attr, each, arg);
	}
}

static int on_route(const struct nlmsghdr *message, void *arg)
{
	netlink_parse_route(message, arg);
	return MNL_CB_STOP;
}

static int on_neighbour(const struct nlmsghdr *message, void *arg)
{
	netlink_parse_neighbour(message, arg);
	return MNL_CB_STOP;
}

static uint8_t family_of(const struct tp_addr *a)
{
	return a->family == TP_IPV4 ? AF_INET : AF_INET6;
}

int netlink_route_to(struct netlink *nl, const struct tp_addr *remote, const struct tp_addr *local,
	struct netlink_route *out)
{
	_Alignas(struct nlmsghdr) uint8_t buffer[128];
	struct nlmsghdr *question = mnl_nlmsg_put_header(buffer);
	uint16_t len = (uint16_t)tp_addr_bytes_len(remote);
	struct rtmsg *info;

	if (remote->family != local->family)
		return -EAFNOSUPPORT;
	question->nlmsg_type = RTM_GETROUTE;
	info = mnl_nlmsg_put_extra_header(question, sizeof(*info));
	info->rtm_family = family_of(remote);
	info->rtm_dst_len = info->rtm_src_len = (uint8_t)(len * 8);
	mnl_attr_put(question, RTA_DST, len, tp_addr_bytes(remote));
	mnl_attr_put(question, RTA_SRC, len, tp_addr_bytes(local));
	return ask(nl, question, on_route, out);
}

int netlink_neighbour_at(struct netlink *nl, uint32_t ifindex, const struct tp_addr *ip,
	struct netlink_neighbour *out)
{
	_Alignas(struct nlmsghdr) uint8_t buffer[128];
	struct nlmsghdr *question = mnl_nlmsg_put_header(buffer);
	struct ndmsg *info;

	question->nlmsg_type = RTM_GETNEIGH;
	info = mnl_nlmsg_put_extra_header(question, sizeof(*info));
	info->ndm_family = family_of(ip);
	info->ndm_ifindex = (int)ifindex;
	mnl_attr_put(question, NDA_DST, tp_addr_bytes_len(ip), tp_addr_bytes(ip));
	return ask(nl, question, on_neighbour, out);
}
