/* turnpike-bench: opens the ends, makes the allocations, measures, reports. */
#include "options.h"
#include "process.h"
#include "tests/perf/percentiles.h"

#include "base/clock.h"

#include <err.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <unistd.h>

#define RECEIVE_BUFFER (16 << 20)

struct cost {
	double cpu_ns, rss; /* what was added meanwhile */
};

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

/* Fills in the port that the kernel chose. */
static int open_peer(struct tp_addr *peer)
{
	int size = RECEIVE_BUFFER;
	struct sockaddr_storage sa;
	socklen_t len = tp_addr_to_sockaddr(peer, &sa);
	int fd = socket(sa.ss_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&sa, len) < 0)
		err(1, "--peer");
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) < 0)
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	len = sizeof(sa);
	if (getsockname(fd, (struct sockaddr *)&sa, &len) < 0 ||
		tp_addr_from_sockaddr((struct sockaddr *)&sa, peer) < 0)
		err(1, "--peer");
	return fd;
}

static struct tp_addr only_peer(const struct clients_settings *settings, unsigned channel)
{
	(void)channel;
	return settings->peer;
}

static struct process_cost cost_of(pid_t pid)
{
	struct process_cost cost = {0};

	if (pid && process_cost(pid, &cost) < 0)
		errx(1, "--pid: there is no process %d", (int)pid);
	return cost;
}

static struct cost added(pid_t pid, const struct process_cost *before)
{
	struct process_cost after = cost_of(pid);

	return (struct cost){
		(double)(after.cpu_ns - before->cpu_ns), (double)after.rss - (double)before->rss};
}

static void let_open(unsigned allocations)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	if (limit.rlim_cur < (rlim_t)allocations + 32)
		errx(1, "%u allocations need as many open files, the limit is %llu", allocations,
			(unsigned long long)limit.rlim_cur);
}

static double per(double amount, double count)
{
	return count > 0 ? amount / count : 0;
}

static double loss(const struct traffic *t)
{
	return 100 * per((double)(t->offered - t->books.relayed), (double)t->offered);
}

static void print_latencies(const uint64_t counts[HISTOGRAM_SLOTS])
{
	static const unsigned parts[] = {5000, 9000, 9900, 9990, 10000};
	double us[5];

	for (int i = 0; i < 5; i++)
		us[i] = (double)percentile_of(counts, parts[i]) / 1e3;
	printf("latency p50 %.1f us, p90 %.1f, p99 %.1f, p99.9 %.1f, max %.1f\n", us[0], us[1],
		us[2], us[3], us[4]);
}

static const char *const names[] = {[DIRECTION_UP] = "up", [DIRECTION_DOWN] = "down"};

static void print_traffic(const struct traffic *t)
{
	double seconds = (double)t->sent_ns / 1e9;

	printf("%-5soffered %llu (%.0f/s), relayed %llu (%.0f/s), lost %llu (%.3f %%), "
	       "duplicated %llu, reordered %llu, too late %llu\n      ",
		names[t->direction], (unsigned long long)t->offered,
		per((double)t->offered, seconds), (unsigned long long)t->books.relayed,
		per((double)t->books.relayed, seconds),
		(unsigned long long)(t->offered - t->books.relayed), loss(t),
		(unsigned long long)t->books.duplicated, (unsigned long long)t->books.reordered,
		(unsigned long long)t->books.too_late);
	print_latencies(t->books.latencies);
}

static void print_traffic_json(const struct traffic *t)
{
	printf("\"%s\": {\"offered\": %llu, \"relayed\": %llu, \"lost\": %llu, \"duplicated\": %llu, "
	       "\"reordered\": %llu, \"too_late\": %llu, \"foreign\": %llu, \"seconds\": %.6f, \"latency_ns\": ",
		names[t->direction], (unsigned long long)t->offered,
		(unsigned long long)t->books.relayed,
		(unsigned long long)(t->offered - t->books.relayed),
		(unsigned long long)t->books.duplicated, (unsigned long long)t->books.reordered,
		(unsigned long long)t->books.too_late, (unsigned long long)t->books.foreign,
		(double)t->sent_ns / 1e9);
	percentiles_print(stdout, t->books.latencies);
	putchar('}');
}

static void print_rate(uint64_t rate)
{
	if (rate)
		printf("%llu", (unsigned long long)rate);
	else
		printf("\"max\"");
}

static void report_relay(
	const struct options *o, const struct traffic *all, const struct cost *cost)
{
	const char *comma = "";
	double relayed = 0;

	if (o->json) {
		printf("{\"allocations\": %u, \"size\": %zu, \"rate\": ", o->clients.allocations,
			o->size);
		print_rate(o->rate);
		printf(", \"directions\": {");
	}
	for (int d = 0; d < DIRECTIONS; d++) {
		if (!o->directions[d])
			continue;
		relayed += (double)all[d].books.relayed;
		if (o->json) {
			fputs(comma, stdout);
			print_traffic_json(&all[d]);
			comma = ", ";
		} else {
			print_traffic(&all[d]);
		}
	}
	if (o->json && o->pid)
		printf("}, \"cpu_ns_per_packet\": %.1f}\n", per(cost->cpu_ns, relayed));
	else if (o->json)
		puts("}}");
	else if (o->pid)
		printf("process %d: %.0f ns of CPU a relayed packet, as the scheduler counts\n",
			(int)o->pid, per(cost->cpu_ns, relayed));
}

static int relay(const struct options *o, const struct clients *clients, int peer_fd)
{
	struct traffic *all = calloc(DIRECTIONS, sizeof(*all));
	struct traffic_settings settings = {
		.clients = clients,
		.peer_fd = peer_fd,
		.rate = o->rate,
		.size = o->size,
		.length_ns = o->duration_s * TP_NS_PER_S,
	};
	struct process_cost before;
	struct cost cost;
	int code = 0;

	if (!all || getrandom(&settings.run, sizeof(settings.run), 0) < 0)
		err(1, "start");
	before = cost_of(o->pid);
	for (int d = 0; d < DIRECTIONS; d++) {
		if (o->directions[d])
			traffic_begin(&all[d], (enum direction)d, &settings);
	}
	for (int d = 0; d < DIRECTIONS; d++) {
		if (!o->directions[d])
			continue;
		traffic_end(&all[d]);
		if (loss(&all[d]) > o->max_loss)
			code = 1;
	}
	cost = added(o->pid, &before);
	report_relay(o, all, &cost);
	free(all);
	return code;
}

static void report_allocate(const struct options *o, const struct clients *clients, double seconds,
	const struct cost *cost)
{
	unsigned count = o->clients.allocations;

	if (!o->json) {
		printf("%u allocations with a channel each in %.3f s: %.0f/s; requests: ", count,
			seconds, per(count, seconds));
		print_latencies(clients->answers);
		if (o->pid)
			printf("process %d: %.1f us of CPU and %.0f bytes an allocation\n",
				(int)o->pid, per(cost->cpu_ns, count) / 1e3, per(cost->rss, count));
		return;
	}
	printf("{\"allocations\": %u, \"seconds\": %.6f, \"per_second\": %.1f, \"request_ns\": ",
		count, seconds, per(count, seconds));
	percentiles_print(stdout, clients->answers);
	if (o->pid)
		printf(", \"cpu_ns_per_allocation\": %.0f, \"bytes_per_allocation\": %.0f",
			per(cost->cpu_ns, count), per(cost->rss, count));
	puts("}");
}

int main(int argc, char *argv[])
{
	struct clients *clients = calloc(1, sizeof(*clients));
	struct options options;
	struct process_cost before;
	struct cost cost;
	uint64_t start_ns;
	int peer_fd, code = 0;

	options_parse(argc, argv, &options);
	if (!clients)
		err(1, "start");
	let_open(options.clients.allocations);
	enter_netns(options.peer_netns);
	peer_fd = open_peer(&options.clients.peer);
	enter_netns(options.client_netns);
	options.clients.peer_of = only_peer;

	before = cost_of(options.pid);
	start_ns = tp_clock_now_ns();
	clients_make(clients, &options.clients);
	cost = added(options.pid, &before);
	if (options.command == BENCH_ALLOCATE)
		report_allocate(
			&options, clients, (double)(tp_clock_now_ns() - start_ns) / 1e9, &cost);
	else
		code = relay(&options, clients, peer_fd);
	clients_end(clients);
	free(clients);
	close(peer_fd);
	return code;
}
