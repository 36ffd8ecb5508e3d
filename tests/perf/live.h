/*
 * Live frames (BPF_PROG_TEST_RUN with BPF_F_TEST_XDP_LIVE_FRAMES): the kernel makes frames, runs an
 * XDP program on each, and does with it what that says. No state; a run takes the caller's time.
 */
#pragma once

#include <stdint.h>

#define LIVE_BATCH 64 /* frames the kernel handles at a time */

struct live {
	int program;      /* descriptor */
	uint32_t ingress; /* ifindex they come from, for the program; 0: lo */
	void *frame;      /* what they are at first; recycled ones are as the last receiver left
			     them */
	uint32_t len;
};

/*
 * -errno. took_ns: a frame, as the kernel measured this run; may be NULL. A program that is
 * attached nowhere makes a run of several frames wait for a grace period.
 */
int live_run(const struct live *live, uint32_t count, uint32_t *took_ns);
