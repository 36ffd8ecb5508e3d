/* The command line of turnpike-bench. */
#pragma once

#include "tests/perf/clients.h"
#include "traffic.h"

#include <sys/types.h>

enum command { BENCH_RELAY, BENCH_ALLOCATE };

struct options {
	enum command command;
	struct clients_settings clients;
	bool directions[DIRECTIONS];
	uint64_t rate; /* 0: as many as can be */
	size_t size;
	unsigned duration_s;
	double max_loss; /* percent; above 100: no bar */
	pid_t pid;       /* 0: nobody's cost is asked for */
	bool json;
	const char *client_netns, *peer_netns; /* names under /run/netns; NULL: ours */
};

/* Ends the program where there is nothing to run: --help and --version with 0, errors with 2. */
void options_parse(int argc, char *argv[], struct options *out);
