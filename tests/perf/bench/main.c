/* turnpike-bench: opens the ends, makes the allocations, and does with them what was asked for. */
#include "capture.h"
#include "options.h"
#include "process.h"
#include "progress.h"
#include "relay.h"

#include "base/clock.h"

#include <err.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

struct ends {
	struct end *client, *peer;
	struct hops client_hops, peer_hops; /* for frames */
};

static atomic_bool stop;

/* The second one ends it at once. */
static void on_signal(int number)
{
	(void)number;
	stop = true;
}

static void catch_signals(void)
{
	struct sigaction action = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};

	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
}

static void enter_netns(const char *name)
{
	char path[256];
	int fd;

	if (!name)
		return;
	snprintf(path, sizeof(path), "/run/netns/%s", name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || setns(fd, CLONE_NEWNET) < 0)
		err(1, "network namespace %s", name);
	close(fd);
}

static void let_open(uint64_t files)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	if (limit.rlim_cur < files + 32)
		errx(1, "%llu sockets are needed, and files may be open: %llu",
			(unsigned long long)files, (unsigned long long)limit.rlim_cur);
}

static struct end *open_end(const struct options *o, const struct end_settings *settings)
{
#ifdef HAVE_AFXDP
	if (o->backend == BACKEND_AFXDP || o->backend == BACKEND_XDP)
		return end_open_frames(settings, o->backend == BACKEND_XDP);
#endif
#ifdef HAVE_DPDK
	if (o->backend == BACKEND_DPDK)
		return end_open_dpdk(settings);
#endif
	return end_open_sockets(settings, o->backend == BACKEND_GSO);
}

static struct end *open_peers(const struct options *o, struct hops *hops)
{
	const struct end_settings settings = {
		.name = "--peer",
		.range = o->peers,
		.count = o->peers.addresses,
		.device = o->peer_device,
		.gateway = o->peer_gateway,
	};

	enter_netns(o->peer_netns);
	if (o->command == BENCH_PCAP)
		hops_begin(hops, &o->peers.first);
	return open_end(o, &settings);
}

static struct end *open_clients(const struct options *o, struct hops *hops)
{
	const struct end_settings settings = {
		.name = "--local",
		.range = o->locals,
		.count = o->clients.allocations,
		.server = &o->clients.server,
		.device = o->client_device,
		.gateway = o->client_gateway,
	};

	enter_netns(o->client_netns);
	if (o->command == BENCH_PCAP)
		hops_begin(hops, &o->locals.first);
	return open_end(o, &settings);
}

static void open_ends(const struct options *o, struct ends *ends)
{
#ifdef HAVE_DPDK
	const char *devices[] = {o->client_device, o->peer_device};

	if (o->backend == BACKEND_DPDK)
		end_begin_dpdk(o->eal, devices, 2);
#endif
	ends->peer = open_peers(o, &ends->peer_hops);
	ends->client = open_clients(o, &ends->client_hops);
}

static struct tp_addr peer_of(void *arg, unsigned client, unsigned channel)
{
	const struct end *peers = arg;

	return range_at(&peers->range, client % peers->count);
}

static void make(
	const struct options *o, struct clients *clients, struct end *end, struct making *making)
{
	struct process_cost before = process_cost_of(o->pid), after;
	uint64_t start_ns = tp_clock_now_ns();

	clients_make(clients, &o->clients, end);
	after = process_cost_of(o->pid);
	progress_clear();
	*making = (struct making){
		.count = o->clients.allocations,
		.seconds = (double)(tp_clock_now_ns() - start_ns) / 1e9,
		.answers = clients->answers,
		.cpu_ns = (double)(after.cpu_ns - before.cpu_ns),
		.rss = (double)after.rss - (double)before.rss,
	};
}

/* If that is wanted: until somebody says stop. The exit code. */
static int keep(const struct options *o, struct clients *clients)
{
	fflush(stdout);
	while (o->keep && !stop)
		clients_wait(clients);
	return clients->lost > 0;
}

static int allocate(const struct options *o, struct clients *clients, const struct making *making)
{
	report_making(o, making);
	return keep(o, clients);
}

/* Without --keep they are left to their lifetime: whoever replays the frames needs them. */
static int capture(const struct options *o, struct clients *clients, struct ends *ends)
{
	const struct capture capture = {o, clients, &ends->client->range, &ends->peer->range,
		&ends->client_hops, &ends->peer_hops};

	capture_write(&capture);
	hops_end(&ends->client_hops);
	hops_end(&ends->peer_hops);
	if (!o->keep)
		exit(0);
	puts("written");
	return keep(o, clients);
}

static int perform(const struct options *o, struct clients *clients, struct ends *ends)
{
	struct making making;
	int code;

	make(o, clients, ends->client, &making);
	if (clients->has_failed)
		return 1;
	if (clients->finished < o->clients.allocations) {
		warnx("interrupted when %u of %u allocations were made", clients->finished,
			o->clients.allocations);
		return 1;
	}
	switch (o->command) {
	case BENCH_ALLOCATE:
		return allocate(o, clients, &making);
	case BENCH_PCAP:
		return capture(o, clients, ends);
	default:
		code = relay(o, &making, clients, ends->client, ends->peer, &stop);
		keep(o, clients);
		return code;
	}
}

int main(int argc, char *argv[])
{
	struct clients *clients = calloc(1, sizeof(*clients));
	struct options *o = calloc(1, sizeof(*o));
	struct ends *ends = calloc(1, sizeof(*ends));
	int code;

	if (!clients || !o || !ends)
		err(1, "start");
	options_parse(argc, argv, o);
	if (!backend_makes_frames(o->backend))
		let_open((uint64_t)o->clients.allocations + o->peers.addresses);
	open_ends(o, ends);
	o->clients.peer_of = peer_of;
	o->clients.arg = ends->peer;
	o->clients.stop = &stop;
	o->clients.progress = progress_clients;
	progress_begin(o->progress_s);
	catch_signals();

	code = perform(o, clients, ends);
	clients_end(clients);
	progress_clear();
	end_close(ends->client);
	end_close(ends->peer);
	free(clients);
	free(ends);
	free(o);
	return code;
}
