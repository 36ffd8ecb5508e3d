/*
 * bare: a relay over ordinary sockets that does nothing but relay. One socket receives ChannelData;
 * what comes from client port FIRST + n leaves by the n-th of the sockets that stand for relayed
 * addresses, to one peer. No request is answered, nothing looked up or checked; there are no timers
 * and no way back. What is received together and leaves by one socket leaves as one message, which
 * the kernel cuts up again (UDP_SEGMENT). --burn spends as many nanoseconds on each packet: a known
 * cost, by which a measure of costs is measured.
 */
#include "base/addr.h"
#include "base/clock.h"

#include <arpa/inet.h>
#include <err.h>
#include <getopt.h>
#include <netinet/udp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define BATCH       32
#define ROOM        2048
#define FIRST       20000 /* the client port of the first flow, as in lab/loops.py */
#define HEADER      4     /* of ChannelData */
#define FLOWS_MAX   10000
#define RECEIVE_MAX (4 << 20)

struct bare {
	int listener, flows[FLOWS_MAX];
	unsigned count;
	uint64_t burn_ns;
	struct mmsghdr messages[BATCH];
	struct iovec iov[BATCH];
	struct sockaddr_in from[BATCH];
	uint8_t bytes[BATCH][ROOM];
};

static volatile sig_atomic_t stopping;

static void stop(int number)
{
	stopping = number;
}

static int open_socket(const struct tp_addr *local)
{
	struct sockaddr_storage sa;
	socklen_t len = tp_addr_to_sockaddr(local, &sa);
	int fd = socket(sa.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0), size = RECEIVE_MAX;

	if (fd < 0 || bind(fd, (struct sockaddr *)&sa, len) < 0 ||
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size)) < 0)
		err(1, "socket");
	return fd;
}

static void open_all(struct bare *b, const struct tp_addr *local, const struct tp_addr *peer)
{
	struct tp_addr any_port = tp_addr_with_port(local, 0);
	struct sockaddr_storage sa;
	socklen_t len = tp_addr_to_sockaddr(peer, &sa);

	b->listener = open_socket(local);
	for (unsigned i = 0; i < b->count; i++) {
		b->flows[i] = open_socket(&any_port);
		if (connect(b->flows[i], (struct sockaddr *)&sa, len) < 0)
			err(1, "peer");
	}
}

static void burn(uint64_t ns)
{
	uint64_t until = tp_clock_now_ns() + ns;

	while (tp_clock_now_ns() < until)
		;
}

/* b->count: it is nobody's. */
static unsigned flow_of(const struct bare *b, unsigned i)
{
	unsigned flow = (unsigned)ntohs(b->from[i].sin_port) - FIRST;

	return flow < b->count && b->messages[i].msg_len > HEADER ? flow : b->count;
}

static void cut_up(struct msghdr *m, void *control, size_t control_size, uint16_t segment)
{
	struct cmsghdr *c = control;

	m->msg_control = control;
	m->msg_controllen = control_size;
	c->cmsg_level = SOL_UDP;
	c->cmsg_type = UDP_SEGMENT;
	c->cmsg_len = CMSG_LEN(sizeof(segment));
	memcpy(CMSG_DATA(c), &segment, sizeof(segment));
}

static void send_run(struct bare *b, unsigned flow, unsigned first, unsigned count)
{
	union {
		char bytes[CMSG_SPACE(sizeof(uint16_t))];
		struct cmsghdr align;
	} control = {0};
	struct msghdr m = {.msg_iov = &b->iov[first], .msg_iovlen = count};

	for (unsigned i = first; i < first + count; i++) {
		b->iov[i] = (struct iovec){b->bytes[i] + HEADER, b->messages[i].msg_len - HEADER};
		if (b->burn_ns)
			burn(b->burn_ns);
	}
	if (count > 1)
		cut_up(&m, control.bytes, sizeof(control.bytes), (uint16_t)b->iov[first].iov_len);
	if (sendmsg(b->flows[flow], &m, 0) < 0)
		warn("sendmsg");
}

static void send_all(struct bare *b, unsigned received)
{
	for (unsigned first = 0, count; first < received; first += count) {
		unsigned flow = flow_of(b, first);

		for (count = 1; first + count < received; count++)
			if (flow_of(b, first + count) != flow ||
				b->messages[first + count].msg_len != b->messages[first].msg_len)
				break;
		if (flow < b->count)
			send_run(b, flow, first, count);
	}
}

static void serve(struct bare *b)
{
	while (!stopping) {
		int received;

		for (unsigned i = 0; i < BATCH; i++) {
			b->iov[i] = (struct iovec){b->bytes[i], ROOM};
			b->messages[i].msg_hdr = (struct msghdr){.msg_name = &b->from[i],
				.msg_namelen = sizeof(b->from[i]),
				.msg_iov = &b->iov[i],
				.msg_iovlen = 1};
		}
		received = recvmmsg(b->listener, b->messages, BATCH, MSG_WAITFORONE, NULL);
		if (received > 0)
			send_all(b, (unsigned)received);
	}
}

static int usage(void)
{
	fprintf(stderr, "usage: bare [--flows N] [--burn NS] ADDRESS:PORT PEER:PORT\n");
	return 2;
}

int main(int argc, char *argv[])
{
	static const struct option options[] = {{"flows", 1, 0, 'f'}, {"burn", 1, 0, 'b'}, {0}};
	struct sigaction action = {.sa_handler = stop}; /* not SA_RESTART: it ends the waiting */
	static struct bare b = {.count = 1};
	struct tp_addr local, peer;

	for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
		if (c == 'f')
			b.count = (unsigned)strtoul(optarg, NULL, 10);
		else if (c == 'b')
			b.burn_ns = strtoull(optarg, NULL, 10);
		else
			return usage();
	}
	if (argc - optind != 2 || b.count < 1 || b.count > FLOWS_MAX ||
		tp_addr_parse(argv[optind], &local) < 0 ||
		tp_addr_parse(argv[optind + 1], &peer) < 0)
		return usage();
	open_all(&b, &local, &peer);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	puts("ready");
	fflush(stdout);
	serve(&b);
	return 0;
}
