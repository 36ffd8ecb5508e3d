/* Linear hashing. The memory of the buckets is the table's; the links are their objects'. */
#include "map.h"

#include <errno.h>
#include <stdlib.h>

enum { ROOM_MIN = 8 };

/* Buckets behind the last are not split off yet from the one half as high. */
static struct tp_map_link **bucket_of(const struct tp_map *map, uint32_t hash)
{
	uint32_t mask = UINT32_MAX >> __builtin_clz((map->used - 1) | 1);
	uint32_t index = hash & mask;

	return &map->buckets[index < map->used ? index : index & mask >> 1];
}

static int resize(struct tp_map *map, uint32_t room)
{
	struct tp_map_link **buckets =
		reallocarray(map->buckets, room, sizeof(struct tp_map_link *));

	if (!buckets)
		return -ENOMEM;
	map->buckets = buckets;
	map->room = room;
	return 0;
}

/* Without memory the chains grow longer, no more. */
static void split(struct tp_map *map)
{
	struct tp_map_link **from, **to, *link;

	if (map->used == map->room && resize(map, 2 * map->room) < 0)
		return;
	from = bucket_of(map, map->used);
	to = &map->buckets[map->used++];
	*to = NULL;
	while ((link = *from)) {
		if (bucket_of(map, link->hash) != to) {
			from = &link->next;
			continue;
		}
		*from = link->next;
		link->next = *to;
		*to = link;
	}
}

static void merge(struct tp_map *map)
{
	struct tp_map_link *last = map->buckets[--map->used], **to, *next;

	for (to = bucket_of(map, map->used); last; last = next) {
		next = last->next;
		last->next = *to;
		*to = last;
	}
	if (map->room > ROOM_MIN && map->used <= map->room / 4)
		resize(map, map->room / 2);
}

int tp_map_add(struct tp_map *map, struct tp_map_link *link, uint32_t hash)
{
	struct tp_map_link **bucket;

	if (!map->buckets && resize(map, ROOM_MIN) < 0)
		return -ENOMEM;
	if (map->used == 0)
		map->buckets[map->used++] = NULL;
	else if (map->count >= map->used)
		split(map);
	bucket = bucket_of(map, hash);
	*link = (struct tp_map_link){.next = *bucket, .hash = hash};
	*bucket = link;
	map->count++;
	return 0;
}

void tp_map_remove(struct tp_map *map, struct tp_map_link *link)
{
	struct tp_map_link **at = bucket_of(map, link->hash);

	while (*at != link)
		at = &(*at)->next;
	*at = link->next;
	if (--map->count == 0) {
		free(map->buckets);
		*map = (struct tp_map){0};
		return;
	}
	/* Two, else it would not keep up; half empty, so that it does not go to and fro. */
	for (int i = 0; i < 2 && map->used / 2 > map->count; i++)
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
	return map->used ? of_hash(*bucket_of(map, hash), hash) : NULL;
}

struct tp_map_link *tp_map_next(const struct tp_map_link *link)
{
	return of_hash(link->next, link->hash);
}
