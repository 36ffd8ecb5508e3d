/*
 * SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
 *
 * Every packet is counted once: by its verdict, or as relayed; and in both ways if the kernel's IP
 * output has to send what was rewritten (`outputs`). Each counter has one writer: plain adds. A
 * permission's packets may arrive on several queues: there one may now and then go uncounted, and
 * none counts twice.
 */
#pragma once

#include "host.h"
#include "order.h"
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

/*
 * `carries` first and its bit in `recent` last: a reader in between sees that they disagree, and
 * looks again (tp_table_counters()). Of several writers of one flow one carries over. Another one
 * may have put back what it had read before: by the bit that is old, and in the detail already.
 */
static TP_COLD void tp_carry_over(struct tp_host *host, struct tp_flow *flow, uint32_t slot)
{
	struct tp_flow_detail *detail = tp_host_detail(host, slot);
	uint32_t recent = TP_READ_ONCE(flow->recent), carries;

	if (!detail)
		return;
	carries = TP_READ_ONCE(detail->carries);
	if ((recent & TP_RECENT_CARRIES) == carries * TP_RECENT_CARRIES) {
		if (__sync_val_compare_and_swap(&detail->carries, carries, carries + 1) != carries)
			return;
		carries++;
		detail->counters = tp_flow_counted(detail, recent);
		TP_WRITE_FENCE();
	}
	TP_WRITE_ONCE(flow->recent, carries * TP_RECENT_CARRIES);
}

static TP_INLINE void tp_count_flow(
	struct tp_host *host, struct tp_flow *flow, uint32_t slot, uint32_t data_len)
{
	flow->recent += TP_RECENT_PACKET + data_len;
	if (TP_UNLIKELY(flow->recent & TP_RECENT_FULL))
		tp_carry_over(host, flow, slot);
}

/* One direction of what was relayed; a hairpin counts in both. */
static TP_INLINE void tp_count_relayed(struct tp_host *host, struct tp_flow *flow, uint32_t slot,
	enum tp_direction direction, enum tp_pair pair, uint32_t data_len)
{
	struct tp_worker_counters *worker = tp_host_worker(host);

	if (worker)
		tp_add(&worker->relayed[direction][pair], data_len);
	tp_count_flow(host, flow, slot, data_len);
}
