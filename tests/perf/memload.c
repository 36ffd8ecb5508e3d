/*
 * memload: the other end of a memif cable. Sends frames of given flows as fast as they are taken,
 * counts what comes back, and prints both rates: with a relay or a forwarder on a core of its own
 * behind the cable, the rate of what comes back is what that core can do. One thread, one core.
 * Run by tests/perf/workers and tests/perf/report.
 *
 *   memload EAL-ARGUMENTS -- --targets FILE --mac MAC --source IP --destination IP --size BYTES
 *           --seconds S [--random] [--swapped] [--rate PPS]
 *
 * It has to be faster than what it measures: on a cable without copies at this end (zero-copy), it
 * writes four bytes of a frame, which its buffers hold already, and reads none. How many of its
 * bursts found the cable full is printed: where hardly any did, the figure is its own.
 *
 * Lines of FILE: "client-port listener-port channel", as turnload writes them. --size is that of
 * the frame on the wire without its check sequence. --swapped: what comes back is expected to be
 * what was sent (a MAC swap), otherwise without its ChannelData header. --rate: one frame at a
 * time, each with the time it was sent, and percentiles of how long they were under way.
 */
#include <arpa/inet.h>
#include <getopt.h>
#include <rte_cycles.h>
#include <rte_eal.h>
#include <rte_ethdev.h>
#include <rte_ether.h>
#include <rte_ip.h>
#include <rte_mbuf.h>
#include <rte_udp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "percentiles.h"

#define BURST       32
#define RING        1024
#define BUFFERS     16383
#define HEADERS_LEN 46 /* Ethernet, IPv4, UDP, ChannelData */
#define WARM_S      1
#define STAMP_LEN   8

#define ORDER (1u << 21) /* frames after which a random order repeats */

struct target {
	rte_be16_t source, channel;
};

struct load {
	struct rte_mempool *pool, *frames;
	struct target *targets; /* in the order in which they are sent to */
	uint32_t targets_count, turn;
	rte_be16_t listener;
	bool random, swapped;
	unsigned int size, seconds, rate;
	uint64_t latencies[HISTOGRAM_SLOTS];
	struct rte_ether_addr mac;
	struct in_addr source, destination;
	uint8_t headers[HEADERS_LEN];
	uint64_t sent, back, foreign;
	uint64_t bursts, full; /* sent, and of those refused in part */
};

static void die(const char *what)
{
	fprintf(stderr, "memload: %s\n", what);
	exit(1);
}

static void read_targets(struct load *l, const char *path)
{
	FILE *file = fopen(path, "r");
	unsigned int source, destination, channel;
	size_t room = 0;

	if (!file)
		die("the targets cannot be read");
	while (fscanf(file, "%u %u %u", &source, &destination, &channel) == 3) {
		if (l->targets_count == room) {
			room = room ? 2 * room : 1024;
			l->targets = reallocarray(l->targets, room, sizeof(*l->targets));
			if (!l->targets)
				die("no memory");
		}
		if (l->targets_count && l->listener != htons((uint16_t)destination))
			die("targets at several listeners");
		l->listener = htons((uint16_t)destination);
		l->targets[l->targets_count++] =
			(struct target){htons((uint16_t)source), htons((uint16_t)channel)};
	}
	fclose(file);
	if (l->targets_count == 0)
		die("no targets");
}

/* Drawn beforehand: looking targets up at random would take longer than relaying. */
static void draw_order(struct load *l)
{
	struct target *order = malloc(ORDER * sizeof(*order));
	uint64_t state = 1;

	if (!order)
		die("no memory");
	for (uint32_t i = 0; i < ORDER; i++) {
		state = state * UINT64_C(6364136223846793005) + 1;
		order[i] = l->targets[(state >> 32) * l->targets_count >> 32];
	}
	free(l->targets);
	l->targets = order;
	l->targets_count = ORDER;
}

static void make_headers(struct load *l)
{
	struct rte_ether_hdr *ethernet = (void *)l->headers;
	struct rte_ipv4_hdr *ip = (void *)(l->headers + 14);
	struct rte_udp_hdr *udp = (void *)(l->headers + 34);
	rte_be16_t data_len = htons((uint16_t)(l->size - HEADERS_LEN));

	ethernet->dst_addr = l->mac;
	ethernet->src_addr = (struct rte_ether_addr){{2, 0, 0, 0, 0, 9}};
	ethernet->ether_type = htons(RTE_ETHER_TYPE_IPV4);
	*ip = (struct rte_ipv4_hdr){.version_ihl = 0x45,
		.total_length = htons((uint16_t)(l->size - 14)),
		.fragment_offset = htons(0x4000),
		.time_to_live = 64,
		.next_proto_id = IPPROTO_UDP,
		.src_addr = l->source.s_addr,
		.dst_addr = l->destination.s_addr};
	ip->hdr_checksum = rte_ipv4_cksum(ip);
	/* Any checksum will do: a relay changes it by difference. */
	*udp = (struct rte_udp_hdr){.dst_port = l->listener,
		.dgram_len = htons((uint16_t)(l->size - 34)),
		.dgram_cksum = 0x1234};
	memcpy(l->headers + 44, &data_len, 2);
}

/* Buffers for sending are never written by anybody else: they keep their headers. */
static void prepare(struct rte_mempool *pool, void *arg, void *object, unsigned int index)
{
	const struct load *l = arg;
	struct rte_mbuf *m = object;

	memset(rte_pktmbuf_mtod(m, void *), 0, l->size);
	memcpy(rte_pktmbuf_mtod(m, void *), l->headers, HEADERS_LEN);
	m->data_len = (uint16_t)l->size;
	m->pkt_len = l->size;
}

static void fill(struct load *l, struct rte_mbuf *m)
{
	const struct target *t = &l->targets[l->turn];
	uint8_t *at = rte_pktmbuf_mtod(m, uint8_t *);

	l->turn = l->turn + 1 == l->targets_count ? 0 : l->turn + 1;
	memcpy(at + 34, &t->source, 2);
	memcpy(at + 42, &t->channel, 2);
}

static bool take_frames(struct load *l, struct rte_mbuf **mbufs, unsigned int count)
{
	if (!l->frames || rte_mempool_get_bulk(l->frames, (void **)mbufs, count) != 0)
		return false;
	for (unsigned int i = 0; i < count; i++)
		fill(l, mbufs[i]);
	return true;
}

static void send_burst(struct load *l)
{
	struct rte_mbuf *mbufs[BURST];
	uint16_t sent;

	if (!take_frames(l, mbufs, BURST))
		return;
	sent = rte_eth_tx_burst(0, 0, mbufs, BURST);
	l->sent += sent;
	l->bursts++;
	if (sent < BURST) {
		l->full++;
		rte_mempool_put_bulk(l->frames, (void **)(mbufs + sent), BURST - sent);
	}
}

static void count_burst(struct load *l)
{
	unsigned int want = l->swapped ? l->size : l->size - 4;
	struct rte_mbuf *mbufs[2 * BURST];
	uint16_t count = rte_eth_rx_burst(0, 0, mbufs, 2 * BURST);

	for (uint16_t i = 0; i < count; i++) {
		if (mbufs[i]->pkt_len == want)
			l->back++;
		else
			l->foreign++;
	}
	rte_pktmbuf_free_bulk(mbufs, count);
}

static void send_stamped(struct load *l)
{
	uint64_t now = rte_get_timer_cycles();
	struct rte_mbuf *m;

	if (!take_frames(l, &m, 1))
		return;
	memcpy(rte_pktmbuf_mtod(m, uint8_t *) + HEADERS_LEN, &now, STAMP_LEN);
	l->sent++;
	if (rte_eth_tx_burst(0, 0, &m, 1) != 1)
		rte_mempool_put(l->frames, m);
}

static void read_stamps(struct load *l, double ns_per_cycle)
{
	unsigned int want = l->swapped ? l->size : l->size - 4;
	struct rte_mbuf *mbufs[BURST];
	uint16_t count = rte_eth_rx_burst(0, 0, mbufs, BURST);
	uint64_t sent, now = count ? rte_get_timer_cycles() : 0;

	for (uint16_t i = 0; i < count; i++) {
		if (mbufs[i]->pkt_len != want) {
			l->foreign++;
			continue;
		}
		memcpy(&sent, rte_pktmbuf_mtod(mbufs[i], uint8_t *) + want - l->size + HEADERS_LEN,
			STAMP_LEN);
		l->latencies[histogram_index((uint64_t)((double)(now - sent) * ns_per_cycle))]++;
		l->back++;
	}
	rte_pktmbuf_free_bulk(mbufs, count);
}

static void run_stamped(struct load *l, unsigned int seconds)
{
	uint64_t hz = rte_get_timer_hz(), start = rte_get_timer_cycles();
	uint64_t count = (uint64_t)seconds * l->rate, now = start;

	l->sent = l->back = l->foreign = 0;
	memset(l->latencies, 0, sizeof(l->latencies));
	while (now - start < seconds * hz + hz / 10) { /* the last ones get a tenth of a second */
		if (l->sent < count && now - start >= l->sent * hz / l->rate)
			send_stamped(l);
		read_stamps(l, 1e9 / (double)hz);
		now = rte_get_timer_cycles();
	}
}

static void run(struct load *l, unsigned int seconds)
{
	uint64_t end = rte_get_timer_cycles() + (uint64_t)seconds * rte_get_timer_hz();

	l->sent = l->back = l->foreign = l->bursts = l->full = 0;
	while (rte_get_timer_cycles() < end) {
		for (int i = 0; i < 16; i++) {
			send_burst(l);
			count_burst(l);
			count_burst(l);
		}
	}
}

static void open_port(struct load *l)
{
	struct rte_eth_conf conf = {0};
	struct rte_eth_link link = {0};

	l->pool = rte_pktmbuf_pool_create(
		"load", BUFFERS, 256, 0, RTE_MBUF_DEFAULT_BUF_SIZE, (int)rte_socket_id());
	l->frames = rte_pktmbuf_pool_create(
		"frames", BUFFERS, 256, 0, RTE_MBUF_DEFAULT_BUF_SIZE, (int)rte_socket_id());
	if (!l->pool || !l->frames || rte_eth_dev_configure(0, 1, 1, &conf) != 0 ||
		rte_eth_rx_queue_setup(0, 0, RING, SOCKET_ID_ANY, NULL, l->pool) != 0 ||
		rte_eth_tx_queue_setup(0, 0, RING, SOCKET_ID_ANY, NULL) != 0 ||
		rte_eth_dev_start(0) != 0)
		die("port 0 cannot be set up");
	rte_mempool_obj_iter(l->frames, prepare, l);
	for (int i = 0; i < 1000 && !link.link_status; i++) {
		rte_eth_link_get_nowait(0, &link);
		rte_delay_ms(10);
	}
	if (!link.link_status)
		die("nobody at the other end");
}

static bool take_option(struct load *l, int option)
{
	switch (option) {
	case 't':
		read_targets(l, optarg);
		return true;
	case 'm':
		return rte_ether_unformat_addr(optarg, &l->mac) == 0;
	case 's':
		return inet_pton(AF_INET, optarg, &l->source) == 1;
	case 'd':
		return inet_pton(AF_INET, optarg, &l->destination) == 1;
	case 'b':
		l->size = (unsigned int)atoi(optarg);
		return l->size >= HEADERS_LEN && l->size <= 1514;
	case 'n':
		l->seconds = (unsigned int)atoi(optarg);
		return l->seconds > 0;
	case 'p':
		l->rate = (unsigned int)atoi(optarg);
		return l->rate > 0;
	case 'r':
		l->random = true;
		return true;
	case 'w':
		l->swapped = true;
		return true;
	default:
		return false;
	}
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"targets", 1, 0, 't'}, {"mac", 1, 0, 'm'},
		{"source", 1, 0, 's'}, {"destination", 1, 0, 'd'}, {"size", 1, 0, 'b'},
		{"seconds", 1, 0, 'n'}, {"random", 0, 0, 'r'}, {"swapped", 0, 0, 'w'},
		{"rate", 1, 0, 'p'}, {0}};
	static struct load l = {.size = 64, .seconds = 3};
	int used = rte_eal_init(argc, argv), option;

	if (used < 0)
		die("EAL");
	argc -= used;
	argv += used;
	optind = 1;
	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (!take_option(&l, option))
			die("usage: see the top of memload.c");
	}
	if (l.targets_count == 0)
		die("no --targets");
	if (l.random)
		draw_order(&l);
	make_headers(&l);
	open_port(&l);
	if (l.rate && l.size < HEADERS_LEN + STAMP_LEN)
		die("no room for the time in frames of this size");
	(l.rate ? run_stamped : run)(&l, WARM_S);
	(l.rate ? run_stamped : run)(&l, l.seconds);
	printf("{\"sent\": %lu, \"back\": %lu, \"foreign\": %lu, \"mpps\": %.3f, \"full\": %.3f",
		l.sent, l.back, l.foreign, (double)l.back / l.seconds / 1e6,
		l.bursts ? (double)l.full / (double)l.bursts : 0);
	printf(", \"latency_ns\": ");
	percentiles_print(stdout, l.latencies);
	printf("}\n");
	rte_eth_dev_stop(0);
	rte_eal_cleanup();
	return 0;
}
