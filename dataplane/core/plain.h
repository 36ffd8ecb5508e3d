/*
 * SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
 *
 * What common.h does, for a polling worker: the same questions in the same order, with as little
 * work as a packet of a burst can do with. What packets of a burst nearly always share, their local
 * address and their next hop, is looked up once; after that a packet is compared with what such
 * packets look like, in a few words. Whatever is odd is left, untouched, to common.h and relay.h.
 * Include host_native.h before. `v4` is known where this is compiled.
 */
#pragma once

#include "relay.h"

/* UP: ChannelData from a client. DOWN: what a peer sent. */
enum tp_plain { TP_PLAIN_UP, TP_PLAIN_DOWN, TP_PLAIN_NOT };

/* What a packet says in its headers, as it lies in memory. */
struct tp_plain_words {
	uint64_t odd;       /* 0: whole, UDP, without options, the IP header says how long it is */
	uint64_t source[2]; /* IPv4: v4-mapped, like all addresses of a key */
	uint64_t to; /* IPv4: destination, ports; IPv6: the ports alone, where they are there */
	uint64_t destination[2]; /* IPv6 */
	uint64_t data;           /* UDP's length and checksum, channel, its length */
};

/* What UP or DOWN have in common that come to one address; and UP, to one port. */
struct tp_like {
	uint64_t to, destination[2];  /* as in tp_plain_words */
	uint64_t ident;               /* the address and a kind of flow, in a key's last word */
	const struct tp_ports *ports; /* of the address */
	uint64_t to_mask, data_mask;  /* which bits matter */
};

/*
 * What is constant in type, first bytes of IP and length, and in `data`, the other way round, for a
 * frame of no length; and which bits matter. In memory a constant costs an operand, in the code an
 * instruction.
 */
struct tp_plain_constants {
	uint64_t link, link_mask, data;
};

/* A next hop without a tag, on an interface of ours, and an address to leave from. */
struct tp_exit {
	uint8_t link[16];   /* addresses and type; two more bytes, so that it is one word */
	uint64_t source[2]; /* IPv4: v4-mapped */
	uint32_t index;     /* of the next hop; UINT32_MAX: there was none yet */
	int32_t room;       /* for UDP's payload */
	uint32_t egress;
	uint32_t interface;
	uint16_t from; /* the address and a plain flow's flags, as in tp_flow_value */
};

/* What the packets of a burst share that are of one family: looked up once, kept no longer. */
struct tp_alike {
	struct tp_plain_constants constants;
	struct tp_like likes[TP_PLAIN_NOT];
	struct tp_exit exit;
	uint64_t bytes[TP_DIRECTIONS]; /* relayed; added to the worker's counters at the end */
	uint32_t packets[TP_DIRECTIONS];
};

struct tp_shared {
	struct tp_alike families[2]; /* by tp_alike_of() */
	bool has_ipv6;
	struct tp_flow *full[TP_BURST]; /* whose counts are to be carried over */
	uint32_t full_count;
};

static TP_INLINE struct tp_alike *tp_alike_of(struct tp_shared *shared, bool v4)
{
	return &shared->families[v4 ? 0 : 1];
}

static const struct tp_ports tp_no_ports; /* nothing is open */

static TP_INLINE uint16_t tp_get16(const void *from)
{
	uint16_t word;

	__builtin_memcpy(&word, from, sizeof(word));
	return word;
}

static TP_INLINE void tp_put16(void *to, uint16_t word)
{
	__builtin_memcpy(to, &word, sizeof(word));
}

/* The n-th 16 bits of a word of the wire. */
static TP_INLINE uint64_t tp_field(int n, uint32_t value)
{
	return (uint64_t)tp_to_be16((uint16_t)value).be << 16 * n;
}

static TP_INLINE void tp_alike_open(struct tp_alike *alike, bool v4)
{
	const uint64_t udp = TP_ETHERNET_LEN + (v4 ? TP_IPV4_LEN : TP_IPV6_LEN);
	const uint64_t data = TP_COMMON_HEADERS(v4);
	const uint64_t address = v4 ? tp_field(0, 0xffff) | tp_field(1, 0xffff) : 0;

	/* IPv4 counts its header too, and has two more bytes behind its length here. */
	alike->constants = (struct tp_plain_constants){
		.link = v4 ? (UINT64_C(0x08004500) << 32) - (TP_ETHERNET_LEN << 16)
			   : (UINT64_C(0x86dd6000) << 32) - udp,
		.link_mask = v4 ? tp_field(0, 0xffff) | tp_field(1, 0xff00) | tp_field(2, 0xffff)
				: tp_field(0, 0xffff) | tp_field(1, 0xf000) | tp_field(3, 0xffff),
		.data = (UINT64_C(0x4000) << 16) - (udp << 48) - data,
	};
	/* There may be packets to such an address, but no record has such a key. */
	alike->likes[TP_PLAIN_UP] = (struct tp_like){.ident = UINT64_MAX,
		.ports = &tp_no_ports,
		.to_mask = address | tp_field(3, 0xffff),
		.data_mask = tp_field(0, 0xffff) | tp_field(2, 0xc000) | tp_field(3, 0xffff)};
	alike->likes[TP_PLAIN_DOWN] = (struct tp_like){.ident = UINT64_MAX,
		.ports = &tp_no_ports,
		.to_mask = address,
		.data_mask = tp_field(0, 0xffff)};
	alike->exit.index = UINT32_MAX;
	for (int i = 0; i < TP_DIRECTIONS; i++) {
		alike->bytes[i] = 0;
		alike->packets[i] = 0;
	}
}

static TP_OUT_OF_LINE void tp_shared_open(struct tp_shared *shared)
{
	tp_alike_open(tp_alike_of(shared, true), true);
	shared->has_ipv6 = false;
	shared->full_count = 0;
}

/* Before the first packet that is not IPv4. */
static TP_OUT_OF_LINE void tp_shared_open_ipv6(struct tp_shared *shared)
{
	tp_alike_open(tp_alike_of(shared, false), false);
	shared->has_ipv6 = true;
}

/* IPv6 has to have a checksum, and addresses that would not pass for IPv4 ones. */
static TP_INLINE void tp_plain_read_addresses(
	const uint8_t *ip, bool v4, struct tp_plain_words *out)
{
	if (v4) {
		out->source[0] = 0;
		out->source[1] = tp_map_v4(tp_get32(ip + 12));
		out->to = tp_get64(ip + 16);
		return;
	}
	out->source[0] = tp_get64(ip + 8);
	out->source[1] = tp_get64(ip + 16);
	out->destination[0] = tp_get64(ip + 24);
	out->destination[1] = tp_get64(ip + 32);
	out->to = (uint64_t)tp_get32(ip + TP_IPV6_LEN) << 32;
	out->odd |= (uint64_t)(tp_is_v4(out->source) | tp_is_v4(out->destination) |
			       (tp_get16(ip + TP_IPV6_LEN + 6) == 0));
}

/*
 * Reads the words, and takes from those with constants and lengths what these should be: there they
 * are 0 then. `len`, of the frame, is at least TP_COMMON_HEADERS(v4) and fits in 16 bits.
 */
static TP_INLINE void tp_plain_read(const struct tp_packet *pkt, uint64_t len, bool v4,
	const struct tp_plain_constants *constants, struct tp_plain_words *out)
{
	const uint8_t *ip = pkt->data + TP_ETHERNET_LEN;
	const uint8_t *udp = ip + (v4 ? TP_IPV4_LEN : TP_IPV6_LEN);
	uint64_t link = (v4 ? len << 16 : len) + constants->link;

	out->odd = (tp_get64(ip - 2) ^ __builtin_bswap64(link)) & constants->link_mask;
	if (v4) /* fragment, protocol */
		out->odd |= (tp_get32(ip + 6) ^ tp_to_be32(TP_PROTOCOL_UDP).be) &
			    tp_to_be32(0x3fff00ff).be;
	else
		out->odd |= ip[6] ^ TP_PROTOCOL_UDP;
	tp_plain_read_addresses(ip, v4, out);
	out->data = tp_get64(udp + 4) ^ __builtin_bswap64((len << 48) + len + constants->data);
}

/* The questions of tp_parse_common(), and whether it comes to that address. */
static TP_INLINE bool tp_plain_is_like(
	const struct tp_plain_words *in, bool v4, const struct tp_like *like)
{
	uint64_t differs = in->odd | ((in->to ^ like->to) & like->to_mask);

	if (!v4)
		differs |= (in->destination[0] ^ like->destination[0]) |
			   (in->destination[1] ^ like->destination[1]);
	differs |= in->data & like->data_mask;
	return differs == 0;
}

static TP_INLINE uint16_t tp_plain_port(uint64_t to)
{
	return __builtin_bswap16((uint16_t)(to >> 48));
}

/* None to that address and port came yet: what do those have in common? */
static TP_INLINE enum tp_plain tp_plain_meet(struct tp_host *host, const struct tp_config *config,
	const struct tp_plain_words *in, bool v4, struct tp_alike *alike)
{
	const uint64_t mapped[2] = {0, tp_map_v4((uint32_t)in->to)};
	struct tp_like *like;
	enum tp_plain plain;
	uint32_t local;
	uint8_t state;

	if (in->odd || !tp_find_local(host, config, v4 ? mapped : in->destination, &local))
		return TP_PLAIN_NOT;
	state = tp_port_state(tp_host_ports(host, local), tp_plain_port(in->to));
	if (state != TP_PORT_LISTENER && state != TP_PORT_RELAY)
		return TP_PLAIN_NOT;
	plain = state == TP_PORT_LISTENER ? TP_PLAIN_UP : TP_PLAIN_DOWN;
	like = &alike->likes[plain];
	like->to = in->to;
	like->destination[0] = v4 ? 0 : in->destination[0];
	like->destination[1] = v4 ? 0 : in->destination[1];
	like->ports = tp_host_ports(host, local);
	like->ident = (uint64_t)local << 48 |
		      (uint64_t)(plain == TP_PLAIN_UP ? TP_FLOW_CHANNEL : TP_FLOW_PEER) << 56;
	if (plain == TP_PLAIN_UP) /* which tp_plain_read() takes away */
		like->ident ^= tp_field(2, 0x4000);
	return tp_plain_is_like(in, v4, like) ? plain : TP_PLAIN_NOT;
}

static TP_OUT_OF_LINE enum tp_plain tp_plain_first(struct tp_host *host,
	const struct tp_config *config, const struct tp_packet *pkt, bool v4,
	struct tp_alike *alike)
{
	struct tp_plain_words in TP_UNSET;
	uint64_t len = (uint64_t)(pkt->end - pkt->data);

	if (v4)
		tp_plain_read(pkt, len, true, &alike->constants, &in);
	else
		tp_plain_read(pkt, len, false, &alike->constants, &in);
	return v4 ? tp_plain_meet(host, config, &in, true, alike)
		  : tp_plain_meet(host, config, &in, false, alike);
}

/* As tp_begin_common(). NOT: ask there. */
static TP_INLINE enum tp_plain tp_plain_begin(struct tp_host *host, const struct tp_packet *pkt,
	const struct tp_config *config, bool v4, struct tp_shared *shared,
	struct tp_plain_words *in)
{
	struct tp_alike *alike = tp_alike_of(shared, v4);
	const struct tp_like *down = &alike->likes[TP_PLAIN_DOWN];
	uint64_t len = (uint64_t)(pkt->end - pkt->data);

	if (TP_UNLIKELY(len < TP_COMMON_HEADERS(v4) || len > UINT16_MAX))
		return TP_PLAIN_NOT;
	tp_plain_read(pkt, len, v4, &alike->constants, in);
	if (TP_LIKELY(tp_plain_is_like(in, v4, &alike->likes[TP_PLAIN_UP])))
		return TP_PLAIN_UP;
	if (TP_LIKELY(tp_plain_is_like(in, v4, down) &&
		      tp_port_state(down->ports, tp_plain_port(in->to)) == TP_PORT_RELAY))
		return TP_PLAIN_DOWN;
	return in->odd ? TP_PLAIN_NOT : tp_plain_first(host, config, pkt, v4, alike);
}

/* Key of the flow of UP or DOWN. */
static TP_INLINE struct tp_flow_key tp_plain_key(
	const struct tp_plain_words *in, const struct tp_like *like, enum tp_plain plain)
{
	uint64_t channel = plain == TP_PLAIN_UP ? in->data & tp_field(2, 0xffff) : 0;

	return (struct tp_flow_key){
		.remote = {in->source[0], in->source[1]},
		.ident = (like->ident ^ channel) | in->to >> 32,
	};
}

/* Whichever port a packet of the burst came by: the interface is where it is said to be. */
static TP_OUT_OF_LINE bool tp_plain_leave(
	struct tp_host *host, const struct tp_flow *flow, bool v4, struct tp_exit *exit)
{
	uint32_t index = TP_READ_ONCE(flow->next_hop);
	const struct tp_local *local = tp_host_local(host, flow->value.local);
	struct tp_next_hop hop TP_UNSET;
	struct tp_link link;

	exit->index = UINT32_MAX;
	if (flow->value.flags != TP_FLOW_PLAIN || !local || !tp_read_next_hop(host, index, &hop) ||
		hop.vlan.be || !tp_host_is_interface(host, &hop))
		return false;
	link = tp_link_of(&hop);
	__builtin_memset(exit->link, 0, sizeof(exit->link));
	tp_write_link(exit->link, &link, v4 ? TP_ETHERTYPE_IPV4 : TP_ETHERTYPE_IPV6);
	exit->source[0] = local->ip[0];
	exit->source[1] = local->ip[1];
	exit->from = tp_get16(&flow->value.local);
	exit->room = hop.mtu - (v4 ? TP_IPV4_LEN : TP_IPV6_LEN) - TP_UDP_LEN;
	exit->egress = hop.ifindex;
	exit->interface = hop.interface;
	exit->index = index;
	return true;
}

/* Packets of the flow may leave, by the exit of their family. */
static TP_INLINE bool tp_plain_is_granted(
	struct tp_host *host, const struct tp_flow *flow, bool v4, struct tp_shared *shared)
{
	struct tp_exit *exit = &tp_alike_of(shared, v4)->exit;

	if (TP_UNLIKELY(tp_is_expired(host, flow)))
		return false;
	if (TP_LIKELY(TP_READ_ONCE(flow->next_hop) == exit->index &&
		      tp_get16(&flow->value.local) == exit->from))
		return true;
	return tp_plain_leave(host, flow, v4, exit);
}

/* Sixteen bytes at any address, in the order of the wire. */
typedef uint64_t __attribute__((vector_size(16), aligned(2), may_alias)) tp_any128;

/* Of two of them, in one's complement. */
static TP_INLINE uint16_t tp_plain_sum(uint16_t a, uint16_t b)
{
	uint16_t sum;
	bool carry = __builtin_add_overflow(a, b, &sum);

	return (uint16_t)(sum + carry);
}

/* What of the headers has to be known after they are overwritten. */
struct tp_moved {
	uint64_t ipv6;                      /* up to the addresses, as it leaves */
	tp_any128 ip;                       /* up to the destination, as it came but for its id */
	uint16_t ip_checksum, udp_checksum; /* as they leave */
	uint8_t ttl;                        /* as it came */
};

/* Another identification; what that adds to the header's sum. As tp_make_ipv4(). */
static TP_INLINE uint32_t tp_plain_identify(const struct tp_flow *flow, tp_any128 *ip)
{
	uint16_t id = (uint16_t)((*ip)[0] >> 32), other = id ^ flow->id_mix;

	(*ip)[0] ^= (uint64_t)flow->id_mix << 32;
	return other + tp_sum_minus(id);
}

static TP_INLINE void tp_plain_take_ipv4(
	const struct tp_headers *in, const struct tp_rewrite *out, struct tp_moved *moved)
{
	const struct tp_ipv4 *ip = (const void *)in->ip;
	uint16_t sum = tp_plain_sum((uint16_t)~ip->checksum.be, out->flow->ip_sum_delta);

	moved->ip = *(const tp_any128 *)ip;
	moved->ttl = ip->ttl;
	/* With DF not even an id and its complement: no difference, since the sum is not 0. */
	if (TP_UNLIKELY(!(ip->fragment.be & tp_to_be16(0x4000).be)))
		sum = tp_sum_fold(sum + tp_plain_identify(out->flow, &moved->ip));
	moved->ip_checksum = (uint16_t)~sum;
}

static TP_INLINE void tp_plain_take(
	const struct tp_headers *in, const struct tp_rewrite *out, struct tp_moved *moved)
{
	struct tp_outgoing go TP_UNSET;

	if (in->v4) {
		tp_plain_take_ipv4(in, out, moved);
	} else {
		tp_make_ipv6(in, out, &go);
		moved->ipv6 = go.ip[0];
	}
	moved->udp_checksum = tp_udp_checksum_out(in, out);
}

/* The remote's address and both ports lie behind each other, there and in the packet. */
static TP_INLINE void tp_plain_write_ip(uint8_t *ip, bool v4, const struct tp_exit *exit,
	const struct tp_rewrite *out, const struct tp_moved *moved)
{
	const uint8_t *value = (const uint8_t *)&out->flow->value;

	if (v4) {
		*(tp_any128 *)ip = moved->ip;
		tp_put16(ip + 2, tp_to_be16((uint16_t)tp_ip_len_out(out, true)).be);
		ip[8] = (uint8_t)(moved->ttl - 1);
		tp_put16(ip + 10, moved->ip_checksum);
		tp_put32(ip + 12, (uint32_t)(exit->source[1] >> 32));
		tp_put64(ip + 16, tp_get64(value + 12));
	} else {
		tp_put64(ip, moved->ipv6);
		*(tp_any128 *)(ip + 8) = *(const tp_any128 *)exit->source;
		*(tp_any128 *)(ip + 24) = *(const tp_any128 *)value;
		tp_put32(ip + TP_IPV6_LEN, tp_get32(value + 16));
	}
}

static TP_INLINE void tp_plain_write(uint8_t *at, bool v4, const struct tp_exit *exit,
	const struct tp_rewrite *out, const struct tp_moved *moved)
{
	const struct tp_flow_value *value = &out->flow->value;
	uint8_t *ip = at + TP_ETHERNET_LEN, *udp = ip + (v4 ? TP_IPV4_LEN : TP_IPV6_LEN);

	*(tp_any128 *)at = *(const tp_any128 *)exit->link;
	tp_plain_write_ip(ip, v4, exit, out, moved);
	tp_put16(udp + 4, tp_to_be16(tp_udp_len_out(out)).be);
	tp_put16(udp + 6, moved->udp_checksum);
	if (out->channel_out)
		tp_put32(udp + TP_UDP_LEN,
			value->channel.be | (uint32_t)tp_to_be16(out->data_len).be << 16);
}

_Static_assert(__builtin_offsetof(struct tp_flow_value, remote) == 0 &&
		       __builtin_offsetof(struct tp_flow_value, remote[1]) == 8 &&
		       __builtin_offsetof(struct tp_flow_value, local_port) == 16 &&
		       __builtin_offsetof(struct tp_flow_value, remote_port) == 18,
	"tp_plain_write_ip()");
_Static_assert(__builtin_offsetof(struct tp_flow_value, flags) ==
		       __builtin_offsetof(struct tp_flow_value, local) + 1,
	"tp_exit.from");

/* The detail is far away, and at the burst's end it is there. Twice in a burst is too late. */
static TP_OUT_OF_LINE void tp_plain_count_full(
	struct tp_host *host, struct tp_flow *flow, uint32_t before, struct tp_shared *shared)
{
	uint32_t slot = tp_host_slot(host, flow);

	if (before & TP_RECENT_FULL) {
		tp_carry_over(host, flow, slot);
		return;
	}
	shared->full[shared->full_count++] = flow;
	__builtin_prefetch(tp_host_detail(host, slot), 1);
}

/* As tp_count_flow(), but what is full is carried over by tp_shared_close(). */
static TP_INLINE void tp_plain_count(
	struct tp_host *host, struct tp_flow *flow, uint32_t data_len, struct tp_shared *shared)
{
	uint32_t before = flow->recent, recent = before + TP_RECENT_PACKET + data_len;

	flow->recent = recent;
	if (TP_UNLIKELY(recent & TP_RECENT_FULL))
		tp_plain_count_full(host, flow, before, shared);
}

static TP_INLINE void tp_alike_close(
	struct tp_host *host, const struct tp_alike *alike, enum tp_pair pair)
{
	struct tp_worker_counters *worker = tp_host_worker(host);

	for (int i = 0; worker && i < TP_DIRECTIONS; i++) {
		worker->relayed[i][pair].packets += alike->packets[i];
		worker->relayed[i][pair].bytes += alike->bytes[i];
	}
}

/* Counts what the packets had in common. */
static TP_OUT_OF_LINE void tp_shared_close(struct tp_host *host, struct tp_shared *shared)
{
	tp_alike_close(host, tp_alike_of(shared, true), TP_V4_TO_V4);
	if (shared->has_ipv6)
		tp_alike_close(host, tp_alike_of(shared, false), TP_V6_TO_V6);
	for (uint32_t i = 0; i < shared->full_count; i++) {
		struct tp_flow *flow = shared->full[i];

		if (flow->recent & TP_RECENT_FULL)
			tp_carry_over(host, flow, tp_host_slot(host, flow));
	}
}

/* Of a flow that is granted. As tp_end_common_way(), and like it compiled once for each way. */
static TP_INLINE bool tp_plain_end(struct tp_host *host, struct tp_packet *pkt, bool v4,
	bool from_client, uint16_t data_len, struct tp_shared *shared, struct tp_flow *flow)
{
	const struct tp_rewrite out = {.flow = flow,
		.direction = from_client ? TP_CLIENT_TO_PEER : TP_PEER_TO_CLIENT,
		.data_len = data_len,
		.channel_in = from_client,
		.channel_out = !from_client};
	struct tp_alike *alike = tp_alike_of(shared, v4);
	const struct tp_exit *exit = &alike->exit;
	struct tp_headers in TP_UNSET;
	struct tp_moved moved TP_UNSET;

	tp_place_headers(pkt, v4, &in);
	if (tp_ttl(&in) <= 1 || data_len + (from_client ? 0 : TP_CHANNELDATA_LEN) > exit->room)
		return false;
	if (!from_client && pkt->data - pkt->room < TP_CHANNELDATA_LEN)
		return false;
	tp_plain_take(&in, &out, &moved);
	pkt->data += from_client ? TP_CHANNELDATA_LEN : -TP_CHANNELDATA_LEN;
	tp_plain_write(pkt->data, v4, exit, &out, &moved);
	pkt->egress = exit->egress;
	pkt->interface = exit->interface;
	alike->packets[out.direction]++;
	alike->bytes[out.direction] += data_len;
	tp_plain_count(host, flow, data_len, shared);
	return true;
}
