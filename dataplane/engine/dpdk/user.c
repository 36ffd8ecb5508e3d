/*
 * The exception interface through DPDK's virtio-user and the kernel's vhost-net: the same TAP,
 * whose frames a thread of the kernel copies, without system calls of ours. open: main thread, as
 * root; frames: the exception thread.
 */
#include "dpdk.h"

#include "base/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <rte_bus.h>
#include <rte_dev.h>
#include <rte_errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define VHOST_NET "/dev/vhost-net"

int dpdk_user_check(const struct tp_dpdk_port *options, char reason[TP_REASON_SIZE])
{
	if (options->exception != TP_EXCEPTION_VIRTIO_USER || access(VHOST_NET, R_OK | W_OK) == 0)
		return 0;
	return dpdk_refuse(reason, -errno,
		"port %u: exception: virtio-user needs " VHOST_NET
		": %s; load vhost_net, or use tap",
		options->port, strerror(errno));
}

static uint32_t write_frames(struct dpdk_port *port, struct rte_mbuf **frames, uint32_t count)
{
	uint16_t sent = rte_eth_tx_burst(port->user, 0, frames, (uint16_t)count);

	rte_pktmbuf_free_bulk(frames + sent, count - sent);
	return sent;
}

/* The kernel signals what comes after the last look: cleared before looking, nothing is missed. */
static uint32_t read_frames(
	struct dpdk_port *port, struct rte_mempool *pool, struct rte_mbuf **frames, uint32_t room)
{
	uint64_t signals;

	if (read(port->readable, &signals, sizeof(signals)) < 0 && errno != EAGAIN)
		tp_debug("%s: %s", port->is.name, strerror(errno));
	return rte_eth_rx_burst(port->user, 0, frames, (uint16_t)room);
}

static const struct dpdk_door user_door = {write_frames, read_frames};

/* The TAP stays, since it is persistent; the driver opens it again. */
static int plug(struct dpdk_port *port)
{
	char name[32], arguments[160];
	int err;

	close(port->tap);
	port->tap = -1;
	snprintf(name, sizeof(name), "net_virtio_user%u", port->id);
	snprintf(arguments, sizeof(arguments),
		"path=" VHOST_NET ",queues=1,queue_size=%d,iface=%s,mac=" RTE_ETHER_ADDR_PRT_FMT,
		DPDK_USER_SIZE, port->is.name, RTE_ETHER_ADDR_BYTES(&port->mac));
	err = rte_eal_hotplug_add("vdev", name, arguments);
	return err ? err : rte_eth_dev_get_port_by_name(name, &port->user);
}

static int start(struct dpdk_port *port, struct rte_mempool *pool)
{
	struct rte_eth_conf config = {.rxmode.mtu = port->mtu, .intr_conf.rxq = 1};
	int err = rte_eth_dev_configure(port->user, 1, 1, &config);

	if (err == 0)
		err = rte_eth_rx_queue_setup(
			port->user, 0, DPDK_USER_SIZE, SOCKET_ID_ANY, NULL, pool);
	if (err == 0)
		err = rte_eth_tx_queue_setup(port->user, 0, DPDK_USER_SIZE, SOCKET_ID_ANY, NULL);
	if (err == 0)
		err = rte_eth_dev_start(port->user);
	return err ? err : rte_eth_dev_rx_intr_enable(port->user, 0);
}

static bool is_tap(int fd, const char *name)
{
	struct ifreq request = {0};

	return ioctl(fd, TUNGETIFF, &request) == 0 && strcmp(request.ifr_name, name) == 0;
}

/* The driver keeps its descriptor to itself, and the carrier can be set by one only. */
static int copy_of_drivers_tap(const char *name)
{
	DIR *open_files = opendir("/proc/self/fd");
	struct dirent *entry;
	int copy = -1;

	while (open_files && copy < 0 && (entry = readdir(open_files)) != NULL) {
		int fd = atoi(entry->d_name);

		if (entry->d_name[0] != '.' && is_tap(fd, name))
			copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	}
	if (open_files)
		closedir(open_files);
	return copy;
}

int dpdk_user_open(struct dpdk_port *port, struct rte_mempool *pool, char reason[TP_REASON_SIZE])
{
	int err = plug(port);

	port->has_user = err == 0;
	if (err == 0)
		err = start(port, pool);
	if (err)
		return dpdk_refuse(reason, err, "%s cannot be had through vhost-net: %s",
			port->is.name, rte_strerror(-err));
	port->tap = copy_of_drivers_tap(port->is.name);
	port->readable = rte_eth_dev_rx_intr_ctl_q_get_fd(port->user, 0);
	if (port->tap < 0 || port->readable < 0)
		return dpdk_refuse(
			reason, -EBADF, "%s: virtio-user hides its descriptors", port->is.name);
	fcntl(port->readable, F_SETFL, fcntl(port->readable, F_GETFL) | O_NONBLOCK);
	port->door = &user_door;
	return 0;
}

void dpdk_user_close(struct dpdk_port *port)
{
	if (!port->has_user)
		return;
	rte_eth_dev_stop(port->user);
	rte_eth_dev_close(port->user);
	port->has_user = false;
}
