/*
 * SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
 *
 * The shared tables that every program reads, as maps, and the part of the core's host that reads
 * them. Mapped by the control plane, which writes them. BPF_F_RDONLY_PROG would say that the
 * program only reads, but the kernel refuses a writable mapping of such a map (EACCES).
 *
 * Small tables are variables with a section, that is a map, of their own: their address is a
 * constant, so reading them takes no look-up and holds no registers.
 */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "dataplane/core/host.h"
#include "dataplane/core/order.h"

#define FIXED_TABLE(table_name, element, count) element table_name[count] SEC(".data." #table_name)

/* The loader says how many entries there are. */
#define TABLE(table_name, element)                                                                 \
	struct {                                                                                   \
		__uint(type, BPF_MAP_TYPE_ARRAY);                                                  \
		__uint(map_flags, BPF_F_MMAPABLE);                                                 \
		__uint(max_entries, 1);                                                            \
		__type(key, uint32_t);                                                             \
		__type(value, element);                                                            \
	} table_name SEC(".maps")

#define LOOK_UP(table_name, index)                                                                 \
	({                                                                                         \
		uint32_t key_ = (index);                                                           \
		bpf_map_lookup_elem(&(table_name), &key_);                                         \
	})

FIXED_TABLE(config, struct tp_config, 1);
FIXED_TABLE(locals, struct tp_local, TP_LOCALS_MAX);
TABLE(ports, struct tp_ports);

const volatile uint64_t layout; /* tp_layout_hash(); 0 matches no table */

/* Where a packet leaves, for whoever called a global function about it. */
struct exit {
	uint32_t egress;
	uint32_t interface;
};

struct tp_host {
	struct xdp_md *ctx;
	struct exit *exit; /* of global functions */
};

static TP_INLINE const struct tp_config *tp_host_config(struct tp_host *host)
{
	return config;
}

static TP_INLINE uint32_t tp_host_buckets(
	struct tp_host *host, const struct tp_config *tables_config)
{
	return TP_READ_ONCE(tables_config->buckets);
}

static TP_INLINE uint64_t tp_host_layout(struct tp_host *host)
{
	return layout;
}

static TP_INLINE const struct tp_local *tp_host_local(struct tp_host *host, uint32_t local)
{
	if (local >= TP_LOCALS_MAX)
		return NULL;
	__asm__("" : "+r"(local)); /* or the mask, by which the verifier sees the bound, goes */
	return &locals[local & (TP_LOCALS_MAX - 1)];
}

static TP_INLINE const struct tp_ports *tp_host_ports(struct tp_host *host, uint32_t local)
{
	return LOOK_UP(ports, local);
}
