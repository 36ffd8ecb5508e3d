/*
 * Follows routes and tells what would be in the next-hop records: the eyes of
 * tests/netns/test_route.py.
 *
 * route_probe INTERFACE[,INTERFACE...] [LOCAL REMOTE]...
 *
 * Prints "REMOTE HOP NUMBER invalid" or "REMOTE HOP NUMBER INTERFACE vlan V mtu M DESTINATION
 * SOURCE" for each remote whose record changed, and "locals ADDRESS/LENGTH[c] ..." (c: connected)
 * for each new list. Ends when stdin does.
 */
#include "controlplane/route/route.h"

#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define FOLLOWED_MAX 4096

struct followed {
	struct route_user user;
	struct tp_addr remote;
	uint16_t next_hop;
	char told[160];
};

static struct followed followed[FOLLOWED_MAX];
static size_t followed_count;
static const struct tp_next_hop *records;

static void on_changed(struct route_user *user, uint16_t next_hop)
{
	((struct followed *)user)->next_hop = next_hop;
}

static void describe_mac(const uint8_t mac[6], char out[18])
{
	snprintf(out, 18, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4],
		mac[5]);
}

static void describe(const struct followed *f, char *out, size_t size)
{
	const struct tp_next_hop *hop = &records[f->next_hop];
	char ip[TP_ADDR_TEXT], to[18], from[18], name[IF_NAMESIZE];

	tp_addr_ip_text(&f->remote, ip);
	describe_mac(hop->destination, to);
	describe_mac(hop->source, from);
	if (f->next_hop == TP_NO_NEXT_HOP_YET || (hop->seq & 1))
		snprintf(out, size, "%s HOP %u invalid", ip, f->next_hop);
	else
		snprintf(out, size, "%s HOP %u %s vlan %u mtu %u %s %s", ip, f->next_hop,
			if_indextoname(hop->ifindex, name) ? name : "?", tp_from_be16(hop->vlan),
			hop->mtu, to, from);
}

static void tell(void)
{
	char now[sizeof(followed[0].told)];

	for (size_t i = 0; i < followed_count; i++) {
		describe(&followed[i], now, sizeof(now));
		if (!strcmp(now, followed[i].told))
			continue;
		memcpy(followed[i].told, now, sizeof(now));
		puts(now);
	}
}

static void on_locals(void *arg, const struct route_local *list, size_t count)
{
	char ip[TP_ADDR_TEXT];

	printf("locals");
	for (size_t i = 0; i < count; i++)
		printf(" %s/%u%s", tp_addr_ip_text(&list[i].ip, ip), list[i].length,
			list[i].connected ? "c" : "");
	puts("");
}

static size_t parse_interfaces(char *names, uint32_t ifindexes[TP_INTERFACES_MAX])
{
	size_t count = 0;

	for (char *name = strtok(names, ","); name && count < TP_INTERFACES_MAX;
		name = strtok(NULL, ","))
		ifindexes[count++] = if_nametoindex(name);
	return count;
}

static bool follow_all(struct route *route, int count, char **addresses)
{
	for (int i = 0; i + 1 < count && followed_count < FOLLOWED_MAX; i += 2) {
		struct followed *f = &followed[followed_count++];
		struct tp_addr local;

		if (tp_addr_parse_ip(addresses[i], &local) < 0 ||
			tp_addr_parse_ip(addresses[i + 1], &f->remote) < 0)
			return false;
		f->user.changed = on_changed;
		f->next_hop = route_follow(route, &f->user, &f->remote, &local);
	}
	return true;
}

static void serve(struct route *route)
{
	struct pollfd fds[] = {
		{.fd = route_fd(route), .events = POLLIN},
		{.fd = STDIN_FILENO, .events = POLLIN},
	};

	tell();
	while (poll(fds, 2, -1) >= 0 && !fds[1].revents) {
		route_process(route);
		tell();
	}
}

int main(int argc, char **argv)
{
	uint32_t ifindexes[TP_INTERFACES_MAX];
	size_t count = argc > 1 ? parse_interfaces(argv[1], ifindexes) : 0;
	struct tp_shape shape;
	struct tp_memory memory;
	struct tp_table *table;
	struct route *route;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (!count || tp_shape_init(1, 1, 1, &shape) < 0 ||
		tp_memory_create_plain(&shape, &memory) < 0 ||
		tp_table_create(&memory, 0x4fff, &table) < 0 ||
		route_new(table, ifindexes, count, &route) < 0)
		return 1;
	records = memory.regions[TP_REGION_NEXT_HOPS];
	/* A reader that never ends its burst. */
	if (getenv("ROUTE_PROBE_BUSY"))
		((struct tp_worker_counters *)memory.regions[TP_REGION_WORKERS])->epoch = 1;
	route_watch_locals(route, on_locals, NULL);
	if (!follow_all(route, argc - 2, argv + 2))
		return 1;
	serve(route);
	for (size_t i = 0; i < followed_count; i++)
		route_unfollow(route, &followed[i].user);
	route_free(route);
	tp_table_destroy(table);
	tp_memory_destroy_plain(&memory);
	return 0;
}
