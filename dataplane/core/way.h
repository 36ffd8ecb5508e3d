/*
 * SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
 *
 * A packet on its way through the general path (general.h), in numbers: what was found in it and
 * what it becomes. The memory is the host's (tp_host_way()); the BPF host hands it from function to
 * function, and the verifier takes what lies there for unknown, which keeps its work small.
 */
#pragma once

#include "flow.h"
#include "marks.h"
#include "stun.h"

/* What stands before the data as it leaves, link layer aside, in the order of the wire. */
struct tp_front {
	uint64_t ip[2]; /* up to the addresses (IPv6), up to the destination (IPv4) */
	uint64_t udp;
	uint32_t channeldata; /* 0 = none */
	struct tp_data_head data_head;
};

/* What a packet of the common shape (common.h) says of its flow. */
struct tp_asked {
	struct tp_flow_key key;
	uint16_t data_len;
	bool channel_in; /* from a client: else from a peer */
};

struct tp_way {
	struct tp_asked asked;
	bool is_asked;   /* the packet has the common shape */
	uint32_t slot;   /* of the packet's flow, where there is one */
	uint8_t verdict; /* enum tp_verdict: there is no flow, and why; else TP_RELAYED */

	/* As it came. */
	bool v4;
	uint16_t link_len;
	uint16_t udp_len;
	uint16_t checksum;
	uint32_t ports;       /* of UDP, as they lie in memory: source, destination */
	uint32_t tail;        /* bytes of the frame behind the IP packet */
	uint64_t address_sum; /* of IP, wide */
	struct tp_marks marks;

	/* The data in it. */
	struct tp_send send; /* where it was looked for in a Send */
	uint16_t payload_at; /* of UDP, in the frame */
	uint16_t payload_len;
	uint16_t data_at; /* in the payload */
	uint16_t data_len;
	uint16_t around_sum;     /* of what is payload, but not data */
	uint16_t fingerprint_at; /* in the payload; 0 = none */
	bool is_send;
	bool dont_fragment; /* the attribute is there */

	/* Where it goes. */
	bool is_hairpin;
	uint32_t slots[TP_DIRECTIONS]; /* of tp_sides.up and .down, where there are such */
	struct tp_endpoint peer;       /* what goes up is for it, what goes down is from it */
	uint64_t to[2];
	bool to_v4;
	uint32_t ports_out;
	uint32_t label; /* tp_flow.label, or id_mix */
	uint16_t next_hop;
	uint16_t channel;     /* as it lies in memory; 0 = none */
	uint16_t head_len;    /* what stands before the data inside UDP */
	uint16_t padding_len; /* and behind it */
	struct tp_front front;

	uint8_t output; /* enum tp_verdict: why it is for the kernel's IP output; or TP_RELAYED */

	/* TP_RELAYED: of struct tp_packet. */
	uint32_t egress;
	uint32_t interface;
};

/* Whose packet it is, whose limits hold; what goes round by way of a relay of ours has both. */
struct tp_sides {
	struct tp_flow *up;          /* CHANNEL or CLIENT: from its client to a peer */
	struct tp_flow *down;        /* PEER or PERMISSION: from a peer to its client */
	const struct tp_local *from; /* the address it leaves by */
};

/* The parser's findings, and of the rest what not every packet sets. */
static TP_INLINE void tp_set_way(
	struct tp_way *way, uint32_t ports, uint32_t udp_len, uint32_t link_len, uint32_t tail)
{
	way->link_len = (uint16_t)link_len;
	way->udp_len = (uint16_t)udp_len;
	way->ports = ports;
	way->tail = tail;
	way->data_at = 0;
	way->around_sum = 0;
	way->fingerprint_at = 0;
	way->is_send = false;
	way->dont_fragment = false;
	way->is_hairpin = false;
	way->channel = 0;
	way->head_len = 0;
	way->padding_len = 0;
	way->front.channeldata = 0;
}

static TP_INLINE uint32_t tp_ip_len(bool v4)
{
	return v4 ? TP_IPV4_LEN : TP_IPV6_LEN;
}

static TP_INLINE uint32_t tp_way_udp_len(const struct tp_way *way)
{
	return TP_UDP_LEN + (uint32_t)way->head_len + way->data_len + way->padding_len;
}
