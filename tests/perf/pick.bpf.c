/*
 * SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
 *
 * Takes an end's datagrams to its AF_XDP sockets, one for each receive queue. Everything else, such
 * as what asks for our MAC address, is the kernel's.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "pick.h"

#define FRAGMENT 0x3fff /* MF and the offset */

char LICENSE[] SEC("license") = "Dual BSD/GPL";

const volatile struct pick wanted;

struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, __u32);
} sockets SEC(".maps");

static __always_inline __u32 word(const void *bytes)
{
	__u32 value;

	__builtin_memcpy(&value, bytes, sizeof(value));
	return bpf_ntohl(value);
}

static __always_inline int is_within(__u32 last)
{
	return last - wanted.ip[3] < wanted.addresses;
}

static __always_inline int is_port(const struct udphdr *udp)
{
	return (wanted.by_source ? udp->source : udp->dest) == wanted.port;
}

static __always_inline int is_wanted4(void *at, void *end)
{
	struct iphdr *ip = at;
	struct udphdr *udp = at + sizeof(*ip);

	if (at + sizeof(*ip) + sizeof(*udp) > end || ip->ihl != 5 || ip->protocol != IPPROTO_UDP ||
		(ip->frag_off & bpf_htons(FRAGMENT)))
		return 0;
	return is_port(udp) && is_within(bpf_ntohl(wanted.by_source ? ip->saddr : ip->daddr));
}

static __always_inline int is_wanted6(void *at, void *end)
{
	struct ipv6hdr *ip = at;
	struct udphdr *udp = at + sizeof(*ip);
	const __u8 *bytes;

	if (at + sizeof(*ip) + sizeof(*udp) > end || ip->nexthdr != IPPROTO_UDP)
		return 0;
	bytes = (const __u8 *)(wanted.by_source ? &ip->saddr : &ip->daddr);
	for (int i = 0; i < 3; i++) {
		if (word(bytes + 4 * i) != wanted.ip[i])
			return 0;
	}
	return is_port(udp) && is_within(word(bytes + 12));
}

SEC("xdp")
int turnpike_pick(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *ethernet = data;
	int yes = 0;

	if (data + sizeof(*ethernet) > end)
		return XDP_PASS;
	if (!wanted.is_ip6 && ethernet->h_proto == bpf_htons(ETH_P_IP))
		yes = is_wanted4(data + sizeof(*ethernet), end);
	else if (wanted.is_ip6 && ethernet->h_proto == bpf_htons(ETH_P_IPV6))
		yes = is_wanted6(data + sizeof(*ethernet), end);
	return yes ? bpf_redirect_map(&sockets, ctx->rx_queue_index, XDP_PASS) : XDP_PASS;
}
