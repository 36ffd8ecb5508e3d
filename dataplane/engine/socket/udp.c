/* recvmmsg and sendmmsg around batches; one thread; never blocks. */
#include "udp.h"

#include "base/cleanup.h"

#include <errno.h>
#include <linux/errqueue.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/mman.h>

/* Fragmented datagrams arrive whole; the pages of a buffer cost memory only once they are used. */
#define RX_BUFFER_SIZE  65536
#define LISTENER_BUFFER (4 << 20)
#define STEERED_BUFFER  (4 << 20)
#define RELAY_BUFFER    (256 << 10)
#define CONTROL_SIZE    (2 * CMSG_SPACE(sizeof(int)) + CMSG_SPACE(sizeof(struct sockaddr_in6)))

struct tp_udp_rx {
	struct tp_udp_packet packets[TP_UDP_BATCH];
	struct mmsghdr messages[TP_UDP_BATCH];
	struct iovec iov[TP_UDP_BATCH];
	struct sockaddr_storage names[TP_UDP_BATCH];
	union {
		struct cmsghdr align;
		uint8_t bytes[CONTROL_SIZE];
	} control[TP_UDP_BATCH];
	uint8_t *buffers;
};

struct tp_udp_tx {
	struct mmsghdr messages[TP_UDP_BATCH];
	struct iovec iov[TP_UDP_BATCH][2];
	struct sockaddr_storage names[TP_UDP_BATCH];
	union {
		struct cmsghdr align;
		uint8_t bytes[CONTROL_SIZE];
	} control[TP_UDP_BATCH];
	int fds[TP_UDP_BATCH];
	bool dont_fragment[TP_UDP_BATCH];
	uint8_t heads[TP_UDP_BATCH][TP_UDP_HEAD_SIZE];
	unsigned queued;
	struct tp_udp_counters counters;
};

/* What the two families call the same thing. */
struct ip_options {
	int level, receive_ttl, receive_tos, receive_error, receive_local, mtu_discover, ttl, tos;
	int fragment, no_fragment, freebind;
};

/*
 * Without DF, whatever path MTU somebody's ICMP claims (threat F17). IP_PMTUDISC_DONT would do the
 * same but keep "fragmentation needed" from us, which clients are to be told (RFC 8656, 11.5); for
 * IPv6 it is the other way round.
 */
static const struct ip_options ipv4_options = {IPPROTO_IP, IP_RECVTTL, IP_RECVTOS, IP_RECVERR,
	IP_RECVORIGDSTADDR, IP_MTU_DISCOVER, IP_TTL, IP_TOS, IP_PMTUDISC_OMIT, IP_PMTUDISC_DO,
	IP_FREEBIND};
static const struct ip_options ipv6_options = {IPPROTO_IPV6, IPV6_RECVHOPLIMIT, IPV6_RECVTCLASS,
	IPV6_RECVERR, IPV6_RECVORIGDSTADDR, IPV6_MTU_DISCOVER, IPV6_HOPLIMIT, IPV6_TCLASS,
	IPV6_PMTUDISC_DONT, IPV6_PMTUDISC_DO, IPV6_FREEBIND};

static const struct ip_options *options_of(int family)
{
	return family == AF_INET ? &ipv4_options : &ipv6_options;
}

static int set_int(int fd, int level, int option, int value)
{
	return setsockopt(fd, level, option, &value, sizeof(value)) < 0 ? -errno : 0;
}

static int set_options(int fd, const struct tp_addr *local, enum tp_udp_role role)
{
	const struct ip_options *o = options_of(local->family == TP_IPV4 ? AF_INET : AF_INET6);
	static const int buffers[] = {LISTENER_BUFFER, RELAY_BUFFER, STEERED_BUFFER};
	int err = 0;

	/* Beyond the system's limit only with privileges; what it grants is enough to work. */
	if (set_int(fd, SOL_SOCKET, SO_RCVBUFFORCE, buffers[role]) < 0)
		set_int(fd, SOL_SOCKET, SO_RCVBUF, buffers[role]);
	if (local->family == TP_IPV6)
		err = set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
	if (!err)
		err = set_int(fd, o->level, o->receive_ttl, 1);
	if (!err)
		err = set_int(fd, o->level, o->receive_tos, 1);
	if (!err)
		err = set_int(fd, o->level, o->mtu_discover, o->fragment);
	if (!err && role == TP_UDP_RELAY)
		err = set_int(fd, o->level, o->receive_error, 1);
	if (!err && role == TP_UDP_STEERED)
		err = set_int(fd, o->level, o->receive_local, 1);
	if (!err && role == TP_UDP_STEERED)
		err = set_int(fd, o->level, o->freebind, 1);
	return err;
}

/* Addresses that no packet has (RFC 7600, RFC 6666). */
static struct tp_addr nowhere(uint8_t family)
{
	static const uint8_t v4[4] = {192, 0, 0, 8}, v6[16] = {1, [15] = 1};

	return tp_addr_make(family, family == TP_IPV4 ? v4 : v6, 0);
}

int tp_udp_probe(const struct tp_addr *local)
{
	struct sockaddr_storage sa;
	socklen_t len = tp_addr_to_sockaddr(local, &sa);
	TP_AUTO_CLOSE int fd = socket(sa.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	return fd < 0 || bind(fd, (struct sockaddr *)&sa, len) < 0 ? -errno : 0;
}

int tp_udp_open(const struct tp_addr *local, enum tp_udp_role role, int *out)
{
	const struct tp_addr bound = role == TP_UDP_STEERED ? nowhere(local->family) : *local;
	struct sockaddr_storage sa;
	socklen_t len = tp_addr_to_sockaddr(&bound, &sa);
	TP_AUTO_CLOSE int fd = socket(sa.ss_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int err;

	if (fd < 0)
		return -errno;
	err = set_options(fd, &bound, role);
	if (err < 0)
		return err;
	if (bind(fd, (struct sockaddr *)&sa, len) < 0)
		return -errno;
	*out = TP_TAKE_FD(fd);
	return 0;
}

int tp_udp_rx_new(struct tp_udp_rx **out)
{
	struct tp_udp_rx *rx = calloc(1, sizeof(*rx));

	if (!rx)
		return -ENOMEM;
	rx->buffers = mmap(NULL, (size_t)TP_UDP_BATCH * RX_BUFFER_SIZE, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (rx->buffers == MAP_FAILED) {
		free(rx);
		return -ENOMEM;
	}
	for (int i = 0; i < TP_UDP_BATCH; i++) {
		struct msghdr *m = &rx->messages[i].msg_hdr;

		rx->iov[i].iov_base = rx->buffers + (size_t)i * RX_BUFFER_SIZE;
		rx->iov[i].iov_len = RX_BUFFER_SIZE;
		m->msg_iov = &rx->iov[i];
		m->msg_iovlen = 1;
		m->msg_name = &rx->names[i];
		m->msg_control = rx->control[i].bytes;
	}
	*out = rx;
	return 0;
}

void tp_udp_rx_free(struct tp_udp_rx *rx)
{
	if (!rx)
		return;
	munmap(rx->buffers, (size_t)TP_UDP_BATCH * RX_BUFFER_SIZE);
	free(rx);
}

/* TTL and TOS as the kernel reports them: as int, or (IPv4 TOS) as one byte. */
static void read_control(struct msghdr *m, struct tp_udp_packet *packet)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		uint8_t value = *CMSG_DATA(c);

		if ((c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_ORIGDSTADDR) ||
			(c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_ORIGDSTADDR))
			tp_addr_from_sockaddr((const void *)CMSG_DATA(c), &packet->local);
		else if ((c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_TTL) ||
			 (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_HOPLIMIT))
			packet->ttl = value;
		else if ((c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_TOS) ||
			 (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_TCLASS))
			packet->tos = value;
	}
}

size_t tp_udp_receive(struct tp_udp_rx *rx, int fd, const struct tp_udp_packet **packets)
{
	int received;
	size_t kept = 0;

	for (int i = 0; i < TP_UDP_BATCH; i++) {
		rx->messages[i].msg_hdr.msg_namelen = sizeof(rx->names[i]);
		rx->messages[i].msg_hdr.msg_controllen = CONTROL_SIZE;
	}
	/* A pending ICMP error comes instead of data, once; the next call has the data. */
	for (int tries = 0; tries < 3; tries++) {
		received = recvmmsg(fd, rx->messages, TP_UDP_BATCH, MSG_DONTWAIT, NULL);
		if (received >= 0 || errno == EAGAIN)
			break;
	}
	for (int i = 0; i < received; i++) {
		struct tp_udp_packet *packet = &rx->packets[kept];
		struct msghdr *m = &rx->messages[i].msg_hdr;

		*packet = (struct tp_udp_packet){
			.bytes = rx->iov[i].iov_base, .len = rx->messages[i].msg_len};
		if (tp_addr_from_sockaddr((struct sockaddr *)&rx->names[i], &packet->remote) < 0)
			continue;
		read_control(m, packet);
		kept++;
	}
	*packets = rx->packets;
	return kept;
}

bool tp_udp_next_error(int fd, struct tp_udp_error *out)
{
	struct sockaddr_storage name;
	union {
		struct cmsghdr align;
		uint8_t bytes[256];
	} control;
	struct msghdr m = {.msg_name = &name,
		.msg_namelen = sizeof(name),
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes)};

	*out = (struct tp_udp_error){0};
	if (recvmsg(fd, &m, MSG_ERRQUEUE | MSG_DONTWAIT) < 0)
		return false;
	if (m.msg_namelen == 0 ||
		tp_addr_from_sockaddr((struct sockaddr *)&name, &out->destination) < 0)
		return true;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
		struct sock_extended_err error;

		if (!(c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_RECVERR) &&
			!(c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_RECVERR))
			continue;
		memcpy(&error, CMSG_DATA(c), sizeof(error));
		if (error.ee_origin != SO_EE_ORIGIN_ICMP && error.ee_origin != SO_EE_ORIGIN_ICMP6)
			continue;
		out->type = error.ee_type;
		out->code = error.ee_code;
		out->data = error.ee_info;
	}
	return true;
}

int tp_udp_tx_new(struct tp_udp_tx **out)
{
	*out = calloc(1, sizeof(**out));
	return *out ? 0 : -ENOMEM;
}

void tp_udp_tx_free(struct tp_udp_tx *tx)
{
	free(tx);
}

static struct cmsghdr *put(struct cmsghdr *c, int level, int type, const void *value, size_t size)
{
	c->cmsg_level = level;
	c->cmsg_type = type;
	c->cmsg_len = CMSG_LEN(size);
	memcpy(CMSG_DATA(c), value, size);
	return (void *)((uint8_t *)c + CMSG_SPACE(size));
}

static struct cmsghdr *put_int(struct cmsghdr *c, int level, int type, int value)
{
	return put(c, level, type, &value, sizeof(value));
}

static struct cmsghdr *put_marks(struct msghdr *m, struct tp_udp_marks marks)
{
	const struct ip_options *o = options_of(((struct sockaddr *)m->msg_name)->sa_family);
	struct cmsghdr *end = put_int(m->msg_control, o->level, o->tos, marks.tos);

	if (marks.ttl)
		end = put_int(end, o->level, o->ttl, marks.ttl);
	return end;
}

static void end_control(struct msghdr *m, const struct cmsghdr *end)
{
	m->msg_controllen = (size_t)((const uint8_t *)end - (const uint8_t *)m->msg_control);
}

/* The message's number; it has no payload yet. */
static unsigned begin_message(struct tp_udp_tx *tx, const struct tp_addr *to)
{
	struct msghdr *m;
	unsigned i;

	if (tx->queued == TP_UDP_BATCH)
		tp_udp_flush(tx);
	i = tx->queued++;
	m = &tx->messages[i].msg_hdr;
	*m = (struct msghdr){.msg_name = &tx->names[i],
		.msg_iov = tx->iov[i],
		.msg_control = tx->control[i].bytes};
	m->msg_namelen = tp_addr_to_sockaddr(to, &tx->names[i]);
	return i;
}

static void put_payload(struct tp_udp_tx *tx, unsigned i, const void *head, size_t head_len,
	const void *data, size_t data_len)
{
	struct msghdr *m = &tx->messages[i].msg_hdr;

	if (head_len) {
		memcpy(tx->heads[i], head, head_len);
		tx->iov[i][m->msg_iovlen++] = (struct iovec){tx->heads[i], head_len};
	}
	if (data_len)
		tx->iov[i][m->msg_iovlen++] = (struct iovec){(void *)data, data_len};
}

void tp_udp_queue(struct tp_udp_tx *tx, int fd, const struct tp_addr *to, const void *head,
	size_t head_len, const void *data, size_t data_len, struct tp_udp_marks marks)
{
	unsigned i = begin_message(tx, to);
	struct msghdr *m = &tx->messages[i].msg_hdr;

	put_payload(tx, i, head, head_len, data, data_len);
	end_control(m, put_marks(m, marks));
	tx->fds[i] = fd;
	tx->dont_fragment[i] = marks.dont_fragment;
}

static struct cmsghdr *put_source(struct cmsghdr *c, const struct tp_addr *from)
{
	struct in_pktinfo v4 = {.ipi_ifindex = 0};
	struct in6_pktinfo v6 = {.ipi6_ifindex = 0};

	if (from->family == TP_IPV4) {
		memcpy(&v4.ipi_spec_dst, tp_addr_bytes(from), sizeof(v4.ipi_spec_dst));
		return put(c, IPPROTO_IP, IP_PKTINFO, &v4, sizeof(v4));
	}
	memcpy(&v6.ipi6_addr, from->ip, sizeof(v6.ipi6_addr));
	return put(c, IPPROTO_IPV6, IPV6_PKTINFO, &v6, sizeof(v6));
}

void tp_udp_queue_from(struct tp_udp_tx *tx, int fd, const struct tp_addr *from,
	const struct tp_addr *to, const void *head, size_t head_len, const void *data,
	size_t data_len, struct tp_udp_marks marks)
{
	unsigned i = begin_message(tx, to);
	struct msghdr *m = &tx->messages[i].msg_hdr;

	put_payload(tx, i, head, head_len, data, data_len);
	end_control(m, put_source(put_marks(m, marks), from));
	tx->fds[i] = fd;
	tx->dont_fragment[i] = false;
}

/* Sends messages first..end - 1, all of one socket; what the kernel refuses is counted and left. */
static void send_run(struct tp_udp_tx *tx, unsigned first, unsigned end)
{
	bool retried = false;

	while (first < end) {
		int sent =
			sendmmsg(tx->fds[first], tx->messages + first, end - first, MSG_DONTWAIT);

		if (sent > 0) {
			tx->counters.sent += (unsigned)sent;
			first += (unsigned)sent;
			retried = false;
			continue;
		}
		/* An ICMP error that was pending is not this message's fault: try it once more. */
		if (!retried && errno != EAGAIN && errno != EMSGSIZE) {
			retried = true;
			continue;
		}
		tx->counters.failed++;
		first++;
		retried = false;
	}
}

static void set_fragmenting(int fd, int family, bool allowed)
{
	const struct ip_options *o = options_of(family);

	set_int(fd, o->level, o->mtu_discover, allowed ? o->fragment : o->no_fragment);
}

void tp_udp_flush(struct tp_udp_tx *tx)
{
	for (unsigned first = 0, end; first < tx->queued; first = end) {
		int family = tx->names[first].ss_family;

		for (end = first + 1; end < tx->queued; end++) {
			if (tx->fds[end] != tx->fds[first] ||
				tx->dont_fragment[end] != tx->dont_fragment[first])
				break;
		}
		if (tx->dont_fragment[first])
			set_fragmenting(tx->fds[first], family, false);
		send_run(tx, first, end);
		if (tx->dont_fragment[first])
			set_fragmenting(tx->fds[first], family, true);
	}
	tx->queued = 0;
}

struct tp_udp_counters tp_udp_tx_counters(const struct tp_udp_tx *tx)
{
	return tx->counters;
}
