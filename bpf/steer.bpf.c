/*
 * SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
 *
 * Which frames go to the polling workers (engine afxdp): those that the core can finish, so that
 * the worker of the queue sees nothing else and the kernel misses nothing. A thin shell around
 * dataplane/core/parse.h and the shared tables; one instance per interface. What it does not take,
 * and what comes by a queue without a socket (threat D24), goes to the kernel untouched.
 */
#include "tables.h"

/* The workers' sockets by the interface's queue. */
struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, 1);
	__type(key, uint32_t);
	__type(value, uint32_t);
} sockets SEC(".maps");

const volatile uint32_t frame_max; /* what a worker's buffer holds: the kernel drops the rest */

/* Flows are the workers' business. */
static TP_INLINE const struct tp_bucket *tp_host_bucket(struct tp_host *host, uint32_t bucket)
{
	return NULL;
}

static TP_INLINE struct tp_flow *tp_host_flow(struct tp_host *host, uint32_t slot)
{
	return NULL;
}

static TP_INLINE uint32_t tp_host_ticks(struct tp_host *host)
{
	return 0;
}

#include "dataplane/core/lookup.h"
#include "dataplane/core/stun.h"

static TP_INLINE uint32_t tp_host_find_slot(
	struct tp_host *host, uint64_t remote0, uint64_t remote1, uint64_t ident)
{
	return tp_find_slot(host, remote0, remote1, ident);
}

/* Of what comes to a listener: ChannelData and Send indications (RFC 8656, 11 and 12). */
static TP_INLINE bool is_data(const struct tp_packet *pkt, const struct tp_headers *in)
{
	const uint8_t *payload = in->udp + TP_UDP_LEN;

	if (in->udp_len == TP_UDP_LEN || payload + 1 > pkt->end)
		return false;
	if (payload[0] >= 0x40)
		return payload[0] <= config->channel_max >> 8;
	return payload + 8 <= pkt->end && tp_is_send(tp_get64(payload));
}

static TP_INLINE bool is_for_worker(
	struct tp_host *host, const struct tp_packet *pkt, const struct tp_headers *in)
{
	const struct tp_ports *of_local;
	enum tp_verdict sender;
	uint32_t local;
	uint8_t state;

	if (!tp_find_local(host, config, in->destination, &local))
		return false;
	of_local = tp_host_ports(host, local);
	if (!of_local)
		return false;
	state = tp_port_state(of_local, tp_destination_port(in));
	if (state == TP_PORT_NOT_OURS || state > TP_PORT_LISTENER)
		return false;
	/* What the core refuses, the worker has to count. */
	sender = tp_check_sender(host, config, in);
	if (sender != TP_RELAYED)
		return tp_verdict_fate(sender) == TP_FATE_DROP;
	return state == TP_PORT_RELAY || (state == TP_PORT_LISTENER && is_data(pkt, in));
}

/* Once for each family, as in relay.h. */
static TP_INLINE bool is_taken(
	struct tp_host *host, const struct tp_packet *pkt, struct tp_headers *in, bool v4)
{
	uint8_t *l3 = pkt->data + in->link_len;
	enum tp_verdict verdict = v4 ? tp_parse_ipv4(pkt, l3, in) : tp_parse_ipv6(pkt, l3, in);

	return verdict == TP_RELAYED && is_for_worker(host, pkt, in);
}

SEC("xdp")
int turnpike_steer(struct xdp_md *ctx)
{
	struct tp_host host = {.ctx = ctx};
	struct tp_packet pkt = {
		.data = (uint8_t *)(long)ctx->data, .end = (uint8_t *)(long)ctx->data_end};
	struct tp_headers in;
	tp_be16 type;
	bool taken = false;

	if (!tp_is_enabled(&host, config) || pkt.end - pkt.data > frame_max)
		return XDP_PASS;
	if (tp_parse_ethernet(&pkt, &in, &type) != TP_RELAYED)
		return XDP_PASS;
	if (tp_be16_equal(type, tp_to_be16(TP_ETHERTYPE_IPV4)))
		taken = is_taken(&host, &pkt, &in, true);
	else if (tp_be16_equal(type, tp_to_be16(TP_ETHERTYPE_IPV6)))
		taken = is_taken(&host, &pkt, &in, false);
	if (!taken)
		return XDP_PASS;
	return (int)bpf_redirect_map(&sockets, ctx->rx_queue_index, XDP_PASS);
}

char dual_license[] SEC("license") = "Dual BSD/GPL";
