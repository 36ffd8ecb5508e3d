/* bind and recvmmsg; one thread; never blocks. */
#include "udp.h"

#include "base/cleanup.h"
#include "options.h"

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
#define SEND_BUFFER     (4 << 20)
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

static int set_options(int fd, const struct tp_addr *local, enum tp_udp_role role)
{
	const struct tp_ip_options *o =
		tp_ip_options(local->family == TP_IPV4 ? AF_INET : AF_INET6);
	static const int buffers[] = {LISTENER_BUFFER, RELAY_BUFFER, STEERED_BUFFER, 0};
	int err = 0;

	/* Beyond the system's limit only with privileges; what it grants is enough to work. */
	if (tp_set_option(fd, SOL_SOCKET, SO_RCVBUFFORCE, buffers[role]) < 0)
		tp_set_option(fd, SOL_SOCKET, SO_RCVBUF, buffers[role]);
	if (role == TP_UDP_SENDING)
		tp_set_option(fd, SOL_SOCKET, SO_SNDBUF, SEND_BUFFER);
	if (local->family == TP_IPV6)
		err = tp_set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
	if (!err)
		err = tp_set_option(fd, o->level, o->receive_ttl, 1);
	if (!err)
		err = tp_set_option(fd, o->level, o->receive_tos, 1);
	if (!err)
		err = tp_set_option(fd, o->level, o->mtu_discover, o->fragment);
	if (!err && role == TP_UDP_RELAY)
		err = tp_set_option(fd, o->level, o->receive_error, 1);
	if (!err && role == TP_UDP_STEERED)
		err = tp_set_option(fd, o->level, o->receive_local, 1);
	if (!err && role == TP_UDP_STEERED)
		err = tp_set_option(fd, o->level, o->freebind, 1);
	if (!err && role == TP_UDP_SENDING && local->family == TP_IPV6)
		err = tp_set_option(fd, IPPROTO_IPV6, IPV6_AUTOFLOWLABEL, 0);
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
