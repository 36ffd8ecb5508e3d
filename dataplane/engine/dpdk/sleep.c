/*
 * How idle workers sleep: until one of their queues raises an interrupt where all of them can, else
 * for the given time. Worker 0 is also woken for what the kernel wants sent. In the worker's own
 * thread, to whose epoll set its queues belong.
 */
#include "dpdk.h"

#include "base/log.h"

#include <errno.h>
#include <rte_errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

static bool watch_kernel(struct dpdk_worker *worker)
{
	worker->wake_event = (struct rte_epoll_event){.epdata.event = EPOLLIN};
	worker->wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	return worker->wake >= 0 && rte_epoll_ctl(RTE_EPOLL_PER_THREAD, EPOLL_CTL_ADD, worker->wake,
					    &worker->wake_event) == 0;
}

static bool watch_queues(struct tp_backend *backend, uint32_t worker)
{
	bool all = true;

	for (size_t i = 0; all && i < backend->ports_count; i++) {
		const struct dpdk_port *port = &backend->ports[i];

		if (worker < port->rx_queues)
			all = port->interrupts &&
			      rte_eth_dev_rx_intr_ctl_q(port->id, (uint16_t)worker,
				      RTE_EPOLL_PER_THREAD, RTE_INTR_EVENT_ADD, NULL) == 0;
	}
	return all;
}

void dpdk_sleep_open(struct tp_backend *backend, uint32_t worker)
{
	struct dpdk_worker *state = &backend->states[worker];

	if (!backend->sleeps)
		return;
	dpdk_quiet(true);
	state->interrupts = watch_queues(backend, worker) && watch_kernel(state);
	dpdk_quiet(false);
	tp_info("worker %u: sleeps %s when idle", worker,
		state->interrupts ? "until an interrupt" : "for idle_sleep at a time");
}

static void set_interrupts(struct tp_backend *backend, uint32_t worker, bool on)
{
	for (size_t i = 0; i < backend->ports_count; i++) {
		const struct dpdk_port *port = &backend->ports[i];

		if (worker >= port->rx_queues)
			continue;
		if (on)
			rte_eth_dev_rx_intr_enable(port->id, (uint16_t)worker);
		else
			rte_eth_dev_rx_intr_disable(port->id, (uint16_t)worker);
	}
}

static bool has_frames(const struct tp_backend *backend, uint32_t worker)
{
	for (size_t i = 0; i < backend->ports_count; i++) {
		const struct dpdk_port *port = &backend->ports[i];

		if (worker == 0 && !rte_ring_empty(port->from_kernel))
			return true;
		/* Not every driver can tell; those that cannot raise the interrupt at once. */
		if (worker < port->rx_queues &&
			rte_eth_rx_queue_count(port->id, (uint16_t)worker) > 0)
			return true;
	}
	return false;
}

/* Armed before the last look, so that what comes in between ends the sleep. */
static void sleep_until_interrupt(struct tp_backend *backend, uint32_t worker, uint32_t timeout_us)
{
	struct dpdk_worker *state = &backend->states[worker];
	struct rte_epoll_event events[TP_INTERFACES_MAX + 1];
	uint64_t wakes;

	set_interrupts(backend, worker, true);
	atomic_store(&state->asleep, true);
	if (!has_frames(backend, worker))
		rte_epoll_wait(RTE_EPOLL_PER_THREAD, events, TP_INTERFACES_MAX + 1,
			(int)(timeout_us + 999) / 1000);
	atomic_store(&state->asleep, false);
	set_interrupts(backend, worker, false);
	if (read(state->wake, &wakes, sizeof(wakes)) < 0 && errno != EAGAIN)
		tp_debug("worker %u: %s", worker, strerror(errno));
}

void dpdk_wait(struct tp_backend *backend, uint32_t worker, uint32_t timeout_us)
{
	struct timespec pause = {
		.tv_sec = timeout_us / 1000000, .tv_nsec = (long)(timeout_us % 1000000) * 1000};

	if (backend->states[worker].interrupts)
		sleep_until_interrupt(backend, worker, timeout_us);
	else
		nanosleep(&pause, NULL);
}

/* Called by the exception thread once it has put frames into worker 0's ring. */
void dpdk_wake(struct tp_backend *backend)
{
	struct dpdk_worker *worker = &backend->states[0];
	uint64_t one = 1;

	atomic_thread_fence(memory_order_seq_cst);
	if (!atomic_load_explicit(&worker->asleep, memory_order_relaxed))
		return;
	if (write(worker->wake, &one, sizeof(one)) < 0 && errno != EAGAIN)
		tp_debug("worker 0: %s", strerror(errno));
}

void dpdk_sleep_close(struct tp_backend *backend)
{
	for (uint32_t i = 0; backend->states && i < backend->workers; i++) {
		if (backend->states[i].interrupts)
			close(backend->states[i].wake);
		backend->states[i].interrupts = false;
	}
}
