#include "traffic.h"

#include "base/clock.h"

#include <err.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define BURST      32
#define NAP_NS     (50 * 1000)
#define QUIET_NS   (300 * TP_NS_PER_MS)
#define PER_SOCKET 16 /* flat out: packets in a row on one client's socket */

struct burst {
	struct mmsghdr messages[BURST];
	struct iovec iov[BURST];
	struct sockaddr_storage names[BURST];
	int fds[BURST];
	uint8_t bytes[BURST][PACKET_ROOM];
	unsigned count;
};

static void add_packet(struct traffic *t, struct burst *b, uint32_t flow, uint64_t now_ns)
{
	const struct client *client = &t->settings.clients->all[flow];
	struct stamp stamp = {t->settings.run, t->numbers[flow]++, now_ns, flow,
		(uint16_t)t->settings.size, (uint16_t)t->direction};
	unsigned i = b->count++;
	struct msghdr *m = &b->messages[i].msg_hdr;

	b->iov[i] = (struct iovec){
		b->bytes[i], stamp_write(b->bytes[i], &stamp, t->direction == DIRECTION_UP)};
	*m = (struct msghdr){.msg_iov = &b->iov[i], .msg_iovlen = 1};
	b->fds[i] = t->direction == DIRECTION_UP ? client->fd : t->settings.peer_fd;
	if (t->direction == DIRECTION_DOWN) {
		m->msg_name = &b->names[i];
		m->msg_namelen = tp_addr_to_sockaddr(&client->relay, &b->names[i]);
	}
}

/* What the kernel has no room for now is offered again: it is not the relay's loss. */
static void send_run(const struct burst *b, unsigned from, unsigned to)
{
	while (from < to) {
		int sent =
			sendmmsg(b->fds[from], (struct mmsghdr *)&b->messages[from], to - from, 0);

		if (sent > 0)
			from += (unsigned)sent;
		else if (errno == EAGAIN || errno == ENOBUFS)
			usleep(NAP_NS / 1000);
		else if (errno != ECONNREFUSED) /* an ICMP message of before: said once */
			err(1, "sending packets");
	}
}

static void send_burst(struct burst *b)
{
	unsigned from = 0;

	for (unsigned i = 1; i <= b->count; i++) {
		if (i < b->count && b->fds[i] == b->fds[from])
			continue;
		send_run(b, from, i);
		from = i;
	}
	b->count = 0;
}

/* How many more packets are due. */
static uint64_t due(const struct traffic *t, uint64_t start_ns, uint64_t now_ns)
{
	uint64_t rate = t->settings.rate;

	if (!rate)
		return BURST;
	return (uint64_t)((__uint128_t)(now_ns - start_ns) * rate / TP_NS_PER_S) + 1 - t->offered;
}

static void *send_all(void *arg)
{
	struct traffic *t = arg;
	uint32_t flows = t->settings.clients->settings.allocations, flow = 0;
	unsigned row = t->settings.rate ? 1 : PER_SOCKET;
	uint64_t start_ns = tp_clock_now_ns(), now_ns = start_ns;
	struct burst *b = calloc(1, sizeof(*b));

	if (!b)
		err(1, "sender");
	for (; now_ns - start_ns < t->settings.length_ns; now_ns = tp_clock_now_ns()) {
		uint64_t count = due(t, start_ns, now_ns);

		for (uint64_t i = 0; i < count && i < BURST; i++) {
			add_packet(t, b, flow, now_ns);
			if (++t->offered % row == 0)
				flow = (flow + 1) % flows;
		}
		send_burst(b);
		if (!count)
			usleep(NAP_NS / 1000);
	}
	t->sent_ns = now_ns - start_ns;
	free(b);
	return NULL;
}

static void take_burst(struct traffic *t, struct burst *b, int fd)
{
	int count = recvmmsg(fd, b->messages, BURST, MSG_DONTWAIT, NULL);
	uint64_t now_ns = tp_clock_now_ns();

	for (int i = 0; i < count; i++)
		books_take(&t->books, b->bytes[i], b->messages[i].msg_len, now_ns);
}

static void *receive_all(void *arg)
{
	struct traffic *t = arg;
	struct epoll_event events[64];
	struct burst *b = calloc(1, sizeof(*b));

	if (!b)
		err(1, "receiver");
	for (unsigned i = 0; i < BURST; i++) {
		b->iov[i] = (struct iovec){b->bytes[i], PACKET_ROOM};
		b->messages[i].msg_hdr = (struct msghdr){.msg_iov = &b->iov[i], .msg_iovlen = 1};
	}
	while (!t->is_over) {
		int ready = epoll_wait(t->epoll, events, 64, 50);

		for (int i = 0; i < ready; i++)
			take_burst(t, b, t->receivers[events[i].data.u32]);
	}
	free(b);
	return NULL;
}

/* Up: the peer's socket alone. Down: the clients'. */
static void open_receivers(struct traffic *t, uint32_t flows)
{
	struct epoll_event event = {.events = EPOLLIN};

	t->receivers = calloc(flows, sizeof(*t->receivers));
	t->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (!t->receivers || t->epoll < 0)
		err(1, "receivers");
	if (t->direction == DIRECTION_UP)
		flows = 1;
	for (uint32_t i = 0; i < flows; i++) {
		event.data.u32 = i;
		t->receivers[i] = t->direction == DIRECTION_UP ? t->settings.peer_fd
							       : t->settings.clients->all[i].fd;
		if (epoll_ctl(t->epoll, EPOLL_CTL_ADD, t->receivers[i], &event) < 0)
			err(1, "epoll");
	}
}

void traffic_begin(
	struct traffic *t, enum direction direction, const struct traffic_settings *settings)
{
	uint32_t flows = settings->clients->settings.allocations;

	t->settings = *settings;
	t->direction = direction;
	t->numbers = calloc(flows, sizeof(*t->numbers));
	t->books.run = settings->run;
	t->books.direction = direction;
	t->books.flows = flows;
	t->books.trackers = calloc(flows, sizeof(*t->books.trackers));
	if (!t->numbers || !t->books.trackers)
		err(1, "%u flows", flows);
	open_receivers(t, flows);
	if (pthread_create(&t->receiver, NULL, receive_all, t) != 0 ||
		pthread_create(&t->sender, NULL, send_all, t) != 0)
		errx(1, "no threads");
}

void traffic_end(struct traffic *t)
{
	uint64_t before;

	pthread_join(t->sender, NULL);
	do {
		before = t->books.arrived;
		usleep(QUIET_NS / 1000);
	} while (t->books.arrived != before);
	t->is_over = true;
	pthread_join(t->receiver, NULL);
	close(t->epoll);
	free(t->receivers);
	free(t->numbers);
	free(t->books.trackers);
}
