/*
 * One AF_XDP socket and its frames. Every frame is in one place (enum afxdp_place), and every
 * address that the kernel hands back is checked against that before it is used.
 */
#include "afxdp.h"

#include <errno.h>
#include <linux/if_xdp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>

/*
 * As many frames as can be with the kernel at a time, so that receiving and sending never take
 * each other's: the fill ring, the transmit ring, and what is sent but not yet completed.
 */
#define FILL_SIZE   2048
#define TX_SIZE     1024
#define FRAMES      (FILL_SIZE + 2 * TX_SIZE)
#define FILL_BATCH  64
#define HUGE_PAGE   (UINT32_C(2) << 20)
#define SEND_BUFFER (64 << 20) /* the kernel charges its copies to the socket */
#define HEADROOM    256        /* XDP_PACKET_HEADROOM: the kernel leaves that much by itself */

/* For a socket of a killed predecessor to go. */
#define BUSY_TRIES   250
#define BUSY_STEP_NS 20000000

/* How often a burst asks the kernel to go on; it sends 32 frames a call where it copies. */
#define KICKS 6

#ifndef SO_PREFER_BUSY_POLL
#define SO_PREFER_BUSY_POLL 69
#define SO_BUSY_POLL_BUDGET 70
#endif

uint32_t afxdp_frame_max(uint32_t frame_shift)
{
	return (UINT32_C(1) << frame_shift) - HEADROOM;
}

static uint64_t address_of(const struct afxdp_queue *q, uint32_t index)
{
	return (uint64_t)index << q->frame_shift;
}

static void put_free(struct afxdp_queue *q, uint32_t index)
{
	q->places[index] = AFXDP_FREE;
	q->free[q->free_count++] = index;
}

/* The frame that lies there, when it is where it is said to be; else FRAMES. */
static uint32_t take_from(struct afxdp_queue *q, uint64_t address, enum afxdp_place place)
{
	uint64_t index = address >> q->frame_shift;

	if (TP_LIKELY(index < FRAMES && q->places[index] == place))
		return (uint32_t)index;
	q->broken = true;
	return FRAMES;
}

static void fill(struct afxdp_queue *q)
{
	uint32_t count = FILL_SIZE - q->filled, at;

	if (count > q->free_count)
		count = q->free_count;
	if (count < FILL_BATCH || xsk_ring_prod__reserve(&q->fill, count, &at) != count)
		return;
	for (uint32_t i = 0; i < count; i++) {
		uint32_t index = q->free[--q->free_count];

		q->places[index] = AFXDP_FILL;
		*xsk_ring_prod__fill_addr(&q->fill, at + i) = address_of(q, index);
	}
	xsk_ring_prod__submit(&q->fill, count);
	q->filled += count;
	if (TP_UNLIKELY(xsk_ring_prod__needs_wakeup(&q->fill)))
		recvfrom(q->fd, NULL, 0, MSG_DONTWAIT, NULL, NULL);
}

static bool take_received(
	struct afxdp_queue *q, const struct xdp_desc *desc, struct tp_packet *pkt, uint32_t *index)
{
	uint32_t size = UINT32_C(1) << q->frame_shift, offset = (uint32_t)desc->addr & (size - 1);
	uint8_t *frame;

	*index = take_from(q, desc->addr, AFXDP_FILL);
	if (TP_UNLIKELY(*index == FRAMES || desc->len > size - offset)) {
		q->broken = true;
		return false;
	}
	q->places[*index] = AFXDP_WORKER;
	frame = q->umem + address_of(q, *index);
	pkt->data = frame + offset;
	pkt->end = pkt->data + desc->len;
	pkt->ingress = q->ingress;
	pkt->room = frame;
	pkt->room_end = frame + size;
	return true;
}

uint32_t afxdp_queue_receive(
	struct afxdp_queue *q, struct tp_packet *pkts, uint32_t *indexes, uint32_t max)
{
	uint32_t at, count, taken = 0;

	if (TP_UNLIKELY(q->broken))
		return 0;
	if (TP_UNLIKELY(q->unfinished))
		afxdp_queue_flush(q);
	count = xsk_ring_cons__peek(&q->rx, max, &at);
	if (count == 0)
		return 0;
	for (uint32_t i = 0; i < count && !q->broken; i++) {
		const struct xdp_desc *desc = xsk_ring_cons__rx_desc(&q->rx, at + i);

		if (TP_LIKELY(take_received(q, desc, &pkts[taken], &indexes[taken])))
			taken++;
	}
	xsk_ring_cons__release(&q->rx, count);
	q->filled -= count;
	fill(q);
	return taken;
}

void afxdp_queue_release(struct afxdp_queue *q, uint32_t index)
{
	put_free(q, index);
}

static bool put_tx(struct afxdp_queue *q, uint32_t index, uint64_t address, uint32_t len)
{
	struct xdp_desc *desc;
	uint32_t at;

	if (TP_UNLIKELY(xsk_ring_prod__reserve(&q->tx, 1, &at) != 1))
		return false;
	desc = xsk_ring_prod__tx_desc(&q->tx, at);
	*desc = (struct xdp_desc){.addr = address, .len = len};
	q->places[index] = AFXDP_TX;
	q->unsent++;
	return true;
}

bool afxdp_queue_send(struct afxdp_queue *q, uint32_t index, const struct tp_packet *pkt)
{
	return put_tx(q, index, (uint64_t)(pkt->data - q->umem), (uint32_t)(pkt->end - pkt->data));
}

bool afxdp_queue_send_copy(struct afxdp_queue *q, const struct tp_packet *pkt)
{
	uint32_t len = (uint32_t)(pkt->end - pkt->data), index;
	uint64_t address;

	if (TP_UNLIKELY(q->broken || q->free_count == 0 || len > afxdp_frame_max(q->frame_shift)))
		return false;
	index = q->free[q->free_count - 1];
	address = address_of(q, index) + HEADROOM;
	if (!put_tx(q, index, address, len))
		return false;
	q->free_count--;
	memcpy(q->umem + address, pkt->data, len);
	return true;
}

void afxdp_queue_reap(struct afxdp_queue *q)
{
	uint32_t at, count = xsk_ring_cons__peek(&q->completion, TX_SIZE, &at);

	if (count == 0)
		return;
	for (uint32_t i = 0; i < count; i++) {
		uint32_t index =
			take_from(q, *xsk_ring_cons__comp_addr(&q->completion, at + i), AFXDP_TX);

		if (TP_LIKELY(index != FRAMES))
			put_free(q, index);
	}
	xsk_ring_cons__release(&q->completion, count);
	fill(q);
}

static bool has_unsent(const struct afxdp_queue *q)
{
	return __atomic_load_n(q->tx.consumer, __ATOMIC_ACQUIRE) != *q->tx.producer;
}

/* EAGAIN: a round of the kernel's is over, or it has no memory just now. */
void afxdp_queue_flush(struct afxdp_queue *q)
{
	if (q->unsent) {
		xsk_ring_prod__submit(&q->tx, q->unsent);
		q->unsent = 0;
	}
	for (int i = 0; i < KICKS && has_unsent(q) && xsk_ring_prod__needs_wakeup(&q->tx); i++) {
		if (sendto(q->fd, NULL, 0, MSG_DONTWAIT, NULL, 0) >= 0 || errno == EAGAIN)
			continue;
		if (errno != EINTR)
			break;
	}
	q->unfinished = has_unsent(q);
}

/* ---- opening and closing -----------------------------------------------------------------------
 */

static void *map_umem(size_t size)
{
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE;
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, flags | MAP_HUGETLB, -1, 0);

	if (p == MAP_FAILED)
		p = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, -1, 0);
	return p == MAP_FAILED ? NULL : p;
}

static void end_socket(struct afxdp_queue *q)
{
	if (q->socket)
		xsk_socket__delete(q->socket);
	if (q->area)
		xsk_umem__delete(q->area);
	q->socket = NULL;
	q->area = NULL;
}

static int create_socket(
	struct afxdp_queue *q, const struct afxdp_queue_options *options, uint16_t mode)
{
	const struct xsk_umem_config umem = {
		.fill_size = FILL_SIZE,
		.comp_size = TX_SIZE,
		.frame_size = UINT32_C(1) << options->frame_shift,
	};
	const struct xsk_socket_config socket = {
		.rx_size = FILL_SIZE,
		.tx_size = TX_SIZE,
		.libxdp_flags = XSK_LIBXDP_FLAGS__INHIBIT_PROG_LOAD,
		.bind_flags = (uint16_t)(mode | XDP_USE_NEED_WAKEUP),
	};
	int err =
		xsk_umem__create(&q->area, q->umem, q->umem_size, &q->fill, &q->completion, &umem);

	if (!err)
		err = xsk_socket__create(&q->socket, options->interface, options->id, q->area,
			&q->rx, &q->tx, &socket);
	if (err)
		end_socket(q);
	return err;
}

static int create_patiently(
	struct afxdp_queue *q, const struct afxdp_queue_options *options, uint16_t mode)
{
	const struct timespec step = {.tv_nsec = BUSY_STEP_NS};
	int err = create_socket(q, options, mode);

	for (int i = 0; i < BUSY_TRIES && err == -EBUSY; i++) {
		nanosleep(&step, NULL);
		err = create_socket(q, options, mode);
	}
	return err;
}

/* Where the administrator defers its interrupts, the driver receives when we call, on our core.
 * What an older kernel does not know is done without. */
static void set_options(struct afxdp_queue *q)
{
	const int on = 1, busy_us = 20, budget = TP_BURST, buffer = SEND_BUFFER;
	struct xdp_options options = {0};
	socklen_t size = sizeof(options);

	q->fd = xsk_socket__fd(q->socket);
	setsockopt(q->fd, SOL_SOCKET, SO_SNDBUFFORCE, &buffer, sizeof(buffer));
	if (getsockopt(q->fd, SOL_XDP, XDP_OPTIONS, &options, &size) == 0)
		q->zero_copy = options.flags & XDP_OPTIONS_ZEROCOPY;
	if (setsockopt(q->fd, SOL_SOCKET, SO_PREFER_BUSY_POLL, &on, sizeof(on)) != 0)
		return;
	setsockopt(q->fd, SOL_SOCKET, SO_BUSY_POLL, &busy_us, sizeof(busy_us));
	setsockopt(q->fd, SOL_SOCKET, SO_BUSY_POLL_BUDGET, &budget, sizeof(budget));
}

static int allocate(struct afxdp_queue *q)
{
	q->umem_size = (size_t)FRAMES << q->frame_shift;
	q->umem = map_umem(q->umem_size);
	q->free = calloc(FRAMES, sizeof(*q->free));
	q->places = calloc(FRAMES, sizeof(*q->places));
	if (!q->umem || !q->free || !q->places)
		return -ENOMEM;
	for (uint32_t i = FRAMES; i > 0; i--)
		put_free(q, i - 1);
	return 0;
}

static int create_best(struct afxdp_queue *q, const struct afxdp_queue_options *options)
{
	int err = options->try_zero_copy ? create_patiently(q, options, XDP_ZEROCOPY) : -EOPNOTSUPP;

	return err && err != -EBUSY ? create_patiently(q, options, XDP_COPY) : err;
}

/* In place: libxdp keeps pointers to the rings. */
int afxdp_queue_open(const struct afxdp_queue_options *options, struct afxdp_queue *out)
{
	int err;

	*out = (struct afxdp_queue){
		.fd = -1,
		.ingress = options->ifindex,
		.id = options->id,
		.frame_shift = options->frame_shift,
	};
	err = allocate(out);
	if (!err)
		err = create_best(out, options);
	if (err) {
		afxdp_queue_close(out);
		return err;
	}
	set_options(out);
	fill(out);
	return 0;
}

void afxdp_queue_close(struct afxdp_queue *q)
{
	end_socket(q);
	if (q->umem)
		munmap(q->umem, q->umem_size);
	free(q->free);
	free(q->places);
	*q = (struct afxdp_queue){.fd = -1};
}

/* ---- does it add up? ---------------------------------------------------------------------------
 */

#define SETTLE_TRIES   200
#define SETTLE_STEP_NS 2000000

static void count_places(const struct afxdp_queue *q, uint32_t count[AFXDP_PLACES])
{
	memset(count, 0, AFXDP_PLACES * sizeof(count[0]));
	for (uint32_t i = 0; i < FRAMES; i++) {
		if (q->places[i] < AFXDP_PLACES)
			count[q->places[i]]++;
	}
}

/* Frames in a ring that the other side has not taken yet. */
static uint32_t waiting(const uint32_t *producer, const uint32_t *consumer)
{
	return __atomic_load_n(producer, __ATOMIC_ACQUIRE) -
	       __atomic_load_n(consumer, __ATOMIC_ACQUIRE);
}

static void settle(struct afxdp_queue *q, uint32_t count[AFXDP_PLACES])
{
	const struct timespec step = {.tv_nsec = SETTLE_STEP_NS};

	for (int i = 0; i < SETTLE_TRIES; i++) {
		afxdp_queue_flush(q);
		afxdp_queue_reap(q);
		count_places(q, count);
		if (count[AFXDP_TX] == waiting(q->tx.producer, q->tx.consumer))
			return;
		nanosleep(&step, NULL);
	}
}

int afxdp_queue_audit(
	struct afxdp_queue *q, uint32_t count[AFXDP_PLACES], char reason[TP_REASON_SIZE])
{
	uint32_t unsent, unfilled;
	bool fits;

	settle(q, count);
	unsent = waiting(q->tx.producer, q->tx.consumer);
	unfilled = waiting(q->fill.producer, q->fill.consumer) +
		   waiting(q->rx.producer, q->rx.consumer);
	fits = !q->broken && count[AFXDP_FREE] + count[AFXDP_FILL] + count[AFXDP_TX] == FRAMES &&
	       count[AFXDP_FREE] == q->free_count && count[AFXDP_FILL] == q->filled &&
	       count[AFXDP_TX] == unsent;
	/* A driver that writes into the frames itself holds some. */
	if (fits && (q->zero_copy || count[AFXDP_FILL] == unfilled))
		return 0;
	return xdp_refuse(reason, -EIO,
		"queue %u: of %d frames %u are free (%u listed), %u to receive (%u counted, %u in "
		"the rings), %u with the worker, %u to send (%u in the ring)%s",
		q->id, FRAMES, count[AFXDP_FREE], q->free_count, count[AFXDP_FILL], q->filled,
		unfilled, count[AFXDP_WORKER], count[AFXDP_TX], unsent,
		q->broken ? "; a ring held what nobody put there" : "");
}
