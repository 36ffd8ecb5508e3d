/*
 * A port of DPDK: a NIC or a virtual device, one receive and one transmit queue for each worker.
 * Frames come and go whole: VLAN tags stay in them, and no checksum is left to the port, since the
 * core corrects sums by what it changes. Main thread.
 */
#include "dpdk.h"

#include "base/log.h"

#include <errno.h>
#include <rte_ethdev.h>
#include <stdio.h>
#include <string.h>

#define DESCRIPTORS 1024

static const char *name_of(const struct dpdk_port *port, char out[RTE_ETH_NAME_MAX_LEN])
{
	if (rte_eth_dev_get_name_by_port(port->id, out) != 0)
		snprintf(out, RTE_ETH_NAME_MAX_LEN, "?");
	return out;
}

static uint16_t queues(uint32_t workers, uint16_t most)
{
	return workers < most ? (uint16_t)workers : most;
}

static void take_descriptors(struct dpdk_port *port, const struct rte_eth_dev_info *info)
{
	port->rx_size = DESCRIPTORS;
	port->tx_size = DESCRIPTORS;
	if (rte_eth_dev_adjust_nb_rx_tx_desc(port->id, &port->rx_size, &port->tx_size) != 0)
		tp_debug("port %u: keeps %u descriptors a queue", port->id, DESCRIPTORS);
}

int dpdk_port_inspect(struct dpdk_port *port, uint32_t workers, char reason[TP_REASON_SIZE])
{
	struct rte_eth_dev_info info;
	int err;

	if (!rte_eth_dev_is_valid_port(port->id))
		return dpdk_refuse(reason, -ENODEV,
			"EAL found no port %u, only %u ports: see dataplane.dpdk.eal", port->id,
			rte_eth_dev_count_avail());
	err = rte_eth_dev_info_get(port->id, &info);
	if (err == 0)
		err = rte_eth_macaddr_get(port->id, &port->mac);
	if (err == 0)
		err = rte_eth_dev_get_mtu(port->id, &port->mtu);
	if (err)
		return dpdk_refuse(reason, err, "port %u does not tell what it is: %s", port->id,
			rte_strerror(-err));
	port->rx_queues = queues(workers, info.max_rx_queues);
	port->tx_queues = queues(workers, info.max_tx_queues);
	if (port->rx_queues == 0 || port->tx_queues == 0)
		return dpdk_refuse(reason, -EINVAL, "port %u has no queues", port->id);
	take_descriptors(port, &info);
	return 0;
}

/* Each flow to one worker: by addresses and ports, where the port can tell them. */
static void spread(struct rte_eth_conf *config, const struct rte_eth_dev_info *info)
{
	uint64_t udp = RTE_ETH_RSS_NONFRAG_IPV4_UDP | RTE_ETH_RSS_NONFRAG_IPV6_UDP;
	uint64_t kinds = udp & info->flow_type_rss_offloads;

	if (kinds != udp)
		kinds |= RTE_ETH_RSS_IP & info->flow_type_rss_offloads;
	if (kinds == 0)
		return;
	config->rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
	config->rx_adv_conf.rss_conf.rss_hf = kinds;
}

static int configure(struct dpdk_port *port, struct rte_eth_dev_info *info)
{
	struct rte_eth_conf config = {.rxmode.mtu = port->mtu, .intr_conf.rxq = port->interrupts};

	/* What the port found broken is the kernel's to judge (burst.c). */
	config.rxmode.offloads = info->rx_offload_capa &
				 (RTE_ETH_RX_OFFLOAD_IPV4_CKSUM | RTE_ETH_RX_OFFLOAD_UDP_CKSUM);
	/* Legal: one pool, and no frame has two owners. */
	config.txmode.offloads = info->tx_offload_capa & RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE;
	if (port->rx_queues > 1)
		spread(&config, info);
	info->default_rxconf.offloads = config.rxmode.offloads;
	info->default_txconf.offloads = config.txmode.offloads;
	return rte_eth_dev_configure(port->id, port->rx_queues, port->tx_queues, &config);
}

static int open_queues(
	struct dpdk_port *port, const struct rte_eth_dev_info *info, struct rte_mempool *pool)
{
	unsigned int node = (unsigned int)rte_eth_dev_socket_id(port->id);
	int err = 0;

	for (uint16_t i = 0; err == 0 && i < port->rx_queues; i++)
		err = rte_eth_rx_queue_setup(
			port->id, i, port->rx_size, node, &info->default_rxconf, pool);
	for (uint16_t i = 0; err == 0 && i < port->tx_queues; i++)
		err = rte_eth_tx_queue_setup(
			port->id, i, port->tx_size, node, &info->default_txconf);
	return err;
}

int dpdk_port_open(struct dpdk_port *port, struct rte_mempool *pool, bool interrupts,
	char reason[TP_REASON_SIZE])
{
	char name[RTE_ETH_NAME_MAX_LEN];
	struct rte_eth_dev_info info;
	int err = rte_eth_dev_info_get(port->id, &info);

	port->interrupts = interrupts;
	if (err == 0)
		err = configure(port, &info);
	if (err == 0)
		err = open_queues(port, &info, pool);
	if (err)
		return dpdk_refuse(reason, err, "port %u (%s) cannot be set up: %s", port->id,
			name_of(port, name), rte_strerror(-err));
	port->keeps = strcmp(info.driver_name, "net_af_xdp") == 0;
	for (size_t i = 0; i < TP_WORKERS_MAX; i++)
		rte_spinlock_init(&port->tx_locks[i]);
	tp_info("port %u: %s (%s), %u receive and %u transmit queues, MTU %u", port->id,
		name_of(port, name), info.driver_name, port->rx_queues, port->tx_queues, port->mtu);
	return 0;
}

/* Neighbour discovery and the kernel's groups: all multicast, since the kernel filters anyway. */
static void take_multicast(const struct dpdk_port *port)
{
	int err = rte_eth_allmulticast_enable(port->id);

	if (err)
		err = rte_eth_promiscuous_enable(port->id);
	if (err)
		tp_warning("port %u filters multicast, %s: IPv6 neighbours may not find us",
			port->id, rte_strerror(-err));
}

/* Only some ways to a NIC have an interrupt to spare for each queue. */
static int start_without_interrupts(struct dpdk_port *port, struct rte_mempool *pool)
{
	char reason[TP_REASON_SIZE];
	int err = dpdk_port_open(port, pool, false, reason);

	return err ? err : rte_eth_dev_start(port->id);
}

int dpdk_port_start(struct dpdk_port *port, struct rte_mempool *pool, char reason[TP_REASON_SIZE])
{
	int err = rte_eth_dev_start(port->id);

	if (err && port->interrupts) {
		tp_info("port %u: no interrupts from its queues: %s", port->id, rte_strerror(-err));
		err = start_without_interrupts(port, pool);
	}
	if (err)
		return dpdk_refuse(
			reason, err, "port %u cannot be started: %s", port->id, rte_strerror(-err));
	port->started = true;
	take_multicast(port);
	return 0;
}

bool dpdk_port_follow(struct dpdk_port *port)
{
	struct rte_eth_link link = {0};
	bool up = port->up;

	if (rte_eth_link_get_nowait(port->id, &link) == 0)
		up = link.link_status == RTE_ETH_LINK_UP;
	if (up == port->up)
		return false;
	port->up = up;
	return true;
}

void dpdk_port_close(struct dpdk_port *port)
{
	if (port->started)
		rte_eth_dev_stop(port->id);
	port->started = false;
	if (rte_eth_dev_is_valid_port(port->id))
		rte_eth_dev_close(port->id);
}
