/*
 * The bandwidth limit, writer's side: how dear a byte is, and what the slow path may send. Control
 * plane's thread; does not block.
 */
#include "private.h"

#include "dataplane/core/policer.h"

/* What may come ahead of its time: the size of a video frame, and always one packet. */
#define BACKLOG_NS UINT64_C(40000000)

/* Nanoseconds at one bit a second of a byte, in units of config.byte_ns. */
#define BYTE_NS (UINT64_C(8000000000) << 10)

void tp_table_set_bandwidth(struct tp_table *table, uint64_t bits_per_s)
{
	uint64_t byte_ns = bits_per_s ? (BYTE_NS + bits_per_s / 2) / bits_per_s : 0;

	__atomic_store_n(&table->config->backlog_ns, BACKLOG_NS, __ATOMIC_RELAXED);
	__atomic_store_n(&table->config->byte_ns, (uint32_t)byte_ns, __ATOMIC_RELEASE);
}

static bool is_policer(const struct tp_table *table, uint32_t policer)
{
	return policer != 0 && policer < table->memory.shape.regions[TP_REGION_POLICERS].count;
}

void tp_table_reset_policer(struct tp_table *table, uint32_t policer)
{
	if (!is_policer(table, policer))
		return;
	for (int d = 0; d < TP_DIRECTIONS; d++)
		__atomic_store_n(&table->policers[policer].paid_until_ns[d], 0, __ATOMIC_RELAXED);
}

bool tp_table_police(const struct tp_table *table, uint32_t policer, enum tp_direction direction,
	uint64_t now_ns, uint32_t len)
{
	return tp_policer_allows(table->config,
		is_policer(table, policer) ? &table->policers[policer] : NULL, direction, now_ns,
		len);
}
