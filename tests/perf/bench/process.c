#include "process.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Of the numbers in the file's line. */
static uint64_t number_in(const char *path, unsigned skip)
{
	unsigned long long value = 0;
	FILE *f = fopen(path, "re");

	if (!f)
		return 0; /* a thread that ended just now */
	for (unsigned i = 0; i <= skip; i++) {
		if (fscanf(f, "%llu", &value) != 1)
			value = 0;
	}
	fclose(f);
	return value;
}

int process_cost(pid_t pid, struct process_cost *out)
{
	char path[sizeof("/proc//task//schedstat") + 2 * sizeof("2147483647")];
	struct dirent *entry;
	DIR *tasks;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	tasks = opendir(path);
	if (!tasks)
		return -ESRCH;
	*out = (struct process_cost){0};
	while ((entry = readdir(tasks))) {
		if (entry->d_name[0] == '.' || strlen(entry->d_name) > 10)
			continue;
		snprintf(path, sizeof(path), "/proc/%d/task/%.10s/schedstat", (int)pid,
			entry->d_name);
		out->cpu_ns += number_in(path, 0);
	}
	closedir(tasks);
	snprintf(path, sizeof(path), "/proc/%d/statm", (int)pid);
	out->rss = number_in(path, 1) * (uint64_t)sysconf(_SC_PAGESIZE);
	return 0;
}
