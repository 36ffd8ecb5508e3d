/*
 * SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
 *
 * A packet on its way through the general path (general.h), in numbers: what was found in it and
 * what it becomes. Whose memory it is, is the host's choice. What lies on the stack of a function
 * that takes it from end to end, the compiler keeps in registers, and most of it not at all; what
 * is handed from function to function (tp_host_way()) the BPF verifier takes for unknown, which
 * keeps its work small.
 */
#pragma once

#include "flow.h"
#include "lookup.h"
#include "marks.h"
#include "rewrite.h"
#include "stun.h"
#include "verdict.h"

/* No verdict yet: somebody else has to look. */
#define TP_UNDECIDED TP_VERDICT_COUNT

/* What a packet of the common shape (common.h) says of its flow. */
struct tp_asked {
	struct tp_flow_key key;
	uint16_t data_len;
	bool channel_in; /* from a client: else from a peer */
};

struct tp_way {
	uint32_t slot;   /* of the packet's flow, where there is one */
	uint8_t verdict; /* enum tp_verdict: there is no flow, and why; else TP_RELAYED */

	/* As it came. */
	bool v4;
	uint16_t link_len;
	uint32_t ports; /* of UDP, as they lie in memory: source, destination */
	uint32_t tail;  /* bytes of the frame behind the IP packet */
	/* Wide: of the UDP checksum and all that it covers but the data. 0: there is no checksum.
	 */
	uint64_t old_sum;
	uint32_t data_sum; /* of those, where there is no checksum and has to be one */
	struct tp_marks marks;

	/* The data in it. */
	struct tp_send send; /* where it was looked for in a Send */
	uint16_t payload_at; /* of UDP, in the frame */
	uint16_t payload_len;
	uint16_t data_at; /* in the payload */
	uint16_t data_len;
	bool has_fingerprint; /* the payload's last 8 bytes */
	bool is_send;         /* or ChannelData */
	bool dont_fragment;   /* the attribute is there */

	/* Where it goes. */
	bool is_hairpin;
	struct tp_endpoint peer; /* what goes up is for it, what goes down is from it */
	bool to_v4;
	uint32_t ports_out;
	uint32_t label; /* tp_flow.label, or id_mix */
	uint16_t next_hop;
	uint16_t new_udp_len;
	struct tp_link link;
	int32_t head_growth; /* of what stands before the data inside UDP */
	int32_t tail_growth; /* and of all that is behind it in the frame */

	uint8_t output; /* enum tp_verdict: why it is for the kernel's IP output; or TP_RELAYED */
};

/* Whose packet it is, whose limits hold; what goes round by way of a relay of ours has both. */
struct tp_sides {
	struct tp_found up;          /* CHANNEL or CLIENT: from its client to a peer */
	struct tp_found down;        /* PEER or PERMISSION: from a peer to its client */
	const struct tp_local *from; /* the address it leaves by */
};

/* The parser's findings, and of the rest what not every packet sets. */
static TP_INLINE void tp_set_way(struct tp_way *way, uint32_t link_len, uint32_t tail)
{
	way->link_len = (uint16_t)link_len;
	way->tail = tail;
	way->data_at = 0;
	way->has_fingerprint = false;
	way->dont_fragment = false;
}

static TP_INLINE uint32_t tp_ip_len(bool v4)
{
	return v4 ? TP_IPV4_LEN : TP_IPV6_LEN;
}

/* What will stand before the data inside UDP, and behind it. */
static TP_INLINE void tp_wrap(struct tp_way *way, uint32_t head_len, uint32_t padding_len)
{
	uint32_t behind = way->tail + way->payload_len - way->data_at - way->data_len;

	way->new_udp_len = (uint16_t)(TP_UDP_LEN + head_len + way->data_len + padding_len);
	way->head_growth = (int32_t)(head_len - way->data_at);
	way->tail_growth = (int32_t)(padding_len - behind);
}
