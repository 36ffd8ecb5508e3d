/* What waycost's BPF programs and their loader share. */
#pragma once

#include <linux/types.h>

#define WAYS_HEAD 128 /* more than all that is written to a frame */

struct ways_head {
	__u64 words[WAYS_HEAD / 8];
};
