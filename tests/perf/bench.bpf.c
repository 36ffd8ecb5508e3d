/*
 * SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
 *
 * Programs of the measuring bench: a generator that runs as live frames (BPF_PROG_TEST_RUN), the
 * reference an XDP relay is compared with (bounce), and a sink that counts what came back, and how
 * long it was under way where frames carry the time they were sent.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/udp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "bench.h"
#include "histogram.h"

#define HEADERS (sizeof(struct ethhdr) + sizeof(struct iphdr) + sizeof(struct udphdr))

#define BURN_LOOKS 1000

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Set by the loader: the frame's constant parts and how many targets take turns. */
const volatile struct bench_frame frame;
const volatile __u32 targets_count = 1;
const volatile __u32 stamp_offset; /* of the time in what comes back; 0 = there is none */
const volatile __u32 burn_ns;      /* what a bounce costs on top, by which measures are measured */

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct bench_target);
} targets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, BENCH_COUNTERS);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, HISTOGRAM_SLOTS);
	__type(key, __u32);
	__type(value, __u64);
} latencies SEC(".maps");

/* The loader's frame, hidden from the compiler, which would fold the zeros it sees here. */
static __always_inline const struct bench_frame *the_frame(void)
{
	const struct bench_frame *f = (const void *)&frame;

	asm volatile("" : "+r"(f));
	return f;
}

static __always_inline __u64 count(__u32 index)
{
	__u64 *value = bpf_map_lookup_elem(&counters, &index);

	return value ? (*value)++ : 0;
}

/* Frames are recycled with what the last receiver made of them: every header byte is written. */
SEC("xdp")
int generate(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u64 turn = count(BENCH_SENT);
	__u32 index = (__u32)turn % targets_count;
	struct bench_target *target = bpf_map_lookup_elem(&targets, &index);
	const struct bench_frame *f = the_frame();
	struct ethhdr *eth = data;
	struct iphdr *ip = data + sizeof(*eth);
	struct udphdr *udp = data + sizeof(*eth) + sizeof(*ip);
	__be16 *channel = data + HEADERS;

	if (!target || data + HEADERS + 4 > end)
		return XDP_DROP;
	__builtin_memcpy(eth, &f->ethernet, sizeof(*eth));
	__builtin_memcpy(ip, &f->ip, sizeof(*ip));
	udp->source = target->source_port;
	udp->dest = target->destination_port;
	udp->len = f->udp_len;
	udp->check = target->checksum;
	if (f->is_send) {
		if (data + HEADERS + BENCH_SEND_LEN > end)
			return XDP_DROP;
		__builtin_memcpy(channel, f->send, BENCH_SEND_LEN);
		return XDP_TX;
	}
	channel[0] = target->channel;
	channel[1] = f->channel_len;
	return XDP_TX;
}

/* Longer than it takes to read the clock that often nobody can burn here. */
static __always_inline void burn(void)
{
	__u64 until = bpf_ktime_get_ns() + burn_ns;

	for (int i = 0; i < BURN_LOOKS && bpf_ktime_get_ns() < until; i++)
		;
}

/* What any XDP relay pays before it looks at a packet: in, MAC addresses swapped, out. */
SEC("xdp")
int bounce(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	__u8 mac[ETH_ALEN];

	if (data + sizeof(*eth) > end)
		return XDP_DROP;
	if (eth->h_proto != bpf_htons(ETH_P_IP))
		return XDP_PASS;
	if (burn_ns)
		burn();
	__builtin_memcpy(mac, eth->h_dest, ETH_ALEN);
	__builtin_memcpy(eth->h_dest, eth->h_source, ETH_ALEN);
	__builtin_memcpy(eth->h_source, mac, ETH_ALEN);
	return XDP_TX;
}

static __always_inline void count_latency(struct xdp_md *ctx)
{
	__u64 sent_ns, *value;
	__u32 index;

	if (bpf_xdp_load_bytes(ctx, stamp_offset, &sent_ns, sizeof(sent_ns)) != 0 || !sent_ns)
		return; /* what warmed the way up carries none */
	index = histogram_index(bpf_ktime_get_ns() - sent_ns);
	value = bpf_map_lookup_elem(&latencies, &index);
	if (value)
		(*value)++;
}

/* Counts and drops measured traffic: UDP to a peer's port, or what `bounce` sent back. */
SEC("xdp")
int sink(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip = data + sizeof(*eth);
	struct udphdr *udp = data + sizeof(*eth) + sizeof(*ip);

	if (data + HEADERS > end || eth->h_proto != bpf_htons(ETH_P_IP) || ip->protocol != 17)
		return XDP_PASS;
	if (udp->dest != the_frame()->sink_port &&
		(bpf_ntohs(udp->dest) < BENCH_PEER_PORT ||
			bpf_ntohs(udp->dest) >= BENCH_PEER_PORT + BENCH_PEER_PORTS))
		return XDP_PASS;
	count(BENCH_RECEIVED);
	if (stamp_offset)
		count_latency(ctx);
	return XDP_DROP;
}
