/*
 * Destinations and their routes. A change of routes is answered by asking the kernel about every
 * destination again, in passes cut into slices of a few milliseconds; several changes share a pass.
 * One thread; nothing waits.
 */
#include "route.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "hops.h"
#include "locals.h"

#include <errno.h>
#include <linux/rtnetlink.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/timerfd.h>

/* A slice of a pass, the pause after it, and the least time between the starts of two passes. */
#define SLICE_NS (3 * TP_NS_PER_MS)
#define PAUSE_NS (2 * TP_NS_PER_MS)
#define PASS_NS  (50 * TP_NS_PER_MS)

/* The source matters too: rules may look at it, and it must be an address of this machine. */
struct destination_key {
	struct tp_addr remote, local;
};

struct route_destination {
	UT_hash_handle hh;
	TAILQ_ENTRY(route_destination) link; /* in order of the last look */
	struct destination_key key;
	LIST_HEAD(user_list, route_user) users;
	struct hop *hop; /* NULL: the kernel sends */
	uint32_t pass;   /* in which it was last looked at */
};

TAILQ_HEAD(destination_list, route_destination);

struct route {
	struct netlink netlink;
	struct links links;
	struct hops hops;
	struct locals locals;
	bool follows; /* there is somebody who reads next hops */
	int epoll, timer;
	struct tp_hash_key hash_key;

	struct route_destination *destinations;
	struct destination_list order;
	uint32_t pass;
	uint64_t pass_ns; /* when it began */

	/* What the notifications read in this call amount to. */
	bool links_changed, routes_changed, locals_changed;

	void (*on_locals)(void *arg, const struct route_local *list, size_t count);
	void *on_locals_arg;
};

static uint16_t index_of(const struct route_destination *destination)
{
	return destination->hop ? destination->hop->index : TP_NO_NEXT_HOP_YET;
}

static struct hop *find_hop(struct route *route, const struct destination_key *key)
{
	struct netlink_route way = {0};
	struct links_exit by;

	if (netlink_route_to(&route->netlink, &key->remote, &key->local, &way) < 0 ||
		!way.unicast || !links_find_exit(&route->links, way.ifindex, &by))
		return NULL;
	return hops_take(&route->hops, way.ifindex,
		way.gateway.family ? &way.gateway : &key->remote, way.mtu);
}

static void resolve(struct route *route, struct route_destination *destination)
{
	struct hop *before = destination->hop;
	struct route_user *user;

	destination->hop = find_hop(route, &destination->key);
	destination->pass = route->pass;
	TAILQ_REMOVE(&route->order, destination, link);
	TAILQ_INSERT_TAIL(&route->order, destination, link);
	if (destination->hop != before) {
		LIST_FOREACH(user, &destination->users, link) {
			user->changed(user, index_of(destination));
		}
	}
	/* Last: the number must not rest before everybody has left it. */
	if (before)
		hops_release(&route->hops, before);
}

static bool pass_is_over(const struct route *route)
{
	const struct route_destination *oldest = TAILQ_FIRST(&route->order);

	return !oldest || oldest->pass == route->pass;
}

static void wake_after(const struct route *route, uint64_t delay_ns)
{
	struct itimerspec when = {
		.it_value = {.tv_sec = (time_t)(delay_ns / TP_NS_PER_S),
			.tv_nsec = (long)(delay_ns % TP_NS_PER_S)},
	};

	timerfd_settime(route->timer, 0, &when, NULL);
}

static void go_on_with_pass(struct route *route, uint64_t now_ns)
{
	uint64_t until_ns = now_ns + SLICE_NS;
	uint64_t due_ns = route->pass_ns + PASS_NS;

	if (route->routes_changed && now_ns >= due_ns) {
		route->routes_changed = false;
		route->pass++;
		route->pass_ns = now_ns;
	}
	while (!pass_is_over(route) && tp_clock_now_ns() < until_ns)
		resolve(route, TAILQ_FIRST(&route->order));
	if (!pass_is_over(route))
		wake_after(route, PAUSE_NS);
	else if (route->routes_changed || route->locals_changed)
		wake_after(route, due_ns > now_ns ? due_ns - now_ns : PASS_NS);
}

static void tell_locals(struct route *route)
{
	if (route->on_locals)
		route->on_locals(route->on_locals_arg, route->locals.list, route->locals.count);
}

static void refresh_locals(struct route *route)
{
	int changed = locals_refresh(&route->locals, &route->netlink);

	if (changed < 0) {
		/* Peers might reach addresses that are ours by now: do not give up. */
		tp_error("route: cannot list the machine's addresses: %s", strerror(-changed));
		return;
	}
	route->locals_changed = false;
	if (changed)
		tell_locals(route);
}

static void on_gateway(void *arg, const struct tp_addr *gateway)
{
	struct route *route = arg;

	if (!locals_has(&route->locals, gateway))
		route->locals_changed = true;
}

/*
 * A gateway that is in the list already costs nothing, and one that has gone stays in it until the
 * next full look: routing daemons may change thousands of routes a second.
 */
static void on_route_change(struct route *route, const struct nlmsghdr *message)
{
	struct netlink_route way;

	if (!netlink_parse_route(message, &way) || way.cloned)
		return;
	route->routes_changed = true;
	if (message->nlmsg_type == RTM_NEWROUTE)
		netlink_each_gateway(message, on_gateway, route);
}

static int on_change(const struct nlmsghdr *message, void *arg)
{
	struct route *route = arg;
	struct netlink_neighbour neighbour;

	switch (message->nlmsg_type) {
	case RTM_NEWLINK:
	case RTM_DELLINK:
		/* The routes too: those that go with a link go silently. */
		if (links_update(&route->links, message))
			route->links_changed = route->routes_changed = true;
		break;
	case RTM_NEWNEIGH:
	case RTM_DELNEIGH:
		if (netlink_parse_neighbour(message, &neighbour))
			hops_neighbour_changed(&route->hops, &neighbour);
		break;
	case RTM_NEWADDR:
	case RTM_DELADDR:
		route->locals_changed = route->routes_changed = true;
		break;
	case RTM_NEWROUTE:
	case RTM_DELROUTE:
		on_route_change(route, message);
		break;
	default: /* rules, next-hop objects */
		route->routes_changed = true;
		break;
	}
	return MNL_CB_OK;
}

static int on_link(const struct nlmsghdr *message, void *arg)
{
	struct route *route = arg;

	links_update(&route->links, message);
	return MNL_CB_OK;
}

static int dump_links(struct route *route)
{
	int err;

	links_expect_all(&route->links);
	err = netlink_dump(&route->netlink, RTM_GETLINK, on_link, route);
	if (!err)
		links_drop_unseen(&route->links);
	/* The change that came between is announced as well. */
	return err == -EINTR ? 0 : err;
}

static void start_over(struct route *route)
{
	int err = dump_links(route);

	if (err)
		tp_error("route: cannot list the links: %s", strerror(-err));
	hops_ask_again(&route->hops);
	route->routes_changed = route->locals_changed = true;
}

void route_process(struct route *route)
{
	uint64_t ticks;

	/* Only to make it unreadable. */
	if (read(route->timer, &ticks, sizeof(ticks)) < 0 && errno != EAGAIN)
		tp_error("route: timer: %s", strerror(errno));
	if (netlink_read_changes(&route->netlink, on_change, route) == -ENOBUFS)
		start_over(route);
	if (route->links_changed)
		hops_links_changed(&route->hops);
	route->links_changed = false;
	if (route->locals_changed)
		refresh_locals(route);
	go_on_with_pass(route, tp_clock_now_ns());
}

static int watch(const struct route *route, int fd)
{
	struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};

	return epoll_ctl(route->epoll, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

static int open_descriptors(struct route *route)
{
	int err;

	route->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (route->epoll < 0)
		return -errno;
	route->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (route->timer < 0)
		return -errno;
	err = netlink_open(&route->netlink);
	if (!err)
		err = watch(route, netlink_changes_fd(&route->netlink));
	if (!err)
		err = watch(route, route->timer);
	return err;
}

static int start(struct route *route, const uint32_t *ifindexes, size_t count)
{
	int err = links_init(&route->links, ifindexes, count);

	if (!err && getrandom(&route->hash_key, sizeof(route->hash_key), 0) !=
			    (ssize_t)sizeof(route->hash_key))
		err = -EIO;
	if (!err)
		err = open_descriptors(route);
	if (!err)
		err = dump_links(route);
	if (!err)
		err = locals_refresh(&route->locals, &route->netlink);
	return err < 0 ? err : 0;
}

int route_new(struct tp_table *table, const uint32_t *ifindexes, size_t count, struct route **out)
{
	struct route *route = calloc(1, sizeof(*route));
	int err;

	if (!route)
		return -ENOMEM;
	route->epoll = route->timer = -1;
	TAILQ_INIT(&route->order);
	route->follows = table && count;
	err = start(route, ifindexes, count);
	if (err) {
		route_free(route);
		return err;
	}
	hops_init(&route->hops, table, &route->netlink, &route->links, &route->hash_key);
	*out = route;
	return 0;
}

static void drop(struct route *route, struct route_destination *destination)
{
	if (destination->hop)
		hops_release(&route->hops, destination->hop);
	TAILQ_REMOVE(&route->order, destination, link);
	HASH_DEL(route->destinations, destination);
	free(destination);
}

void route_free(struct route *route)
{
	struct route_destination *destination, *next;

	if (!route)
		return;
	HASH_ITER(hh, route->destinations, destination, next) {
		drop(route, destination);
	}
	locals_clear(&route->locals);
	links_clear(&route->links);
	netlink_close(&route->netlink);
	tp_cleanup_close(&route->timer);
	tp_cleanup_close(&route->epoll);
	free(route);
}

void route_settle(struct route *route)
{
	if (route->follows)
		hops_settle(&route->hops);
}

int route_fd(const struct route *route)
{
	return route->epoll;
}

static struct route_destination *find_or_add(struct route *route, const struct destination_key *key)
{
	unsigned hash = (unsigned)tp_siphash13(&route->hash_key, key, sizeof(*key));
	struct route_destination *destination;

	HASH_FIND_BYHASHVALUE(hh, route->destinations, key, sizeof(*key), hash, destination);
	if (destination)
		return destination;
	destination = calloc(1, sizeof(*destination));
	if (!destination)
		return NULL;
	destination->key = *key;
	LIST_INIT(&destination->users);
	HASH_ADD_BYHASHVALUE(hh, route->destinations, key, sizeof(*key), hash, destination);
	if (!destination->hh.tbl) {
		free(destination);
		return NULL;
	}
	TAILQ_INSERT_TAIL(&route->order, destination, link);
	resolve(route, destination);
	return destination;
}

uint16_t route_follow(struct route *route, struct route_user *user, const struct tp_addr *remote,
	const struct tp_addr *local)
{
	struct destination_key key = {
		.remote = tp_addr_with_port(remote, 0),
		.local = tp_addr_with_port(local, 0),
	};

	user->destination = route->follows ? find_or_add(route, &key) : NULL;
	if (!user->destination)
		return TP_NO_NEXT_HOP_YET;
	LIST_INSERT_HEAD(&user->destination->users, user, link);
	return index_of(user->destination);
}

void route_unfollow(struct route *route, struct route_user *user)
{
	struct route_destination *destination = user->destination;

	if (!destination)
		return;
	user->destination = NULL;
	LIST_REMOVE(user, link);
	if (LIST_EMPTY(&destination->users))
		drop(route, destination);
}

uint16_t route_next_hop(const struct route_user *user)
{
	return user->destination ? index_of(user->destination) : TP_NO_NEXT_HOP_YET;
}

void route_watch_locals(struct route *route,
	void (*changed)(void *arg, const struct route_local *list, size_t count), void *arg)
{
	route->on_locals = changed;
	route->on_locals_arg = arg;
	tell_locals(route);
}
