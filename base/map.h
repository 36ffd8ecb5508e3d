/*
 * Hash tables of objects that carry the links of their chains themselves. The caller brings the
 * hash, made with a key of its own where strangers choose what is hashed (threat R11), and
 * compares. A few objects are one chain and take no memory beside their links; more get buckets,
 * which grow by one at a time (linear hashing, Litwin 1980), so that no single insertion waits for
 * all that is there. One thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The object that a member at `pointer` is part of. */
#define TP_CONTAINER(pointer, type, member) ((type *)((char *)(pointer)-offsetof(type, member)))

struct tp_map_link {
	struct tp_map_link *next;
	uint32_t hash;
};

/* All zero: empty. Holds memory only while something is in it. */
struct tp_map {
	union {
		struct tp_map_link *chain;
		struct tp_map_link **buckets;
	};
	uint32_t count;
	uint32_t used; /* buckets; 0: the chain */
};

/* The link must not be in a table. Without memory for buckets chains grow longer, no more. */
void tp_map_add(struct tp_map *map, struct tp_map_link *link, uint32_t hash);
/* The link must be in this table. Others stay where they are. */
void tp_map_remove(struct tp_map *map, struct tp_map_link *link);
/* After a removal, for tables that live long: gives back what is far too much by now. */
void tp_map_shrink(struct tp_map *map);

static inline bool tp_map_is_empty(const struct tp_map *map)
{
	return map->count == 0;
}

/* All links of that hash, which need not be of that key: for (l = first; l; l = next(l)). */
struct tp_map_link *tp_map_first(const struct tp_map *map, uint32_t hash);
struct tp_map_link *tp_map_next(const struct tp_map_link *link);

/*
 * All links, in order of their insertion while they are few: after NULL comes the first. What is
 * looked at may be removed once the one behind it is known.
 */
struct tp_map_link *tp_map_after(const struct tp_map *map, const struct tp_map_link *link);
