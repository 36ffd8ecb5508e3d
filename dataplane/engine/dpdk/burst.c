/*
 * What workers call for every burst: run to completion on the worker's own queues. Nothing is
 * allocated; a lock is taken only where a port has fewer transmit queues than there are workers.
 */
#include "dpdk.h"

#include <rte_ether.h>
#include <rte_prefetch.h>

/* What makes a frame one for irregular(): a tag beside the frame, sums that the port found wrong.
 */
#define ODD                                                                                        \
	(RTE_MBUF_F_RX_VLAN_STRIPPED | RTE_MBUF_F_RX_QINQ_STRIPPED | RTE_MBUF_F_RX_IP_CKSUM_BAD |  \
		RTE_MBUF_F_RX_L4_CKSUM_BAD)

static void add(atomic_ulong *counter, unsigned long frames)
{
	unsigned long before = atomic_load_explicit(counter, memory_order_relaxed);

	/* One writer each: no locked instruction. */
	if (frames)
		atomic_store_explicit(counter, before + frames, memory_order_relaxed);
}

/* BAD and GOOD together mean that the port does not know. */
static bool has_bad_sum(const struct rte_mbuf *frame)
{
	uint64_t flags = frame->ol_flags;

	return (flags & RTE_MBUF_F_RX_IP_CKSUM_MASK) == RTE_MBUF_F_RX_IP_CKSUM_BAD ||
	       (flags & RTE_MBUF_F_RX_L4_CKSUM_MASK) == RTE_MBUF_F_RX_L4_CKSUM_BAD;
}

/*
 * Puts back a tag that the port took off. False: it cannot, and without it the frame would be one
 * of another network. Of two tags nobody knows the outer one's type.
 */
static bool restore_tag(struct rte_mbuf **frame)
{
	uint64_t flags = (*frame)->ol_flags;

	if (flags & RTE_MBUF_F_RX_QINQ_STRIPPED)
		return false;
	return !(flags & RTE_MBUF_F_RX_VLAN_STRIPPED) || rte_vlan_insert(frame) == 0;
}

/* Makes one buffer of a frame in pieces. False: it cannot, or the kernel shall judge the frame. */
static bool regularize(struct rte_mbuf *frame)
{
	if (frame->nb_segs > 1 && rte_pktmbuf_linearize(frame) != 0)
		return false;
	return !has_bad_sum(frame);
}

static void irregular(
	struct tp_backend *backend, struct dpdk_worker *worker, struct rte_mbuf *frame)
{
	add(&worker->irregular, 1);
	add(&worker->kernel_full, 1 - dpdk_exception_pass(backend, &frame, 1));
}

static void describe(struct rte_mbuf *frame, uint32_t ingress, struct tp_packet *pkt)
{
	uint8_t *room = frame->buf_addr;
	uint8_t *data = room + frame->data_off;

	rte_prefetch0(data);
	pkt->data = data;
	pkt->end = data + frame->data_len;
	pkt->room = room;
	pkt->room_end = room + frame->buf_len;
	pkt->ingress = ingress;
}

static bool is_odd(const struct rte_mbuf *frame)
{
	return frame->nb_segs > 1 || (frame->ol_flags & ODD);
}

/* Of `count` frames, those that are for the core, close together; returns how many. */
static __rte_noinline uint32_t sort_out(struct tp_backend *backend, uint32_t worker,
	const struct dpdk_port *port, struct tp_packet *pkts, struct tp_frame *frames,
	uint32_t count)
{
	uint32_t regular = 0;

	for (uint32_t i = 0; i < count; i++) {
		struct rte_mbuf *frame = frames[i].cookie;

		frame->port = port->id;
		if (is_odd(frame) && !restore_tag(&frame)) {
			add(&backend->states[worker].tagless, 1);
			rte_pktmbuf_free(frame);
			continue;
		}
		if (is_odd(frame) && !regularize(frame)) {
			irregular(backend, &backend->states[worker], frame);
			continue;
		}
		describe(frame, port->is.ifindex, &pkts[regular]);
		frames[regular++].cookie = frame;
	}
	return regular;
}

_Static_assert(sizeof(struct tp_frame) == sizeof(struct rte_mbuf *), "a cookie and nothing else");

/* Up to `most` frames of one queue; how many of them are for the core. */
static uint32_t receive_port(struct tp_backend *backend, uint32_t worker, struct dpdk_port *port,
	struct tp_packet *pkts, struct tp_frame *frames, uint16_t most)
{
	const uint32_t ingress = port->is.ifindex;
	const uint16_t id = port->id;
	uint16_t n = rte_eth_rx_burst(id, (uint16_t)worker, (void *)frames, most);

	for (uint16_t i = 0; i < n; i++) {
		struct rte_mbuf *frame = frames[i].cookie;

		if (unlikely(is_odd(frame)))
			return i + sort_out(backend, worker, port, pkts + i, frames + i, n - i);
		frame->port = id; /* not every driver says it */
		describe(frame, ingress, &pkts[i]);
	}
	return n;
}

/* Returns how many found room; the others are freed. */
static uint16_t transmit(
	struct dpdk_port *port, uint32_t worker, struct rte_mbuf **frames, uint16_t n)
{
	uint16_t queue = (uint16_t)(worker % port->tx_queues), sent;

	if (unlikely(port->shared)) {
		rte_spinlock_lock(&port->tx_locks[queue]);
		sent = rte_eth_tx_burst(port->id, queue, frames, n);
		rte_spinlock_unlock(&port->tx_locks[queue]);
	} else {
		sent = rte_eth_tx_burst(port->id, queue, frames, n);
	}
	if (unlikely(sent < n))
		rte_pktmbuf_free_bulk(frames + sent, n - sent);
	return sent;
}

/* A batch a port: the kernel's own frames, before those of this burst. */
static void send_from_kernel(struct tp_backend *backend)
{
	struct dpdk_worker *worker = &backend->states[0];

	for (size_t i = 0; i < backend->ports_count; i++) {
		struct dpdk_port *port = &backend->ports[i];
		uint16_t n;

		if (likely(rte_ring_empty(port->from_kernel)))
			continue;
		n = (uint16_t)rte_ring_sc_dequeue_burst(
			port->from_kernel, (void **)worker->got, DPDK_BATCH, NULL);
		add(&worker->kernel_full, n - transmit(port, 0, worker->got, n));
	}
}

/* The port whose turn is next. */
static uint32_t after(const struct tp_backend *backend, uint32_t port)
{
	return port + 1 < backend->ports_count ? port + 1 : 0;
}

uint32_t dpdk_receive(struct tp_backend *backend, uint32_t worker, struct tp_packet *pkts,
	struct tp_frame *frames)
{
	struct dpdk_worker *state = &backend->states[worker];
	uint32_t n = 0, next = state->first;

	if (worker == 0)
		send_from_kernel(backend);
	state->first = after(backend, next);
	for (size_t i = 0; i < backend->ports_count && n < TP_BURST; i++) {
		struct dpdk_port *port = &backend->ports[next];

		next = after(backend, next);
		if (worker < port->rx_queues)
			n += receive_port(backend, worker, port, pkts + n, frames + n,
				(uint16_t)(TP_BURST - n));
	}
	return n;
}

/* The core moved the frame's ends. */
static struct rte_mbuf *finish(const struct tp_packet *pkt, const struct tp_frame *frame)
{
	struct rte_mbuf *mbuf = frame->cookie;

	mbuf->data_off = (uint16_t)(pkt->data - (uint8_t *)mbuf->buf_addr);
	mbuf->data_len = (uint16_t)(pkt->end - pkt->data);
	mbuf->pkt_len = mbuf->data_len;
	return mbuf;
}

static uint32_t port_of(
	const struct tp_backend *backend, const struct tp_packet *pkt, const struct rte_mbuf *frame)
{
	return pkt->egress == pkt->ingress ? backend->index_of[frame->port] : pkt->interface;
}

static bool go_together(const struct tp_packet *a, const struct tp_packet *b)
{
	return a->egress == b->egress && a->interface == b->interface && a->ingress == b->ingress;
}

/* Finished ones, by ports. */
static uint32_t send_apart(struct tp_backend *backend, uint32_t worker,
	const struct tp_packet *pkts, struct rte_mbuf **frames, uint32_t count)
{
	struct dpdk_batch *batches = backend->states[worker].batches;
	uint32_t sent = 0;

	for (uint32_t i = 0; i < count; i++) {
		struct dpdk_batch *batch = &batches[port_of(backend, &pkts[i], frames[i])];

		batch->frames[batch->count++] = frames[i];
	}
	for (size_t i = 0; i < backend->ports_count; i++) {
		if (batches[i].count == 0)
			continue;
		sent += transmit(&backend->ports[i], worker, batches[i].frames, batches[i].count);
		batches[i].count = 0;
	}
	return sent;
}

uint32_t dpdk_send(struct tp_backend *backend, uint32_t worker, const struct tp_packet *pkts,
	const struct tp_frame *frames, uint32_t count)
{
	struct rte_mbuf **out = backend->states[worker].out;
	bool together = true;

	for (uint32_t i = 0; i < count; i++) {
		out[i] = finish(&pkts[i], &frames[i]);
		if (unlikely(!go_together(&pkts[i], &pkts[0])))
			together = false;
	}
	if (unlikely(!together))
		return send_apart(backend, worker, pkts, out, count);
	return transmit(
		&backend->ports[port_of(backend, &pkts[0], out[0])], worker, out, (uint16_t)count);
}

static void take_frames(
	const struct tp_frame *frames, uint32_t count, struct rte_mbuf *out[TP_BURST])
{
	for (uint32_t i = 0; i < count; i++)
		out[i] = frames[i].cookie;
}

uint32_t dpdk_pass(struct tp_backend *backend, uint32_t worker, const struct tp_packet *pkts,
	const struct tp_frame *frames, uint32_t count)
{
	struct rte_mbuf *mbufs[TP_BURST] TP_UNSET;

	take_frames(frames, count, mbufs);
	return dpdk_exception_pass(backend, mbufs, count);
}

uint32_t dpdk_output(struct tp_backend *backend, uint32_t worker, const struct tp_packet *pkts,
	const struct tp_frame *frames, uint32_t count)
{
	struct rte_mbuf *mbufs[TP_BURST] TP_UNSET;

	for (uint32_t i = 0; i < count; i++) {
		mbufs[i] = finish(&pkts[i], &frames[i]);
		mbufs[i]->port = DPDK_NO_PORT;
	}
	return dpdk_exception_pass(backend, mbufs, count);
}

void dpdk_release(
	struct tp_backend *backend, uint32_t worker, const struct tp_frame *frames, uint32_t count)
{
	struct rte_mbuf *mbufs[TP_BURST] TP_UNSET;

	take_frames(frames, count, mbufs);
	rte_pktmbuf_free_bulk(mbufs, count);
}
