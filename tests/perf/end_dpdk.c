/*
 * Ends as frames through a port of DPDK's, which no kernel speaks for: it answers for its
 * addresses, and finds its neighbours, itself. Who receives polls. The transmit queue and the
 * neighbours are under a mutex; the receive queue is its one receiver's.
 */
#include "end.h"
#include "neighbour.h"

#include "base/clock.h"
#include "base/log.h"
#include "dataplane/engine/dpdk/dpdk.h"

#include <err.h>
#include <errno.h>
#include <pthread.h>
#include <rte_dev.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

#define FIRST_PORT     1024
#define BUFFERS        8191
#define ARGUMENTS_MAX  64
#define NEIGHBOURS_MAX 256
#define TRIES          60 /* to find a neighbour */
#define TRY_MS         50
#define LINK_WAIT_MS   10000
#define STUCK_NS       (5 * TP_NS_PER_S)

struct neighbour {
	struct tp_addr address;
	uint8_t mac[FRAME_MAC_LEN];
	bool is_known;
};

struct wire {
	struct end end;
	const char *name;
	struct dpdk_port port;
	struct rte_mempool *pool;
	struct tp_addr gateway; /* without a family: everybody is on the link */
	bool has_gateway_mac;
	uint8_t gateway_mac[FRAME_MAC_LEN];
	pthread_mutex_t mutex;
	struct neighbour neighbours[NEIGHBOURS_MAX];
	unsigned neighbours_count;
	/* Whose datagrams were handed out. */
	struct rte_mbuf *held[END_BURST];
	uint16_t held_count;
};

/* ---- sending -----------------------------------------------------------------------------------
 */

/* Waits for room, unless there will be none; under the mutex. */
static void send_mbufs(const struct wire *w, struct rte_mbuf **mbufs, unsigned count)
{
	uint64_t stuck_ns = 0;

	for (unsigned sent = 0; sent < count;) {
		uint16_t now =
			rte_eth_tx_burst(w->port.id, 0, mbufs + sent, (uint16_t)(count - sent));

		sent += now;
		if (now) {
			stuck_ns = 0;
			continue;
		}
		if (!stuck_ns)
			stuck_ns = tp_clock_now_ns();
		else if (tp_clock_now_ns() - stuck_ns > STUCK_NS)
			errx(1, "%s: the port sends nothing any more", w->name);
		sched_yield();
	}
}

static void take_mbufs(const struct wire *w, struct rte_mbuf **mbufs, unsigned count)
{
	while (rte_pktmbuf_alloc_bulk(w->pool, mbufs, count) != 0) {
		rte_eth_tx_done_cleanup(w->port.id, 0, 0);
		sched_yield();
	}
}

static void set_len(struct rte_mbuf *m, size_t len)
{
	m->data_len = (uint16_t)len;
	m->pkt_len = (uint32_t)len;
}

/* ---- neighbours, under the mutex ---------------------------------------------------------------
 */

static struct neighbour *neighbour_of(struct wire *w, const struct tp_addr *address)
{
	unsigned i = 0;

	while (i < w->neighbours_count && !tp_addr_equal_ip(&w->neighbours[i].address, address))
		i++;
	if (i == NEIGHBOURS_MAX)
		errx(1, "%s: more than %d relayed addresses", w->name, NEIGHBOURS_MAX);
	if (i == w->neighbours_count) {
		w->neighbours[i] = (struct neighbour){.address = tp_addr_with_port(address, 0)};
		w->neighbours_count++;
	}
	return &w->neighbours[i];
}

/* Only of those who were asked for. */
static void learn(struct wire *w, const struct tp_addr *address, const uint8_t mac[FRAME_MAC_LEN])
{
	for (unsigned i = 0; i < w->neighbours_count; i++) {
		if (!tp_addr_equal_ip(&w->neighbours[i].address, address))
			continue;
		memcpy(w->neighbours[i].mac, mac, FRAME_MAC_LEN);
		w->neighbours[i].is_known = true;
	}
}

static bool is_own(const struct wire *w, const struct tp_addr *address)
{
	struct tp_addr here = tp_addr_with_port(address, w->end.range.first.port);
	uint32_t at;

	return range_find(&w->end.range, &here, &at);
}

static void answer(struct wire *w, const struct neighbour_message *asked)
{
	struct rte_mbuf *m;

	take_mbufs(w, &m, 1);
	set_len(m, neighbour_tell(rte_pktmbuf_mtod(m, uint8_t *), w->port.mac.addr_bytes, asked));
	send_mbufs(w, &m, 1);
}

static void take_message(struct wire *w, const struct neighbour_message *message)
{
	pthread_mutex_lock(&w->mutex);
	learn(w, message->kind == NEIGHBOUR_TELLS ? &message->target : &message->sender,
		message->mac);
	if (message->kind == NEIGHBOUR_ASKS && is_own(w, &message->target))
		answer(w, message);
	pthread_mutex_unlock(&w->mutex);
}

static void ask(struct wire *w, const struct tp_addr *target)
{
	struct tp_addr own = range_at(&w->end.range, 0);
	struct rte_mbuf *m;

	take_mbufs(w, &m, 1);
	set_len(m, neighbour_ask(
			   rte_pktmbuf_mtod(m, uint8_t *), w->port.mac.addr_bytes, &own, target));
	send_mbufs(w, &m, 1);
}

/* Where it has to go first. The receiver finds the answer meanwhile. */
static void find_mac(struct wire *w, const struct tp_addr *remote, uint8_t out[FRAME_MAC_LEN])
{
	const struct tp_addr *next = w->gateway.family ? &w->gateway : remote;
	const struct neighbour *n;
	char text[TP_ADDR_TEXT];

	if (w->has_gateway_mac) {
		memcpy(out, w->gateway_mac, FRAME_MAC_LEN);
		return;
	}
	n = neighbour_of(w, next);
	for (int ms = 0; ms < TRIES * TRY_MS && !n->is_known; ms++) {
		if (ms % TRY_MS == 0)
			ask(w, next);
		pthread_mutex_unlock(&w->mutex);
		usleep(1000);
		pthread_mutex_lock(&w->mutex);
	}
	if (!n->is_known)
		errx(1, "%s: nobody answers for %s on its link", w->name,
			tp_addr_ip_text(next, text));
	memcpy(out, n->mac, FRAME_MAC_LEN);
}

/* ---- datagrams ---------------------------------------------------------------------------------
 */

static void write_datagram(struct wire *w, const struct datagram *d, struct rte_mbuf *m)
{
	struct tp_addr from = range_at(&w->end.range, d->at);
	struct frame_macs macs;
	size_t len;

	memcpy(macs.source, w->port.mac.addr_bytes, FRAME_MAC_LEN);
	find_mac(w, &d->remote, macs.destination);
	len = frame_write(
		rte_pktmbuf_mtod(m, uint8_t *), &macs, &from, &d->remote, d->bytes, d->len);
	if (!len)
		errx(1, "%s: a packet does not fit a frame", w->name);
	set_len(m, len);
}

static void send_all(struct end *end, const struct datagram *all, unsigned count)
{
	struct wire *w = (struct wire *)end;
	struct rte_mbuf *mbufs[END_BURST];

	pthread_mutex_lock(&w->mutex);
	for (unsigned at = 0; at < count; at += END_BURST) {
		unsigned part = count - at < END_BURST ? count - at : END_BURST;

		take_mbufs(w, mbufs, part);
		for (unsigned i = 0; i < part; i++)
			write_datagram(w, &all[at + i], mbufs[i]);
		send_mbufs(w, mbufs, part);
	}
	pthread_mutex_unlock(&w->mutex);
}

/* What is in several segments is nothing of ours. */
static bool read_mbuf(struct wire *w, const struct rte_mbuf *m, struct datagram *out)
{
	uint8_t *bytes = rte_pktmbuf_mtod(m, uint8_t *);
	struct neighbour_message message;
	struct frame_datagram d;
	uint32_t at;

	if (m->nb_segs != 1)
		return false;
	if (neighbour_read(bytes, m->data_len, &message)) {
		take_message(w, &message);
		return false;
	}
	if (!frame_read(bytes, m->data_len, &d) || !range_find(&w->end.range, &d.to, &at) ||
		at >= w->end.count)
		return false;
	*out = (struct datagram){.at = at, .bytes = d.data, .len = d.len};
	return true;
}

static unsigned receive_some(struct wire *w, struct datagram out[END_BURST])
{
	unsigned taken = 0;

	rte_pktmbuf_free_bulk(w->held, w->held_count);
	w->held_count = rte_eth_rx_burst(w->port.id, 0, w->held, END_BURST);
	for (uint16_t i = 0; i < w->held_count; i++)
		taken += read_mbuf(w, w->held[i], &out[taken]);
	return taken;
}

/* Whoever else wants the core gets it. */
static unsigned receive(struct end *end, struct datagram out[END_BURST], int timeout_ms)
{
	struct wire *w = (struct wire *)end;
	uint64_t end_ns = tp_clock_now_ns() + (uint64_t)timeout_ms * TP_NS_PER_MS;
	unsigned taken;

	while (!(taken = receive_some(w, out)) && tp_clock_now_ns() < end_ns)
		sched_yield();
	return taken;
}

static uint64_t unread(struct end *end)
{
	const struct wire *w = (const struct wire *)end;
	struct rte_eth_stats stats = {0};

	rte_eth_stats_get(w->port.id, &stats);
	return stats.imissed + stats.rx_nombuf;
}

/* ---- opening and closing -----------------------------------------------------------------------
 */

static void close_all(struct end *end)
{
	struct wire *w = (struct wire *)end;

	rte_pktmbuf_free_bulk(w->held, w->held_count);
	dpdk_port_close(&w->port);
	rte_mempool_free(w->pool);
	pthread_mutex_destroy(&w->mutex);
	free(w);
}

/* "0000:03:00.0"; a virtual device has a name that begins with its driver's. Arguments follow. */
static bool is_pci(const char *device)
{
	unsigned domain, bus, number, function;
	int len = 0;

	return sscanf(device, "%x:%x:%x.%x%n", &domain, &bus, &number, &function, &len) == 4 &&
	       (device[len] == '\0' || device[len] == ',');
}

struct arguments {
	const char *list[ARGUMENTS_MAX];
	size_t count;
};

static void add(struct arguments *a, const char *argument)
{
	if (a->count == ARGUMENTS_MAX)
		errx(1, "--eal: too many arguments");
	a->list[a->count++] = argument;
}

/* No device but those that were named is touched: others may belong to somebody. */
static void add_devices(struct arguments *a, const char *const devices[], unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		if (!is_pci(devices[i]))
			continue;
		add(a, "-a");
		add(a, devices[i]);
	}
	if (!a->count)
		add(a, "--no-pci");
}

void end_begin_dpdk(const char *eal, const char *const devices[], unsigned count)
{
	struct arguments arguments = {.count = 0};
	char *copy = strdup(eal ? eal : ""), reason[TP_REASON_SIZE], *state;
	struct tp_engine_options options = {
		.eal = arguments.list, .workers = 1, .ports_count = count};

	if (!copy)
		err(1, "--eal");
	add_devices(&arguments, devices, count);
	for (char *a = strtok_r(copy, " ", &state); a; a = strtok_r(NULL, " ", &state))
		add(&arguments, a);
	options.eal_count = arguments.count;
	tp_log_set_level(TP_LOG_ERROR);
	if (dpdk_eal_open(&options, reason) < 0)
		errx(1, "DPDK: %s", reason);
	free(copy);
}

/* A virtual device is made here, in the network namespace of its end. */
static void find_port(struct wire *w, const char *device)
{
	char name[RTE_ETH_NAME_MAX_LEN];
	const char *arguments = strchr(device, ',');
	size_t len = arguments ? (size_t)(arguments - device) : strlen(device);
	int failed;

	if (len >= sizeof(name))
		errx(1, "%s: %s is no device", w->name, device);
	memcpy(name, device, len);
	name[len] = '\0';
	failed = is_pci(device) ? 0
				: rte_eal_hotplug_add("vdev", name, arguments ? arguments + 1 : "");
	if (failed || rte_eth_dev_get_port_by_name(name, &w->port.id) != 0)
		errx(1, "%s: DPDK has no port %s", w->name, device);
}

static void open_port(struct wire *w)
{
	char reason[TP_REASON_SIZE];

	if (dpdk_port_inspect(&w->port, 1, reason) < 0)
		errx(1, "%s: %s", w->name, reason);
	w->pool = rte_pktmbuf_pool_create(w->name, BUFFERS, 0, 0, RTE_MBUF_DEFAULT_BUF_SIZE,
		rte_eth_dev_socket_id(w->port.id));
	if (!w->pool)
		errx(1, "%s: DPDK has no memory for %d buffers", w->name, BUFFERS);
	if (dpdk_port_open(&w->port, w->pool, false, reason) < 0 ||
		dpdk_port_start(&w->port, w->pool, reason) < 0)
		errx(1, "%s: %s", w->name, reason);
	for (int ms = 0; ms < LINK_WAIT_MS && !w->port.up; ms++) {
		dpdk_port_follow(&w->port);
		usleep(1000);
	}
	if (!w->port.up)
		errx(1, "%s: the port's link is down", w->name);
}

static void read_gateway(struct wire *w, const char *text)
{
	struct rte_ether_addr mac;

	if (!text)
		return;
	w->has_gateway_mac = rte_ether_unformat_addr(text, &mac) == 0;
	if (w->has_gateway_mac)
		memcpy(w->gateway_mac, mac.addr_bytes, FRAME_MAC_LEN);
	else if (tp_addr_parse_ip(text, &w->gateway) < 0 ||
		 w->gateway.family != w->end.range.first.family)
		errx(1, "%s: the gateway %s is neither a MAC address nor an IP address of the family",
			w->name, text);
}

/* Nobody else receives yet. */
static void find_server(struct wire *w, const struct tp_addr *server)
{
	const struct tp_addr *next = w->gateway.family ? &w->gateway : server;
	struct datagram unwanted[END_BURST];
	char text[TP_ADDR_TEXT];

	for (int i = 0; i < TRIES && !neighbour_of(w, next)->is_known; i++) {
		ask(w, next);
		receive(&w->end, unwanted, TRY_MS);
	}
	if (!neighbour_of(w, next)->is_known)
		errx(1, "%s: nobody answers for %s on its link", w->name,
			tp_addr_ip_text(next, text));
}

struct end *end_open_dpdk(const struct end_settings *settings)
{
	static const struct end_ways ways = {send_all, receive, unread, close_all};
	struct wire *w = calloc(1, sizeof(*w));

	if (!w)
		err(1, "DPDK");
	w->end = (struct end){&ways, settings->range, settings->count};
	w->name = settings->name;
	w->port.tap = -1;
	pthread_mutex_init(&w->mutex, NULL);
	if (!w->end.range.first.port)
		w->end.range.first.port = FIRST_PORT;
	read_gateway(w, settings->gateway);
	find_port(w, settings->device);
	open_port(w);
	if (settings->server && !w->has_gateway_mac)
		find_server(w, settings->server);
	return &w->end;
}
