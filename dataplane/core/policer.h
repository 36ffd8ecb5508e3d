/*
 * SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
 *
 * The bandwidth limit of an allocation, each direction by itself (GCRA, ITU-T I.371): what was let
 * through is paid for by time at the limit's rate; a packet goes while what came before it is paid,
 * or will be within the backlog. No state but the time up to which all is paid, so BPF programs,
 * workers and the control plane's sockets share it: any thread, does not block.
 */
#pragma once

#include "flow.h"

/* No loop: a reader that lost the race to end a pause adds to what the winner wrote. */
static TP_INLINE bool tp_police(
	const struct tp_config *config, uint64_t *paid_until_ns, uint64_t now_ns, uint32_t len)
{
	uint64_t cost_ns = ((uint64_t)len * config->byte_ns + 512) >> 10;
	uint64_t paid = *(volatile uint64_t *)paid_until_ns;

	if (paid > now_ns + config->backlog_ns)
		return false;
	/* Time that passed unused pays for nothing. */
	if (paid < now_ns)
		__sync_val_compare_and_swap(paid_until_ns, paid, now_ns);
	__sync_fetch_and_add(paid_until_ns, cost_ns);
	return true;
}

/*
 * May `len` bytes of data go in this direction? Charges them when they may. `policer` NULL: no
 * limit. `now_ns` is of CLOCK_MONOTONIC and asked for only where there is a limit (byte_ns).
 */
static TP_INLINE bool tp_policer_allows(const struct tp_config *config, struct tp_policer *policer,
	enum tp_direction direction, uint64_t now_ns, uint32_t len)
{
	return config->byte_ns == 0 || !policer ||
	       tp_police(config, &policer->paid_until_ns[direction & 1], now_ns, len);
}
