/*
 * SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
 *
 * Every packet is counted once: by its verdict, or as relayed; and in both ways if the kernel's IP
 * output has to send what was rewritten (`outputs`). Each counter has one writer: plain adds.
 */
#pragma once

#include "host.h"
#include "verdict.h"

static TP_INLINE enum tp_verdict tp_count(struct tp_host *host, enum tp_verdict verdict)
{
	struct tp_worker_counters *worker = tp_host_worker(host);

	if (worker)
		worker->verdicts[verdict & (TP_VERDICT_CELLS - 1)]++;
	return verdict;
}

static TP_INLINE void tp_add(struct tp_flow_counters *counters, uint32_t bytes)
{
	counters->packets++;
	counters->bytes += bytes;
}

/* One direction of what was relayed; a hairpin counts in both. */
static TP_INLINE void tp_count_relayed(struct tp_host *host, struct tp_flow *flow,
	enum tp_direction direction, enum tp_pair pair, uint32_t data_len)
{
	struct tp_worker_counters *worker = tp_host_worker(host);

	if (worker)
		tp_add(&worker->relayed[direction][pair], data_len);
	tp_add(&flow->counters, data_len);
}
