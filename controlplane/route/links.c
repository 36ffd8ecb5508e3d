/* The table of links. One thread; no I/O. */
#include "links.h"

#include <errno.h>
#include <linux/rtnetlink.h>

int links_init(struct links *links, const uint32_t *ifindexes, size_t count)
{
	*links = (struct links){0};
	if (!count)
		return 0;
	links->interfaces = calloc(count, sizeof(*ifindexes));
	if (!links->interfaces)
		return -ENOMEM;
	memcpy(links->interfaces, ifindexes, count * sizeof(*ifindexes));
	links->interfaces_count = count;
	return 0;
}

static void drop(struct links *links, struct link *link)
{
	HASH_DEL(links->by_index, link);
	free(link);
}

void links_clear(struct links *links)
{
	struct link *link, *next;

	HASH_ITER(hh, links->by_index, link, next) {
		drop(links, link);
	}
	free(links->interfaces);
	*links = (struct links){0};
}

static struct link *find(const struct links *links, uint32_t ifindex)
{
	struct link *link;

	HASH_FIND(hh, links->by_index, &ifindex, sizeof(ifindex), link);
	return link;
}

static struct link *find_or_add(struct links *links, uint32_t ifindex)
{
	struct link *link = find(links, ifindex);

	if (link)
		return link;
	link = calloc(1, sizeof(*link));
	if (!link)
		return NULL;
	link->ifindex = ifindex;
	HASH_ADD(hh, links->by_index, ifindex, sizeof(link->ifindex), link);
	if (!link->hh.tbl) {
		free(link);
		return NULL;
	}
	return link;
}

bool links_update(struct links *links, const struct nlmsghdr *message)
{
	struct netlink_link now;
	struct link *link;
	bool changed;

	if (!netlink_parse_link(message, &now))
		return false;
	link = find(links, now.ifindex);
	if (message->nlmsg_type == RTM_DELLINK) {
		if (link)
			drop(links, link);
		return link != NULL;
	}
	link = find_or_add(links, now.ifindex);
	if (!link)
		return false;
	changed = link->is.parent != now.parent || link->is.vlan != now.vlan ||
		  link->is.up != now.up || link->is.ethernet != now.ethernet ||
		  link->is.mtu != now.mtu || memcmp(link->is.mac, now.mac, sizeof(now.mac)) != 0;
	link->is = now;
	link->seen = true;
	return changed;
}

void links_expect_all(struct links *links)
{
	for (struct link *link = links->by_index; link; link = link->hh.next)
		link->seen = false;
}

void links_drop_unseen(struct links *links)
{
	struct link *link, *next;

	HASH_ITER(hh, links->by_index, link, next) {
		if (!link->seen)
			drop(links, link);
	}
}

static bool find_interface(const struct links *links, uint32_t ifindex, uint16_t *place)
{
	for (size_t i = 0; i < links->interfaces_count; i++) {
		if (links->interfaces[i] != ifindex)
			continue;
		*place = (uint16_t)i;
		return true;
	}
	return false;
}

bool links_find_exit(const struct links *links, uint32_t ifindex, struct links_exit *out)
{
	const struct link *link = find(links, ifindex);
	const struct link *wire = link;

	if (!link)
		return false;
	*out = (struct links_exit){.mtu = link->is.mtu};
	if (!find_interface(links, ifindex, &out->interface)) {
		wire = link->is.parent ? find(links, link->is.parent) : NULL;
		if (!wire || !find_interface(links, wire->ifindex, &out->interface))
			return false;
		out->vlan = link->is.vlan;
	}
	out->ifindex = wire->ifindex;
	out->up = link->is.up && wire->is.up && link->is.ethernet;
	memcpy(out->source, link->is.mac, sizeof(out->source));
	return true;
}
