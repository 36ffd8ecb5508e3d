/*
 * SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
 *
 * The core's host over plain memory: polling workers and tests. One struct tp_host per worker,
 * used by its thread alone; the tables and the frames stay their owners'.
 */
#pragma once

#include "checksum.h"
#include "host.h"
#include "random.h"
#include "way.h"

/* A simulation hears of every element that is asked for (tests/perf/misscount.c). */
#ifndef TP_HOST_TOUCH
#define TP_HOST_TOUCH(element) (element)
#endif

struct tp_host {
	const struct tp_config *config;
	const struct tp_local *locals;       /* TP_LOCALS_MAX */
	const struct tp_ports *ports;        /* TP_LOCALS_MAX */
	const struct tp_bucket *buckets;     /* buckets_count */
	struct tp_flow *flows;               /* TP_BUCKET_SLOTS per bucket */
	struct tp_flow_detail *details;      /* likewise */
	const struct tp_next_hop *next_hops; /* TP_NEXT_HOPS_MAX */
	struct tp_policer *policers;
	uint32_t policers_count;
	uint32_t buckets_count;
	struct tp_worker_counters *worker;
	const uint32_t *interfaces; /* ifindex by tp_next_hop.interface; 0 = no such interface */
	uint64_t layout;            /* tp_layout_hash() */
	bool outputs;               /* packet.h: is_rewritten */
	uint32_t ticks;             /* now; read once a burst */
	uint64_t now_ns;            /* likewise: CLOCK_MONOTONIC */
	struct tp_way way;          /* of the packet at hand */
	uint64_t random;            /* state of the worker's generator; seed it with getrandom(2) */
};

static TP_INLINE const struct tp_config *tp_host_config(struct tp_host *host)
{
	return TP_HOST_TOUCH(host->config);
}

static TP_INLINE uint64_t tp_host_layout(struct tp_host *host)
{
	return host->layout;
}

static TP_INLINE const struct tp_local *tp_host_local(struct tp_host *host, uint32_t local)
{
	return local < TP_LOCALS_MAX ? TP_HOST_TOUCH(&host->locals[local]) : NULL;
}

static TP_INLINE const struct tp_ports *tp_host_ports(struct tp_host *host, uint32_t local)
{
	return TP_HOST_TOUCH(&host->ports[local]);
}

static TP_INLINE uint32_t tp_host_buckets(struct tp_host *host, const struct tp_config *config)
{
	return host->buckets_count;
}

static TP_INLINE const struct tp_bucket *tp_host_bucket(struct tp_host *host, uint32_t bucket)
{
	return TP_HOST_TOUCH(&host->buckets[bucket]);
}

static TP_INLINE struct tp_flow *tp_host_flow(struct tp_host *host, uint32_t slot)
{
	return TP_HOST_TOUCH(&host->flows[slot]);
}

static TP_INLINE struct tp_flow_detail *tp_host_detail(struct tp_host *host, uint32_t slot)
{
	return TP_HOST_TOUCH(&host->details[slot]);
}

static TP_INLINE uint32_t tp_host_slot(struct tp_host *host, const struct tp_flow *flow)
{
	return (uint32_t)(flow - host->flows);
}

static TP_INLINE const struct tp_next_hop *tp_host_next_hop(struct tp_host *host, uint32_t index)
{
	return index < TP_NEXT_HOPS_MAX ? TP_HOST_TOUCH(&host->next_hops[index]) : NULL;
}

static TP_INLINE struct tp_policer *tp_host_policer(struct tp_host *host, uint32_t index)
{
	return index < host->policers_count ? TP_HOST_TOUCH(&host->policers[index]) : NULL;
}

static TP_INLINE struct tp_worker_counters *tp_host_worker(struct tp_host *host)
{
	return TP_HOST_TOUCH(host->worker);
}

static TP_INLINE uint32_t tp_host_ticks(struct tp_host *host)
{
	return host->ticks;
}

static TP_INLINE uint64_t tp_host_now_ns(struct tp_host *host)
{
	return host->now_ns;
}

static TP_INLINE uint64_t tp_host_random(struct tp_host *host)
{
	return tp_random(&host->random);
}

static TP_INLINE bool tp_host_outputs(struct tp_host *host)
{
	return host->outputs;
}

/* Is the interface where it is said to be among ours? */
static TP_INLINE bool tp_host_is_interface(struct tp_host *host, const struct tp_next_hop *hop)
{
	return hop->ifindex != 0 && hop->interface < TP_INTERFACES_MAX &&
	       host->interfaces[hop->interface] == hop->ifindex;
}

static TP_INLINE bool tp_host_reaches(
	struct tp_host *host, const struct tp_packet *pkt, const struct tp_next_hop *hop)
{
	return hop->ifindex == pkt->ingress || tp_host_is_interface(host, hop);
}

static TP_INLINE uint32_t tp_host_find_slot(
	struct tp_host *host, uint64_t remote0, uint64_t remote1, uint64_t ident)
{
	return tp_find_slot(host, remote0, remote1, ident);
}

static TP_INLINE void tp_host_take_again(struct tp_host *host, struct tp_packet *pkt)
{
}

static TP_INLINE void tp_host_take_exit(struct tp_host *host, const struct tp_packet *pkt)
{
}

static TP_INLINE bool tp_host_move_head(struct tp_host *host, struct tp_packet *pkt, int32_t growth)
{
	if (growth > pkt->data - pkt->room)
		return false;
	pkt->data -= growth;
	return true;
}

static TP_INLINE bool tp_host_trim_tail(struct tp_host *host, struct tp_packet *pkt, uint32_t len)
{
	pkt->end -= len;
	return true;
}

static TP_INLINE bool tp_host_grow_tail(struct tp_host *host, struct tp_packet *pkt, uint32_t len)
{
	if (len > (uint64_t)(pkt->room_end - pkt->end))
		return false;
	pkt->end += len;
	return true;
}

static TP_INLINE struct tp_way *tp_host_way(struct tp_host *host)
{
	return &host->way;
}

static TP_INLINE bool tp_host_sum(
	struct tp_host *host, const struct tp_packet *pkt, uint32_t at, uint32_t len, uint32_t *sum)
{
	*sum = tp_sum_fold_wide(tp_sum_bytes(pkt->data + at, len));
	return true;
}
