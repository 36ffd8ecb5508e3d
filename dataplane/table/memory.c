/*
 * Shape of the shared tables, their layout hash, and plain memory for them. No state; the memory
 * belongs to whoever asked for it. Control plane's thread; does not block.
 */
#include "table.h"

#include <errno.h>
#include <sys/mman.h>

#define CAPACITY_STEP (TP_BUCKET_SLOTS / 2)
#define CAPACITY_MAX  (UINT32_C(1) << 26)

int tp_shape_init(uint32_t capacity, uint32_t workers, uint32_t allocations, struct tp_shape *out)
{
	uint32_t slots;

	if (capacity == 0 || capacity > CAPACITY_MAX || workers == 0 || allocations > CAPACITY_MAX)
		return -EINVAL;
	capacity = (capacity + CAPACITY_STEP - 1) / CAPACITY_STEP * CAPACITY_STEP;
	slots = 2 * capacity;
	*out = (struct tp_shape){
		.capacity = capacity,
		.workers = workers,
		.regions =
			{
				[TP_REGION_CONFIG] = {"config", sizeof(struct tp_config), 1},
				[TP_REGION_LOCALS] = {"locals",
					sizeof(struct tp_local) * TP_LOCALS_MAX, 1},
				[TP_REGION_PORTS] = {"ports", sizeof(struct tp_ports),
					TP_LOCALS_MAX},
				[TP_REGION_BUCKETS] = {"buckets", sizeof(struct tp_bucket),
					slots / TP_BUCKET_SLOTS},
				[TP_REGION_FLOWS] = {"flows", sizeof(struct tp_flow), slots},
				[TP_REGION_DETAILS] = {"details", sizeof(struct tp_flow_detail),
					slots},
				[TP_REGION_NEXT_HOPS] = {"next_hops", sizeof(struct tp_next_hop),
					TP_NEXT_HOPS_MAX},
				[TP_REGION_POLICERS] = {"policers", sizeof(struct tp_policer),
					allocations + 1},
				[TP_REGION_ALLOCATIONS] = {"allocations", sizeof(struct tp_kept),
					allocations + 1},
				[TP_REGION_WORKERS] = {"workers", sizeof(struct tp_worker_counters),
					workers},
			},
	};
	return 0;
}

static size_t region_size(const struct tp_region_shape *region)
{
	return (size_t)region->element_size * region->count;
}

int tp_memory_create_plain(const struct tp_shape *shape, struct tp_memory *out)
{
	struct tp_memory memory = {.shape = *shape, .kind = "plain"};

	for (int i = 0; i < TP_REGIONS; i++) {
		void *p = mmap(NULL, region_size(&shape->regions[i]), PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (p == MAP_FAILED) {
			int err = -errno;

			tp_memory_destroy_plain(&memory);
			return err;
		}
		memory.regions[i] = p;
	}
	*out = memory;
	return 0;
}

void tp_memory_destroy_plain(struct tp_memory *memory)
{
	for (int i = 0; i < TP_REGIONS; i++) {
		if (memory->regions[i])
			munmap(memory->regions[i], region_size(&memory->shape.regions[i]));
		memory->regions[i] = NULL;
	}
}

/* FNV-1a, one step per number; folded by the compiler. */
#define MIX(number) hash = (hash ^ (uint64_t)(number)) * UINT64_C(0x100000001b3)
#define MIX_MEMBER(type, member)                                                                   \
	do {                                                                                       \
		MIX(offsetof(struct type, member));                                                \
		MIX(sizeof(((struct type *)0)->member));                                           \
	} while (0)

uint64_t tp_layout_hash(void)
{
	uint64_t hash = UINT64_C(0xcbf29ce484222325);

	MIX(TP_ABI_VERSION);
	MIX(TP_LOCALS_MAX);
	MIX(TP_NEXT_HOPS_MAX);
	MIX(TP_INTERFACES_MAX);
	MIX(TP_BUCKET_SLOTS);
	MIX(TP_VERDICT_CELLS);
	MIX(TP_VERDICT_COUNT);
	MIX(TP_TICK_SHIFT);
	MIX(TP_FLOW_CLIENT);
	MIX(TP_DIRECTIONS);
	MIX(TP_PAIRS);
	MIX(TP_PORT_LISTENER);

	MIX(sizeof(struct tp_flow));
	MIX_MEMBER(tp_flow, key.remote);
	MIX_MEMBER(tp_flow, key.remote_port);
	MIX_MEMBER(tp_flow, key.local_port);
	MIX_MEMBER(tp_flow, key.channel);
	MIX_MEMBER(tp_flow, key.local);
	MIX_MEMBER(tp_flow, key.kind);
	MIX_MEMBER(tp_flow, value.remote);
	MIX_MEMBER(tp_flow, value.relays);
	MIX_MEMBER(tp_flow, value.remote_port);
	MIX_MEMBER(tp_flow, value.local_port);
	MIX_MEMBER(tp_flow, value.channel);
	MIX_MEMBER(tp_flow, value.local);
	MIX_MEMBER(tp_flow, value.flags);
	MIX_MEMBER(tp_flow, expires);
	MIX_MEMBER(tp_flow, recent);
	MIX_MEMBER(tp_flow, next_hop);
	MIX_MEMBER(tp_flow, sum_delta);
	MIX_MEMBER(tp_flow, peer_hop);
	MIX_MEMBER(tp_flow, label);
	MIX_MEMBER(tp_flow, id_mix);
	MIX_MEMBER(tp_flow, ip_sum_delta);
	MIX(TP_RECENT_PACKET);

	MIX(sizeof(struct tp_flow_detail));
	MIX_MEMBER(tp_flow_detail, counters.packets);
	MIX_MEMBER(tp_flow_detail, counters.bytes);
	MIX_MEMBER(tp_flow_detail, carries);
	MIX_MEMBER(tp_flow_detail, allocation);
	MIX_MEMBER(tp_flow_detail, policer);
	MIX_MEMBER(tp_flow_detail, granted);

	MIX(sizeof(struct tp_relay_ref));
	MIX_MEMBER(tp_relay_ref, port);
	MIX_MEMBER(tp_relay_ref, local);
	MIX_MEMBER(tp_relay_ref, used);

	MIX(sizeof(struct tp_bucket));
	MIX(sizeof(struct tp_local));
	MIX(sizeof(struct tp_ports));
	MIX(sizeof(struct tp_policer));
	MIX_MEMBER(tp_policer, paid_until_ns);

	MIX(sizeof(struct tp_kept));
	MIX_MEMBER(tp_kept, id);
	MIX_MEMBER(tp_kept, client_port);
	MIX_MEMBER(tp_kept, server_port);
	MIX_MEMBER(tp_kept, client);
	MIX_MEMBER(tp_kept, owner);
	MIX_MEMBER(tp_kept, quota);
	MIX_MEMBER(tp_kept, relays);
	MIX_MEMBER(tp_kept, server);
	MIX_MEMBER(tp_kept, transport);
	MIX_MEMBER(tp_kept, time_limited);
	MIX_MEMBER(tp_kept, name_len);
	MIX_MEMBER(tp_kept, name);

	MIX(sizeof(struct tp_next_hop));
	MIX_MEMBER(tp_next_hop, seq);
	MIX_MEMBER(tp_next_hop, ifindex);
	MIX_MEMBER(tp_next_hop, destination);
	MIX_MEMBER(tp_next_hop, source);
	MIX_MEMBER(tp_next_hop, vlan);
	MIX_MEMBER(tp_next_hop, mtu);
	MIX_MEMBER(tp_next_hop, interface);

	MIX(sizeof(struct tp_config));
	MIX_MEMBER(tp_config, magic);
	MIX_MEMBER(tp_config, abi);
	MIX_MEMBER(tp_config, layout);
	MIX_MEMBER(tp_config, gate);
	MIX_MEMBER(tp_config, unplaced);
	MIX_MEMBER(tp_config, buckets);
	MIX_MEMBER(tp_config, locals);
	MIX_MEMBER(tp_config, channel_max);
	MIX_MEMBER(tp_config, byte_ns);
	MIX_MEMBER(tp_config, salt);
	MIX_MEMBER(tp_config, backlog_ns);
	MIX_MEMBER(tp_config, own_mask);
	MIX_MEMBER(tp_config, label_key);
	MIX_MEMBER(tp_config, owner_key);

	MIX(sizeof(struct tp_worker_counters));
	MIX_MEMBER(tp_worker_counters, verdicts);
	MIX_MEMBER(tp_worker_counters, relayed);
	MIX_MEMBER(tp_worker_counters, hairpins);
	MIX_MEMBER(tp_worker_counters, bursts);
	MIX_MEMBER(tp_worker_counters, polls);
	MIX_MEMBER(tp_worker_counters, busy_ns);
	MIX_MEMBER(tp_worker_counters, up_ns);
	MIX_MEMBER(tp_worker_counters, epoch);
	MIX_MEMBER(tp_worker_counters, outputs);
	return hash;
}
