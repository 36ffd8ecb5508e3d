/* Raw sockets to which IP headers are described, not given (base/raw.h). DF is a property of the
 * socket, so IPv4 has two. */
#include "output.h"

#include "base/cleanup.h"
#include "base/cmsg.h"
#include "base/raw.h"
#include "messages.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

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

static const struct {
	int family;
	bool whole;
} kinds[SOCKETS] = {
	[IPV4] = {AF_INET, false}, [IPV4_WHOLE] = {AF_INET, true}, [IPV6] = {AF_INET6, false}};

static int open_socket(int which, int *out)
{
	int err = tp_raw_open(kinds[which].family, kinds[which].whole, out);

	return err == -EAFNOSUPPORT && which == IPV6 ? 0 : err;
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
		err = open_socket(i, &o->sockets[i].fd);
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

/* What UDP is, and room for what has to be said about the header. */
static struct msghdr *add(struct tp_output *o, int which, const uint8_t *udp, const uint8_t *end,
	struct cmsghdr **control)
{
	struct tp_messages *messages = &o->sockets[which].messages;

	*control = &o->sockets[which].controls[messages->count].align;
	return tp_messages_add(messages, udp, (size_t)(end - udp));
}

static void add_v4(struct tp_output *o, const struct tp_ipv4 *ip, const uint8_t *end)
{
	bool whole = ip->fragment.be & tp_to_be16(0x4000).be;
	const struct in_pktinfo from = {.ipi_spec_dst.s_addr = tp_get32(&ip->source)};
	struct cmsghdr *control, *at;
	struct msghdr *message =
		add(o, whole ? IPV4_WHOLE : IPV4, (const uint8_t *)(ip + 1), end, &control);

	tp_message_to_v4(message, tp_get32(&ip->destination));
	at = tp_cmsg_put(control, IPPROTO_IP, IP_PKTINFO, &from, sizeof(from));
	at = tp_cmsg_put_int(at, IPPROTO_IP, IP_TTL, ip->ttl);
	at = tp_cmsg_put_int(at, IPPROTO_IP, IP_TOS, ip->tos);
	tp_cmsg_end(message, control, at);
}

static void add_v6(struct tp_output *o, const struct tp_ipv6 *ip, const uint8_t *end)
{
	int tclass = tp_from_be32(ip->class_label) >> 20 & 0xff;
	struct in6_pktinfo from = {.ipi6_ifindex = 0};
	struct cmsghdr *control, *at;
	struct msghdr *message = add(o, IPV6, (const uint8_t *)(ip + 1), end, &control);

	memcpy(&from.ipi6_addr, ip->source, sizeof(from.ipi6_addr));
	tp_message_to_v6(message, ip->destination);
	at = tp_cmsg_put(control, IPPROTO_IPV6, IPV6_PKTINFO, &from, sizeof(from));
	at = tp_cmsg_put_int(at, IPPROTO_IPV6, IPV6_HOPLIMIT, ip->hop_limit);
	at = tp_cmsg_put_int(at, IPPROTO_IPV6, IPV6_TCLASS, tclass);
	tp_cmsg_end(message, control, at);
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
