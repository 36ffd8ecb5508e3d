/*
 * turnload: makes allocations with channels, many at a time, and writes down the flows they gave:
 * lines "client-port listener-port channel" for pump; and the way back, "peer-port relay-port 0".
 * It is also what grants are measured with. --pairs: the peers are not hosts but each other's
 * relayed addresses. A client socket per allocation; all sockets stay open until the end.
 */
#include "bench.h"

#include "base/addr.h"
#include "base/clock.h"
#include "controlplane/stun/stun.h"

#include <errno.h>
#include <getopt.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#define RETRY_NS   (500 * TP_NS_PER_MS)
#define FIRST_PORT 20000
#define TRIES_MAX  20

enum step { CHALLENGE, ALLOCATE, BIND, DONE };

struct client {
	int fd;
	enum step step;
	unsigned channel; /* being bound */
	unsigned tries;
	uint64_t sent_ns;
	struct tp_addr relay;
	uint8_t transaction[STUN_TRANSACTION_LEN];
	char realm[128], nonce[128];
};

struct load {
	struct tp_addr server, local, peer;
	const char *user, *password;
	unsigned allocations, channels, window;
	FILE *out, *down;
	bool pairs;
	int epoll;
	struct client *clients;
	unsigned started, finished;
};

static void die(const char *what)
{
	fprintf(stderr, "turnload: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void open_client(struct load *l, unsigned index)
{
	struct tp_addr local = tp_addr_with_port(&l->local, (uint16_t)(FIRST_PORT + index));
	struct epoll_event event = {.events = EPOLLIN, .data.u32 = index};
	struct client *c = &l->clients[index];
	struct sockaddr_storage sa;
	socklen_t len = tp_addr_to_sockaddr(&local, &sa);

	c->fd = socket(sa.ss_family, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	if (c->fd < 0 || bind(c->fd, (struct sockaddr *)&sa, len) < 0)
		die("client socket");
	len = tp_addr_to_sockaddr(&l->server, &sa);
	if (connect(c->fd, (struct sockaddr *)&sa, len) < 0)
		die("connect");
	if (epoll_ctl(l->epoll, EPOLL_CTL_ADD, c->fd, &event) < 0)
		die("epoll");
}

static void put_credentials(const struct load *l, const struct client *c, struct stun_writer *w)
{
	char text[512];
	uint8_t key[16];
	int len = snprintf(text, sizeof(text), "%s:%s:%s", l->user, c->realm, l->password);

	if (EVP_Digest(text, (size_t)len, key, NULL, EVP_md5(), NULL) != 1)
		die("md5");
	stun_put(w, STUN_ATTR_USERNAME, l->user, strlen(l->user));
	stun_put(w, STUN_ATTR_REALM, c->realm, strlen(c->realm));
	stun_put(w, STUN_ATTR_NONCE, c->nonce, strlen(c->nonce));
	stun_put_integrity(w, STUN_SHA1, key, sizeof(key));
}

static struct client *other(struct load *l, const struct client *c)
{
	return &l->clients[(size_t)(c - l->clients) ^ 1];
}

static void send_request(struct load *l, struct client *c)
{
	uint8_t bytes[1024];
	struct stun_writer w;
	bool bind = c->step == BIND;
	struct tp_addr peer = tp_addr_with_port(&l->peer, (uint16_t)(BENCH_PEER_PORT + c->channel));

	/* Peers are hosts, not ports of one host. */
	peer.ip[15] = (uint8_t)(peer.ip[15] + c->channel % BENCH_PEERS);
	if (l->pairs && bind)
		peer = other(l, c)->relay;
	stun_begin(&w, bytes, sizeof(bytes), STUN_REQUEST,
		bind ? STUN_METHOD_CHANNEL_BIND : STUN_METHOD_ALLOCATE, NULL);
	memcpy(c->transaction, bytes + 8, sizeof(c->transaction));
	if (bind) {
		stun_put_u32(&w, STUN_ATTR_CHANNEL_NUMBER, (0x4000u + c->channel) << 16);
		stun_put_xor_address(&w, STUN_ATTR_XOR_PEER_ADDRESS, &peer);
	} else {
		stun_put_u32(&w, STUN_ATTR_REQUESTED_TRANSPORT, 17u << 24);
		stun_put_u32(&w, STUN_ATTR_LIFETIME, 3600);
	}
	if (c->step != CHALLENGE)
		put_credentials(l, c, &w);
	c->sent_ns = tp_clock_now_ns();
	if (send(c->fd, bytes, stun_finish(&w), 0) < 0 && errno != ECONNREFUSED)
		die("send");
}

static void copy_text(struct stun_attribute a, char out[128])
{
	size_t len = a.value && a.len < 128 ? a.len : 0;

	if (len)
		memcpy(out, a.value, len);
	out[len] = '\0';
}

static int read_relay(const struct stun_message *m, struct tp_addr *out)
{
	struct stun_attribute a = stun_find(m, STUN_ATTR_XOR_RELAYED_ADDRESS);

	return stun_read_xor_address(m, a, out);
}

static int error_code(const struct stun_message *m)
{
	struct stun_attribute a = stun_find(m, STUN_ATTR_ERROR_CODE);

	return a.value && a.len >= 4 ? (a.value[2] & 7) * 100 + a.value[3] : 0;
}

static void advance(struct load *l, struct client *c)
{
	if (c->step == BIND && ++c->channel < l->channels)
		return;
	if (++c->step == BIND && l->channels == 0)
		c->step = DONE;
	if (c->step == DONE)
		l->finished++;
}

static void on_answer(struct load *l, struct client *c, const struct stun_message *m)
{
	int code = m->class == STUN_ERROR ? error_code(m) : 0;

	if (c->step == DONE || memcmp(m->transaction, c->transaction, sizeof(c->transaction)) != 0)
		return;
	c->tries = 0;
	if (code == 401 || code == 438) {
		copy_text(stun_find(m, STUN_ATTR_REALM), c->realm);
		copy_text(stun_find(m, STUN_ATTR_NONCE), c->nonce);
		if (c->step == CHALLENGE)
			advance(l, c);
	} else if (m->class == STUN_SUCCESS) {
		if (c->step == ALLOCATE && read_relay(m, &c->relay) != 0)
			die("an allocation without a relayed address");
		advance(l, c);
	} else {
		fprintf(stderr, "turnload: step %d refused with %d\n", (int)c->step, code);
		exit(1);
	}
	if (l->pairs && c->step == BIND) {
		if (!other(l, c)->relay.family)
			return; /* the other one will wake us */
		if (other(l, c)->step == BIND)
			send_request(l, other(l, c));
	}
	if (c->step != DONE)
		send_request(l, c);
}

static void read_client(struct load *l, struct client *c)
{
	uint8_t bytes[2048];
	struct stun_message m;
	ssize_t len = recv(c->fd, bytes, sizeof(bytes), 0);

	if (len > 0 && stun_parse(bytes, (size_t)len, &m) == 0)
		on_answer(l, c, &m);
}

static void retry_lost(struct load *l)
{
	uint64_t now_ns = tp_clock_now_ns();

	for (unsigned i = 0; i < l->started; i++) {
		struct client *c = &l->clients[i];

		if (c->step == DONE || now_ns - c->sent_ns < RETRY_NS ||
			(l->pairs && c->step == BIND && !other(l, c)->relay.family))
			continue;
		if (++c->tries > TRIES_MAX) {
			fprintf(stderr, "turnload: no answer\n");
			exit(1);
		}
		send_request(l, c);
	}
}

static void run(struct load *l)
{
	struct epoll_event events[64];
	uint64_t checked_ns = tp_clock_now_ns();

	while (l->finished < l->allocations) {
		int ready;

		while (l->started < l->allocations && l->started - l->finished < l->window) {
			open_client(l, l->started);
			send_request(l, &l->clients[l->started++]);
		}
		ready = epoll_wait(l->epoll, events, 64, 100);
		for (int i = 0; i < ready; i++)
			read_client(l, &l->clients[events[i].data.u32]);
		if (tp_clock_now_ns() - checked_ns > RETRY_NS / 2) {
			retry_lost(l);
			checked_ns = tp_clock_now_ns();
		}
	}
}

static void write_flows(const struct load *l)
{
	for (unsigned c = 0; c < (l->channels ? l->channels : 1); c++) {
		for (unsigned i = 0; i < l->allocations; i++)
			fprintf(l->out, "%u %u %u\n", FIRST_PORT + i, l->server.port, 0x4000 + c);
	}
}

static void write_way_back(const struct load *l)
{
	for (unsigned c = 0; c < l->channels; c++) {
		for (unsigned i = 0; i < l->allocations; i++)
			fprintf(l->down, "%u %u 0\n", BENCH_PEER_PORT + c,
				l->clients[i].relay.port);
	}
}

static bool parse(int argc, char *argv[], struct load *l)
{
	static const struct option options[] = {{"server", 1, 0, 's'}, {"local", 1, 0, 'l'},
		{"peer", 1, 0, 'p'}, {"user", 1, 0, 'u'}, {"password", 1, 0, 'w'},
		{"allocations", 1, 0, 'n'}, {"channels", 1, 0, 'c'}, {"window", 1, 0, 'i'},
		{"out", 1, 0, 'o'}, {"down", 1, 0, 'd'}, {"pairs", 0, 0, 'a'}, {0}};
	bool ok = true;

	for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
		switch (c) {
		case 's':
			ok &= tp_addr_parse(optarg, &l->server) == 0;
			break;
		case 'l':
			ok &= tp_addr_parse_ip(optarg, &l->local) == 0;
			break;
		case 'p':
			ok &= tp_addr_parse_ip(optarg, &l->peer) == 0;
			break;
		case 'u':
			l->user = optarg;
			break;
		case 'w':
			l->password = optarg;
			break;
		case 'n':
			l->allocations = (unsigned)strtoul(optarg, NULL, 10);
			break;
		case 'c':
			l->channels = (unsigned)strtoul(optarg, NULL, 10);
			break;
		case 'i':
			l->window = (unsigned)strtoul(optarg, NULL, 10);
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
			l->pairs = true;
			break;
		default:
			ok = false;
		}
	}
	return ok && l->server.family && l->local.family && l->peer.family && l->user &&
	       l->password && l->allocations > 0 && l->allocations <= 40000 &&
	       l->channels <= 4096 && l->window > 0 &&
	       (!l->pairs || (l->allocations % 2 == 0 && l->channels == 1 && l->window > 1));
}

int main(int argc, char *argv[])
{
	struct load l = {.window = 64};
	uint64_t start_ns;

	if (!parse(argc, argv, &l)) {
		fprintf(stderr,
			"usage: turnload --server A:P --local A --peer A --user U --password W\n"
			"                --allocations N [--channels N] [--window N] [--out FILE]\n"
			"                [--down FILE] [--pairs]\n");
		return 2;
	}
	l.clients = calloc(l.allocations, sizeof(*l.clients));
	l.epoll = epoll_create1(0);
	if (!l.clients || l.epoll < 0)
		die("start");
	start_ns = tp_clock_now_ns();
	run(&l);
	printf("{\"allocations\": %u, \"channels\": %u, \"elapsed_ns\": %llu}\n", l.allocations,
		l.allocations * l.channels, (unsigned long long)(tp_clock_now_ns() - start_ns));
	if (l.out) {
		write_flows(&l);
		fclose(l.out);
	}
	if (l.down) {
		write_way_back(&l);
		fclose(l.down);
	}
	return 0;
}
