/*
 * SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
 *
 * The data plane in the NIC's driver: a thin shell around dataplane/core. Runs once per received
 * frame on the CPU that received it, never blocks. The maps are the shared tables; the loader sets
 * how many entries they have (tp_shape) and `layout` before it loads the program.
 */
#include "tables.h"

#include "dataplane/core/random.h"
#include "dataplane/core/way.h"

TABLE(buckets, struct tp_bucket);
TABLE(flows, struct tp_flow);
TABLE(details, struct tp_flow_detail);
TABLE(next_hops, struct tp_next_hop);
TABLE(policers, struct tp_policer);
TABLE(allocations, struct tp_kept); /* not ours to read: pinned with the others */
TABLE(workers, struct tp_worker_counters);

struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, TP_INTERFACES_MAX);
	__type(key, uint32_t);
	__type(value, uint32_t);
} interfaces SEC(".maps");

/* Of one CPU, which finishes a packet before it takes the next. */
struct scratch {
	struct tp_way way; /* of any() and general() */
	struct tp_asked asked;
	struct exit exit;
	uint64_t random;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, uint32_t);
	__type(value, struct scratch);
} scratch SEC(".maps");

static TP_INLINE const struct tp_bucket *tp_host_bucket(struct tp_host *host, uint32_t bucket)
{
	return LOOK_UP(buckets, bucket);
}

static TP_INLINE struct tp_flow *tp_host_flow(struct tp_host *host, uint32_t slot)
{
	return LOOK_UP(flows, slot);
}

static TP_INLINE struct tp_flow_detail *tp_host_detail(struct tp_host *host, uint32_t slot)
{
	return LOOK_UP(details, slot);
}

static TP_INLINE const struct tp_next_hop *tp_host_next_hop(struct tp_host *host, uint32_t index)
{
	return LOOK_UP(next_hops, index);
}

static TP_INLINE struct tp_policer *tp_host_policer(struct tp_host *host, uint32_t index)
{
	return LOOK_UP(policers, index);
}

static TP_INLINE struct tp_worker_counters *tp_host_worker(struct tp_host *host)
{
	return LOOK_UP(workers, bpf_get_smp_processor_id());
}

/*
 * Ticks above, the jiffy in which they were read below, in one word: CPUs may write it at the same
 * time. The coarse clock moves once a jiffy and is a call; reading the jiffies is a load.
 */
static uint64_t clock;

static TP_INLINE uint32_t tp_host_ticks(struct tp_host *host)
{
	uint32_t jiffy = (uint32_t)bpf_jiffies64();
	uint64_t last = *(volatile uint64_t *)&clock;
	uint32_t ticks;

	if (TP_LIKELY((uint32_t)last == jiffy))
		return (uint32_t)(last >> 32);
	ticks = tp_ticks(bpf_ktime_get_coarse_ns());
	*(volatile uint64_t *)&clock = (uint64_t)ticks << 32 | jiffy;
	return ticks;
}

static TP_INLINE uint64_t tp_host_now_ns(struct tp_host *host)
{
	return bpf_ktime_get_ns();
}

/* The kernel's generator costs more than all else that makes an indication: it only seeds. */
static TP_INLINE uint64_t tp_host_random(struct tp_host *host)
{
	struct scratch *own = LOOK_UP(scratch, 0);

	if (!own)
		return bpf_get_prandom_u32();
	if (TP_UNLIKELY(own->random == 0))
		own->random = (uint64_t)bpf_get_prandom_u32() << 32 | bpf_get_prandom_u32();
	return tp_random(&own->random);
}

/*
 * Asked before the first write, since a rewritten frame can no longer go to the kernel. The ifindex
 * must agree: place 0 of the list is also what a next hop on a foreign interface would say.
 */
static TP_INLINE bool tp_host_reaches(
	struct tp_host *host, const struct tp_packet *pkt, const struct tp_next_hop *hop)
{
	const uint32_t *ifindex;

	if (hop->ifindex == pkt->ingress)
		return true;
	ifindex = LOOK_UP(interfaces, hop->interface);
	return ifindex && *ifindex == hop->ifindex;
}

static TP_INLINE void tp_host_take_exit(struct tp_host *host, const struct tp_packet *pkt)
{
	host->exit->egress = pkt->egress;
	host->exit->interface = pkt->interface;
}

static TP_INLINE void take_frame(struct xdp_md *ctx, struct tp_packet *pkt)
{
	pkt->data = (uint8_t *)(long)ctx->data;
	pkt->end = (uint8_t *)(long)ctx->data_end;
}

static TP_INLINE void tp_host_take_again(struct tp_host *host, struct tp_packet *pkt)
{
	take_frame(host->ctx, pkt);
}

static TP_INLINE bool tp_host_move_head(struct tp_host *host, struct tp_packet *pkt, int32_t growth)
{
	long err = bpf_xdp_adjust_head(host->ctx, -growth);

	take_frame(host->ctx, pkt); /* also when it failed: no pointer from before is good now */
	return err == 0;
}

static TP_INLINE bool tp_host_trim_tail(struct tp_host *host, struct tp_packet *pkt, uint32_t len)
{
	if (bpf_xdp_adjust_tail(host->ctx, -(int32_t)len))
		return false;
	take_frame(host->ctx, pkt);
	return true;
}

static TP_INLINE bool tp_host_grow_tail(struct tp_host *host, struct tp_packet *pkt, uint32_t len)
{
	if (bpf_xdp_adjust_tail(host->ctx, (int32_t)len))
		return false;
	take_frame(host->ctx, pkt);
	return true;
}

/* The kernel gets packets as they came. */
static TP_INLINE bool tp_host_outputs(struct tp_host *host)
{
	return false;
}

static TP_INLINE struct tp_way *tp_host_way(struct tp_host *host)
{
	struct scratch *own = LOOK_UP(scratch, 0);

	return own ? &own->way : NULL;
}

/* Adding up a packet of any length takes more than the verifier likes to follow: not here. */
static TP_INLINE bool tp_host_sum(
	struct tp_host *host, const struct tp_packet *pkt, uint32_t at, uint32_t len, uint32_t *sum)
{
	return false;
}

/*
 * Global functions: the verifier looks at each by itself and once, whatever its callers know, and
 * takes what it finds in memory for unknown.
 */
__attribute__((noinline)) uint32_t find_slot(uint64_t remote0, uint64_t remote1, uint64_t ident)
{
	return tp_find_slot(NULL, remote0, remote1, ident);
}

static TP_INLINE uint32_t tp_host_find_slot(
	struct tp_host *host, uint64_t remote0, uint64_t remote1, uint64_t ident)
{
	return find_slot(remote0, remote1, ident);
}

#include "dataplane/core/general.h"

/* They take the frame from the context anew. */
#define STEP(name)                                                                                 \
	__attribute__((noinline)) int name(struct xdp_md *ctx, struct tp_way *way)                 \
	{                                                                                          \
		struct tp_packet pkt;                                                              \
                                                                                                   \
		if (!way)                                                                          \
			return (int)TP_MALFORMED;                                                  \
		take_frame(ctx, &pkt);                                                             \
		return (int)tp_##name(&pkt, way);                                                  \
	}                                                                                          \
                                                                                                   \
	static TP_INLINE enum tp_verdict tp_host_##name(                                           \
		struct tp_host *host, const struct tp_packet *pkt, struct tp_way *way)             \
	{                                                                                          \
		return (enum tp_verdict)name(host->ctx, way);                                      \
	}

STEP(read_attribute)
STEP(open)
STEP(sum_around)

__attribute__((noinline)) int check_fingerprint(
	struct xdp_md *ctx, uint32_t message_at, uint32_t message_len)
{
	struct tp_packet pkt;

	take_frame(ctx, &pkt);
	return (int)tp_check_fingerprint(&pkt, message_at, message_len);
}

static TP_INLINE enum tp_verdict tp_host_check_fingerprint(struct tp_host *host,
	const struct tp_packet *pkt, uint32_t message_at, uint32_t message_len)
{
	return (enum tp_verdict)check_fingerprint(host->ctx, message_at, message_len);
}

__attribute__((noinline)) int general(struct xdp_md *ctx, struct scratch *own, struct tp_flow *flow)
{
	struct tp_packet pkt = {.ingress = ctx->ingress_ifindex};
	struct tp_host host = {.ctx = ctx};

	if (!own || !flow)
		return (int)TP_NO_FLOW;
	host.exit = &own->exit;
	take_frame(ctx, &pkt);
	return (int)tp_general(&host, &pkt, &own->way, flow);
}

static TP_INLINE enum tp_verdict tp_host_general(
	struct tp_host *host, struct tp_packet *pkt, struct tp_way *way, struct tp_flow *flow)
{
	struct scratch *own = LOOK_UP(scratch, 0);

	return own ? (enum tp_verdict)general(host->ctx, own, flow) : TP_OFF;
}

#include "dataplane/core/relay.h"

__attribute__((noinline)) int any(struct xdp_md *ctx, struct tp_way *way)
{
	struct tp_packet pkt = {.ingress = ctx->ingress_ifindex};
	struct tp_host host = {.ctx = ctx};

	if (!way)
		return (int)TP_OFF;
	take_frame(ctx, &pkt);
	return (int)tp_any(&host, &pkt, way);
}

static TP_INLINE enum tp_verdict tp_host_any(
	struct tp_host *host, struct tp_packet *pkt, struct tp_way *way)
{
	struct scratch *own = LOOK_UP(scratch, 0);
	int verdict;

	if (!own)
		return TP_OFF;
	verdict = any(host->ctx, &own->way);
	pkt->egress = own->exit.egress;
	pkt->interface = own->exit.interface;
	return (enum tp_verdict)verdict;
}

/* One call from end to end. */
__attribute__((noinline)) int usual(struct xdp_md *ctx, struct scratch *own)
{
	struct tp_packet pkt = {.ingress = ctx->ingress_ifindex};
	struct tp_host host = {.ctx = ctx};
	struct tp_found found;
	struct tp_way way;

	if (!own)
		return (int)TP_UNDECIDED;
	host.exit = &own->exit;
	found.slot = own->way.slot;
	found.flow = found.slot == TP_NO_SLOT ? NULL : tp_host_flow(&host, found.slot);
	take_frame(ctx, &pkt);
	return (int)tp_usual(&host, &pkt, &way, &own->asked, found);
}

static TP_INLINE enum tp_verdict tp_host_usual(struct tp_host *host, struct tp_packet *pkt,
	struct tp_way *way, const struct tp_asked *asked, struct tp_found found)
{
	struct scratch *own = LOOK_UP(scratch, 0);
	int verdict;

	if (!own)
		return TP_OFF;
	own->asked = *asked;
	own->way.slot = found.slot;
	verdict = usual(host->ctx, own);
	pkt->egress = own->exit.egress;
	pkt->interface = own->exit.interface;
	return (enum tp_verdict)verdict;
}

SEC("xdp")
int turnpike(struct xdp_md *ctx)
{
	struct tp_host host = {.ctx = ctx};
	struct tp_packet pkt = {.ingress = ctx->ingress_ifindex};

	take_frame(ctx, &pkt);
	switch (tp_verdict_fate(tp_relay(&host, &pkt))) {
	case TP_FATE_PASS:
		return XDP_PASS;
	case TP_FATE_DROP:
		return XDP_DROP;
	case TP_FATE_SEND:
		break;
	}
	if (pkt.egress == pkt.ingress)
		return XDP_TX;
	return (int)bpf_redirect_map(&interfaces, pkt.interface, XDP_DROP);
}

char dual_license[] SEC("license") = "Dual BSD/GPL";
