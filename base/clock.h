/* The two clocks of the program: one that never jumps, one that credentials are written in. */
#pragma once

#include <stdint.h>
#include <time.h>

#define TP_NS_PER_S  UINT64_C(1000000000)
#define TP_NS_PER_MS UINT64_C(1000000)

/* Nanoseconds of CLOCK_MONOTONIC: every lifetime and deadline. */
static inline uint64_t tp_clock_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * TP_NS_PER_S + (uint64_t)ts.tv_nsec;
}

/* Seconds since 1970: time-limited credentials only. */
static inline uint64_t tp_clock_unix_s(void)
{
	return (uint64_t)time(NULL);
}
