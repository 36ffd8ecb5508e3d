/* Numbers of policers. One thread; does not block. */
#include "policers.h"

#include <errno.h>
#include <stdlib.h>

int policers_init(struct policers *policers, uint32_t end)
{
	*policers = (struct policers){
		.fresh = 1,
		.end = end,
		.next = calloc(end, sizeof(*policers->next)),
		.free_ns = calloc(end, sizeof(*policers->free_ns)),
	};
	if (policers->next && policers->free_ns)
		return 0;
	policers_clear(policers);
	return -ENOMEM;
}

void policers_clear(struct policers *policers)
{
	free(policers->next);
	free(policers->free_ns);
	*policers = (struct policers){0};
}

static void append(struct policers *policers, uint32_t number, uint64_t free_ns)
{
	policers->free_ns[number] = free_ns;
	policers->next[number] = 0;
	if (policers->newest)
		policers->next[policers->newest] = number;
	else
		policers->oldest = number;
	policers->newest = number;
}

static void prepend(struct policers *policers, uint32_t number, uint64_t free_ns)
{
	policers->free_ns[number] = free_ns;
	policers->next[number] = policers->oldest;
	policers->oldest = number;
	if (!policers->newest)
		policers->newest = number;
}

/* The one behind `before`, which is 0 for the oldest. */
static uint32_t take_behind(struct policers *policers, uint32_t before)
{
	uint32_t number = before ? policers->next[before] : policers->oldest;

	if (!number)
		return 0;
	if (before)
		policers->next[before] = policers->next[number];
	else
		policers->oldest = policers->next[number];
	if (policers->newest == number)
		policers->newest = before;
	return number;
}

uint32_t policers_take(struct policers *policers, uint64_t now_ns)
{
	bool rested = policers->oldest && policers->free_ns[policers->oldest] <= now_ns;

	if (rested || policers->fresh >= policers->end)
		return take_behind(policers, 0);
	return policers->fresh++;
}

bool policers_claim(struct policers *policers, uint32_t number)
{
	uint32_t before = 0, at = policers->oldest;

	if (number == 0 || number >= policers->end)
		return false;
	if (number >= policers->fresh) {
		while (policers->fresh < number)
			prepend(policers, policers->fresh++, 0);
		policers->fresh++;
		return true;
	}
	while (at && at != number) {
		before = at;
		at = policers->next[at];
	}
	return at && take_behind(policers, before);
}

void policers_give(struct policers *policers, uint32_t number, uint64_t now_ns)
{
	if (number)
		append(policers, number, now_ns + TP_REST_NS);
}
