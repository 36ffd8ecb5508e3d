/*
 * SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
 *
 * Takes an end's datagrams to its AF_XDP sockets, one for each receive queue. Everything else, such
 * as what asks for our MAC address, is the kernel's. What comes from lo, where it is not attached,
 * are live frames: they become what the end wants to send. One program for both, since one that is
 * attached runs on live frames without waiting for a grace period first (live.h).
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
#define LOOPBACK 1

char LICENSE[] SEC("license") = "Dual BSD/GPL";

const volatile struct pick wanted;

struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, __u32);
} sockets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, PICK_FRAMES);
	__type(key, __u32);
	__type(value, struct pick_frame);
} frames SEC(".maps");

/* Not by its number, which another network namespace may ask for. */
struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} way_out SEC(".maps");

__u32 turn; /* the frame to be sent next; a run begins with 0 */

/* The checksum learns of what changed (RFC 1624, eqn. 3). */
static __always_inline void put_time(struct pick_frame *f)
{
	__u64 now_ns = bpf_ktime_get_ns(), old_ns;
	__u32 sum;
	__u16 check;

	if (f->time_at > PICK_FRAME_MAX - sizeof(now_ns) ||
		f->check_at > PICK_FRAME_MAX - sizeof(check))
		return;
	__builtin_memcpy(&old_ns, f->bytes + f->time_at, sizeof(old_ns));
	__builtin_memcpy(f->bytes + f->time_at, &now_ns, sizeof(now_ns));
	__builtin_memcpy(&check, f->bytes + f->check_at, sizeof(check));
	sum = (__u16)~check;
	for (int i = 0; i < 64; i += 16)
		sum += (__u16)(now_ns >> i) + (__u16) ~(old_ns >> i);
	sum = (sum & 0xffff) + (sum >> 16);
	check = (__u16) ~((sum & 0xffff) + (sum >> 16));
	if (!check) /* which would say that there is none (RFC 768) */
		check = 0xffff;
	__builtin_memcpy(f->bytes + f->check_at, &check, sizeof(check));
}

/* All of the frame is written: a recycled one is as its last receiver left it. */
static __always_inline int send_next(struct xdp_md *ctx)
{
	__u32 index = turn++, len;
	struct pick_frame *f = bpf_map_lookup_elem(&frames, &index);

	if (!f)
		return XDP_DROP;
	len = f->len;
	if (len < sizeof(struct ethhdr) || len > PICK_FRAME_MAX)
		return XDP_DROP;
	if (f->time_at)
		put_time(f);
	if (bpf_xdp_adjust_tail(ctx, (int)len - (int)bpf_xdp_get_buff_len(ctx)) ||
		bpf_xdp_store_bytes(ctx, 0, f->bytes, len))
		return XDP_DROP;
	return bpf_redirect_map(&way_out, 0, XDP_DROP);
}

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

	if (ctx->ingress_ifindex == LOOPBACK)
		return send_next(ctx);
	if (data + sizeof(*ethernet) > end)
		return XDP_PASS;
	if (!wanted.is_ip6 && ethernet->h_proto == bpf_htons(ETH_P_IP))
		yes = is_wanted4(data + sizeof(*ethernet), end);
	else if (wanted.is_ip6 && ethernet->h_proto == bpf_htons(ETH_P_IPV6))
		yes = is_wanted6(data + sizeof(*ethernet), end);
	return yes ? bpf_redirect_map(&sockets, ctx->rx_queue_index, XDP_PASS) : XDP_PASS;
}
