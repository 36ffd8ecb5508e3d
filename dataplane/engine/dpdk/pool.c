/* The one pool of buffers of all ports. Main thread. */
#include "dpdk.h"

#include <errno.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_mbuf_pool_ops.h>
#include <rte_memzone.h>

#define CACHE_SIZE 256 /* buffers that each thread keeps for itself */

/* Beside the IP packet: Ethernet, two VLAN tags, and what padding may add at the tail. */
#define FRAME_OVERHEAD (RTE_ETHER_HDR_LEN + 2 * 4 + 64)

/* Enough for every queue and ring to be full at once, and every thread's cache with it. */
static uint32_t count_buffers(const struct tp_backend *backend)
{
	uint32_t threads = backend->workers + 2;
	uint32_t buffers = threads * (CACHE_SIZE * 3 / 2 + TP_BURST) + DPDK_TO_KERNEL_SIZE;

	for (size_t i = 0; i < backend->ports_count; i++) {
		const struct dpdk_port *port = &backend->ports[i];

		buffers += (uint32_t)port->rx_queues * RTE_MAX(port->rx_size, DPDK_AF_XDP_QUEUE) +
			   (uint32_t)port->tx_queues * RTE_MAX(port->tx_size, DPDK_AF_XDP_QUEUE) +
			   DPDK_FROM_KERNEL_SIZE + 2 * DPDK_USER_SIZE;
	}
	return buffers;
}

static uint16_t buffer_size(const struct tp_backend *backend)
{
	uint32_t size = RTE_MBUF_DEFAULT_DATAROOM;

	for (size_t i = 0; i < backend->ports_count; i++) {
		uint32_t frame = backend->ports[i].mtu + FRAME_OVERHEAD;

		if (frame > size)
			size = RTE_ALIGN(frame, 64);
	}
	return (uint16_t)RTE_MIN(size + RTE_PKTMBUF_HEADROOM, UINT16_MAX);
}

static void free_zone(struct rte_mempool_memhdr *header, void *arg)
{
	rte_memzone_free(rte_memzone_lookup(DPDK_POOL));
}

/*
 * Where devices see virtual addresses, buffers may lie across pages: one after the other, without
 * gaps. net_af_xdp relies on that; and plain pages would hold but one buffer each.
 */
static int fill_one_zone(struct rte_mempool *pool)
{
	size_t size =
		(size_t)pool->size * (pool->header_size + pool->elt_size + pool->trailer_size);
	const struct rte_memzone *zone =
		rte_memzone_reserve_aligned(DPDK_POOL, size + RTE_MEMPOOL_ALIGN, pool->socket_id,
			RTE_MEMZONE_IOVA_CONTIG, RTE_MEMPOOL_ALIGN);
	int count;

	if (!zone)
		return -rte_errno;
	count = rte_mempool_populate_iova(pool, zone->addr, zone->iova, zone->len, free_zone, NULL);
	if (count == (int)pool->size)
		return 0;
	if (count < 0)
		rte_memzone_free(zone);
	return count < 0 ? count : -ENOMEM;
}

static int fill(struct rte_mempool *pool, uint16_t size)
{
	struct rte_pktmbuf_pool_private shape = {.mbuf_data_room_size = size};
	int err = rte_mempool_set_ops_byname(pool, rte_mbuf_best_mempool_ops(), NULL);

	if (err)
		return err;
	rte_pktmbuf_pool_init(pool, &shape);
	if (rte_eal_iova_mode() == RTE_IOVA_VA)
		err = fill_one_zone(pool);
	else
		err = rte_mempool_populate_default(pool);
	if (err < 0)
		return err;
	rte_mempool_obj_iter(pool, rte_pktmbuf_init, NULL);
	return 0;
}

int dpdk_pool_open(struct tp_backend *backend, char reason[TP_REASON_SIZE])
{
	uint32_t count = count_buffers(backend);
	uint16_t size = buffer_size(backend);
	int node = rte_eth_dev_socket_id(backend->ports[0].id), err = 0;
	unsigned int flags = rte_eal_iova_mode() == RTE_IOVA_VA ? RTE_MEMPOOL_F_NO_IOVA_CONTIG : 0;

	backend->pool = rte_mempool_create_empty(DPDK_POOL, count, sizeof(struct rte_mbuf) + size,
		CACHE_SIZE, sizeof(struct rte_pktmbuf_pool_private), node, flags);
	err = backend->pool ? fill(backend->pool, size) : -rte_errno;
	if (err)
		return dpdk_refuse(reason, err, "no memory for %u buffers of %u bytes: %s", count,
			size, rte_strerror(-err));
	return 0;
}
