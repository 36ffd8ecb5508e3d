/* Permissions and channels of a relay (RFC 8656, 9 and 12). One thread; nothing blocks. */
#include "store.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>

#define CONTAINER(pointer, type, member) ((type *)((char *)(pointer)-offsetof(type, member)))

static struct alloc_store *store_of(const struct alloc_relay *relay)
{
	return relay->allocation->store;
}

bool alloc_room_for_permissions(const struct allocation *a, uint32_t more)
{
	uint32_t max = a->store->limits.permissions_per_allocation;
	uint32_t held = 0;

	for (int i = 0; i < ALLOC_RELAYS; i++)
		if (a->relays[i])
			held += a->relays[i]->permissions_count;
	return max == 0 || (more <= max && held <= max - more);
}

bool alloc_room_for_channel(const struct allocation *a)
{
	uint32_t max = a->store->limits.channels_per_allocation;

	return max == 0 || a->channels_count < max;
}

static void permission_is_due(struct timer *timer, uint64_t now_ns)
{
	(void)now_ns;
	alloc_delete_permission(CONTAINER(timer, struct alloc_permission, timer));
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
	HASH_ADD(by_ip, relay->permissions, peer, sizeof(permission->peer), permission);
	if (!permission->by_ip.tbl) {
		free(permission);
		return -ENOMEM;
	}
	relay->permissions_count++;
	*out = permission;
	return 0;
}

int alloc_permit(struct alloc_relay *relay, const struct tp_addr *peer, uint64_t expires_ns,
	struct alloc_permission **out)
{
	struct tp_addr ip = tp_addr_with_port(peer, 0);
	struct alloc_permission *permission;
	int r;

	HASH_FIND(by_ip, relay->permissions, &ip, sizeof(ip), permission);
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
	struct alloc_permission *permission;

	HASH_FIND(by_ip, relay->permissions, &ip, sizeof(ip), permission);
	return permission && permission->expires_ns > now_ns ? permission : NULL;
}

void alloc_delete_permission(struct alloc_permission *permission)
{
	struct alloc_relay *relay = permission->relay;
	struct alloc_store *store = store_of(relay);

	store->hooks.end_permission(store->hooks.context, permission);
	timer_cancel(store->wheel, &permission->timer);
	HASH_DELETE(by_ip, relay->permissions, permission);
	relay->permissions_count--;
	free(permission);
}

static void channel_is_due(struct timer *timer, uint64_t now_ns)
{
	(void)now_ns;
	alloc_delete_channel(CONTAINER(timer, struct alloc_channel, timer));
}

static int grow_channels(struct allocation *a, size_t index)
{
	size_t size = a->channels_size ? a->channels_size : 8;
	struct alloc_channel **channels;

	if (index < a->channels_size)
		return 0;
	while (size <= index)
		size *= 2;
	channels = reallocarray(a->channels, size, sizeof(struct alloc_channel *));
	if (!channels)
		return -ENOMEM;
	memset(channels + a->channels_size, 0,
		(size - a->channels_size) * sizeof(struct alloc_channel *));
	a->channels = channels;
	a->channels_size = (uint16_t)size;
	return 0;
}

int alloc_bind(struct alloc_relay *relay, uint16_t number, const struct tp_addr *peer,
	uint64_t expires_ns, struct alloc_channel **out)
{
	struct allocation *a = relay->allocation;
	size_t index = number - ALLOC_CHANNEL_MIN;
	struct alloc_channel *channel;

	if (!alloc_room_for_channel(a))
		return -ENOSPC;
	if (grow_channels(a, index) < 0)
		return -ENOMEM;
	channel = calloc(1, sizeof(*channel));
	if (!channel)
		return -ENOMEM;
	channel->number = number;
	channel->peer = *peer;
	channel->relay = relay;
	channel->timer.fire = channel_is_due;
	HASH_ADD(by_peer, relay->channels, peer, sizeof(channel->peer), channel);
	if (!channel->by_peer.tbl) {
		free(channel);
		return -ENOMEM;
	}
	a->channels[index] = channel;
	a->channels_count++;
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
	size_t index = (size_t)number - ALLOC_CHANNEL_MIN;
	struct alloc_channel *channel;

	if (number < ALLOC_CHANNEL_MIN || index >= a->channels_size)
		return NULL;
	channel = a->channels[index];
	return channel && channel->expires_ns > now_ns ? channel : NULL;
}

struct alloc_channel *alloc_find_channel_to(
	const struct alloc_relay *relay, const struct tp_addr *peer, uint64_t now_ns)
{
	struct alloc_channel *channel;

	HASH_FIND(by_peer, relay->channels, peer, sizeof(*peer), channel);
	return channel && channel->expires_ns > now_ns ? channel : NULL;
}

void alloc_delete_channel(struct alloc_channel *channel)
{
	struct allocation *a = channel->relay->allocation;
	struct alloc_store *store = a->store;

	store->hooks.end_channel(store->hooks.context, channel);
	timer_cancel(store->wheel, &channel->timer);
	HASH_DELETE(by_peer, channel->relay->channels, channel);
	a->channels[channel->number - ALLOC_CHANNEL_MIN] = NULL;
	a->channels_count--;
	free(channel);
}
