#include "memsim.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int memsim_open(struct memsim *sim, const struct memsim_size sizes[MEMSIM_KINDS])
{
	*sim = (struct memsim){0};
	for (int k = 0; k < MEMSIM_KINDS; k++) {
		struct memsim_level *level = &sim->levels[k];

		level->sets = sizes[k].sets;
		level->ways = sizes[k].ways;
		if (level->sets == 0 || level->ways == 0)
			return -EINVAL;
		level->entries = calloc((size_t)level->sets * level->ways, sizeof(*level->entries));
		if (!level->entries)
			return -ENOMEM;
	}
	return 0;
}

void memsim_close(struct memsim *sim)
{
	for (int k = 0; k < MEMSIM_KINDS; k++)
		free(sim->levels[k].entries);
	*sim = (struct memsim){0};
}

/* True: it was there. Now it is, in front of its set. */
static bool look_up(struct memsim_level *level, uint64_t number)
{
	uint64_t *set = level->entries + number % level->sets * level->ways;
	uint32_t at = 0;
	bool found;

	while (at < level->ways - 1 && set[at] != number + 1)
		at++;
	found = set[at] == number + 1;
	memmove(set + 1, set, at * sizeof(*set));
	set[0] = number + 1;
	return found;
}

/* From `first` on, until a level has it. */
static unsigned int look_through(
	struct memsim *sim, enum memsim_kind first, enum memsim_kind last, uint64_t number)
{
	unsigned int missed = 0;

	for (int k = (int)first; k <= (int)last && !look_up(&sim->levels[k], number); k++)
		missed |= 1u << k;
	return missed;
}

unsigned int memsim_touch(struct memsim *sim, uint64_t address)
{
	return look_through(sim, MEMSIM_L1, MEMSIM_L3, address >> MEMSIM_LINE_SHIFT) |
	       look_through(sim, MEMSIM_SMALL_FIRST, MEMSIM_SMALL_SECOND, address >> 12) |
	       look_through(sim, MEMSIM_HUGE_FIRST, MEMSIM_HUGE_SECOND, address >> 21);
}
