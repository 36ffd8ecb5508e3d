/*
 * SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
 *
 * Programs of waycost: a generator that runs as live frames (BPF_PROG_TEST_RUN), a bounce to
 * compare with, and a sink that counts what comes back.
 */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "ways.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* The frame's beginning; frames are recycled with what the last receiver made of it. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct ways_head);
} head SEC(".maps");

__u64 received;

SEC("xdp")
int replay(struct xdp_md *ctx)
{
	__u64 *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	struct ways_head *from;
	__u32 zero = 0;

	from = bpf_map_lookup_elem(&head, &zero);
	if (!from || (void *)data + sizeof(*from) > end)
		return XDP_DROP;
	for (int i = 0; i < WAYS_HEAD / 8; i++)
		data[i] = from->words[i];
	return XDP_TX;
}

SEC("xdp")
int bounce(struct xdp_md *ctx)
{
	__u16 *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;

	if ((void *)data + 12 > end)
		return XDP_DROP;
	for (int i = 0; i < 3; i++) {
		__u16 swap = data[i];

		data[i] = data[i + 3];
		data[i + 3] = swap;
	}
	return XDP_TX;
}

SEC("xdp")
int sink(struct xdp_md *ctx)
{
	__sync_fetch_and_add(&received, 1);
	return XDP_DROP;
}
