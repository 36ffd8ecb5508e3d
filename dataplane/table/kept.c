/*
 * Notes about allocations, for the writer's successor. Each is whole before the word that shows it,
 * and single words change afterwards, so that a writer may die anywhere in between. Control plane's
 * thread; does not block.
 */
#include "private.h"

#include <errno.h>

static const uint8_t mapped_prefix[12] = {[10] = 0xff, [11] = 0xff};

uint32_t tp_table_kept_end(const struct tp_table *table)
{
	return table->memory.shape.regions[TP_REGION_ALLOCATIONS].count;
}

static bool is_number(const struct tp_table *table, uint32_t number)
{
	return number > 0 && number < tp_table_kept_end(table);
}

static void show(struct tp_kept *kept, uint32_t id)
{
	__atomic_store_n(&kept->id, id, __ATOMIC_RELEASE);
	/* The compiler must not move what follows before it either. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

static int make_ref(const struct tp_table *table, const struct tp_addr *address,
	unsigned int family, struct tp_relay_ref *out)
{
	struct tp_relay_ref ref = {.word = 0};

	if (address && address->family != (family == TP_RELAY_V4 ? TP_IPV4 : TP_IPV6))
		return -EINVAL;
	if (address && tp_table_find_local(table, address, &ref.local) < 0)
		return -EINVAL;
	if (address) {
		ref.port = tp_to_be16(address->port);
		ref.used = 1;
	}
	*out = ref;
	return 0;
}

int tp_table_keep_relay(struct tp_table *table, uint32_t number, unsigned int family,
	const struct tp_addr *address, uint64_t expires_ns)
{
	struct tp_relay_ref ref;
	struct tp_kept *kept;

	if (!is_number(table, number) || family >= TP_RELAYS ||
		make_ref(table, address, family, &ref) < 0)
		return -EINVAL;
	kept = &table->kept[number];
	if (address)
		__atomic_store_n(&kept->relays[family].expires_ns, expires_ns, __ATOMIC_RELEASE);
	__atomic_store_n(&kept->relays[family].ref.word, ref.word, __ATOMIC_RELEASE);
	return 0;
}

static int fill(
	const struct tp_table *table, const struct tp_kept_allocation *from, struct tp_kept *out)
{
	struct tp_kept kept = {
		.client_port = tp_to_be16(from->client.port),
		.server_port = tp_to_be16(from->server.port),
		.owner = {from->owner[0], from->owner[1]},
		.quota = from->quota,
		.transport = (uint8_t)from->transport,
		.time_limited = from->time_limited,
	};

	if (tp_table_find_local(table, &from->server, &kept.server) < 0)
		return -EINVAL;
	for (unsigned int f = 0; f < TP_RELAYS; f++) {
		const struct tp_addr *address = &from->relays[f].address;

		if (make_ref(table, address->family ? address : NULL, f, &kept.relays[f].ref) < 0)
			return -EINVAL;
		kept.relays[f].expires_ns = from->relays[f].expires_ns;
	}
	kept.name_len = (uint8_t)(from->name_len < TP_KEPT_NAME ? from->name_len : TP_KEPT_NAME);
	memcpy(kept.client, from->client.ip, sizeof(kept.client));
	memcpy(kept.name, from->name, kept.name_len);
	*out = kept;
	return 0;
}

int tp_table_keep(
	struct tp_table *table, uint32_t number, const struct tp_kept_allocation *allocation)
{
	struct tp_kept kept;

	if (!is_number(table, number) || allocation->id == 0 || fill(table, allocation, &kept) < 0)
		return -EINVAL;
	show(&table->kept[number], 0);
	table->kept[number] = kept;
	show(&table->kept[number], allocation->id);
	return 0;
}

void tp_table_forget(struct tp_table *table, uint32_t number)
{
	if (is_number(table, number))
		show(&table->kept[number], 0);
}

static struct tp_addr address_of(const uint64_t ip[2], tp_be16 port)
{
	struct tp_addr a = {.port = tp_from_be16(port)};

	memcpy(a.ip, ip, sizeof(a.ip));
	a.family = memcmp(ip, mapped_prefix, sizeof(mapped_prefix)) == 0 ? TP_IPV4 : TP_IPV6;
	return a;
}

static int read_relay(
	const struct tp_table *table, const struct tp_relay_ref *ref, struct tp_addr *out)
{
	if (!ref->used)
		return ref->word == 0 ? 0 : -EINVAL;
	if (ref->used != 1 || ref->zero != 0 || ref->local >= tp_table_locals(table))
		return -EINVAL;
	*out = tp_table_local(table, ref->local);
	out->port = tp_from_be16(ref->port);
	return 0;
}

int tp_table_kept(const struct tp_table *table, uint32_t number, struct tp_kept_allocation *out)
{
	struct tp_kept_allocation a;
	struct tp_kept kept;

	if (!is_number(table, number))
		return -ENOENT;
	/* What is looked at here must not change before it is used. */
	kept = TP_READ_ONCE(table->kept[number]);
	if (kept.id == 0)
		return -ENOENT;
	if (kept.server >= tp_table_locals(table) || kept.name_len > TP_KEPT_NAME)
		return -EINVAL;
	a = (struct tp_kept_allocation){
		.id = kept.id,
		.transport = kept.transport,
		.client = address_of(kept.client, kept.client_port),
		.server = tp_table_local(table, kept.server),
		.owner = {kept.owner[0], kept.owner[1]},
		.quota = kept.quota,
		.time_limited = kept.time_limited,
		.name_len = kept.name_len,
	};
	a.server.port = tp_from_be16(kept.server_port);
	memcpy(a.name, kept.name, kept.name_len);
	for (unsigned int f = 0; f < TP_RELAYS; f++) {
		struct tp_addr *address = &a.relays[f].address;

		if (read_relay(table, &kept.relays[f].ref, address) < 0)
			return -EINVAL;
		if (!address->family)
			continue;
		if ((address->family == TP_IPV4) != (f == TP_RELAY_V4))
			return -EINVAL;
		a.relays[f].expires_ns = kept.relays[f].expires_ns;
	}
	*out = a;
	return 0;
}

struct tp_hash_key tp_table_owner_key(const struct tp_table *table)
{
	return (struct tp_hash_key){{table->config->owner_key[0], table->config->owner_key[1]}};
}
