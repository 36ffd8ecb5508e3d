/* The UDP header in front of a payload; its checksum is the kernel's work for IPv6 only. */
#include "sender.h"

#include "base/raw.h"
#include "dataplane/core/checksum.h"
#include "dataplane/engine/socket/options.h"

#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

static int open_one(bool ipv6, bool whole, int *out)
{
	int err = tp_raw_open(ipv6 ? AF_INET6 : AF_INET, whole, out);

	if (!err && ipv6)
		err = tp_set_option(
			*out, IPPROTO_IPV6, IPV6_CHECKSUM, (int)offsetof(struct tp_udp, checksum));
	/* A raw socket's would be of the addresses alone, and another one than TP_UDP_SENDING's. */
	if (!err && ipv6)
		err = tp_set_option(*out, IPPROTO_IPV6, IPV6_AUTOFLOWLABEL, 0);
	return err;
}

int sender_open(struct sender *sender, bool ipv4, bool ipv6)
{
	const bool wanted[2] = {ipv4, ipv6};
	int err = 0;

	*sender = (struct sender){{{-1, -1}, {-1, -1}}};
	for (int i = 0; !err && i < 4; i++) {
		if (wanted[i / 2])
			err = open_one(i / 2, i % 2, &sender->fds[i / 2][i % 2]);
	}
	if (err)
		sender_close(sender);
	return err;
}

void sender_close(struct sender *sender)
{
	for (int i = 0; i < 4; i++) {
		if (sender->fds[i / 2][i % 2] >= 0)
			close(sender->fds[i / 2][i % 2]);
		sender->fds[i / 2][i % 2] = -1;
	}
}

/* RFC 768: with a pseudo header, and never 0, which would say that there is none. */
static uint16_t checksum_of(const struct tp_addr *from, const struct tp_addr *to,
	const struct tp_udp *udp, const void *data, size_t data_len)
{
	uint64_t sum = tp_sum_bytes(tp_addr_bytes(from), tp_addr_bytes_len(from)) +
		       tp_sum_bytes(tp_addr_bytes(to), tp_addr_bytes_len(to)) +
		       tp_sum_bytes((const void *)udp, sizeof(*udp)) +
		       tp_sum_bytes(data, data_len) + tp_to_be16(IPPROTO_UDP).be + udp->len.be;
	uint16_t checksum = (uint16_t)~tp_sum_fold_wide(sum);

	return checksum ? checksum : 0xffff;
}

void sender_queue(const struct sender *sender, struct tp_udp_tx *tx, const struct tp_addr *from,
	const struct tp_addr *to, const void *data, size_t data_len, struct tp_udp_marks marks)
{
	struct tp_udp udp = {
		.source = tp_to_be16(from->port),
		.destination = tp_to_be16(to->port),
		/* What is too long for it the kernel refuses. */
		.len = tp_to_be16((uint16_t)(sizeof(udp) + data_len)),
	};
	struct tp_addr host = tp_addr_with_port(to, 0);
	bool ipv6 = from->family == TP_IPV6;

	if (!ipv6)
		udp.checksum.be = checksum_of(from, to, &udp, data, data_len);
	/* A raw socket would take a port for a protocol. */
	tp_udp_queue_from(tx, sender->fds[ipv6][marks.dont_fragment], from, &host, &udp,
		sizeof(udp), data, data_len, marks);
}
