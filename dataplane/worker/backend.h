/*
 * What a worker asks of a way to receive and send frames: one struct of functions, two back ends
 * (engine/afxdp, engine/dpdk). The loop around them is worker.c, written once.
 *
 * open() runs as root in the main thread and allocates everything there will ever be. start() too,
 * once the tables are there. After that privileges are gone; enter, receive, send, pass, output,
 * release, wait and leave are called by worker `worker` in its own thread, and all but enter and
 * leave neither allocate nor lock. check, audit and close are the main thread's again, the latter
 * two once all workers have left.
 */
#pragma once

#include "dataplane/core/packet.h"
#include "dataplane/engine/engine.h"

/* A frame on its way through a worker. It belongs to the worker from receive() until send(),
 * pass() or release(). */
struct tp_frame {
	union { /* the back end's own */
		void *cookie;
		uint64_t number;
	};
};

struct tp_backend;

struct tp_backend_ops {
	const char *name; /* "afxdp", "dpdk" */

	/*
	 * Ports or interfaces, buffers, exception interfaces; nothing is received yet, but all that
	 * interfaces() tells is known. 0, or -errno and `reason` says why in one sentence.
	 */
	int (*open)(const struct tp_engine_options *options, struct tp_backend **out,
		char reason[TP_REASON_SIZE]);

	/* Index i = tp_next_hop.interface. Name and ifindex are those under which the kernel, and
	 * so the control plane's routes, knows the port. Returns how many there are. */
	size_t (*interfaces)(const struct tp_backend *backend,
		struct tp_engine_interface out[TP_INTERFACES_MAX]);

	/* The tables have come. `fds` has the regions' map descriptors where tables are BPF maps,
	 * else -1s. From here on frames may arrive. */
	int (*start)(struct tp_backend *backend, const struct tp_memory *memory,
		const int fds[TP_REGIONS], char reason[TP_REASON_SIZE]);

	/* First and last in the worker's thread, where a back end has to know its threads. NULL:
	 * nothing to do. */
	int (*enter)(struct tp_backend *backend, uint32_t worker);
	void (*leave)(struct tp_backend *backend, uint32_t worker);

	/* Up to TP_BURST frames of any of the worker's queues, without waiting: pkts[i].ingress,
	 * data, end, room, room_end and frames[i] are set. */
	uint32_t (*receive)(struct tp_backend *backend, uint32_t worker, struct tp_packet *pkts,
		struct tp_frame *frames);

	/*
	 * Takes `count` frames: sends each one through interface pkts[i].interface, or
	 * the one it came by when pkts[i].egress == pkts[i].ingress. What the queue has no room for
	 * is freed; returns how many were sent.
	 */
	uint32_t (*send)(struct tp_backend *backend, uint32_t worker, const struct tp_packet *pkts,
		const struct tp_frame *frames, uint32_t count);

	/* Takes untouched frames: to the kernel, as if they had come by pkts[i].ingress. Returns
	 * how many the kernel took. */
	uint32_t (*pass)(struct tp_backend *backend, uint32_t worker, const struct tp_packet *pkts,
		const struct tp_frame *frames, uint32_t count);

	/*
	 * Takes rewritten IP packets, of either family, pkts[i].data to pkts[i].end, for the
	 * kernel's IP output. Returns how many found room; those that the kernel then refuses to
	 * send are counted as TP_NOT_SENT. NULL: such packets are passed, untouched.
	 */
	uint32_t (*output)(struct tp_backend *backend, uint32_t worker,
		const struct tp_packet *pkts, const struct tp_frame *frames, uint32_t count);

	/* Takes frames whose way ends here. */
	void (*release)(struct tp_backend *backend, uint32_t worker, const struct tp_frame *frames,
		uint32_t count);

	/* Sleeps until a frame may be there, at most timeout_us. NULL: this back end only polls,
	 * and the worker sleeps for that long by itself. */
	void (*wait)(struct tp_backend *backend, uint32_t worker, uint32_t timeout_us);

	/*
	 * About once a second: link state, MTU. 0; -ENOLINK once for each interface whose traffic
	 * no longer comes this way, with the reason: the others go on; any other error is the end.
	 */
	int (*check)(struct tp_backend *backend, char reason[TP_REASON_SIZE]);

	/* Is every buffer where it belongs? 0, or -EIO and `reason` has the numbers. */
	int (*audit)(struct tp_backend *backend, char reason[TP_REASON_SIZE]);

	void (*close)(struct tp_backend *backend);
};

extern const struct tp_backend_ops tp_backend_afxdp; /* absent when built with -Dafxdp=disabled */
extern const struct tp_backend_ops tp_backend_dpdk;  /* absent when built with -Ddpdk=disabled */
