/*
 * SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
 *
 * The fast path for a polling worker: a burst of frames at a time. Include host_native.h before.
 */
#pragma once

#include "relay.h"

/* verdicts[i] says what became of pkts[i]; count <= TP_BURST. */
static TP_INLINE void tp_relay_burst(
	struct tp_host *host, struct tp_packet *pkts, enum tp_verdict *verdicts, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		verdicts[i] = tp_relay(host, &pkts[i]);
}
