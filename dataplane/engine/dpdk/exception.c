/*
 * Frames between ports and kernel. One thread reads and writes the TAPs of all ports, so that
 * workers make no system call per packet and a flood of what is not for the fast path stops at a
 * full ring instead of stopping the relay:
 *
 *   worker --to_kernel--> thread --write--> TAP        TAP --read--> thread --from_kernel--> worker
 * 0
 *
 * Where workers have cores of their own, it stays off them: while it runs there nothing is relayed.
 *
 * By the same ring come rewritten packets for the kernel's IP output, which have no port: they
 * leave by the TAP, or whatever else the kernel's routes say. Worker 0 sends what the kernel wants
 * sent, with its other frames: transmit queues are its own.
 */
#include "dpdk.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "dataplane/worker/output.h"
#include "dataplane/worker/worker.h"

#include <errno.h>
#include <poll.h>
#include <rte_errno.h>
#include <rte_lcore.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

static void add(atomic_ulong *counter, unsigned long frames)
{
	if (frames)
		atomic_fetch_add_explicit(counter, frames, memory_order_relaxed);
}

/* How many at the front of the list came by the same port. */
static uint32_t run_of(struct rte_mbuf **frames, uint32_t n)
{
	uint32_t same = 1;

	while (same < n && frames[same]->port == frames[0]->port)
		same++;
	return same;
}

/* The verdict has no other writer. */
static void output(struct dpdk_exception *exception, struct rte_mbuf **packets, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		const uint8_t *packet = rte_pktmbuf_mtod(packets[i], const uint8_t *);

		tp_output_add(exception->output, packet, packet + packets[i]->data_len);
	}
	exception->counters->verdicts[TP_NOT_SENT] += n - tp_output_send(exception->output);
	rte_pktmbuf_free_bulk(packets, n);
}

static void write_to_port(struct tp_backend *backend, struct rte_mbuf **frames, uint32_t n)
{
	struct dpdk_port *port = &backend->ports[backend->index_of[frames[0]->port]];

	add(&backend->exception.refused, n - port->door->write(port, frames, n));
}

static uint32_t to_kernel(struct tp_backend *backend)
{
	struct rte_mbuf *frames[DPDK_BATCH];
	struct dpdk_exception *exception = &backend->exception;
	uint32_t n = rte_ring_sc_dequeue_burst(
			 exception->to_kernel, (void **)frames, DPDK_BATCH, NULL),
		 same;

	for (uint32_t i = 0; i < n; i += same) {
		same = run_of(frames + i, n - i);
		if (frames[i]->port == DPDK_NO_PORT)
			output(exception, frames + i, same);
		else
			write_to_port(backend, frames + i, same);
	}
	return n;
}

static uint32_t from_kernel(struct tp_backend *backend, struct dpdk_port *port)
{
	struct rte_mbuf *frames[DPDK_BATCH];
	uint32_t room = rte_ring_free_count(port->from_kernel), n;

	n = port->door->read(port, backend->pool, frames, RTE_MIN(room, DPDK_BATCH));
	rte_ring_sp_enqueue_burst(port->from_kernel, (void **)frames, n, NULL);
	if (n)
		dpdk_wake(backend);
	return n;
}

/* What waits for a buffer or a ring with room stays in the kernel: look again in a while, not at
 * once. */
static int how_long(const struct tp_backend *backend, struct pollfd *fds)
{
	int timeout_ms = 1000;

	for (size_t i = 0; i < backend->ports_count; i++) {
		const struct dpdk_port *port = &backend->ports[i];
		bool full = port->starved || rte_ring_full(port->from_kernel) == 1;

		fds[i] = (struct pollfd){.fd = full ? -1 : port->readable, .events = POLLIN};
		if (full)
			timeout_ms = 1;
	}
	return timeout_ms;
}

/* Says that it sleeps before it looks a last time: pass() looks in the opposite order. */
static void sleep_until_needed(struct tp_backend *backend)
{
	struct dpdk_exception *exception = &backend->exception;
	struct pollfd fds[TP_INTERFACES_MAX + 1];
	int timeout_ms = how_long(backend, fds);
	size_t n = backend->ports_count;
	uint64_t wakes;

	fds[n++] = (struct pollfd){.fd = exception->wake, .events = POLLIN};
	atomic_store(&exception->asleep, true);
	if (rte_ring_empty(exception->to_kernel) && !atomic_load(&exception->stopping))
		poll(fds, n, timeout_ms);
	atomic_store(&exception->asleep, false);
	if (read(exception->wake, &wakes, sizeof(wakes)) < 0 && errno != EAGAIN)
		tp_debug("exception thread: %s", strerror(errno));
}

static void *run(void *arg)
{
	struct tp_backend *backend = arg;

	pthread_setaffinity_np(
		pthread_self(), sizeof(backend->exception.cores), &backend->exception.cores);
	dpdk_confine_thread();
	sem_post(&backend->exception.confined);
	/* Its own cache of the pool. Without one it is slower and works. */
	if (rte_thread_register() != 0)
		tp_debug("exception thread: %s", rte_strerror(rte_errno));
	while (!atomic_load_explicit(&backend->exception.stopping, memory_order_relaxed)) {
		uint32_t moved = to_kernel(backend);

		for (size_t i = 0; i < backend->ports_count; i++)
			moved += from_kernel(backend, &backend->ports[i]);
		if (moved == 0)
			sleep_until_needed(backend);
	}
	rte_thread_unregister();
	return NULL;
}

uint32_t dpdk_exception_pass(struct tp_backend *backend, struct rte_mbuf **frames, uint32_t count)
{
	struct dpdk_exception *exception = &backend->exception;
	uint64_t one = 1;
	uint32_t taken =
		rte_ring_mp_enqueue_burst(exception->to_kernel, (void **)frames, count, NULL);

	if (taken < count)
		rte_pktmbuf_free_bulk(frames + taken, count - taken);
	atomic_thread_fence(memory_order_seq_cst);
	/* One of us wakes it, once per sleep. */
	if (atomic_load_explicit(&exception->asleep, memory_order_relaxed) &&
		atomic_exchange(&exception->asleep, false) &&
		write(exception->wake, &one, sizeof(one)) < 0)
		return taken; /* the counter is full: it is awake */
	return taken;
}

static struct rte_ring *make_ring(
	const char *kind, unsigned int number, unsigned int size, unsigned int flags)
{
	char name[RTE_RING_NAMESIZE];

	snprintf(name, sizeof(name), "%s%u", kind, number);
	return rte_ring_create(name, size, SOCKET_ID_ANY, flags);
}

int dpdk_exception_open(struct tp_backend *backend, const struct tp_engine_options *options,
	char reason[TP_REASON_SIZE])
{
	struct dpdk_exception *exception = &backend->exception;
	bool complete = true;
	int err = tp_output_open(&exception->output);

	if (err)
		return dpdk_refuse(reason, err, "no raw sockets: %s", strerror(-err));
	exception->cores = tp_cores_off_workers(options);
	exception->wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (exception->wake < 0)
		return dpdk_refuse(reason, -errno, "eventfd: %s", strerror(errno));
	exception->to_kernel = make_ring("to_kernel", 0, DPDK_TO_KERNEL_SIZE, RING_F_SC_DEQ);
	for (size_t i = 0; i < backend->ports_count; i++) {
		struct dpdk_port *port = &backend->ports[i];

		port->from_kernel = make_ring("from_kernel", port->id, DPDK_FROM_KERNEL_SIZE,
			RING_F_SP_ENQ | RING_F_SC_DEQ);
		complete &= port->from_kernel != NULL;
	}
	if (!exception->to_kernel || !complete)
		return dpdk_refuse(reason, -ENOMEM, "no memory for the exception interfaces");
	return 0;
}

int dpdk_exception_start(
	struct tp_backend *backend, const struct tp_memory *memory, char reason[TP_REASON_SIZE])
{
	sigset_t all, before;
	int err;

	backend->exception.counters = memory->regions[TP_REGION_WORKERS];
	sem_init(&backend->exception.confined, 0, 0);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	err = pthread_create(&backend->exception.thread, NULL, run, backend);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (err)
		return dpdk_refuse(reason, -err, "exception thread: %s", strerror(err));
	pthread_setname_np(backend->exception.thread, "exception");
	backend->exception.running = true;
	/* Whoever drops the program's privileges next takes away what that needs. */
	while (sem_wait(&backend->exception.confined) != 0)
		;
	return 0;
}

static void stop(struct dpdk_exception *exception)
{
	uint64_t one = 1;

	if (!exception->running)
		return;
	atomic_store(&exception->stopping, true);
	if (write(exception->wake, &one, sizeof(one)) < 0)
		tp_debug("exception thread: %s", strerror(errno));
	pthread_join(exception->thread, NULL);
	sem_destroy(&exception->confined);
	exception->running = false;
}

static void drop_ring(struct rte_ring **ring)
{
	struct rte_mbuf *frame;

	while (*ring && rte_ring_dequeue(*ring, (void **)&frame) == 0)
		rte_pktmbuf_free(frame);
	rte_ring_free(*ring);
	*ring = NULL;
}

void dpdk_exception_close(struct tp_backend *backend)
{
	struct dpdk_exception *exception = &backend->exception;

	stop(exception);
	drop_ring(&exception->to_kernel);
	for (size_t i = 0; i < backend->ports_count; i++) {
		dpdk_tap_drain(&backend->ports[i]);
		drop_ring(&backend->ports[i].from_kernel);
	}
	tp_output_close(TP_TAKE(exception->output));
	if (exception->wake >= 0)
		close(exception->wake);
	exception->wake = -1;
}
