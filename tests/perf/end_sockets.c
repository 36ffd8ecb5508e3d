/* Ends as UDP sockets. What the kernel has no room for is offered again: it is nobody's loss. */
#include "end.h"

#include <err.h>
#include <errno.h>
#include <linux/sock_diag.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define RECEIVE_BUFFER (16 << 20)
#define ROOM           2048
#define EVENTS         64
#define NAP_US         50
#define GSO_BYTES      60000 /* of one message, less than an IP packet can hold */

struct sockets {
	struct end end;
	int *fds;
	int epoll; /* data.u32 is the number of the address */
	bool connected, gso;
	const char *name;
	struct epoll_event events[EVENTS];
	int event, ready;
	struct mmsghdr messages[END_BURST];
	struct iovec iov[END_BURST];
	uint8_t bytes[END_BURST][ROOM];
};

/* What is about to be sent: datagrams of one socket. */
struct outbox {
	struct mmsghdr messages[END_BURST];
	struct iovec iov[END_BURST];
	struct sockaddr_storage names[END_BURST];
	union {
		char bytes[CMSG_SPACE(sizeof(uint16_t))];
		struct cmsghdr align;
	} control[END_BURST];
	unsigned count;
};

static void send_messages(const struct sockets *s, int fd, struct outbox *out)
{
	for (unsigned from = 0; from < out->count;) {
		int sent = sendmmsg(fd, &out->messages[from], out->count - from, 0);

		if (sent > 0)
			from += (unsigned)sent;
		else if (errno == EAGAIN || errno == ENOBUFS)
			usleep(NAP_US);
		else if (s->gso && errno == EIO)
			errx(1, "UDP segmentation does not work on this interface and kernel");
		else if (errno != ECONNREFUSED && errno != EINTR) /* ICMP of before: said once */
			err(1, "%s: sending", s->name);
	}
	out->count = 0;
}

static void set_segment_size(struct outbox *out, unsigned index)
{
	struct msghdr *m = &out->messages[index].msg_hdr;
	uint16_t size = (uint16_t)m->msg_iov->iov_len;
	struct cmsghdr *c;

	if (m->msg_control)
		return;
	m->msg_control = out->control[index].bytes;
	m->msg_controllen = sizeof(out->control[index].bytes);
	c = CMSG_FIRSTHDR(m);
	c->cmsg_level = SOL_UDP;
	c->cmsg_type = UDP_SEGMENT;
	c->cmsg_len = CMSG_LEN(sizeof(size));
	memcpy(CMSG_DATA(c), &size, sizeof(size));
}

/* Does it go the way of the one before it? Segments of one message all have one length. */
static bool goes_along(const struct datagram *d, const struct msghdr *before)
{
	return d->len == d[-1].len && tp_addr_equal(&d->remote, &d[-1].remote) &&
	       (before->msg_iovlen + 1) * d->len <= GSO_BYTES;
}

/* `index`: where it stands in what is being sent. */
static void add(
	const struct sockets *s, struct outbox *out, const struct datagram *d, unsigned index)
{
	struct msghdr *m = out->count ? &out->messages[out->count - 1].msg_hdr : NULL;

	out->iov[index] = (struct iovec){d->bytes, d->len};
	if (s->gso && m && goes_along(d, m)) {
		m->msg_iovlen++;
		set_segment_size(out, out->count - 1);
		return;
	}
	m = &out->messages[out->count].msg_hdr;
	*m = (struct msghdr){.msg_iov = &out->iov[index], .msg_iovlen = 1};
	if (!s->connected) {
		m->msg_name = &out->names[out->count];
		m->msg_namelen = tp_addr_to_sockaddr(&d->remote, &out->names[out->count]);
	}
	out->count++;
}

static void send_burst(const struct sockets *s, const struct datagram *all, unsigned count)
{
	struct outbox out;

	out.count = 0;
	for (unsigned i = 0; i < count; i++) {
		if (i && all[i].at != all[i - 1].at)
			send_messages(s, s->fds[all[i - 1].at], &out);
		add(s, &out, &all[i], i);
	}
	send_messages(s, s->fds[all[count - 1].at], &out);
}

static void send_all(struct end *end, const struct datagram *all, unsigned count)
{
	const struct sockets *s = (const struct sockets *)end;

	for (unsigned at = 0; at < count; at += END_BURST)
		send_burst(s, all + at, count - at < END_BURST ? count - at : END_BURST);
}

static unsigned receive(struct end *end, struct datagram out[END_BURST], int timeout_ms)
{
	struct sockets *s = (struct sockets *)end;
	uint32_t at;
	int count;

	if (s->event == s->ready) {
		s->event = 0;
		s->ready = epoll_wait(s->epoll, s->events, EVENTS, timeout_ms);
	}
	if (s->ready <= 0) {
		s->ready = 0;
		return 0;
	}
	at = s->events[s->event++].data.u32;
	count = recvmmsg(s->fds[at], s->messages, END_BURST, MSG_DONTWAIT, NULL);
	for (int i = 0; i < count; i++)
		out[i] = (struct datagram){
			.at = at, .bytes = s->bytes[i], .len = s->messages[i].msg_len};
	return count > 0 ? (unsigned)count : 0;
}

static uint64_t unread(struct end *end)
{
	const struct sockets *s = (const struct sockets *)end;
	uint64_t total = 0;

	for (uint32_t i = 0; i < end->count; i++) {
		uint32_t info[SK_MEMINFO_VARS] = {0};
		socklen_t len = sizeof(info);

		if (getsockopt(s->fds[i], SOL_SOCKET, SO_MEMINFO, info, &len) == 0)
			total += info[SK_MEMINFO_DROPS];
	}
	return total;
}

static void close_all(struct end *end)
{
	struct sockets *s = (struct sockets *)end;

	for (uint32_t i = 0; i < end->count; i++)
		close(s->fds[i]);
	close(s->epoll);
	free(s->fds);
	free(s);
}

static void read_port(struct sockets *s, int fd)
{
	struct sockaddr_storage sa;
	socklen_t len = sizeof(sa);
	struct tp_addr bound;

	if (getsockname(fd, (struct sockaddr *)&sa, &len) < 0 ||
		tp_addr_from_sockaddr((struct sockaddr *)&sa, &bound) < 0)
		err(1, "%s", s->name);
	s->end.range.first.port = bound.port;
}

/* `local` with port 0: whichever is free. */
static int open_socket(
	const struct sockets *s, const struct tp_addr *local, const struct tp_addr *server)
{
	struct sockaddr_storage sa;
	socklen_t len = tp_addr_to_sockaddr(local, &sa);
	int fd = socket(sa.ss_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int size = RECEIVE_BUFFER;

	if (fd < 0 || bind(fd, (struct sockaddr *)&sa, len) < 0)
		err(1, "%s", s->name);
	if (!server) {
		if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) < 0)
			setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
		return fd;
	}
	len = tp_addr_to_sockaddr(server, &sa);
	if (connect(fd, (struct sockaddr *)&sa, len) < 0)
		err(1, "%s", s->name);
	return fd;
}

/* An end that talks with anybody has one port on all its addresses: the first one's. */
static void open_number(struct sockets *s, const struct end_settings *settings, uint32_t i)
{
	struct epoll_event event = {.events = EPOLLIN, .data.u32 = i};
	struct tp_addr local = range_at(&s->end.range, i);

	if (settings->range.first.port == 0 && settings->server)
		local.port = 0;
	s->fds[i] = open_socket(s, &local, settings->server);
	if (!settings->server && i == 0)
		read_port(s, s->fds[i]);
	if (epoll_ctl(s->epoll, EPOLL_CTL_ADD, s->fds[i], &event) < 0)
		err(1, "epoll");
}

struct end *end_open_sockets(const struct end_settings *settings, bool gso)
{
	static const struct end_ways ways = {send_all, receive, unread, close_all};
	struct sockets *s = calloc(1, sizeof(*s));

	if (!s)
		err(1, "sockets");
	s->end = (struct end){&ways, settings->range, settings->count};
	s->name = settings->name;
	s->connected = settings->server != NULL;
	s->gso = gso;
	s->fds = calloc(settings->count, sizeof(*s->fds));
	s->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (!s->fds || s->epoll < 0)
		err(1, "sockets");
	for (unsigned i = 0; i < END_BURST; i++) {
		s->iov[i] = (struct iovec){s->bytes[i], ROOM};
		s->messages[i].msg_hdr = (struct msghdr){.msg_iov = &s->iov[i], .msg_iovlen = 1};
	}
	for (uint32_t i = 0; i < settings->count; i++)
		open_number(s, settings, i);
	return &s->end;
}
