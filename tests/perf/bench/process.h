/* What another process costs. */
#pragma once

#include <stdint.h>
#include <sys/types.h>

struct process_cost {
	uint64_t cpu_ns; /* user and system time of all its threads, ended ones too */
	uint64_t rss;    /* bytes */
};

/* -ESRCH: there is no such process. */
int process_cost(pid_t pid, struct process_cost *out);
