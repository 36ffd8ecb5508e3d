/* Addresses, broadcasts, gateways, subnets. One thread; asks rtnetlink, which does not wait. */
#include "locals.h"

#include "base/cleanup.h"

#include <errno.h>
#include <linux/rtnetlink.h>

struct collection {
	struct route_local *list;
	size_t count, size;
	bool failed;
};

static void cleanup_collection(struct collection *c)
{
	free(c->list);
}

void locals_clear(struct locals *locals)
{
	free(locals->list);
	*locals = (struct locals){0};
}

static void collect(struct collection *c, const struct tp_addr *ip, uint8_t length, bool connected)
{
	if (c->count == c->size) {
		size_t size = c->size ? 2 * c->size : 64;
		struct route_local *list = reallocarray(c->list, size, sizeof(*list));

		if (!list) {
			c->failed = true;
			return;
		}
		c->list = list;
		c->size = size;
	}
	/* Compared as bytes: the padding is to be zero. */
	memset(&c->list[c->count], 0, sizeof(*c->list));
	c->list[c->count].ip = *ip;
	c->list[c->count].length = length;
	c->list[c->count].connected = connected;
	c->count++;
}

static uint8_t host_length(const struct tp_addr *ip)
{
	return ip->family == TP_IPV4 ? 32 : 128;
}

static void collect_host(struct collection *c, const struct tp_addr *ip)
{
	collect(c, ip, host_length(ip), false);
}

/* Sets or clears all bits behind the prefix. */
static struct tp_addr fill_host_part(const struct tp_addr *ip, uint8_t length, bool ones)
{
	struct tp_addr out = *ip;
	uint8_t first = ip->family == TP_IPV4 ? (uint8_t)(96 + length) : length;

	for (unsigned bit = first; bit < 128; bit++) {
		uint8_t mask = (uint8_t)(0x80 >> (bit % 8));

		if (ones)
			out.ip[bit / 8] |= mask;
		else
			out.ip[bit / 8] &= (uint8_t)~mask;
	}
	return out;
}

static int on_address(const struct nlmsghdr *message, void *arg)
{
	struct collection *c = arg;
	struct netlink_address address;
	struct tp_addr edge;

	if (message->nlmsg_type != RTM_NEWADDR || !netlink_parse_address(message, &address) ||
		address.length > host_length(&address.subnet))
		return MNL_CB_OK;
	collect_host(c, &address.own);
	if (address.broadcast.family)
		collect_host(c, &address.broadcast);
	if (address.length == host_length(&address.subnet)) {
		/* Alone on its link, or the other end of a point-to-point one. */
		if (!tp_addr_equal_ip(&address.own, &address.subnet))
			collect(c, &address.subnet, address.length, true);
		return MNL_CB_OK;
	}
	edge = fill_host_part(&address.subnet, address.length, false);
	collect(c, &edge, address.length, true);
	/* Also where nobody configured one: the kernel takes all ones for it (RFC 919). */
	if (edge.family == TP_IPV4 && address.length < 31) {
		edge = fill_host_part(&address.subnet, address.length, true);
		collect_host(c, &edge);
	}
	return MNL_CB_OK;
}

static void on_gateway(void *arg, const struct tp_addr *gateway)
{
	collect_host(arg, gateway);
}

static int on_route(const struct nlmsghdr *message, void *arg)
{
	if (message->nlmsg_type == RTM_NEWROUTE)
		netlink_each_gateway(message, on_gateway, arg);
	return MNL_CB_OK;
}

static int compare(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct route_local));
}

static void sort_and_unite(struct collection *c)
{
	size_t kept = 0;

	if (!c->count)
		return;
	qsort(c->list, c->count, sizeof(*c->list), compare);
	for (size_t i = 0; i < c->count; i++) {
		if (kept && !compare(&c->list[kept - 1], &c->list[i]))
			continue;
		c->list[kept++] = c->list[i];
	}
	c->count = kept;
}

int locals_refresh(struct locals *locals, struct netlink *nl)
{
	TP_CLEANUP(cleanup_collection) struct collection c = {0};
	int err = netlink_dump(nl, RTM_GETADDR, on_address, &c);

	/* What made the dump restless is announced as well, and brings us back here. */
	if (!err || err == -EINTR)
		err = netlink_dump(nl, RTM_GETROUTE, on_route, &c);
	if (err == -EINTR)
		err = 0;
	if (c.failed)
		err = -ENOMEM;
	if (err)
		return err;
	sort_and_unite(&c);
	if (c.count == locals->count && c.count &&
		!memcmp(c.list, locals->list, c.count * sizeof(*c.list)))
		return 0;
	free(locals->list);
	locals->list = TP_TAKE(c.list);
	locals->count = c.count;
	return 1;
}

bool locals_has(const struct locals *locals, const struct tp_addr *ip)
{
	struct route_local wanted;

	memset(&wanted, 0, sizeof(wanted));
	wanted.ip = *ip;
	wanted.length = host_length(ip);
	return locals->count &&
	       bsearch(&wanted, locals->list, locals->count, sizeof(wanted), compare);
}
