/*
 * SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
 *
 * The bandwidth limit as the fast path asks for it: last of all checks, since it charges.
 */
#pragma once

#include "host.h"
#include "policer.h"

static TP_OUT_OF_LINE bool tp_ask_policer(
	struct tp_host *host, uint32_t slot, enum tp_direction direction, uint32_t data_len)
{
	const struct tp_flow_detail *detail = tp_host_detail(host, slot);
	const struct tp_config *config = tp_host_config(host);

	if (!config || !detail || detail->policer == 0)
		return true;
	return tp_policer_allows(config, tp_host_policer(host, detail->policer), direction,
		tp_host_now_ns(host), data_len);
}

static TP_INLINE bool tp_is_within_limit(struct tp_host *host, const struct tp_config *config,
	uint32_t slot, enum tp_direction direction, uint32_t data_len)
{
	return TP_LIKELY(config->byte_ns == 0) || tp_ask_policer(host, slot, direction, data_len);
}
