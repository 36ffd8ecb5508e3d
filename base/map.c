/* Linear hashing. The memory of the buckets is the table's; the links are their objects'. */
#include "map.h"

#include <stdlib.h>

/* So many are one chain; then there are at least as many buckets. */
enum { FEW = 8 };

/* Buckets behind the last are not split off yet from the one half as high. */
static uint32_t index_of(const struct tp_map *map, uint32_t hash)
{
	uint32_t mask = UINT32_MAX >> __builtin_clz((map->used - 1) | 1);
	uint32_t index = hash & mask;

	return index < map->used ? index : index & mask >> 1;
}

static struct tp_map_link **chain_of(struct tp_map *map, uint32_t hash)
{
	return map->used ? &map->buckets[index_of(map, hash)] : &map->chain;
}

/* There is room for the next power of two. */
static bool is_full(const struct tp_map *map)
{
	return (map->used & (map->used - 1)) == 0;
}

static bool resize(struct tp_map *map, uint32_t room)
{
	struct tp_map_link **buckets =
		reallocarray(map->buckets, room, sizeof(struct tp_map_link *));

	if (buckets)
		map->buckets = buckets;
	return buckets;
}

static void push(struct tp_map_link **chain, struct tp_map_link *link)
{
	link->next = *chain;
	*chain = link;
}

static void spread(struct tp_map *map)
{
	struct tp_map_link **buckets = calloc(FEW, sizeof(struct tp_map_link *));
	struct tp_map_link *link = map->chain, *next;

	if (!buckets)
		return;
	map->buckets = buckets;
	map->used = FEW;
	for (; link; link = next) {
		next = link->next;
		push(chain_of(map, link->hash), link);
	}
}

static void split(struct tp_map *map)
{
	struct tp_map_link **from, **to, *link;

	if (is_full(map) && !resize(map, 2 * map->used))
		return;
	from = chain_of(map, map->used);
	to = &map->buckets[map->used++];
	*to = NULL;
	while ((link = *from)) {
		if (chain_of(map, link->hash) != to) {
			from = &link->next;
			continue;
		}
		*from = link->next;
		push(to, link);
	}
}

static void merge(struct tp_map *map)
{
	struct tp_map_link *link = map->buckets[--map->used], *next;

	for (; link; link = next) {
		next = link->next;
		push(chain_of(map, link->hash), link);
	}
	if (is_full(map))
		resize(map, map->used);
}

void tp_map_add(struct tp_map *map, struct tp_map_link *link, uint32_t hash)
{
	struct tp_map_link **chain;

	if (map->used == 0 && map->count >= FEW)
		spread(map);
	else if (map->used > 0 && map->count >= map->used)
		split(map);
	chain = chain_of(map, hash);
	while (map->used == 0 && *chain)
		chain = &(*chain)->next;
	link->hash = hash;
	push(chain, link);
	map->count++;
}

void tp_map_remove(struct tp_map *map, struct tp_map_link *link)
{
	struct tp_map_link **at = chain_of(map, link->hash);

	while (*at != link)
		at = &(*at)->next;
	*at = link->next;
	map->count--;
	if (map->count > 0 || map->used == 0)
		return;
	free(map->buckets);
	*map = (struct tp_map){0};
}

void tp_map_shrink(struct tp_map *map)
{
	/* Two, else it would not keep up; half empty, so that it does not go to and fro. */
	for (int i = 0; i < 2 && map->used > FEW && map->used / 2 > map->count; i++)
		merge(map);
}

static struct tp_map_link *of_hash(struct tp_map_link *link, uint32_t hash)
{
	while (link && link->hash != hash)
		link = link->next;
	return link;
}

struct tp_map_link *tp_map_first(const struct tp_map *map, uint32_t hash)
{
	return of_hash(map->used ? map->buckets[index_of(map, hash)] : map->chain, hash);
}

struct tp_map_link *tp_map_next(const struct tp_map_link *link)
{
	return of_hash(link->next, link->hash);
}

struct tp_map_link *tp_map_after(const struct tp_map *map, const struct tp_map_link *link)
{
	uint32_t bucket = 0;

	if (link && link->next)
		return link->next;
	if (map->used == 0)
		return link ? NULL : map->chain;
	if (link)
		bucket = index_of(map, link->hash) + 1;
	while (bucket < map->used && !map->buckets[bucket])
		bucket++;
	return bucket < map->used ? map->buckets[bucket] : NULL;
}
