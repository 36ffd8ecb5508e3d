/*
 * SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
 *
 * Packets to relayed transport addresses, from all the ports that are ours to a few sockets. Runs
 * in the network namespace for every UDP packet without a connected socket, behind whatever XDP
 * does; what is not ours goes the way it would go without this program. And filters for the sockets
 * that receive ICMP errors.
 */
#include "relays.h"

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "dataplane/core/packet.h"

#define FAMILY_IPV4 2 /* AF_INET */
#define ICMP_LEN    8 /* of both versions; behind it is the quoted packet */

const volatile struct relays_address addresses[RELAYS_ADDRESSES_MAX];
const volatile uint32_t addresses_count;
const volatile uint32_t port_min, port_max;

/* The loader says how many entries there are. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, uint32_t);
	__type(value, struct relays_ports);
} ports SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SOCKMAP);
	__uint(max_entries, 1);
	__type(key, uint32_t);
	__type(value, uint64_t);
} sockets SEC(".maps");

/* One after the other: the verifier refuses the addresses that the compiler would reckon. */
static TP_INLINE struct relays_address address_of(const struct bpf_sk_lookup *ctx)
{
	uint32_t v4 = ctx->local_ip4, word0, word1, word2, word3;

	TP_KEEP(v4);
	if (ctx->family == FAMILY_IPV4)
		return (struct relays_address){{0, tp_map_v4(v4)}};
	word0 = ctx->local_ip6[0];
	TP_KEEP(word0);
	word1 = ctx->local_ip6[1];
	TP_KEEP(word1);
	word2 = ctx->local_ip6[2];
	TP_KEEP(word2);
	word3 = ctx->local_ip6[3];
	TP_KEEP(word3);
	return (struct relays_address){
		{word0 | (uint64_t)word1 << 32, word2 | (uint64_t)word3 << 32}};
}

/* RELAYS_ADDRESSES_MAX: none of ours. */
static TP_INLINE uint32_t find_address(const struct relays_address *address)
{
	uint32_t i;

	for (i = 0; i < RELAYS_ADDRESSES_MAX && i < addresses_count; i++) {
		if (addresses[i].ip[0] == address->ip[0] && addresses[i].ip[1] == address->ip[1])
			return i;
	}
	return RELAYS_ADDRESSES_MAX;
}

static TP_INLINE bool is_ours(uint32_t address, uint32_t port)
{
	const struct relays_ports *of_address = bpf_map_lookup_elem(&ports, &address);

	if (!of_address)
		return false;
	return of_address->words[port / 64 % (65536 / 64)] >> (port % 64) & 1;
}

static TP_INLINE void assign(struct bpf_sk_lookup *ctx, uint32_t place)
{
	struct bpf_sock *socket = bpf_map_lookup_elem(&sockets, &place);

	if (!socket)
		return;
	bpf_sk_assign(ctx, socket, BPF_SK_LOOKUP_F_NO_REUSEPORT);
	bpf_sk_release(socket);
}

SEC("sk_lookup")
int turnpike_relays(struct bpf_sk_lookup *ctx)
{
	uint32_t port = ctx->local_port, i;
	struct relays_address address;

	if (ctx->protocol != TP_PROTOCOL_UDP || port < port_min || port > port_max)
		return SK_PASS;
	address = address_of(ctx);
	i = find_address(&address);
	if (i < RELAYS_ADDRESSES_MAX && is_ours(i, port))
		assign(ctx, RELAYS_SOCKET(i, port));
	return SK_PASS;
}

/*
 * What the raw sockets for ICMP errors get: quotes of UDP packets from ports that are ours. Whoever
 * reads them looks closer; extension headers are left to it.
 */
static TP_INLINE int is_quoted(struct __sk_buff *skb, struct relays_address source, uint32_t udp)
{
	uint32_t i = find_address(&source);
	tp_be16 port;

	if (i == RELAYS_ADDRESSES_MAX || bpf_skb_load_bytes(skb, udp, &port, sizeof(port)) != 0)
		return 0;
	return is_ours(i, tp_from_be16(port)) ? -1 : 0;
}

/* Begins at the IP header. */
SEC("socket")
int turnpike_errors_v4(struct __sk_buff *skb)
{
	struct tp_ipv4 ip;
	uint8_t outer;
	uint32_t at;

	if (bpf_skb_load_bytes(skb, 0, &outer, sizeof(outer)) != 0)
		return 0;
	at = (outer & 15) * 4 + ICMP_LEN;
	if (bpf_skb_load_bytes(skb, at, &ip, sizeof(ip)) != 0 || ip.protocol != TP_PROTOCOL_UDP)
		return 0;
	return is_quoted(skb, (struct relays_address){{0, tp_map_v4(ip.source.be)}},
		at + (ip.version_ihl & 15) * 4);
}

/* Begins at the ICMPv6 header. */
SEC("socket")
int turnpike_errors_v6(struct __sk_buff *skb)
{
	struct relays_address source;
	struct tp_ipv6 ip;

	if (bpf_skb_load_bytes(skb, ICMP_LEN, &ip, sizeof(ip)) != 0)
		return 0;
	__builtin_memcpy(&source, ip.source, sizeof(source));
	if (ip.next_header == TP_PROTOCOL_UDP)
		return is_quoted(skb, source, ICMP_LEN + sizeof(ip));
	return find_address(&source) < RELAYS_ADDRESSES_MAX ? -1 : 0;
}

char dual_license[] SEC("license") = "Dual BSD/GPL";
