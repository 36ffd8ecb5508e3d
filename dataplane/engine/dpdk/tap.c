/*
 * The exception interface of a port: a TAP that carries the port's MAC and addresses, so that the
 * kernel does ARP, neighbour discovery, ICMP and the control plane's sockets as on any NIC.
 *
 * It is persistent and stays when this process ends, however it ends: addresses, routes and bound
 * sockets survive a restart of the workers. `ip link del tp0` removes it. Main thread, as root,
 * the carrier aside: that needs only the descriptor.
 */
#include "dpdk.h"

#include "base/cleanup.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <libmnl/libmnl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>

#define SEGMENTS_MAX 16

static bool write_frame(int tap, const struct rte_mbuf *frame)
{
	struct iovec parts[SEGMENTS_MAX];
	int used = 0;

	for (; frame; frame = frame->next) {
		if (used == SEGMENTS_MAX)
			return false;
		parts[used++] = (struct iovec){
			.iov_base = rte_pktmbuf_mtod(frame, void *), .iov_len = frame->data_len};
	}
	return writev(tap, parts, used) > 0;
}

static uint32_t write_frames(struct dpdk_port *port, struct rte_mbuf **frames, uint32_t count)
{
	uint32_t taken = 0;

	for (uint32_t i = 0; i < count; i++)
		taken += write_frame(port->tap, frames[i]);
	rte_pktmbuf_free_bulk(frames, count);
	return taken;
}

/* Into port->spare, which stays for the next time when there is nothing to read. */
static struct rte_mbuf *read_frame(struct dpdk_port *port, struct rte_mempool *pool)
{
	struct rte_mbuf *frame = port->spare ? port->spare : rte_pktmbuf_alloc(pool);
	ssize_t len;

	port->spare = frame;
	port->starved = frame == NULL;
	if (!frame)
		return NULL;
	len = read(port->tap, rte_pktmbuf_mtod(frame, void *), rte_pktmbuf_tailroom(frame));
	if (len <= 0)
		return NULL;
	port->spare = NULL;
	frame->data_len = (uint16_t)len;
	frame->pkt_len = (uint32_t)len;
	return frame;
}

static uint32_t read_frames(
	struct dpdk_port *port, struct rte_mempool *pool, struct rte_mbuf **frames, uint32_t room)
{
	uint32_t n = 0;

	while (n < room && (frames[n] = read_frame(port, pool)) != NULL)
		n++;
	return n;
}

static const struct dpdk_door tap_door = {write_frames, read_frames};

static int attach(int fd, const char *name)
{
	struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI};

	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
	if (ioctl(fd, TUNSETIFF, &request) != 0)
		return -errno;
	/* Frames leave by a NIC that is told nothing: sums finished, no segments to cut. */
	if (ioctl(fd, TUNSETOFFLOAD, 0) != 0 || ioctl(fd, TUNSETPERSIST, 1) != 0)
		return -errno;
	return 0;
}

static int make(struct dpdk_port *port, char reason[TP_REASON_SIZE])
{
	TP_AUTO_CLOSE int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	int err;

	if (fd < 0)
		return dpdk_refuse(reason, -errno, "/dev/net/tun: %s", strerror(errno));
	err = attach(fd, port->is.name);
	if (err == -EBUSY)
		return dpdk_refuse(reason, err,
			"exception interface %s is another process's: is turnpike-dataplane "
			"running already?",
			port->is.name);
	if (err)
		return dpdk_refuse(reason, err, "exception interface %s cannot be made: %s",
			port->is.name, strerror(-err));
	port->is.ifindex = if_nametoindex(port->is.name);
	port->tap = TP_TAKE_FD(fd);
	port->readable = port->tap;
	port->door = &tap_door;
	return 0;
}

/* Those that the configuration names are there, and no others; where it names none, the
 * interface's addresses are somebody else's business. */
static int set_addresses(struct mnl_socket *netlink, const struct dpdk_port *port,
	const struct tp_dpdk_port *options, char reason[TP_REASON_SIZE])
{
	int err = 0;

	if (options->addresses_count)
		err = dpdk_address_prune(
			netlink, port->is.ifindex, options->addresses, options->addresses_count);
	if (err)
		return dpdk_refuse(reason, err, "old addresses of %s cannot be removed: %s",
			port->is.name, strerror(-err));
	for (size_t i = 0; i < options->addresses_count; i++) {
		err = dpdk_address_add(netlink, port->is.ifindex, options->addresses[i]);
		if (err)
			return dpdk_refuse(reason, err, "%s does not take the address %s: %s",
				port->is.name, options->addresses[i], strerror(-err));
	}
	return 0;
}

static int set_gateways(struct mnl_socket *netlink, const struct dpdk_port *port,
	const struct tp_dpdk_port *options, char reason[TP_REASON_SIZE])
{
	for (size_t i = 0; i < options->gateways_count; i++) {
		int err = dpdk_gateway_add(netlink, port->is.ifindex, options->gateways[i]);

		if (err == -EEXIST)
			return dpdk_refuse(reason, err,
				"gateway %s: there is a default route already; remove it, or the "
				"gateway from the configuration",
				options->gateways[i]);
		if (err)
			return dpdk_refuse(reason, err, "gateway %s through %s: %s",
				options->gateways[i], port->is.name, strerror(-err));
	}
	return 0;
}

static int set_up(struct mnl_socket *netlink, const struct dpdk_port *port,
	const struct tp_dpdk_port *options, char reason[TP_REASON_SIZE])
{
	int err = dpdk_link_set(netlink, port);

	if (err)
		return dpdk_refuse(reason, err, "%s cannot be given the port's MAC and MTU: %s",
			port->is.name, strerror(-err));
	err = set_addresses(netlink, port, options, reason);
	return err ? err : set_gateways(netlink, port, options, reason);
}

int dpdk_tap_open(struct dpdk_port *port, struct rte_mempool *pool,
	const struct tp_dpdk_port *options, char reason[TP_REASON_SIZE])
{
	struct mnl_socket *netlink;
	int err;

	snprintf(port->is.name, sizeof(port->is.name), "tp%u", port->id);
	port->is.mode = "dpdk";
	port->is.attached = true;
	err = make(port, reason);
	if (err == 0 && options->exception == TP_EXCEPTION_VIRTIO_USER)
		err = dpdk_user_open(port, pool, reason);
	else
		port->spare = rte_pktmbuf_alloc(pool); /* from the start, so that counts agree */
	if (err)
		return err;
	netlink = dpdk_netlink_open();
	if (!netlink)
		return dpdk_refuse(reason, -errno, "rtnetlink: %s", strerror(errno));
	err = set_up(netlink, port, options, reason);
	mnl_socket_close(netlink);
	return err;
}

void dpdk_tap_set_carrier(const struct dpdk_port *port, bool on)
{
	int carrier = on;

	if (ioctl(port->tap, TUNSETCARRIER, &carrier) != 0)
		tp_warning("%s: carrier: %s", port->is.name, strerror(errno));
}

void dpdk_tap_drain(struct dpdk_port *port)
{
	rte_pktmbuf_free(port->spare);
	port->spare = NULL;
}

void dpdk_tap_close(struct dpdk_port *port)
{
	if (port->tap >= 0)
		close(port->tap);
	port->tap = -1;
}
