/*
 * DPDK over memif: the back end has the servers, the test has the clients at the other ends, in the
 * same process and out of the same pool. Between them two ports that are only there to be passed
 * over. What goes to the kernel is read from the exception interface.
 */
#include "wire.h"

#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

/* DPDK's numbers are in the order of the arguments. */
static const char *const eal[] = {
	"--no-pci",
	"--no-huge",
	"--vdev=net_memif0,role=server,id=0,socket=turnpike-vectors",
	"--vdev=net_null0,no-rx=1",
	"--vdev=net_null1,no-rx=1",
	"--vdev=net_memif1,role=server,id=1,socket=turnpike-vectors",
	"--vdev=net_memif2,role=client,id=0,socket=turnpike-vectors",
	"--vdev=net_memif3,role=client,id=1,socket=turnpike-vectors",
};

static const struct tp_dpdk_port ports[] = {{.port = 0}, {.port = 1}, {.port = 2}, {.port = 3}};

static const struct tp_engine_options options = {
	.workers = 1,
	.idle_sleep_us = 20, /* two threads that only poll are hard on a small machine */
	.eal = eal,
	.eal_count = sizeof(eal) / sizeof(eal[0]),
	.ports = ports,
	.ports_count = sizeof(ports) / sizeof(ports[0]),
};

static const uint16_t others[] = {[0] = 4, [WIRE_REDIRECT] = 5};
static struct rte_mempool *pool;
static int kernel = -1;

static bool take_port(uint16_t port)
{
	struct rte_eth_conf config = {0};

	return rte_eth_dev_configure(port, 1, 1, &config) == 0 &&
	       rte_eth_rx_queue_setup(port, 0, 512, SOCKET_ID_ANY, NULL, pool) == 0 &&
	       rte_eth_tx_queue_setup(port, 0, 512, SOCKET_ID_ANY, NULL) == 0 &&
	       rte_eth_dev_start(port) == 0;
}

static bool becomes(uint16_t port, bool up)
{
	uint64_t end = tp_clock_now_ns() + 20 * TP_NS_PER_S;
	struct rte_eth_link link = {0};

	while (tp_clock_now_ns() < end) {
		if (rte_eth_link_get_nowait(port, &link) == 0 && link.link_status == up)
			return true;
		usleep(10000);
	}
	return false;
}

/* A memif client gives the server buffers to send in when it looks for frames. */
static bool is_ready(uint16_t port)
{
	struct rte_mbuf *frame;

	return becomes(port, true) && rte_eth_rx_burst(port, 0, &frame, 1) == 0;
}

static bool connect_wire(const char **reason)
{
	pool = rte_mempool_lookup("frames");
	kernel = wire_open_device("tp0");
	*reason = !pool ? "no pool" : kernel < 0 ? "no exception interface" : NULL;
	if (*reason)
		return false;
	*reason = "memif does not connect";
	return take_port(others[0]) && take_port(others[WIRE_REDIRECT]) && becomes(0, true) &&
	       becomes(3, true) && is_ready(others[0]) && is_ready(others[WIRE_REDIRECT]);
}

static void put(const struct frame *in)
{
	struct rte_mbuf *frame = rte_pktmbuf_alloc(pool);

	if (!frame)
		return;
	memcpy(rte_pktmbuf_append(frame, (uint16_t)in->len), in->bytes, in->len);
	while (rte_eth_tx_burst(others[0], 0, &frame, 1) == 0)
		;
}

static bool left(uint32_t interface, struct frame *out)
{
	struct rte_mbuf *frame;

	if (rte_eth_rx_burst(others[interface], 0, &frame, 1) == 0)
		return false;
	out->len = frame->pkt_len;
	memcpy(out->bytes, rte_pktmbuf_mtod(frame, void *), frame->data_len);
	rte_pktmbuf_free(frame);
	return true;
}

static bool passed(struct frame *out)
{
	return wire_read(kernel, out);
}

static uint32_t held(void)
{
	return rte_mempool_in_use_count(pool);
}

static void disconnect(void)
{
	close(kernel);
	rte_eth_dev_stop(others[0]);
	rte_eth_dev_stop(others[WIRE_REDIRECT]);
	rte_eth_dev_close(others[0]);
	rte_eth_dev_close(others[WIRE_REDIRECT]);
	/* The servers hear of it in a thread of EAL's, which must not meet their own end. */
	becomes(0, false);
	becomes(WIRE_REDIRECT, false);
}

static const struct wire wire_dpdk = {
	.name = "dpdk",
	.backend = &tp_backend_dpdk,
	.options = &options,
	.connect = connect_wire,
	.put = put,
	.left = left,
	.passed = passed,
	.held = held,
	.disconnect = disconnect,
};

const struct wire *const the_wire = &wire_dpdk;
