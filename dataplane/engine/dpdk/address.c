/*
 * What an exception interface is given, asked of the kernel by rtnetlink: link, addresses, default
 * routes. Each request waits for the kernel's answer, which comes at once. Main thread, as root.
 */
#include "dpdk.h"

#include "base/addr.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>

#define ANSWER_SIZE  32768
#define REQUEST_SIZE 512

/* Frames that wait in the TAP for the exception thread. */
#define TAP_QUEUE_LEN 4096

struct mnl_socket *dpdk_netlink_open(void)
{
	struct mnl_socket *netlink = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);

	if (netlink && mnl_socket_bind(netlink, 0, MNL_SOCKET_AUTOPID) == 0)
		return netlink;
	if (netlink)
		mnl_socket_close(netlink);
	return NULL;
}

/* Sends, and gives every answer to `take`, up to the acknowledgement or the end of a dump. */
static int ask(struct mnl_socket *netlink, struct nlmsghdr *request, mnl_cb_t take, void *arg)
{
	char answer[ANSWER_SIZE];
	int status;

	request->nlmsg_seq = 1;
	if (mnl_socket_sendto(netlink, request, request->nlmsg_len) < 0)
		return -errno;
	do {
		ssize_t len = mnl_socket_recvfrom(netlink, answer, sizeof(answer));

		if (len < 0)
			return -errno;
		status = mnl_cb_run(answer, (size_t)len, request->nlmsg_seq,
			mnl_socket_get_portid(netlink), take, arg);
	} while (status == MNL_CB_OK);
	return status < 0 ? -errno : 0;
}

static struct nlmsghdr *begin(char buffer[REQUEST_SIZE], uint16_t type, uint16_t flags)
{
	struct nlmsghdr *request;

	memset(buffer, 0, REQUEST_SIZE);
	request = mnl_nlmsg_put_header(buffer);
	request->nlmsg_type = type;
	request->nlmsg_flags = NLM_F_REQUEST | flags;
	return request;
}

int dpdk_link_set(struct mnl_socket *netlink, const struct dpdk_port *port)
{
	char buffer[REQUEST_SIZE];
	struct nlmsghdr *request = begin(buffer, RTM_NEWLINK, NLM_F_ACK);
	struct ifinfomsg *link = mnl_nlmsg_put_extra_header(request, sizeof(*link));

	link->ifi_family = AF_UNSPEC;
	link->ifi_index = (int)port->is.ifindex;
	link->ifi_flags = IFF_UP;
	link->ifi_change = IFF_UP;
	mnl_attr_put(request, IFLA_ADDRESS, sizeof(port->mac), &port->mac);
	mnl_attr_put_u32(request, IFLA_MTU, port->mtu);
	mnl_attr_put_u32(request, IFLA_TXQLEN, TAP_QUEUE_LEN);
	return ask(netlink, request, NULL, NULL);
}

struct prefix {
	struct tp_addr ip;
	uint8_t len;
};

static unsigned char family_of(const struct tp_addr *ip)
{
	return ip->family == TP_IPV4 ? AF_INET : AF_INET6;
}

static int parse(const char *text, struct prefix *out)
{
	const char *slash = strchr(text, '/');
	char ip[TP_ADDR_TEXT] = "";

	if (!slash || (size_t)(slash - text) >= sizeof(ip))
		return -EINVAL;
	memcpy(ip, text, (size_t)(slash - text));
	out->len = (uint8_t)strtoul(slash + 1, NULL, 10);
	return tp_addr_parse_ip(ip, &out->ip);
}

static struct nlmsghdr *put_address(char buffer[REQUEST_SIZE], uint16_t type, uint16_t flags,
	uint32_t ifindex, const struct prefix *prefix)
{
	struct nlmsghdr *request = begin(buffer, type, flags | NLM_F_ACK);
	struct ifaddrmsg *address = mnl_nlmsg_put_extra_header(request, sizeof(*address));
	const uint8_t *bytes = tp_addr_bytes(&prefix->ip);
	size_t len = tp_addr_bytes_len(&prefix->ip);

	address->ifa_family = family_of(&prefix->ip);
	address->ifa_prefixlen = prefix->len;
	address->ifa_index = ifindex;
	mnl_attr_put(request, IFA_LOCAL, len, bytes);
	mnl_attr_put(request, IFA_ADDRESS, len, bytes);
	return request;
}

/* Without duplicate detection: sockets can be bound to the address at once. */
int dpdk_address_add(struct mnl_socket *netlink, uint32_t ifindex, const char *address)
{
	char buffer[REQUEST_SIZE];
	struct nlmsghdr *request;
	struct prefix prefix;
	int err = parse(address, &prefix);

	if (err)
		return err;
	request = put_address(buffer, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, ifindex, &prefix);
	if (prefix.ip.family == TP_IPV6)
		mnl_attr_put_u32(request, IFA_FLAGS, IFA_F_NODAD);
	err = ask(netlink, request, NULL, NULL);
	return err == -EEXIST ? 0 : err;
}

struct strangers {
	uint32_t ifindex;
	const char *const *keep;
	size_t keep_count;
	struct prefix found[64];
	size_t found_count;
};

static int take_ip(const struct nlattr *attribute, void *arg)
{
	struct prefix *prefix = arg;
	uint16_t len = mnl_attr_get_payload_len(attribute);

	if (mnl_attr_get_type(attribute) == IFA_ADDRESS && (len == 4 || len == 16))
		prefix->ip = tp_addr_make(
			len == 4 ? TP_IPV4 : TP_IPV6, mnl_attr_get_payload(attribute), 0);
	return MNL_CB_OK;
}

static bool is_kept(const struct strangers *strangers, const struct prefix *prefix)
{
	struct prefix kept;

	for (size_t i = 0; i < strangers->keep_count; i++) {
		if (parse(strangers->keep[i], &kept) == 0 && kept.len == prefix->len &&
			tp_addr_equal_ip(&kept.ip, &prefix->ip))
			return true;
	}
	return false;
}

static int take_address(const struct nlmsghdr *message, void *arg)
{
	const struct ifaddrmsg *address = mnl_nlmsg_get_payload(message);
	struct prefix prefix = {.len = address->ifa_prefixlen};
	struct strangers *strangers = arg;

	/* What router advertisements brought (not permanent) is theirs to take back. */
	if (address->ifa_index != strangers->ifindex || address->ifa_scope != RT_SCOPE_UNIVERSE ||
		!(address->ifa_flags & IFA_F_PERMANENT))
		return MNL_CB_OK;
	mnl_attr_parse(message, sizeof(*address), take_ip, &prefix);
	if (prefix.ip.family && !is_kept(strangers, &prefix) &&
		strangers->found_count < sizeof(strangers->found) / sizeof(strangers->found[0]))
		strangers->found[strangers->found_count++] = prefix;
	return MNL_CB_OK;
}

int dpdk_address_prune(
	struct mnl_socket *netlink, uint32_t ifindex, const char *const *keep, size_t keep_count)
{
	struct strangers strangers = {.ifindex = ifindex, .keep = keep, .keep_count = keep_count};
	char buffer[REQUEST_SIZE];
	struct nlmsghdr *request = begin(buffer, RTM_GETADDR, NLM_F_DUMP);
	struct ifaddrmsg *address = mnl_nlmsg_put_extra_header(request, sizeof(*address));
	int err;

	address->ifa_family = AF_UNSPEC;
	err = ask(netlink, request, take_address, &strangers);
	for (size_t i = 0; err == 0 && i < strangers.found_count; i++) {
		request = put_address(buffer, RTM_DELADDR, 0, ifindex, &strangers.found[i]);
		err = ask(netlink, request, NULL, NULL);
	}
	return err;
}

struct default_route {
	uint32_t ifindex;
	struct tp_addr gateway;
	bool found;
};

static int take_route_attribute(const struct nlattr *attribute, void *arg)
{
	struct default_route *route = arg;
	uint16_t len = mnl_attr_get_payload_len(attribute);

	if (mnl_attr_get_type(attribute) == RTA_OIF)
		route->ifindex = mnl_attr_get_u32(attribute);
	if (mnl_attr_get_type(attribute) == RTA_GATEWAY && (len == 4 || len == 16))
		route->gateway = tp_addr_make(
			len == 4 ? TP_IPV4 : TP_IPV6, mnl_attr_get_payload(attribute), 0);
	return MNL_CB_OK;
}

static int take_route(const struct nlmsghdr *message, void *arg)
{
	const struct rtmsg *header = mnl_nlmsg_get_payload(message);
	struct default_route *wanted = arg, route = {0};

	if (header->rtm_dst_len != 0 || header->rtm_table != RT_TABLE_MAIN)
		return MNL_CB_OK;
	mnl_attr_parse(message, sizeof(*header), take_route_attribute, &route);
	if (route.ifindex == wanted->ifindex && tp_addr_equal_ip(&route.gateway, &wanted->gateway))
		wanted->found = true;
	return MNL_CB_OK;
}

static struct nlmsghdr *put_route(
	char buffer[REQUEST_SIZE], uint16_t type, uint16_t flags, const struct tp_addr *gateway)
{
	struct nlmsghdr *request = begin(buffer, type, flags);
	struct rtmsg *route = mnl_nlmsg_put_extra_header(request, sizeof(*route));

	route->rtm_family = family_of(gateway);
	route->rtm_table = RT_TABLE_MAIN;
	route->rtm_protocol = RTPROT_STATIC;
	route->rtm_scope = RT_SCOPE_UNIVERSE;
	route->rtm_type = RTN_UNICAST;
	return request;
}

/* Left by an earlier run of ours? */
static int look_for_route(struct mnl_socket *netlink, struct default_route *wanted)
{
	char buffer[REQUEST_SIZE];
	struct nlmsghdr *request = put_route(buffer, RTM_GETROUTE, NLM_F_DUMP, &wanted->gateway);

	return ask(netlink, request, take_route, wanted);
}

/* Never in place of somebody else's route: that may be how the operator reaches the machine. */
int dpdk_gateway_add(struct mnl_socket *netlink, uint32_t ifindex, const char *gateway)
{
	struct default_route wanted = {.ifindex = ifindex};
	char buffer[REQUEST_SIZE];
	struct nlmsghdr *request;
	int err = tp_addr_parse_ip(gateway, &wanted.gateway);

	if (err == 0)
		err = look_for_route(netlink, &wanted);
	if (err || wanted.found)
		return err;
	request = put_route(
		buffer, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK, &wanted.gateway);
	mnl_attr_put_u32(request, RTA_OIF, ifindex);
	mnl_attr_put(request, RTA_GATEWAY, tp_addr_bytes_len(&wanted.gateway),
		tp_addr_bytes(&wanted.gateway));
	return ask(netlink, request, NULL, NULL);
}
