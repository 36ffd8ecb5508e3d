/*
 * SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
 *
 * What the core asks of whoever hosts it. A host defines `struct tp_host` and these functions
 * (TP_INLINE, so that the table look-ups melt into the fast path), then includes relay.h.
 * dataplane/core/host_native.h is the host over plain memory, bpf/turnpike.bpf.c the one over maps.
 *
 * A pointer to a table may be NULL when there is no such entry; the core copes with it.
 */
#pragma once

#include "flow.h"
#include "packet.h"
#include "verdict.h"

struct tp_host;

static TP_INLINE const struct tp_config *tp_host_config(struct tp_host *host);
static TP_INLINE uint64_t tp_host_layout(struct tp_host *host); /* tp_layout_hash() */
static TP_INLINE const struct tp_local *tp_host_local(struct tp_host *host, uint32_t local);
static TP_INLINE const struct tp_ports *tp_host_ports(struct tp_host *host, uint32_t local);
/*
 * Number of buckets: config's word, where a bucket that is not there is NULL; else what the
 * host has mapped, since config may be written by a process that is not to be trusted so far.
 */
static TP_INLINE uint32_t tp_host_buckets(struct tp_host *host, const struct tp_config *config);
static TP_INLINE const struct tp_bucket *tp_host_bucket(struct tp_host *host, uint32_t bucket);
static TP_INLINE struct tp_flow *tp_host_flow(struct tp_host *host, uint32_t slot);
static TP_INLINE struct tp_flow_detail *tp_host_detail(struct tp_host *host, uint32_t slot);
static TP_INLINE const struct tp_next_hop *tp_host_next_hop(struct tp_host *host, uint32_t index);
static TP_INLINE struct tp_policer *tp_host_policer(struct tp_host *host, uint32_t index);

/* The counters that only this CPU or worker writes. */
static TP_INLINE struct tp_worker_counters *tp_host_worker(struct tp_host *host);

/* Now, in ticks of the tables; asked only when an expiry has to be checked. */
static TP_INLINE uint32_t tp_host_ticks(struct tp_host *host);

/* Now, CLOCK_MONOTONIC; asked only where there is a bandwidth limit. */
static TP_INLINE uint64_t tp_host_now_ns(struct tp_host *host);

/* For transaction numbers and IPv4 identifications: no secret depends on it. */
static TP_INLINE uint64_t tp_host_random(struct tp_host *host);

/* Does the kernel's IP output get, rewritten, what has no other way out? */
static TP_INLINE bool tp_host_outputs(struct tp_host *host);

/* Can a frame that came in on `ingress` leave through this interface of the engine's? */
static TP_INLINE bool tp_host_reaches(
	struct tp_host *host, const struct tp_packet *pkt, const struct tp_next_hop *hop);

/*
 * Nothing has moved; for a host whose verifier remembers what of the frame was looked at, and would
 * look at all that follows once for every memory it has.
 */
static TP_INLINE void tp_host_take_again(struct tp_host *host, struct tp_packet *pkt);

/*
 * The packet's egress and interface are known, unless a reason is found yet for it not to leave:
 * for hosts whose functions do not get the same struct tp_packet as their callers.
 */
static TP_INLINE void tp_host_take_exit(struct tp_host *host, const struct tp_packet *pkt);

/*
 * Move the ends of the frame: pkt->data to the front by `growth` (to the back when negative),
 * pkt->end to the front by `len`, or to the back. False: impossible, and the frame is as it was.
 */
static TP_INLINE bool tp_host_move_head(
	struct tp_host *host, struct tp_packet *pkt, int32_t growth);
static TP_INLINE bool tp_host_trim_tail(struct tp_host *host, struct tp_packet *pkt, uint32_t len);
static TP_INLINE bool tp_host_grow_tail(struct tp_host *host, struct tp_packet *pkt, uint32_t len);

/*
 * The sum of `len` bytes from `at` on in the frame, of 16-bit words as they lie in memory, folded
 * to 16 bits. False: this host does not read so much of a packet.
 */
static TP_INLINE bool tp_host_sum(struct tp_host *host, const struct tp_packet *pkt, uint32_t at,
	uint32_t len, uint32_t *sum);

/* tp_find_slot() (lookup.h) out of line: it is wanted in many places and seldom there. */
static TP_INLINE uint32_t tp_host_find_slot(
	struct tp_host *host, uint64_t remote0, uint64_t remote1, uint64_t ident);

/* Room for one packet's (way.h), of whatever content. */
struct tp_way;
static TP_INLINE struct tp_way *tp_host_way(struct tp_host *host);
