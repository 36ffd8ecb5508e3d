/*
 * SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
 *
 * SplitMix64: a generator of one word of state, which whoever owns it seeds. For numbers that have
 * to differ and should not be guessed by chance; secrets come from getrandom(2).
 */
#pragma once

#include "wire.h"

static TP_INLINE uint64_t tp_random(uint64_t *state)
{
	uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}
