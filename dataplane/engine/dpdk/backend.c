/*
 * The back end dpdk: NICs that the kernel no longer sees, or virtual devices. This file is the
 * order of things; how each is done is in eal.c, port.c, tap.c, exception.c and burst.c. Main
 * thread; open() and start() block while devices are set up and need privileges, the rest does not.
 */
#include "dpdk.h"

#include "base/log.h"

#include <errno.h>
#include <rte_errno.h>
#include <rte_lcore.h>
#include <rte_malloc.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int dpdk_refuse(char reason[TP_REASON_SIZE], int err, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(reason, TP_REASON_SIZE, format, args);
	va_end(args);
	return err;
}

static int check_options(const struct tp_engine_options *options, char reason[TP_REASON_SIZE])
{
	if (options->ports_count == 0 || options->ports_count > TP_INTERFACES_MAX)
		return dpdk_refuse(
			reason, -EINVAL, "engine dpdk needs 1 to %d ports", TP_INTERFACES_MAX);
	if (options->workers == 0 || options->workers > TP_WORKERS_MAX)
		return dpdk_refuse(
			reason, -EINVAL, "engine dpdk needs 1 to %d workers", TP_WORKERS_MAX);
	for (size_t i = 0; i < options->ports_count; i++) {
		int err = dpdk_user_check(&options->ports[i], reason);

		if (err)
			return err;
	}
	return 0;
}

static int inspect_ports(struct tp_backend *backend, const struct tp_engine_options *options,
	char reason[TP_REASON_SIZE])
{
	memset(backend->index_of, 0, sizeof(backend->index_of));
	for (size_t i = 0; i < options->ports_count; i++) {
		struct dpdk_port *port = &backend->ports[i];
		int err;

		port->id = options->ports[i].port;
		port->tap = -1;
		err = dpdk_port_inspect(port, options->workers, reason);
		if (err)
			return err;
		backend->index_of[port->id] = (uint8_t)i;
		backend->ports_count++;
	}
	return 0;
}

static int make_states(struct tp_backend *backend, char reason[TP_REASON_SIZE])
{
	backend->states = rte_zmalloc(
		"workers", backend->workers * sizeof(*backend->states), RTE_CACHE_LINE_SIZE);
	return backend->states ? 0 : dpdk_refuse(reason, -ENOMEM, "no memory for the workers");
}

static void warn_of_missing_queues(const struct tp_backend *backend, const struct dpdk_port *port)
{
	if (port->rx_queues < backend->workers)
		tp_warning("port %u has %u receive queues: only the first %u of %u workers receive "
			   "there",
			port->id, port->rx_queues, port->rx_queues, backend->workers);
	if (port->shared)
		tp_warning("port %u has %u transmit queues for %u workers: they take turns",
			port->id, port->tx_queues, backend->workers);
}

static int open_ports(struct tp_backend *backend, const struct tp_engine_options *options,
	char reason[TP_REASON_SIZE])
{
	for (size_t i = 0; i < backend->ports_count; i++) {
		struct dpdk_port *port = &backend->ports[i];
		int err = dpdk_port_open(port, backend->pool, backend->sleeps, reason);

		if (err == 0)
			err = dpdk_tap_open(port, backend->pool, &options->ports[i], reason);
		if (err)
			return err;
		tp_info("port %u: exception interface %s, %s", port->id, port->is.name,
			port->has_user ? "by vhost-net" : "a TAP");
		port->shared = port->tx_queues < backend->workers;
		warn_of_missing_queues(backend, port);
	}
	return 0;
}

static int open_all(struct tp_backend *backend, const struct tp_engine_options *options,
	char reason[TP_REASON_SIZE])
{
	int err = inspect_ports(backend, options, reason);

	if (err == 0)
		err = dpdk_pool_open(backend, reason);
	if (err == 0)
		err = make_states(backend, reason);
	if (err == 0)
		err = dpdk_exception_open(backend, options, reason);
	return err ? err : open_ports(backend, options, reason);
}

/* The ports give back what is in their queues. */
static void quiesce(struct tp_backend *backend)
{
	dpdk_exception_close(backend);
	for (size_t i = 0; i < backend->ports_count; i++) {
		if (!backend->ports[i].closed)
			dpdk_port_close(&backend->ports[i]);
		dpdk_user_close(&backend->ports[i]);
		backend->ports[i].closed = true;
	}
}

static void close_all(struct tp_backend *backend)
{
	quiesce(backend);
	dpdk_sleep_close(backend);
	for (size_t i = 0; i < backend->ports_count; i++)
		dpdk_tap_close(&backend->ports[i]);
	rte_mempool_free(backend->pool);
	rte_free(backend->states);
	free(backend);
}

static int open_backend(const struct tp_engine_options *options, struct tp_backend **out,
	char reason[TP_REASON_SIZE])
{
	struct tp_backend *backend;
	int err = check_options(options, reason);

	if (err)
		return err;
	backend = calloc(1, sizeof(*backend));
	if (!backend)
		return dpdk_refuse(reason, -ENOMEM, "no memory");
	backend->workers = options->workers;
	backend->sleeps = options->idle_sleep_us > 0;
	backend->exception.wake = -1;
	err = dpdk_eal_open(options, reason);
	if (err) {
		free(backend);
		return err;
	}
	err = open_all(backend, options, reason);
	if (err)
		close_all(backend);
	else
		*out = backend;
	return err;
}

static size_t interfaces(
	const struct tp_backend *backend, struct tp_engine_interface out[TP_INTERFACES_MAX])
{
	for (size_t i = 0; i < backend->ports_count; i++)
		out[i] = backend->ports[i].is;
	return backend->ports_count;
}

static int start(struct tp_backend *backend, const struct tp_memory *memory,
	const int fds[TP_REGIONS], char reason[TP_REASON_SIZE])
{
	for (size_t i = 0; i < backend->ports_count; i++) {
		struct dpdk_port *port = &backend->ports[i];
		int err = dpdk_port_start(port, backend->pool, reason);

		if (err)
			return err;
		dpdk_port_follow(port);
		dpdk_tap_set_carrier(port, port->up);
	}
	dpdk_eal_confine();
	return dpdk_exception_start(backend, memory, reason);
}

/* Makes the thread one that has a cache of the pool. */
static int enter(struct tp_backend *backend, uint32_t worker)
{
	if (rte_thread_register() != 0)
		return -rte_errno;
	dpdk_sleep_open(backend, worker);
	return 0;
}

static void leave(struct tp_backend *backend, uint32_t worker)
{
	rte_thread_unregister();
}

static void tell_losses(struct tp_backend *backend)
{
	unsigned long lost = atomic_load(&backend->exception.refused), irregular = 0, tagless = 0;

	for (uint32_t i = 0; i < backend->workers; i++) {
		lost += atomic_load(&backend->states[i].kernel_full);
		irregular += atomic_load(&backend->states[i].irregular);
		tagless += atomic_load(&backend->states[i].tagless);
	}
	if (irregular != backend->told_irregular)
		tp_info("%lu frames were in pieces or had wrong checksums: passed to the kernel",
			irregular - backend->told_irregular);
	if (lost != backend->told_lost)
		tp_warning("%lu frames between the ports and the kernel were lost",
			lost - backend->told_lost);
	if (tagless != backend->told_tagless)
		tp_warning("%lu frames were dropped: a port took VLAN tags off them that cannot be "
			   "put back",
			tagless - backend->told_tagless);
	backend->told_irregular = irregular;
	backend->told_tagless = tagless;
	backend->told_lost = lost;
}

static int check(struct tp_backend *backend, char reason[TP_REASON_SIZE])
{
	int err = 0;

	tell_losses(backend);
	for (size_t i = 0; i < backend->ports_count; i++) {
		struct dpdk_port *port = &backend->ports[i];

		if (port->is.attached && rte_eth_dev_is_removed(port->id)) {
			port->is.attached = false;
			err = dpdk_refuse(reason, -ENOLINK, "port %u (%s) was removed", port->id,
				port->is.name);
		}
		if (!dpdk_port_follow(port))
			continue;
		dpdk_tap_set_carrier(port, port->up);
		tp_info("port %u (%s): link is %s", port->id, port->is.name,
			port->up ? "up" : "down");
	}
	return err;
}

/*
 * Drivers give back at their end what is in their queues; net_af_xdp does not. It may have what its
 * queues hold at most, and a leak shows only beyond that.
 */
static unsigned int kept(const struct tp_backend *backend)
{
	unsigned int frames = 0;

	for (size_t i = 0; i < backend->ports_count; i++) {
		if (backend->ports[i].keeps)
			frames += (unsigned int)backend->ports[i].rx_queues * DPDK_AF_XDP_QUEUE +
				  (unsigned int)backend->ports[i].tx_queues * DPDK_AF_XDP_QUEUE;
	}
	return frames;
}

static int audit(struct tp_backend *backend, char reason[TP_REASON_SIZE])
{
	unsigned int missing;

	quiesce(backend);
	missing = rte_mempool_in_use_count(backend->pool);
	if (missing > kept(backend))
		return dpdk_refuse(reason, -EIO, "%u of %u buffers did not come back", missing,
			backend->pool->size);
	return 0;
}

const struct tp_backend_ops tp_backend_dpdk = {
	.name = "dpdk",
	.open = open_backend,
	.interfaces = interfaces,
	.start = start,
	.enter = enter,
	.leave = leave,
	.receive = dpdk_receive,
	.send = dpdk_send,
	.pass = dpdk_pass,
	.output = dpdk_output,
	.release = dpdk_release,
	.wait = dpdk_wait,
	.check = check,
	.audit = audit,
	.close = close_all,
};
