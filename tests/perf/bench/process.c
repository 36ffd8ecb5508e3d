#include "process.h"

#include "base/clock.h"

#include <err.h>
#include <stdio.h>
#include <unistd.h>

static uint64_t resident(pid_t pid)
{
	char path[32];
	unsigned long long size, pages = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/statm", (int)pid);
	f = fopen(path, "re");
	if (!f)
		return 0;
	if (fscanf(f, "%llu %llu", &size, &pages) != 2)
		pages = 0;
	fclose(f);
	return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

struct process_cost process_cost_of(pid_t pid)
{
	struct process_cost cost = {0};
	struct timespec used;
	clockid_t clock;

	if (!pid)
		return cost;
	if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &used) < 0)
		errx(1, "--pid: there is no process %d", (int)pid);
	cost.cpu_ns = (uint64_t)used.tv_sec * TP_NS_PER_S + (uint64_t)used.tv_nsec;
	cost.rss = resident(pid);
	return cost;
}
