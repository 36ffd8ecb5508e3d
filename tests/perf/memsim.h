/*
 * A model of a core's caches and address translation: what of a sequence of addresses is found at
 * which level. Sets of ways, the one that was not used for longest goes first; a level is asked for
 * what the one before it does not have, and keeps it. No prefetching, no guessing ahead, no page
 * tables: it counts what has to be fetched, not what it costs. Single thread; does not block.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define MEMSIM_LINE_SHIFT 6

/* Numbers of lines, or of pages, by set; the one used last in front. */
struct memsim_level {
	uint32_t sets, ways;
	uint64_t *entries; /* number + 1; 0 = none yet */
};

/* What is looked at. Translations are counted for both sizes of pages at the same time. */
enum memsim_kind {
	MEMSIM_L1,
	MEMSIM_L2,
	MEMSIM_L3,
	MEMSIM_SMALL_FIRST, /* 4 KiB pages */
	MEMSIM_SMALL_SECOND,
	MEMSIM_HUGE_FIRST, /* 2 MiB pages */
	MEMSIM_HUGE_SECOND,
	MEMSIM_KINDS
};

struct memsim {
	struct memsim_level levels[MEMSIM_KINDS];
};

struct memsim_size {
	uint32_t sets, ways;
};

/* -EINVAL: a level without entries; -ENOMEM. memsim_close() in any case. */
int memsim_open(struct memsim *sim, const struct memsim_size sizes[MEMSIM_KINDS]);
void memsim_close(struct memsim *sim);

/* Bit k is set: level k was asked, and did not have it. */
unsigned int memsim_touch(struct memsim *sim, uint64_t address);
