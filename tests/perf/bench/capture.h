/* Capture files with one frame for each allocation, for generators that replay such. */
#pragma once

#include "options.h"
#include "tests/perf/hop.h"

struct capture {
	const struct options *options;
	const struct clients *clients;
	const struct range *locals, *peers; /* with their ports */
	struct hops *client_hops, *peer_hops;
};

/* Writes what the options ask for: clients' ChannelData, peers' packets, the list of ports. Ends
 * the program when it cannot. */
void capture_write(const struct capture *capture);
