/*
 * What the files of engine/dpdk share. One struct tp_backend per process (EAL can be had only
 * once), made and ended by the main thread. Workers touch their own struct dpdk_worker, their
 * queues of the ports, and the two kinds of rings towards the exception thread (exception.c), which
 * alone reads and writes the TAPs.
 *
 * Functions that can refuse write a sentence for the operator into `reason` and return -errno.
 */
#pragma once

#include "dataplane/worker/backend.h"

#include <pthread.h>
#include <rte_epoll.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <rte_ring.h>
#include <rte_spinlock.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>

#define DPDK_TO_KERNEL_SIZE   4096 /* frames that wait for the exception thread, of all ports */
#define DPDK_FROM_KERNEL_SIZE 1024 /* frames of one TAP that wait for worker 0 */
#define DPDK_USER_SIZE        1024 /* descriptors each way of a virtio-user */
#define DPDK_BATCH            32   /* frames the slow path handles at a time */

#define DPDK_NO_PORT RTE_MBUF_PORT_INVALID /* of an IP packet for the kernel to send */

#define DPDK_AF_XDP_QUEUE 2048 /* frames in net_af_xdp's fill and transmit rings */

struct dpdk_port;

/* A way between a port's exception interface and us; the exception thread's. */
struct dpdk_door {
	/* Takes all frames; returns how many the kernel took. */
	uint32_t (*write)(struct dpdk_port *port, struct rte_mbuf **frames, uint32_t count);
	/* Up to `room` frames, without waiting. */
	uint32_t (*read)(struct dpdk_port *port, struct rte_mempool *pool, struct rte_mbuf **frames,
		uint32_t room);
};

struct dpdk_port {
	struct tp_engine_interface is; /* the TAP, as the kernel knows the port */
	uint16_t id;                   /* DPDK's number */
	uint16_t mtu;
	struct rte_ether_addr mac;
	uint16_t rx_queues, tx_queues; /* at most one each per worker */
	uint16_t rx_size, tx_size;     /* descriptors a queue */
	bool started, closed, up;
	bool interrupts; /* set up to raise them */
	bool keeps;      /* net_af_xdp: frees nothing at its end */
	bool shared;     /* workers share transmit queues */
	int tap;         /* -1: none */
	const struct dpdk_door *door;
	int readable;           /* descriptor that tells when there is something to read */
	struct rte_mbuf *spare; /* TAP: to be read into next */
	bool starved;           /* there was no buffer to read into */
	uint16_t user;          /* virtio-user: DPDK's number of its port */
	bool has_user;
	struct rte_ring *from_kernel; /* exception thread -> worker 0 */
	/* Taken only where workers share a queue because the port has too few. */
	rte_spinlock_t tx_locks[TP_WORKERS_MAX];
};

/* Frames of one burst that leave by the same port. */
struct dpdk_batch {
	struct rte_mbuf *frames[TP_BURST];
	uint16_t count;
};

struct dpdk_worker {
	/* Not on the stack, which the compiler clears each time. */
	struct rte_mbuf *got[TP_BURST];
	struct rte_mbuf *out[TP_BURST];
	struct dpdk_batch batches[TP_INTERFACES_MAX];
	uint32_t first; /* port to begin with: each gets its turn when bursts are full */

	bool interrupts; /* can sleep until one of its queues has something; then `wake` is open */
	int wake;        /* eventfd */
	atomic_bool asleep;
	struct rte_epoll_event wake_event; /* EAL keeps a pointer to it */

	/* Read by check(); frames that no verdict tells about. */
	atomic_ulong
		irregular;    /* several segments, or bad sums by the port's word: to the kernel */
	atomic_ulong tagless; /* the port took a tag off that could not be put back: dropped */
	atomic_ulong kernel_full; /* of those, or of the kernel's own frames: no room */
} __rte_cache_aligned;

/* Frames between ports and kernel, one thread for all ports. */
struct dpdk_exception {
	pthread_t thread;
	bool running;
	sem_t confined; /* it has given up what is its own to give up */
	cpu_set_t cores;
	int wake; /* eventfd: ends the thread's sleep; -1: none */
	struct rte_ring
		*to_kernel;       /* workers -> exception thread; the frame's port tells the TAP */
	struct rte_mbuf *spare;   /* to be read into next */
	struct tp_output *output; /* for what has no port */
	struct tp_worker_counters *counters; /* worker 0's: TP_NOT_SENT is written here alone */
	atomic_bool asleep, stopping;
	atomic_ulong refused; /* frames the kernel would not take */
};

struct tp_backend {
	struct dpdk_port ports[TP_INTERFACES_MAX];
	size_t ports_count;
	uint8_t index_of[RTE_MAX_ETHPORTS]; /* place in `ports` by DPDK's number */
	uint32_t workers;
	bool sleeps;                /* idle workers may */
	struct rte_mempool *pool;   /* of all ports: what one receives, another can send */
	struct dpdk_worker *states; /* one a worker */
	struct dpdk_exception exception;
	unsigned long told_irregular, told_lost, told_tagless; /* already in the log */
};

/* Writes the sentence, returns err. */
__attribute__((format(printf, 3, 4))) int dpdk_refuse(
	char reason[TP_REASON_SIZE], int err, const char *format, ...);

/*
 * eal.c: the environment: memory, devices, log. Nothing is left in the file system, and it ends
 * with the process: rte_eal_cleanup() takes the memory away under the thread that handles
 * interrupts.
 */
int dpdk_eal_open(const struct tp_engine_options *options, char reason[TP_REASON_SIZE]);
/* What the program gives up for its main thread and those that follow, for the ones before:
 * bounding set and the way to new privileges. User and capabilities go for all at once. */
void dpdk_confine_thread(void);
void dpdk_eal_confine(void);
/* While on, what DPDK says in this thread is not for the log: attempts that may fail. */
void dpdk_quiet(bool on);

/*
 * port.c. inspect: what the port is and has; nothing is changed. open: queues, out of `pool`.
 * start: frames arrive. follow: the link's state; true when it changed.
 */
int dpdk_port_inspect(struct dpdk_port *port, uint32_t workers, char reason[TP_REASON_SIZE]);
int dpdk_port_open(struct dpdk_port *port, struct rte_mempool *pool, bool interrupts,
	char reason[TP_REASON_SIZE]);
int dpdk_port_start(struct dpdk_port *port, struct rte_mempool *pool, char reason[TP_REASON_SIZE]);
bool dpdk_port_follow(struct dpdk_port *port);
void dpdk_port_close(struct dpdk_port *port);

/* pool.c: of inspected ports; freed by rte_mempool_free(). */
#define DPDK_POOL "frames"
int dpdk_pool_open(struct tp_backend *backend, char reason[TP_REASON_SIZE]);

/* tap.c: the exception interface tp<N>, found or made, with the port's MAC, MTU, addresses. */
int dpdk_tap_open(struct dpdk_port *port, struct rte_mempool *pool,
	const struct tp_dpdk_port *options, char reason[TP_REASON_SIZE]);
void dpdk_tap_set_carrier(const struct dpdk_port *port, bool on);
/* Gives back the spare buffer; the descriptor goes with _close(). */
void dpdk_tap_drain(struct dpdk_port *port);
void dpdk_tap_close(struct dpdk_port *port);

/* user.c: the same TAP through DPDK's virtio-user and the kernel's vhost-net. */
int dpdk_user_check(const struct tp_dpdk_port *options, char reason[TP_REASON_SIZE]);
int dpdk_user_open(struct dpdk_port *port, struct rte_mempool *pool, char reason[TP_REASON_SIZE]);
void dpdk_user_close(struct dpdk_port *port);

/* address.c: asks the kernel by rtnetlink; `address` is "192.0.2.1/24", `gateway` an address. */
struct mnl_socket;
struct mnl_socket *dpdk_netlink_open(void);
int dpdk_link_set(struct mnl_socket *netlink, const struct dpdk_port *port);
int dpdk_address_add(struct mnl_socket *netlink, uint32_t ifindex, const char *address);
/* Removes addresses with global scope that are not among `keep`. */
int dpdk_address_prune(
	struct mnl_socket *netlink, uint32_t ifindex, const char *const *keep, size_t keep_count);
/* -EEXIST: there is another default route of that family. */
int dpdk_gateway_add(struct mnl_socket *netlink, uint32_t ifindex, const char *gateway);

/* exception.c. pass: takes all frames; returns how many were queued for the kernel. */
int dpdk_exception_open(struct tp_backend *backend, const struct tp_engine_options *options,
	char reason[TP_REASON_SIZE]);
int dpdk_exception_start(
	struct tp_backend *backend, const struct tp_memory *memory, char reason[TP_REASON_SIZE]);
uint32_t dpdk_exception_pass(struct tp_backend *backend, struct rte_mbuf **frames, uint32_t count);
void dpdk_exception_close(struct tp_backend *backend);

/* sleep.c: open, wait: in the worker's thread; wake: worker 0, from any. */
void dpdk_sleep_open(struct tp_backend *backend, uint32_t worker);
void dpdk_wait(struct tp_backend *backend, uint32_t worker, uint32_t timeout_us);
void dpdk_wake(struct tp_backend *backend);
void dpdk_sleep_close(struct tp_backend *backend);

/* burst.c: what workers call. */
uint32_t dpdk_receive(struct tp_backend *backend, uint32_t worker, struct tp_packet *pkts,
	struct tp_frame *frames);
uint32_t dpdk_send(struct tp_backend *backend, uint32_t worker, const struct tp_packet *pkts,
	const struct tp_frame *frames, uint32_t count);
uint32_t dpdk_pass(struct tp_backend *backend, uint32_t worker, const struct tp_packet *pkts,
	const struct tp_frame *frames, uint32_t count);
uint32_t dpdk_output(struct tp_backend *backend, uint32_t worker, const struct tp_packet *pkts,
	const struct tp_frame *frames, uint32_t count);
void dpdk_release(
	struct tp_backend *backend, uint32_t worker, const struct tp_frame *frames, uint32_t count);
