/*
 * Ways through the kernel's stack, for what rarely goes there: packets that turned out to be the
 * control plane's, rewritten ones that have no other way out, and frames out of an interface where
 * the worker has no queue. One call a burst.
 * Each worker has its own sockets; opened as root, used without privileges.
 */
#include "afxdp.h"

#include "dataplane/core/checksum.h"
#include "dataplane/worker/messages.h"
#include "dataplane/worker/output.h"

#include <errno.h>
#include <linux/if_packet.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* In <linux/in6.h>, which does not go together with <netinet/in.h>. */
#ifndef IPV6_HDRINCL
#define IPV6_HDRINCL 36
#endif

struct afxdp_messages {
	struct tp_messages raw4, raw6;
	struct tp_messages packet[TP_INTERFACES_MAX];
};

int afxdp_kernel_open(struct afxdp_kernel *k, const struct afxdp_locals *locals)
{
	const int on = 1;
	int err;

	k->locals = locals;
	k->messages = calloc(1, sizeof(*k->messages));
	if (!k->messages)
		return -ENOMEM;
	err = tp_output_open(&k->output);
	if (err)
		return err;
	k->raw4 = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);
	if (k->raw4 < 0)
		return -errno;
	k->raw6 = socket(AF_INET6, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);
	if (k->raw6 < 0)
		return errno == EAFNOSUPPORT ? 0 : -errno;
	if (setsockopt(k->raw6, IPPROTO_IPV6, IPV6_HDRINCL, &on, sizeof(on)) != 0)
		return -errno;
	return 0;
}

int afxdp_kernel_open_packet(struct afxdp_kernel *k, uint32_t interface, uint32_t ifindex)
{
	const struct sockaddr_ll at = {.sll_family = AF_PACKET, .sll_ifindex = (int)ifindex};
	const int on = 1;
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0); /* 0: receives nothing */

	if (fd < 0)
		return -errno;
	if (bind(fd, (const void *)&at, sizeof(at)) != 0) {
		int err = -errno;

		close(fd);
		return err;
	}
	setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &on, sizeof(on));
	k->packet[interface] = fd;
	return 0;
}

void afxdp_kernel_close(struct afxdp_kernel *k)
{
	if (k->raw4 >= 0)
		close(k->raw4);
	if (k->raw6 >= 0)
		close(k->raw6);
	for (size_t i = 0; i < TP_INTERFACES_MAX; i++) {
		if (k->packet[i] >= 0)
			close(k->packet[i]);
	}
	free(k->messages);
	tp_output_close(k->output);
}

/*
 * A socket that includes the header sends it with a new checksum, so a wrong one has to end here,
 * as it would have in the kernel.
 */
static bool is_intact(const uint8_t *l3)
{
	uint32_t sum = 0;

	for (int i = 0; i < TP_IPV4_LEN; i += 4)
		sum += tp_sum_words(tp_get32(l3 + i));
	return tp_sum_fold(sum) == 0xffff;
}

/* Behind what came lies what came before it. */
static bool add_message(struct tp_messages *messages, uint8_t *l3, size_t len,
	const struct tp_packet *pkt, struct msghdr **out)
{
	if (len > (size_t)(pkt->end - l3))
		return false;
	*out = tp_messages_add(messages, l3, len);
	return true;
}

static bool add4(struct afxdp_kernel *k, uint8_t *l3, const struct tp_packet *pkt)
{
	const struct tp_ipv4 *ip = (const void *)l3;
	const uint64_t destination[2] = {0, tp_map_v4(tp_get32(&ip->destination))};
	struct msghdr *message;

	if (!is_intact(l3) || !afxdp_locals_have(k->locals, destination))
		return false;
	if (!add_message(&k->messages->raw4, l3, tp_from_be16(ip->len), pkt, &message))
		return false;
	tp_message_to_v4(message, tp_get32(&ip->destination));
	return true;
}

static bool add6(struct afxdp_kernel *k, uint8_t *l3, const struct tp_packet *pkt)
{
	const struct tp_ipv6 *ip = (const void *)l3;
	const uint64_t destination[2] = {tp_get64(ip->destination), tp_get64(ip->destination + 8)};
	struct msghdr *message;

	if (!afxdp_locals_have(k->locals, destination))
		return false;
	if (!add_message(&k->messages->raw6, l3,
		    (size_t)TP_IPV6_LEN + tp_from_be16(ip->payload_len), pkt, &message))
		return false;
	tp_message_to_v6(message, ip->destination);
	return true;
}

/*
 * Steering and core have seen that the headers are there. The core has looked at the lengths as
 * well, unless the port has ceased to be ours since, or all is switched off. False: nothing that
 * the kernel would take; its end, as it would be there.
 */
static bool add_ip(struct afxdp_kernel *k, const struct tp_packet *pkt)
{
	const struct tp_ethernet *ethernet = (const void *)pkt->data;
	const struct tp_vlan *vlan = (const void *)(pkt->data + TP_ETHERNET_LEN);
	uint8_t *l3 = pkt->data + TP_ETHERNET_LEN;
	tp_be16 type = ethernet->type;

	if (tp_be16_equal(type, tp_to_be16(TP_ETHERTYPE_VLAN)) ||
		tp_be16_equal(type, tp_to_be16(TP_ETHERTYPE_QINQ))) {
		type = vlan->type;
		l3 += TP_VLAN_LEN;
	}
	if (tp_be16_equal(type, tp_to_be16(TP_ETHERTYPE_IPV4)))
		return add4(k, l3, pkt);
	return tp_be16_equal(type, tp_to_be16(TP_ETHERTYPE_IPV6)) && add6(k, l3, pkt);
}

uint32_t afxdp_kernel_pass(struct afxdp_kernel *k, const struct tp_packet *pkts, uint32_t count)
{
	uint32_t taken = 0;

	for (uint32_t i = 0; i < count; i++)
		taken += !add_ip(k, &pkts[i]);
	return taken + tp_messages_send(&k->messages->raw4, k->raw4) +
	       tp_messages_send(&k->messages->raw6, k->raw6);
}

void afxdp_kernel_send(struct afxdp_kernel *k, uint32_t interface, const struct tp_packet *pkt)
{
	if (k->packet[interface] >= 0)
		tp_messages_add(
			&k->messages->packet[interface], pkt->data, (size_t)(pkt->end - pkt->data));
}

uint32_t afxdp_kernel_flush(struct afxdp_kernel *k, uint32_t interface)
{
	return tp_messages_send(&k->messages->packet[interface], k->packet[interface]);
}

uint32_t afxdp_kernel_output(struct afxdp_kernel *k, const struct tp_packet *pkts, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		tp_output_add(k->output, pkts[i].data, pkts[i].end);
	return tp_output_send(k->output);
}
