/*
 * What became of the numbered packets of one flow: seen for the first time, in order or not, or
 * again. As in IPsec's replay window, a bit for each of the last 64 numbers: of what is later than
 * that nobody can tell whether it is new, and nobody has a use for it.
 */
#pragma once

#include <stdint.h>

enum track { TRACK_NEW, TRACK_REORDERED, TRACK_DUPLICATE, TRACK_TOO_LATE };

struct tracker {
	uint64_t next; /* one more than the highest number seen */
	uint64_t seen; /* bit i: number next - 1 - i */
};

static inline enum track track(struct tracker *t, uint64_t number)
{
	uint64_t behind, bit;

	if (number >= t->next) {
		uint64_t step = number - t->next + 1;

		t->seen = step < 64 ? t->seen << step | 1 : 1;
		t->next = number + 1;
		return TRACK_NEW;
	}
	behind = t->next - 1 - number;
	if (behind >= 64)
		return TRACK_TOO_LATE;
	bit = UINT64_C(1) << behind;
	if (t->seen & bit)
		return TRACK_DUPLICATE;
	t->seen |= bit;
	return TRACK_REORDERED;
}
