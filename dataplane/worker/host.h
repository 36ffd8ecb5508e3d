/*
 * The core's host over the shared tables: what a polling worker, and whoever measures or tests the
 * core in its place, runs it with.
 */
#pragma once

#include "dataplane/core/host_native.h"
#include "dataplane/table/table.h"

/* By the counters of worker `index`. Clock, seed and `outputs` are the caller's to set. */
static inline struct tp_host tp_host_over(
	const struct tp_memory *memory, const uint32_t *interfaces, uint32_t index)
{
	void *const *at = memory->regions;
	struct tp_worker_counters *counters = at[TP_REGION_WORKERS];

	return (struct tp_host){
		.config = at[TP_REGION_CONFIG],
		.locals = at[TP_REGION_LOCALS],
		.ports = at[TP_REGION_PORTS],
		.buckets = at[TP_REGION_BUCKETS],
		.flows = at[TP_REGION_FLOWS],
		.details = at[TP_REGION_DETAILS],
		.next_hops = at[TP_REGION_NEXT_HOPS],
		.policers = at[TP_REGION_POLICERS],
		.policers_count = memory->shape.regions[TP_REGION_POLICERS].count,
		.buckets_count = memory->shape.regions[TP_REGION_BUCKETS].count,
		.worker = &counters[index],
		.interfaces = interfaces,
		.layout = tp_layout_hash(),
	};
}
