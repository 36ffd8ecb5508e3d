/*
 * SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
 *
 * A frame in a driver's buffer and the headers in it, as the core sees them. The buffer is the
 * host's (the BPF program, a polling worker, a test); the core only reads and rewrites it.
 */
#pragma once

#include "wire.h"

struct tp_packet {
	uint8_t *data;    /* first byte of the Ethernet header, at an even address */
	uint8_t *end;     /* one past the last byte */
	uint32_t ingress; /* ifindex */

	/* TOO_BIG, NO_NEXT_HOP: all the same, and counted as relayed, if the host outputs (host.h).
	 * It is an IP packet without a link layer then, for the kernel to send. */
	bool is_rewritten;

	/* Of the buffer around it, where the host's buffers are plain memory (host_native.h). */
	uint8_t *room;     /* first byte: how far the head may move to the front */
	uint8_t *room_end; /* one past the last byte: likewise for the tail */

	/* Where a relayed packet goes: of its next hop. */
	uint32_t egress;    /* ifindex */
	uint32_t interface; /* place in the engine's list of interfaces */
};

/* As many as a polling worker takes at a time (burst.h). */
#define TP_BURST 64

#define TP_ETHERTYPE_IPV4  0x0800
#define TP_ETHERTYPE_IPV6  0x86dd
#define TP_ETHERTYPE_VLAN  0x8100
#define TP_ETHERTYPE_QINQ  0x88a8
#define TP_ETHERNET_LEN    14
#define TP_VLAN_LEN        4
#define TP_IPV4_LEN        20
#define TP_IPV6_LEN        40
#define TP_UDP_LEN         8
#define TP_CHANNELDATA_LEN 4
#define TP_PADDING_MAX     3 /* to the next multiple of 4 (RFC 8656, 12.5) */
#define TP_PROTOCOL_UDP    17

struct tp_ethernet {
	uint8_t destination[6];
	uint8_t source[6];
	tp_be16 type;
};

struct tp_vlan {
	tp_be16 tag;
	tp_be16 type;
};

struct tp_ipv4 {
	uint8_t version_ihl;
	uint8_t tos;
	tp_be16 len;
	tp_be16 id;
	tp_be16 fragment; /* reserved, DF, MF, offset */
	uint8_t ttl;
	uint8_t protocol;
	tp_be16 checksum;
	tp_be32 source;
	tp_be32 destination;
};

struct tp_ipv6 {
	tp_be32 class_label; /* version, traffic class, flow label */
	tp_be16 payload_len;
	uint8_t next_header;
	uint8_t hop_limit;
	uint8_t source[16];
	uint8_t destination[16];
};

struct tp_udp {
	tp_be16 source;
	tp_be16 destination;
	tp_be16 len;
	tp_be16 checksum;
};

struct tp_channeldata {
	tp_be16 channel;
	tp_be16 len;
};

_Static_assert(sizeof(struct tp_ethernet) == TP_ETHERNET_LEN, "wire layout");
_Static_assert(sizeof(struct tp_ipv4) == TP_IPV4_LEN, "wire layout");
_Static_assert(sizeof(struct tp_ipv6) == TP_IPV6_LEN, "wire layout");
_Static_assert(sizeof(struct tp_udp) == TP_UDP_LEN, "wire layout");
_Static_assert(sizeof(struct tp_channeldata) == TP_CHANNELDATA_LEN, "wire layout");

/*
 * Locals that are always set before they are read, where clearing them first would cost: more than
 * a few words the compiler clears by an instruction that takes processors dozens of cycles.
 */
#define TP_UNSET __attribute__((uninitialized))

/* Hides a value from the compiler, which would rewrite what the BPF verifier has to follow. */
#ifdef __bpf__
#define TP_KEEP(value) __asm__ volatile("" : "+r"(value))
#else
#define TP_KEEP(value)
#endif

/*
 * Hides a number below 65536 from the verifier, which follows parts of a word through the stack
 * only where one begins: what comes behind a loop, or behind several ways to one place, is then
 * looked at once, and not for each number that may come out of them.
 */
#ifdef __bpf__
#define TP_FORGET(number)                                                                          \
	({                                                                                         \
		volatile uint16_t word_[4] __attribute__((aligned(8)));                            \
		word_[1] = (uint16_t)(number);                                                     \
		(uint32_t) word_[1];                                                               \
	})
#else
#define TP_FORGET(number) (number)
#endif

/*
 * Wide loads and stores at any address, bytes in the order of the wire. Copying is how C says
 * "unaligned", but clang turns such a copy into single bytes for BPF, where every machine that
 * runs XDP takes the wide access.
 */
#ifdef __bpf__
typedef uint32_t __attribute__((may_alias)) tp_any32;
typedef uint64_t __attribute__((may_alias)) tp_any64;

static TP_INLINE uint32_t tp_get32(const void *from)
{
	return *(const tp_any32 *)from;
}

static TP_INLINE uint64_t tp_get64(const void *from)
{
	return *(const tp_any64 *)from;
}

static TP_INLINE void tp_put32(void *to, uint32_t word)
{
	*(tp_any32 *)to = word;
}

static TP_INLINE void tp_put64(void *to, uint64_t word)
{
	*(tp_any64 *)to = word;
}
#else
static TP_INLINE uint32_t tp_get32(const void *from)
{
	uint32_t word;

	__builtin_memcpy(&word, from, sizeof(word));
	return word;
}

static TP_INLINE uint64_t tp_get64(const void *from)
{
	uint64_t word;

	__builtin_memcpy(&word, from, sizeof(word));
	return word;
}

static TP_INLINE void tp_put32(void *to, uint32_t word)
{
	__builtin_memcpy(to, &word, sizeof(word));
}

static TP_INLINE void tp_put64(void *to, uint64_t word)
{
	__builtin_memcpy(to, &word, sizeof(word));
}
#endif

/* The tables carry IPv4 v4-mapped; as two little-endian words that is 0 and address << 32 | this.
 */
#define TP_V4_MAPPED UINT32_C(0xffff0000)

static TP_INLINE bool tp_is_v4(const uint64_t ip[2])
{
	return (uint32_t)ip[1] == TP_V4_MAPPED && ip[0] == 0;
}

static TP_INLINE uint64_t tp_map_v4(uint32_t wire)
{
	return (uint64_t)wire << 32 | TP_V4_MAPPED;
}
