/*
 * Raw sockets to which IP headers are described, not given: where a socket includes the header, the
 * kernel refuses what is larger than the link (EMSGSIZE) instead of fragmenting it. DF is a
 * property of the socket, so IPv4 has two.
 */
#include "output.h"

#include "base/cleanup.h"
#include "messages.h"

#include <errno.h>
#include <linux/filter.h>
#include <stdlib.h>
#include <string.h>

/* In <linux/in6.h>, which does not go together with <netinet/in.h>. */
#ifndef IPV6_FREEBIND
#define IPV6_FREEBIND 78
#endif

/* So that a few neighbours that never answer, each with a queue full of packets, starve nobody. */
#define SEND_BUFFER (4 << 20)

enum { IPV4, IPV4_WHOLE, IPV6, SOCKETS };

union control {
	struct cmsghdr align;
	uint8_t bytes[CMSG_SPACE(sizeof(struct in6_pktinfo)) + 2 * CMSG_SPACE(sizeof(int))];
};

struct tp_output {
	struct {
		int fd; /* -1: the kernel has no such family */
		struct tp_messages messages;
		union control controls[TP_BURST];
	} sockets[SOCKETS];
};

/* As the control plane's sockets (engine/socket/udp.c): whatever path MTU an ICMP message claims,
 * unless the packet must not be fragmented. */
static const struct kind {
	int family, level, discover, discovering, freebind;
} kinds[SOCKETS] = {
	[IPV4] = {AF_INET, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_OMIT, IP_FREEBIND},
	[IPV4_WHOLE] = {AF_INET, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO, IP_FREEBIND},
	[IPV6] = {AF_INET6, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_DONT, IPV6_FREEBIND},
};

static int set(int fd, int level, int option, int value)
{
	return setsockopt(fd, level, option, &value, sizeof(value)) < 0 ? -errno : 0;
}

/*
 * A raw socket gets a copy of every UDP packet that the machine receives, but for addresses: this
 * one is bound to one that no packet has (RFC 7600, RFC 6666).
 */
static int bind_to_nothing(int fd, const struct kind *kind)
{
	const struct sockaddr_in v4 = {
		.sin_family = AF_INET, .sin_addr.s_addr = htonl(0xc0000008)}; /* 192.0.0.8 */
	const struct sockaddr_in6 v6 = {
		.sin6_family = AF_INET6, .sin6_addr.s6_addr = {1, [15] = 1}}; /* 100::1 */
	int err = set(fd, kind->level, kind->freebind, 1);

	if (err)
		return err;
	if (kind->family == AF_INET)
		return bind(fd, (const void *)&v4, sizeof(v4)) < 0 ? -errno : 0;
	return bind(fd, (const void *)&v6, sizeof(v6)) < 0 ? -errno : 0;
}

/* Nor can it be made to receive anything later. */
static int deafen(int fd)
{
	struct sock_filter nothing = BPF_STMT(BPF_RET | BPF_K, 0);
	const struct sock_fprog program = {.len = 1, .filter = &nothing};

	if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) < 0)
		return -errno;
	return set(fd, SOL_SOCKET, SO_LOCK_FILTER, 1);
}

static int open_socket(const struct kind *kind, int *out)
{
	TP_AUTO_CLOSE int fd =
		socket(kind->family, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_UDP);
	int err;

	if (fd < 0)
		return errno == EAFNOSUPPORT && kind->family == AF_INET6 ? 0 : -errno;
	if (set(fd, SOL_SOCKET, SO_SNDBUFFORCE, SEND_BUFFER) < 0)
		set(fd, SOL_SOCKET, SO_SNDBUF, SEND_BUFFER);
	err = deafen(fd);
	if (!err)
		err = bind_to_nothing(fd, kind);
	if (!err)
		err = set(fd, kind->level, kind->discover, kind->discovering);
	if (!err)
		*out = TP_TAKE_FD(fd);
	return err;
}

int tp_output_open(struct tp_output **out)
{
	struct tp_output *o = calloc(1, sizeof(*o));
	int err = 0;

	if (!o)
		return -ENOMEM;
	for (int i = 0; i < SOCKETS; i++)
		o->sockets[i].fd = -1;
	for (int i = 0; !err && i < SOCKETS; i++)
		err = open_socket(&kinds[i], &o->sockets[i].fd);
	if (err)
		tp_output_close(o);
	else
		*out = o;
	return err;
}

void tp_output_close(struct tp_output *o)
{
	if (!o)
		return;
	for (int i = 0; i < SOCKETS; i++)
		tp_cleanup_close(&o->sockets[i].fd);
	free(o);
}

static struct cmsghdr *put(struct cmsghdr *c, int level, int type, const void *value, size_t size)
{
	c->cmsg_level = level;
	c->cmsg_type = type;
	c->cmsg_len = CMSG_LEN(size);
	memcpy(CMSG_DATA(c), value, size);
	return (void *)((uint8_t *)c + CMSG_SPACE(size));
}

/* What UDP is, and room for what has to be said about the header. */
static struct msghdr *add(struct tp_output *o, int which, const uint8_t *udp, const uint8_t *end,
	struct cmsghdr **control)
{
	struct tp_messages *messages = &o->sockets[which].messages;

	*control = &o->sockets[which].controls[messages->count].align;
	return tp_messages_add(messages, udp, (size_t)(end - udp));
}

static void describe(struct msghdr *message, struct cmsghdr *control, const struct cmsghdr *end)
{
	message->msg_control = control;
	message->msg_controllen = (size_t)((const uint8_t *)end - (const uint8_t *)control);
}

static void add_v4(struct tp_output *o, const struct tp_ipv4 *ip, const uint8_t *end)
{
	bool whole = ip->fragment.be & tp_to_be16(0x4000).be;
	const struct in_pktinfo from = {.ipi_spec_dst.s_addr = tp_get32(&ip->source)};
	int ttl = ip->ttl, tos = ip->tos;
	struct cmsghdr *control, *at;
	struct msghdr *message =
		add(o, whole ? IPV4_WHOLE : IPV4, (const uint8_t *)(ip + 1), end, &control);

	tp_message_to_v4(message, tp_get32(&ip->destination));
	at = put(control, IPPROTO_IP, IP_PKTINFO, &from, sizeof(from));
	at = put(at, IPPROTO_IP, IP_TTL, &ttl, sizeof(ttl));
	at = put(at, IPPROTO_IP, IP_TOS, &tos, sizeof(tos));
	describe(message, control, at);
}

static void add_v6(struct tp_output *o, const struct tp_ipv6 *ip, const uint8_t *end)
{
	int hops = ip->hop_limit, tclass = tp_from_be32(ip->class_label) >> 20 & 0xff;
	struct in6_pktinfo from = {.ipi6_ifindex = 0};
	struct cmsghdr *control, *at;
	struct msghdr *message = add(o, IPV6, (const uint8_t *)(ip + 1), end, &control);

	memcpy(&from.ipi6_addr, ip->source, sizeof(from.ipi6_addr));
	tp_message_to_v6(message, ip->destination);
	at = put(control, IPPROTO_IPV6, IPV6_PKTINFO, &from, sizeof(from));
	at = put(at, IPPROTO_IPV6, IPV6_HOPLIMIT, &hops, sizeof(hops));
	at = put(at, IPPROTO_IPV6, IPV6_TCLASS, &tclass, sizeof(tclass));
	describe(message, control, at);
}

void tp_output_add(struct tp_output *o, const uint8_t *packet, const uint8_t *end)
{
	if (packet[0] >> 4 == 4)
		add_v4(o, (const void *)packet, end);
	else
		add_v6(o, (const void *)packet, end);
}

uint32_t tp_output_send(struct tp_output *o)
{
	uint32_t sent = 0;

	for (int i = 0; i < SOCKETS; i++) {
		if (o->sockets[i].messages.count)
			sent += tp_messages_send(&o->sockets[i].messages, o->sockets[i].fd);
	}
	return sent;
}
