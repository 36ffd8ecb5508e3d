/*
 * What the files of engine/afxdp share. A queue is one AF_XDP socket with a UMEM of its own (threat
 * D18) on one receive queue of one interface; queue q of each interface is worker q mod workers'.
 * open and close are the main thread's; everything else about a queue is its worker's, and neither
 * allocates nor locks.
 *
 * Functions that can refuse write a sentence for the operator into `reason` and return -errno.
 */
#pragma once

#include "dataplane/core/packet.h"
#include "dataplane/engine/engine.h"
#include "dataplane/engine/xdp/attach.h"
#include "dataplane/worker/backend.h"

#include <xdp/xsk.h>

#define AFXDP_QUEUES_MAX 64 /* of one interface that get a socket */

/*
 * Where a frame of the UMEM is. Each is in one place at any time; what the kernel gives back from
 * elsewhere is no frame of ours (threat D18).
 */
enum afxdp_place {
	AFXDP_FREE,   /* in the list of free frames */
	AFXDP_FILL,   /* the kernel's to receive into: fill ring to receive ring */
	AFXDP_WORKER, /* between receive and send, pass or release */
	AFXDP_TX,     /* the kernel's to send: transmit ring to completion ring */
	AFXDP_PLACES
};

struct afxdp_queue {
	struct xsk_ring_cons rx, completion;
	struct xsk_ring_prod tx, fill;
	uint8_t *umem;
	uint32_t frame_shift; /* frames are 2^this bytes */
	uint32_t filled;      /* frames with the kernel to receive into */
	uint32_t unsent;      /* in the transmit ring, not yet shown to the kernel */
	bool unfinished;      /* the kernel has not taken all that was shown: ask again */
	uint32_t free_count;
	uint32_t *free;
	uint8_t *places; /* enum afxdp_place by frame */
	int fd;
	bool zero_copy;
	bool broken;      /* a ring holds what nobody put there: not used any more */
	uint32_t ingress; /* ifindex */
	uint32_t id;      /* of the interface's receive queue */

	struct xsk_socket *socket;
	struct xsk_umem *area;
	size_t umem_size;
};

struct afxdp_queue_options {
	const char *interface;
	uint32_t ifindex;
	uint32_t id;
	uint32_t frame_shift;
	bool try_zero_copy;
};

/* queue.c. -EBUSY: another socket is bound to that queue and stays. */
int afxdp_queue_open(const struct afxdp_queue_options *options, struct afxdp_queue *out);
void afxdp_queue_close(struct afxdp_queue *queue);
/* The largest frame that the kernel can put into a buffer. */
uint32_t afxdp_frame_max(uint32_t frame_shift);

/* Up to `max` frames; their indexes go to `indexes`. */
uint32_t afxdp_queue_receive(
	struct afxdp_queue *queue, struct tp_packet *pkts, uint32_t *indexes, uint32_t max);
void afxdp_queue_release(struct afxdp_queue *queue, uint32_t index);
/* The frame itself; false: no room, and it is still the worker's. */
bool afxdp_queue_send(struct afxdp_queue *queue, uint32_t index, const struct tp_packet *pkt);
/* A copy. */
bool afxdp_queue_send_copy(struct afxdp_queue *queue, const struct tp_packet *pkt);
/* Takes back what was sent, hands over what is to be sent. */
void afxdp_queue_reap(struct afxdp_queue *queue);
void afxdp_queue_flush(struct afxdp_queue *queue);

/*
 * How many frames are where; -EIO and the numbers when the places and the rings contradict each
 * other. Once nothing is received any more: waits for the kernel to send the rest.
 */
int afxdp_queue_audit(
	struct afxdp_queue *queue, uint32_t count[AFXDP_PLACES], char reason[TP_REASON_SIZE]);

/* steer.c: the program that takes frames off the kernel's way, one instance per interface. */
struct steer_bpf;
/* A program that leaves everything to the kernel, to hold an interface until the tables come. */
int afxdp_steer_nothing(char reason[TP_REASON_SIZE]);
int afxdp_steer_load(const int fds[TP_REGIONS], uint32_t frame_max, uint32_t queues,
	struct steer_bpf **out, char reason[TP_REASON_SIZE]);
int afxdp_steer_to(struct steer_bpf *program, uint32_t queue, int socket);
int afxdp_steer_fd(const struct steer_bpf *program);
void afxdp_steer_close(struct steer_bpf *program);

/* locals.c: which addresses of the tables are the machine's. */
struct afxdp_locals {
	const struct tp_config *config; /* NULL before start() */
	const struct tp_local *table;
	uint8_t absent[TP_LOCALS_MAX]; /* main thread writes, workers read */
};
void afxdp_locals_check(struct afxdp_locals *locals);
bool afxdp_locals_have(const struct afxdp_locals *locals, const uint64_t ip[2]);

/*
 * kernel.c: ways through the kernel's stack, for one worker. Up to its own sockets, through its IP
 * output, and out of an interface where the worker has no queue.
 */
struct afxdp_kernel {
	int raw4, raw6;                /* -1: none */
	int packet[TP_INTERFACES_MAX]; /* -1: not needed */
	struct afxdp_messages *messages;
	struct tp_output *output;
	const struct afxdp_locals *locals;
};
int afxdp_kernel_open(struct afxdp_kernel *kernel, const struct afxdp_locals *locals);
int afxdp_kernel_open_packet(struct afxdp_kernel *kernel, uint32_t interface, uint32_t ifindex);
void afxdp_kernel_close(struct afxdp_kernel *kernel);
/* The untouched IP packet to its destination, which is local. How many were taken. */
uint32_t afxdp_kernel_pass(
	struct afxdp_kernel *kernel, const struct tp_packet *pkts, uint32_t count);
/*
 * A frame as it is out of an interface; it has to stay where it is until flush sends it. flush: how
 * many were sent.
 */
void afxdp_kernel_send(
	struct afxdp_kernel *kernel, uint32_t interface, const struct tp_packet *pkt);
uint32_t afxdp_kernel_flush(struct afxdp_kernel *kernel, uint32_t interface);
/* Rewritten IP packets. How many the kernel sent. */
uint32_t afxdp_kernel_output(
	struct afxdp_kernel *kernel, const struct tp_packet *pkts, uint32_t count);
