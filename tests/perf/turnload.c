/*
 * turnload: makes allocations with channels, many at a time, and writes down the flows they gave:
 * lines "client-port listener-port channel" for pump; and the way back, "peer-port relay-port 0".
 * It is also what grants are measured with. --pairs: the peers are not hosts but each other's
 * relayed addresses. A client socket per allocation; all sockets stay open until the end.
 */
#include "bench.h"
#include "clients.h"

#include "base/clock.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#define FIRST_PORT 20000

struct load {
	struct clients_settings settings;
	struct tp_addr local, peer;
	FILE *out, *down;
};

/* Peers are hosts, not ports of one host. */
static struct tp_addr peer_of(void *arg, unsigned client, unsigned channel)
{
	const struct load *l = arg;
	struct tp_addr peer = tp_addr_with_port(&l->peer, (uint16_t)(BENCH_PEER_PORT + channel));

	peer.ip[15] = (uint8_t)(peer.ip[15] + channel % BENCH_PEERS);
	return peer;
}

static void write_flows(FILE *out, const struct clients_settings *s)
{
	for (unsigned c = 0; c < (s->channels ? s->channels : 1); c++) {
		for (unsigned i = 0; i < s->allocations; i++)
			fprintf(out, "%u %u %u\n", FIRST_PORT + i, s->server.port,
				CLIENTS_FIRST_CHANNEL + c);
	}
}

static void write_way_back(FILE *out, const struct clients *clients)
{
	for (unsigned c = 0; c < clients->settings.channels; c++) {
		for (unsigned i = 0; i < clients->settings.allocations; i++)
			fprintf(out, "%u %u 0\n", BENCH_PEER_PORT + c, clients->all[i].relay.port);
	}
}

static bool parse(int argc, char *argv[], struct load *l)
{
	struct clients_settings *s = &l->settings;
	static const struct option options[] = {{"server", 1, 0, 's'}, {"local", 1, 0, 'l'},
		{"peer", 1, 0, 'p'}, {"user", 1, 0, 'u'}, {"password", 1, 0, 'w'},
		{"allocations", 1, 0, 'n'}, {"channels", 1, 0, 'c'}, {"window", 1, 0, 'i'},
		{"out", 1, 0, 'o'}, {"down", 1, 0, 'd'}, {"pairs", 0, 0, 'a'}, {0}};
	bool ok = true;

	for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
		switch (c) {
		case 's':
			ok &= tp_addr_parse(optarg, &s->server) == 0;
			break;
		case 'l':
			ok &= tp_addr_parse_ip(optarg, &l->local) == 0;
			break;
		case 'p':
			ok &= tp_addr_parse_ip(optarg, &l->peer) == 0;
			break;
		case 'u':
			s->user = optarg;
			break;
		case 'w':
			s->password = optarg;
			break;
		case 'n':
			s->allocations = (unsigned)strtoul(optarg, NULL, 10);
			break;
		case 'c':
			s->channels = (unsigned)strtoul(optarg, NULL, 10);
			break;
		case 'i':
			s->window = (unsigned)strtoul(optarg, NULL, 10);
			break;
		case 'o':
			l->out = fopen(optarg, "w");
			ok &= l->out != NULL;
			break;
		case 'd':
			l->down = fopen(optarg, "w");
			ok &= l->down != NULL;
			break;
		case 'a':
			s->pairs = true;
			break;
		default:
			ok = false;
		}
	}
	return ok && s->server.family && l->local.family && l->peer.family && s->user &&
	       s->password && s->allocations > 0 && s->allocations <= 40000 &&
	       s->channels <= 4096 && s->window > 0 &&
	       (!s->pairs || (s->allocations % 2 == 0 && s->channels == 1 && s->window > 1));
}

int main(int argc, char *argv[])
{
	struct load l = {.settings = {.window = 64, .lifetime_s = 3600, .peer_of = peer_of}};
	struct end_settings ends = {.name = "--local", .server = &l.settings.server};
	static struct clients clients;
	uint64_t start_ns;

	if (!parse(argc, argv, &l)) {
		fprintf(stderr,
			"usage: turnload --server A:P --local A --peer A --user U --password W\n"
			"                --allocations N [--channels N] [--window N] [--out FILE]\n"
			"                [--down FILE] [--pairs]\n");
		return 2;
	}
	l.settings.arg = &l;
	ends.count = l.settings.allocations;
	ends.range = (struct range){tp_addr_with_port(&l.local, FIRST_PORT), 1, ends.count};
	start_ns = tp_clock_now_ns();
	clients_make(&clients, &l.settings, end_open_sockets(&ends, false));
	if (clients.has_failed)
		return 1;
	printf("{\"allocations\": %u, \"channels\": %u, \"elapsed_ns\": %llu}\n",
		l.settings.allocations, l.settings.allocations * l.settings.channels,
		(unsigned long long)(tp_clock_now_ns() - start_ns));
	if (l.out) {
		write_flows(l.out, &l.settings);
		fclose(l.out);
	}
	if (l.down) {
		write_way_back(l.down, &clients);
		fclose(l.down);
	}
	return 0; /* the allocations stay: what is measured next needs them */
}
