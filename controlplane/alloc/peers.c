/* Permissions and channels of a relay (RFC 8656, 9 and 12). One thread; nothing blocks. */
#include "store.h"

#include <errno.h>
#include <stdlib.h>

static struct alloc_store *store_of(const struct alloc_relay *relay)
{
	return relay->allocation->store;
}

/* Most relays have one peer: what is looked for is there, or there is nothing to hash it for. */
static struct tp_map_link *find(const struct tp_map *map, const void *key, size_t len)
{
	return tp_map_is_empty(map) ? NULL : tp_map_first(map, alloc_hash(key, len));
}

/* They may be due, and not yet swept. */
static struct alloc_permission *find_permission(
	const struct alloc_relay *relay, const struct tp_addr *ip)
{
	struct tp_map_link *link = find(&relay->permissions, ip, sizeof(*ip));

	for (; link; link = tp_map_next(link)) {
		struct alloc_permission *permission =
			TP_CONTAINER(link, struct alloc_permission, by_ip);

		if (tp_addr_equal(&permission->peer, ip))
			return permission;
	}
	return NULL;
}

bool alloc_room_for_permissions(const struct allocation *a, uint32_t more)
{
	uint32_t max = a->store->limits.permissions_per_allocation;
	uint32_t held = 0;

	for (int i = 0; i < ALLOC_RELAYS; i++)
		if (a->relays[i])
			held += a->relays[i]->permissions.count;
	return max == 0 || (more <= max && held <= max - more);
}

bool alloc_room_for_channel(const struct allocation *a)
{
	uint32_t max = a->store->limits.channels_per_allocation;

	return max == 0 || a->channels.count < max;
}

static void permission_is_due(struct timer *timer, uint64_t now_ns)
{
	(void)now_ns;
	alloc_delete_permission(TP_CONTAINER(timer, struct alloc_permission, timer));
}

static int add_permission(
	struct alloc_relay *relay, const struct tp_addr *ip, struct alloc_permission **out)
{
	struct alloc_permission *permission;

	if (!alloc_room_for_permissions(relay->allocation, 1))
		return -ENOSPC;
	permission = calloc(1, sizeof(*permission));
	if (!permission)
		return -ENOMEM;
	permission->peer = *ip;
	permission->relay = relay;
	permission->timer.fire = permission_is_due;
	tp_map_add(&relay->permissions, &permission->by_ip, alloc_hash(ip, sizeof(*ip)));
	*out = permission;
	return 0;
}

int alloc_permit(struct alloc_relay *relay, const struct tp_addr *peer, uint64_t expires_ns,
	struct alloc_permission **out)
{
	struct tp_addr ip = tp_addr_with_port(peer, 0);
	struct alloc_permission *permission = find_permission(relay, &ip);
	int r;

	if (!permission) {
		r = add_permission(relay, &ip, &permission);
		if (r < 0)
			return r;
	}
	permission->expires_ns = expires_ns;
	timer_arm(store_of(relay)->wheel, &permission->timer, expires_ns);
	*out = permission;
	return 0;
}

struct alloc_permission *alloc_find_permission(
	const struct alloc_relay *relay, const struct tp_addr *peer, uint64_t now_ns)
{
	struct tp_addr ip = tp_addr_with_port(peer, 0);
	struct alloc_permission *permission = find_permission(relay, &ip);

	return permission && permission->expires_ns > now_ns ? permission : NULL;
}

struct alloc_permission *alloc_next_permission(
	const struct alloc_relay *relay, const struct alloc_permission *permission)
{
	struct tp_map_link *link =
		tp_map_after(&relay->permissions, permission ? &permission->by_ip : NULL);

	return link ? TP_CONTAINER(link, struct alloc_permission, by_ip) : NULL;
}

void alloc_delete_permission(struct alloc_permission *permission)
{
	struct alloc_relay *relay = permission->relay;
	struct alloc_store *store = store_of(relay);

	store->hooks.end_permission(store->hooks.context, permission);
	timer_cancel(store->wheel, &permission->timer);
	tp_map_remove(&relay->permissions, &permission->by_ip);
	free(permission);
}

static void channel_is_due(struct timer *timer, uint64_t now_ns)
{
	(void)now_ns;
	alloc_delete_channel(TP_CONTAINER(timer, struct alloc_channel, timer));
}

int alloc_bind(struct alloc_relay *relay, uint16_t number, const struct tp_addr *peer,
	uint64_t expires_ns, struct alloc_channel **out)
{
	struct allocation *a = relay->allocation;
	struct alloc_channel *channel;

	if (!alloc_room_for_channel(a))
		return -ENOSPC;
	channel = calloc(1, sizeof(*channel));
	if (!channel)
		return -ENOMEM;
	channel->number = number;
	channel->peer = *peer;
	channel->relay = relay;
	channel->timer.fire = channel_is_due;
	tp_map_add(&relay->channels, &channel->by_peer, alloc_hash(peer, sizeof(*peer)));
	tp_map_add(&a->channels, &channel->by_number, alloc_hash(&number, sizeof(number)));
	alloc_extend_channel(channel, expires_ns);
	*out = channel;
	return 0;
}

void alloc_extend_channel(struct alloc_channel *channel, uint64_t expires_ns)
{
	channel->expires_ns = expires_ns;
	timer_arm(store_of(channel->relay)->wheel, &channel->timer, expires_ns);
}

struct alloc_channel *alloc_find_channel(
	const struct allocation *a, uint16_t number, uint64_t now_ns)
{
	struct tp_map_link *link = find(&a->channels, &number, sizeof(number));

	for (; link; link = tp_map_next(link)) {
		struct alloc_channel *channel = TP_CONTAINER(link, struct alloc_channel, by_number);

		if (channel->number == number)
			return channel->expires_ns > now_ns ? channel : NULL;
	}
	return NULL;
}

struct alloc_channel *alloc_find_channel_to(
	const struct alloc_relay *relay, const struct tp_addr *peer, uint64_t now_ns)
{
	struct tp_map_link *link = find(&relay->channels, peer, sizeof(*peer));

	for (; link; link = tp_map_next(link)) {
		struct alloc_channel *channel = TP_CONTAINER(link, struct alloc_channel, by_peer);

		if (tp_addr_equal(&channel->peer, peer))
			return channel->expires_ns > now_ns ? channel : NULL;
	}
	return NULL;
}

struct alloc_channel *alloc_next_channel(
	const struct alloc_relay *relay, const struct alloc_channel *channel)
{
	struct tp_map_link *link =
		tp_map_after(&relay->channels, channel ? &channel->by_peer : NULL);

	return link ? TP_CONTAINER(link, struct alloc_channel, by_peer) : NULL;
}

void alloc_delete_channel(struct alloc_channel *channel)
{
	struct alloc_relay *relay = channel->relay;
	struct alloc_store *store = store_of(relay);

	store->hooks.end_channel(store->hooks.context, channel);
	timer_cancel(store->wheel, &channel->timer);
	tp_map_remove(&relay->channels, &channel->by_peer);
	tp_map_remove(&relay->allocation->channels, &channel->by_number);
	free(channel);
}
