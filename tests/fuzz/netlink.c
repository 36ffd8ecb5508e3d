/*
 * route/: rtnetlink messages into the parsers and into the list of links. The kernel is trusted to
 * send messages that end where the buffer does and begin with a whole header, no more than that.
 */
#include "fuzz.h"

#include "controlplane/route/links.h"

#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <sys/mman.h>

static struct links links;

static void count_gateway(void *arg, const struct tp_addr *gateway)
{
	MUST(gateway->family == TP_IPV4 || gateway->family == TP_IPV6);
	++*(unsigned *)arg;
}

static void on_link(const struct nlmsghdr *message)
{
	struct netlink_link link;
	struct links_exit way;

	if (netlink_parse_link(message, &link))
		MUST(link.parent == 0 || link.vlan != 0);
	links_update(&links, message);
	for (uint32_t ifindex = 1; ifindex < 8; ifindex++)
		if (links_find_exit(&links, ifindex, &way))
			MUST(way.interface < links.interfaces_count);
}

static void on_address(const struct nlmsghdr *message)
{
	struct netlink_address address;

	if (netlink_parse_address(message, &address))
		MUST(address.own.family && address.subnet.family);
}

static void on_neighbour(const struct nlmsghdr *message)
{
	struct netlink_neighbour neighbour;

	if (netlink_parse_neighbour(message, &neighbour))
		MUST(neighbour.ip.family);
}

static void on_route(const struct nlmsghdr *message)
{
	struct netlink_route route;
	unsigned gateways = 0;

	netlink_parse_route(message, &route);
	netlink_each_gateway(message, count_gateway, &gateways);
	MUST(!route.cloned || gateways == 0);
}

static int each(const struct nlmsghdr *message, void *arg)
{
	static const struct {
		void (*run)(const struct nlmsghdr *message);
		size_t header;
	} kinds[] = {{on_link, sizeof(struct ifinfomsg)}, {on_address, sizeof(struct ifaddrmsg)},
		{on_route, sizeof(struct rtmsg)}, {on_neighbour, sizeof(struct ndmsg)}};
	/* RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK, RTM_SETLINK, RTM_NEWADDR ... */
	size_t kind = message->nlmsg_type < RTM_NEWLINK ? COUNT(kinds)
							: (message->nlmsg_type - RTM_NEWLINK) / 4u;

	if (kind < COUNT(kinds) && mnl_nlmsg_get_payload_len(message) >= kinds[kind].header)
		kinds[kind].run(message);
	return MNL_CB_OK;
}

/* The part of the input that is whole messages: libmnl's own check takes lengths past 2^31. */
static size_t whole(const uint8_t *data, size_t size)
{
	struct nlmsghdr header;
	size_t at = 0;

	while (size - at >= sizeof(header)) {
		memcpy(&header, data + at, sizeof(header));
		if (header.nlmsg_len < sizeof(header) || header.nlmsg_len > size - at)
			break;
		at += header.nlmsg_len;
		at = NLMSG_ALIGN(at) < size ? NLMSG_ALIGN(at) : size;
	}
	return at;
}

#define ROOM (UINT32_C(1) << 20)

/* A copy that ends at a page nobody may touch: ASan does not see what libmnl reads. */
static const uint8_t *at_the_edge(const uint8_t *data, size_t size)
{
	static uint8_t *room;

	if (!room) {
		room = mmap(NULL, ROOM + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			-1, 0);
		MUST(room != MAP_FAILED && mprotect(room + ROOM, 4096, PROT_NONE) == 0);
	}
	return memcpy(room + ROOM - NLMSG_ALIGN(size), data, size);
}

static void read_messages(const uint8_t *data, size_t size)
{
	size_t len = whole(data, size);

	if (len > 0 && len <= ROOM)
		mnl_cb_run(at_the_edge(data, len), len, 0, 0, each, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint32_t interfaces[] = {2, 3};

	MUST(links_init(&links, interfaces, COUNT(interfaces)) == 0);
	read_messages(data, size);
	links_expect_all(&links);
	read_messages(data, size / 2);
	links_drop_unseen(&links);
	links_clear(&links);
	return 0;
}
