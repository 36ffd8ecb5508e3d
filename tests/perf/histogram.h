/*
 * Latencies in classes of one 64th of their value, so that percentiles are right within 1.6 % from
 * a nanosecond to a quarter of a minute, and counting one is a shift and an increment. Shared by
 * the bench's BPF programs and its tools.
 */
#pragma once

#include <linux/types.h>

#define HISTOGRAM_SUB   64u
#define HISTOGRAM_SLOTS 2048u

static inline __u32 histogram_shift(__u64 value)
{
	__u32 shift = 0;

	for (__u32 step = 16; step; step /= 2) {
		if (value >> (shift + step) >= HISTOGRAM_SUB)
			shift += step;
	}
	return shift;
}

/* Of a value in nanoseconds; what is too large goes into the last class. */
static inline __u32 histogram_index(__u64 value)
{
	__u32 shift = histogram_shift(value);
	__u64 index = (__u64)shift * HISTOGRAM_SUB + (value >> shift);

	return index < HISTOGRAM_SLOTS ? (__u32)index : HISTOGRAM_SLOTS - 1;
}

/* The largest value of a class. */
static inline __u64 histogram_value(__u32 index)
{
	__u32 shift = index < 2 * HISTOGRAM_SUB ? 0 : index / HISTOGRAM_SUB - 1;

	return ((__u64)(index - shift * HISTOGRAM_SUB + 1) << shift) - 1;
}
