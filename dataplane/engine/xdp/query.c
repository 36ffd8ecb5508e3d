/*
 * Asks the kernel which XDP program an interface has (RTM_GETLINK, IFLA_XDP). Works without
 * privileges, in the network namespace of start(). The kernel answers at once: nothing blocks.
 */
#include "attach.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>

#define ANSWER_SIZE 32768

int xdp_query_open(struct xdp_query *query)
{
	query->netlink = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
	if (!query->netlink)
		return -errno;
	if (mnl_socket_bind(query->netlink, 0, MNL_SOCKET_AUTOPID) != 0)
		return -errno;
	return 0;
}

void xdp_query_close(struct xdp_query *query)
{
	if (query->netlink)
		mnl_socket_close(query->netlink);
	query->netlink = NULL;
}

static int take_xdp_attribute(const struct nlattr *attribute, void *arg)
{
	struct xdp_attached *out = arg;

	if (mnl_attr_get_type(attribute) == IFLA_XDP_PROG_ID)
		out->id = mnl_attr_get_u32(attribute);
	if (mnl_attr_get_type(attribute) == IFLA_XDP_ATTACHED)
		out->generic = mnl_attr_get_u8(attribute) == XDP_ATTACHED_SKB;
	return MNL_CB_OK;
}

static int take_link_attribute(const struct nlattr *attribute, void *arg)
{
	if (mnl_attr_get_type(attribute) == IFLA_XDP)
		return mnl_attr_parse_nested(attribute, take_xdp_attribute, arg);
	return MNL_CB_OK;
}

static int take_link(const struct nlmsghdr *message, void *arg)
{
	if (message->nlmsg_type != RTM_NEWLINK)
		return MNL_CB_OK;
	mnl_attr_parse(message, sizeof(struct ifinfomsg), take_link_attribute, arg);
	return MNL_CB_STOP;
}

static int ask(struct xdp_query *query, uint32_t ifindex)
{
	char buffer[256] = {0};
	struct nlmsghdr *request = mnl_nlmsg_put_header(buffer);
	struct ifinfomsg *link;

	request->nlmsg_type = RTM_GETLINK;
	request->nlmsg_flags = NLM_F_REQUEST;
	request->nlmsg_seq = ++query->seq;
	link = mnl_nlmsg_put_extra_header(request, sizeof(*link));
	link->ifi_family = AF_UNSPEC;
	link->ifi_index = (int)ifindex;
	return mnl_socket_sendto(query->netlink, request, request->nlmsg_len) < 0 ? -errno : 0;
}

int xdp_query(struct xdp_query *query, uint32_t ifindex, struct xdp_attached *out)
{
	struct xdp_attached attached = {0};
	char answer[ANSWER_SIZE];
	int err = ask(query, ifindex), status;

	if (err)
		return err;
	do {
		ssize_t len = recv(
			mnl_socket_get_fd(query->netlink), answer, sizeof(answer), MSG_DONTWAIT);

		if (len < 0)
			return -errno;
		status = mnl_cb_run(answer, (size_t)len, query->seq,
			mnl_socket_get_portid(query->netlink), take_link, &attached);
		/* EPROTO: the late answer to an earlier question. */
	} while (status < 0 && errno == EPROTO);
	if (status < 0)
		return -errno;
	*out = attached;
	return 0;
}

int xdp_check(struct xdp_query *query, struct xdp_interface *interface, uint32_t program_id,
	char reason[TP_REASON_SIZE])
{
	struct tp_engine_interface *is = &interface->is;
	struct xdp_attached attached;
	int err;

	if (!is->attached)
		return 0;
	err = xdp_query(query, is->ifindex, &attached);
	if (!err && attached.id == program_id)
		return 0;
	is->attached = false;
	if (err)
		return xdp_refuse(reason, -ENOLINK, "%s: the interface is gone (%s)", is->name,
			strerror(-err));
	if (attached.id == 0)
		return xdp_refuse(reason, -ENOLINK, "%s: the XDP program was removed", is->name);
	return xdp_refuse(reason, -ENOLINK, "%s: the XDP program was replaced by id %u", is->name,
		attached.id);
}
