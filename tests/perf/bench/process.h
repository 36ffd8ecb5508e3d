/* What another process costs. */
#pragma once

#include <stdint.h>
#include <sys/types.h>

struct process_cost {
	uint64_t cpu_ns; /* user and system time of all its threads, ended ones too */
	uint64_t rss;    /* bytes */
};

/* Of nobody (0): nothing. Ends the program when there is no such process. */
struct process_cost process_cost_of(pid_t pid);
