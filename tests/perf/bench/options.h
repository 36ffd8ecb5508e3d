/* The command line of turnpike-bench. */
#pragma once

#include "tests/perf/clients.h"
#include "traffic.h"

#include <sys/types.h>

#define STEPS_MAX 256

enum command { BENCH_RELAY, BENCH_ALLOCATE, BENCH_PCAP };

enum backend { BACKEND_SOCKETS, BACKEND_GSO, BACKEND_AFXDP, BACKEND_XDP, BACKEND_DPDK };

struct options {
	enum command command;
	enum backend backend;
	struct clients_settings clients; /* but for what main.c adds */
	struct range locals, peers;
	const char *client_netns, *peer_netns; /* names under /run/netns; NULL: ours */
	/* dpdk: PCI addresses or virtual devices; where all goes, NULL: to who it is for; EAL's
	 * arguments, separated by blanks, or NULL. */
	const char *client_device, *peer_device, *client_gateway, *peer_gateway, *eal;
	bool directions[DIRECTIONS];
	struct step steps[STEPS_MAX];
	unsigned steps_count;
	uint64_t search_low, search_high; /* 0: no search, but the steps */
	enum mix mix;
	bool random;
	uint16_t size;
	double duration_s, warm_up_s;
	double max_loss; /* percent; above 100: no bar */
	pid_t pid;       /* 0: nobody's cost is asked for */
	bool json, keep;
	double progress_s; /* below 0: as fits stderr; 0: none */
	const char *html;
	/* pcap: files, or NULL. */
	const char *up_pcap, *down_pcap, *flows;
	uint16_t frame; /* its size on the wire; 0: as `size` says */
};

/* As on the command line. */
const char *backend_name(enum backend backend);

/* Else it has a socket for each address. */
static inline bool backend_makes_frames(enum backend backend)
{
	return backend >= BACKEND_AFXDP;
}

/* Ends the program where there is nothing to run: --help and --version with 0, errors with 2. */
void options_parse(int argc, char *argv[], struct options *out);
