/*
 * What the control plane asks of an engine: memory for the shared tables, and somebody who forwards
 * out of them: nobody (socket), a program in the kernel (xdp), or turnpike-dataplane's workers at
 * the other end of a socket (afxdp, dpdk: engine/remote). One struct of functions per engine.
 * All calls come from the control plane's thread. start() needs privileges, nothing after it does.
 */
#pragma once

#include "dataplane/table/table.h"

#define TP_REASON_SIZE 256
#define TP_IFNAME_SIZE 16
#define TP_WORKERS_MAX 32

enum tp_xdp_mode { TP_XDP_AUTO, TP_XDP_NATIVE, TP_XDP_GENERIC };

/* How a DPDK port's other traffic reaches the kernel. */
enum tp_exception { TP_EXCEPTION_TAP, TP_EXCEPTION_VIRTIO_USER };

struct tp_dpdk_port {
	uint16_t port; /* DPDK's number */
	enum tp_exception exception;
	const char *const *addresses; /* "192.0.2.1/24": given to the exception interface */
	size_t addresses_count;
	const char *const *gateways; /* default routes through it, one a family at most */
	size_t gateways_count;
};

struct tp_engine_options {
	const char *const *interfaces; /* names; none is legal for `socket` only */
	size_t interfaces_count;
	enum tp_xdp_mode xdp_mode;
	uint32_t flows;       /* capacity of the flow table */
	const char *pin_dir;  /* directory of bpffs, made and removed by the engine */
	uint32_t owner_uid;   /* who will run stop(): gets the right to remove the pins */
	uint32_t allocations; /* how many there can be: one policer each */

	/* afxdp, dpdk */
	const char *link_path; /* of the socket to turnpike-dataplane (dataplane/link) */
	uint32_t dataplane_uid, dataplane_gid; /* who runs that, once it has given up root */
	uint32_t workers;                      /* polling threads, 1 .. TP_WORKERS_MAX */
	const uint16_t *cores; /* where they are pinned: none, or one for each worker */
	size_t cores_count;
	uint32_t idle_sleep_us; /* 0 = pure polling; else how long an idle worker may sleep */

	/* dpdk */
	const char *const *eal; /* arguments for EAL, without the program's name */
	size_t eal_count;
	const struct tp_dpdk_port *ports;
	size_t ports_count;
};

struct tp_engine_interface {
	char name[TP_IFNAME_SIZE];
	uint32_t ifindex;
	const char *mode; /* "native", "generic"; "zero-copy", "copy"; "dpdk" */
	bool attached;    /* false once the program was found replaced or removed */
};

struct tp_engine; /* a running engine; each engine has its own layout */

struct tp_engine_ops {
	const char *name; /* as in the configuration and in `status` */

	/*
	 * Opens, loads, attaches. 0, and `reason` says why this engine and mode were taken; or
	 * -errno, and `reason` says why it cannot run here, in the kernel's own words where it gave
	 * any.
	 */
	int (*start)(const struct tp_engine_options *options, struct tp_engine **out,
		char reason[TP_REASON_SIZE]);

	/* Zeroed; or what a killed predecessor has left (tp_memory_is_kept()), and readers go on.
	 */
	struct tp_memory *(*memory)(struct tp_engine *engine);

	/* Index i of the list = tp_next_hop.interface; returns how many there are. */
	size_t (*interfaces)(
		const struct tp_engine *engine, struct tp_engine_interface out[TP_INTERFACES_MAX]);

	/* Is whoever reads the tables there? Else no record is held any more. NULL: always. */
	bool (*alive)(const struct tp_engine *engine);

	/*
	 * Called about once a second: 0; or -ENOLINK once for each interface whose program was
	 * found gone, with the reason. Packets there now reach the sockets.
	 */
	int (*check)(struct tp_engine *engine, char reason[TP_REASON_SIZE]);

	/*
	 * Something to wait for on the event loop, and what to do when it is readable; both NULL
	 * when there is nothing.
	 */
	int (*fd)(const struct tp_engine *engine);
	void (*process)(struct tp_engine *engine);

	/* Detaches, removes the pins, frees the memory. */
	void (*stop)(struct tp_engine *engine);

	/*
	 * Instead of stop: goes as one who was killed, so that what a predecessor has left is
	 * relayed on until somebody adopts it. NULL: stop takes nothing with it.
	 */
	void (*leave)(struct tp_engine *engine);

	/*
	 * Before another engine starts: ends what a killed predecessor of this one left in
	 * pin_dir, whose program would go on deciding about packets. 0: nothing is there now;
	 * -EBUSY: it is alive, else -errno, and `reason` says so. NULL: leaves nothing behind.
	 */
	int (*clear)(const struct tp_engine_options *options, char reason[TP_REASON_SIZE]);
};

extern const struct tp_engine_ops tp_engine_socket;
extern const struct tp_engine_ops tp_engine_xdp;   /* absent when built with -Dxdp=disabled */
extern const struct tp_engine_ops tp_engine_afxdp; /* -Dafxdp=disabled */
extern const struct tp_engine_ops tp_engine_dpdk;  /* -Ddpdk=disabled */
