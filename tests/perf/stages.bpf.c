/*
 * SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
 *
 * Programs of stagecost: the XDP program, once for each of its stages, on the heads of frames that
 * the loader has made, one after the other.
 */
#include "bpf/turnpike.bpf.c"

#include "stages.h"

struct head {
	uint64_t words[8];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, uint32_t);
	__type(value, struct head);
} heads SEC(".maps");

uint32_t turn, last_head; /* the one after which the first comes again */

static TP_INLINE bool put_head(const struct tp_packet *pkt)
{
	uint32_t at = turn;
	const struct head *head = LOOK_UP(heads, at);
	uint64_t *to = (void *)pkt->data;

	turn = at == last_head ? 0 : at + 1;
	if (!head || pkt->data + sizeof(*head) > pkt->end)
		return false;
	for (int i = 0; i < 8; i++)
		to[i] = head->words[i];
	return true;
}

#define STAGE(name, last)                                                                          \
	SEC("xdp") int name(struct xdp_md *ctx)                                                    \
	{                                                                                          \
		struct tp_host host = {.ctx = ctx};                                                \
		struct tp_packet pkt = {.ingress = ctx->ingress_ifindex};                          \
                                                                                                   \
		take_frame(ctx, &pkt);                                                             \
		return put_head(&pkt) && stage_run(&host, &pkt, last) ? XDP_TX : XDP_DROP;         \
	}

STAGE(stage_frame, STAGE_FRAME)
STAGE(stage_parse, STAGE_PARSE)
STAGE(stage_hash, STAGE_HASH)
STAGE(stage_find, STAGE_FIND)
STAGE(stage_check, STAGE_CHECK)
STAGE(stage_make, STAGE_MAKE)
STAGE(stage_room, STAGE_ROOM)
STAGE(stage_write, STAGE_WRITE)
STAGE(stage_count, STAGE_COUNT)
