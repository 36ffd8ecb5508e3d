/*
 * Back end afxdp: AF_XDP sockets on every queue of the configured interfaces. This file is the
 * order of things, and which queue a frame goes to; queue.c has the sockets and their frames,
 * steer.c the program that fills them, kernel.c the ways through the kernel. Main thread, but for
 * the functions of a worker, which touch nothing but what is the worker's.
 */
#include "afxdp.h"

#include "base/log.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PREDECESSOR_TRIES   500 /* 10 s: on a busy machine the end of a process takes long */
#define PREDECESSOR_STEP_NS 20000000
#define IDLE_FOR_GOOD_MS    100 /* a worker without a queue, between looks at the stop flag */
#define FRAME_SHIFT         11
#define FRAME_SHIFT_LARGE   12 /* a page: the most there is */
#define LINK_ROOM           22 /* Ethernet, a VLAN tag, and padding; heads grow into the headroom */

struct interface {
	struct xdp_interface xdp;
	struct steer_bpf *steer; /* NULL before start() */
	uint32_t program_id;
	uint32_t frame_shift;
	uint32_t queues_count;
	struct afxdp_queue queues[AFXDP_QUEUES_MAX];
};

/* What a worker uses, side by side. */
struct worker {
	struct afxdp_queue **queues; /* all of its own */
	uint32_t queues_count;
	uint32_t next; /* of them, who is asked first */
	struct afxdp_queue *out[TP_INTERFACES_MAX];
	struct pollfd *polls; /* one for each queue */
	struct afxdp_kernel kernel;
	struct tp_worker_counters *counters; /* NULL before start() */
} __attribute__((aligned(128)));

struct tp_backend {
	struct interface *interfaces;
	size_t interfaces_count;
	uint32_t workers_count;
	struct worker workers[TP_WORKERS_MAX];
	struct afxdp_locals locals;
	struct xdp_query query;
	int wait_fd; /* the program that passes everything */
};

/* ---- opening -----------------------------------------------------------------------------------
 */

static int ask_driver(const char *name, unsigned long request, struct ifreq *out)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), err;

	if (fd < 0)
		return -errno;
	snprintf(out->ifr_name, sizeof(out->ifr_name), "%s", name);
	err = ioctl(fd, request, out) < 0 ? -errno : 0;
	close(fd);
	return err;
}

/* Of receive queues; what tells no number has one. */
static uint32_t count_queues(const char *name)
{
	struct ethtool_channels channels = {.cmd = ETHTOOL_GCHANNELS};
	struct ifreq request = {.ifr_data = (void *)&channels};
	uint32_t count;

	if (ask_driver(name, SIOCETHTOOL, &request) != 0)
		return 1;
	count = channels.combined_count + channels.rx_count;
	return count ? count : 1;
}

static uint32_t frame_shift_for(const char *name)
{
	struct ifreq request = {0};

	if (ask_driver(name, SIOCGIFMTU, &request) != 0)
		return FRAME_SHIFT;
	return (uint32_t)request.ifr_mtu + LINK_ROOM > afxdp_frame_max(FRAME_SHIFT)
		       ? FRAME_SHIFT_LARGE
		       : FRAME_SHIFT;
}

/* A killed predecessor's goes when the kernel gets round to closing its files. */
static bool is_predecessors(uint32_t program_id)
{
	struct xdp_program_name name = xdp_program_name(program_id);

	return strcmp(name.text, "turnpike_steer") == 0 || strcmp(name.text, "turnpike_wait") == 0;
}

static int inspect(
	struct tp_backend *b, struct xdp_interface *interface, char reason[TP_REASON_SIZE])
{
	const struct timespec step = {.tv_nsec = PREDECESSOR_STEP_NS};

	for (int i = 0; i < PREDECESSOR_TRIES; i++) {
		int err = xdp_query(&b->query, interface->is.ifindex, &interface->before);

		if (err)
			return xdp_refuse(reason, err,
				"%s: the kernel does not tell what is attached: %s",
				interface->is.name, strerror(-err));
		if (interface->before.id == 0)
			return 0;
		if (!is_predecessors(interface->before.id))
			break;
		nanosleep(&step, NULL);
	}
	return xdp_refuse_foreign(interface, reason);
}

static int open_queue(struct interface *interface, uint32_t id)
{
	struct tp_engine_interface *is = &interface->xdp.is;
	const struct afxdp_queue_options options = {
		.interface = is->name,
		.ifindex = is->ifindex,
		.id = id,
		.frame_shift = interface->frame_shift,
		.try_zero_copy = strcmp(is->mode, "generic") != 0,
	};
	int err = afxdp_queue_open(&options, &interface->queues[id]);

	if (err)
		tp_warning("%s: queue %u gets no socket (%s); its packets go to the kernel",
			is->name, id, strerror(-err));
	return err;
}

/* A queue that gets no socket is left to the kernel; without any there is nothing to do here. */
static int open_queues(struct interface *interface, char reason[TP_REASON_SIZE])
{
	struct tp_engine_interface *is = &interface->xdp.is;
	uint32_t opened = 0, zero_copy = 0;
	int err = 0;

	for (uint32_t i = 0; i < interface->queues_count; i++) {
		int failed = open_queue(interface, i);

		if (failed)
			err = failed;
		opened += !failed;
		zero_copy += !failed && interface->queues[i].zero_copy;
	}
	if (opened == 0)
		return xdp_refuse(reason, err, "%s: no queue takes an AF_XDP socket: %s", is->name,
			strerror(-err));
	tp_info("%s: %s XDP, %s, %u of %u queues", is->name, is->mode,
		zero_copy == opened ? "zero-copy" : "copy", opened, interface->queues_count);
	is->mode = zero_copy == opened ? "zero-copy" : "copy";
	return 0;
}

/* Attached before it is bound: drivers set up their queues anew for a program. */
static int open_interface(struct tp_backend *b, struct interface *interface, enum tp_xdp_mode mode,
	char reason[TP_REASON_SIZE])
{
	struct xdp_interface *xdp = &interface->xdp;
	int err = inspect(b, xdp, reason);

	if (!err)
		err = xdp_attach_new(b->wait_fd, xdp, mode, reason);
	if (err)
		return err;
	xdp->is.attached = true;
	interface->program_id = xdp_program_id(b->wait_fd);
	if (xdp->refused[0])
		tp_warning("%s: native XDP refused (%s), generic attached", xdp->is.name,
			xdp->refused);
	interface->frame_shift = frame_shift_for(xdp->is.name);
	interface->queues_count = count_queues(xdp->is.name);
	if (interface->queues_count > AFXDP_QUEUES_MAX) {
		tp_warning("%s: the first %d of %u queues get sockets, the others are the kernel's",
			xdp->is.name, AFXDP_QUEUES_MAX, interface->queues_count);
		interface->queues_count = AFXDP_QUEUES_MAX;
	}
	return open_queues(interface, reason);
}

static int open_interfaces(
	struct tp_backend *b, const struct tp_engine_options *options, char reason[TP_REASON_SIZE])
{
	struct xdp_interface taken[TP_INTERFACES_MAX];
	size_t count = 0;
	int err = xdp_take_interfaces(options, "afxdp", taken, &count, reason);

	if (err)
		return err;
	b->interfaces = calloc(count, sizeof(*b->interfaces));
	if (!b->interfaces)
		return xdp_refuse(reason, -ENOMEM, "out of memory");
	for (size_t i = 0; i < count; i++) {
		b->interfaces[i].xdp = taken[i];
		for (size_t k = 0; k < AFXDP_QUEUES_MAX; k++)
			b->interfaces[i].queues[k].fd = -1;
	}
	b->interfaces_count = count;
	for (size_t i = 0; !err && i < count; i++)
		err = open_interface(b, &b->interfaces[i], options->xdp_mode, reason);
	return err;
}

static int give_queues(struct tp_backend *b, uint32_t index)
{
	struct worker *w = &b->workers[index];
	size_t most = b->interfaces_count * AFXDP_QUEUES_MAX;

	w->queues = calloc(most, sizeof(struct afxdp_queue *));
	w->polls = calloc(most, sizeof(*w->polls));
	if (!w->queues || !w->polls)
		return -ENOMEM;
	for (size_t i = 0; i < b->interfaces_count; i++) {
		struct interface *interface = &b->interfaces[i];

		for (uint32_t k = index; k < interface->queues_count; k += b->workers_count) {
			struct afxdp_queue *q = &interface->queues[k];

			if (q->fd < 0)
				continue;
			if (!w->out[i])
				w->out[i] = q;
			w->polls[w->queues_count] = (struct pollfd){.fd = q->fd, .events = POLLIN};
			w->queues[w->queues_count++] = q;
		}
	}
	return 0;
}

static int open_worker(struct tp_backend *b, uint32_t index, char reason[TP_REASON_SIZE])
{
	struct worker *w = &b->workers[index];
	int err = give_queues(b, index);

	if (!err && w->queues_count == 0)
		tp_warning(
			"worker %u has nothing to do: the interfaces have too few queues", index);
	if (!err)
		err = afxdp_kernel_open(&w->kernel, &b->locals);
	for (uint32_t i = 0; !err && w->queues_count && i < b->interfaces_count; i++) {
		if (!w->out[i])
			err = afxdp_kernel_open_packet(
				&w->kernel, i, b->interfaces[i].xdp.is.ifindex);
	}
	if (err)
		return xdp_refuse(reason, err, "worker %u: %s", index, strerror(-err));
	return 0;
}

static struct tp_backend *new_backend(uint32_t workers)
{
	struct tp_backend *b = aligned_alloc(_Alignof(struct tp_backend), sizeof(*b));

	if (!b)
		return NULL;
	memset(b, 0, sizeof(*b));
	b->workers_count = workers;
	b->wait_fd = -1;
	for (size_t i = 0; i < TP_WORKERS_MAX; i++) {
		b->workers[i].kernel.raw4 = b->workers[i].kernel.raw6 = -1;
		for (size_t k = 0; k < TP_INTERFACES_MAX; k++)
			b->workers[i].kernel.packet[k] = -1;
	}
	return b;
}

static void backend_close(struct tp_backend *b)
{
	for (size_t i = 0; i < b->interfaces_count; i++) {
		struct interface *interface = &b->interfaces[i];

		if (interface->xdp.link_fd >= 0)
			xdp_link_end(&interface->xdp.link_fd);
		if (interface->steer)
			afxdp_steer_close(interface->steer);
		for (uint32_t k = 0; k < AFXDP_QUEUES_MAX; k++) {
			if (interface->queues[k].fd >= 0)
				afxdp_queue_close(&interface->queues[k]);
		}
	}
	for (uint32_t i = 0; i < b->workers_count; i++) {
		afxdp_kernel_close(&b->workers[i].kernel);
		free(b->workers[i].queues);
		free(b->workers[i].polls);
	}
	if (b->wait_fd >= 0)
		close(b->wait_fd);
	xdp_query_close(&b->query);
	free(b->interfaces);
	free(b);
}

static int open_all(
	struct tp_backend *b, const struct tp_engine_options *options, char reason[TP_REASON_SIZE])
{
	int err = xdp_query_open(&b->query);

	if (err)
		return xdp_refuse(reason, err, "no netlink socket: %s", strerror(-err));
	b->wait_fd = afxdp_steer_nothing(reason);
	if (b->wait_fd < 0)
		return b->wait_fd;
	err = open_interfaces(b, options, reason);
	for (uint32_t i = 0; !err && i < b->workers_count; i++)
		err = open_worker(b, i, reason);
	return err;
}

static int backend_open(const struct tp_engine_options *options, struct tp_backend **out,
	char reason[TP_REASON_SIZE])
{
	struct tp_backend *b;
	int err;

	reason[0] = '\0';
	if (options->workers == 0 || options->workers > TP_WORKERS_MAX)
		return xdp_refuse(reason, -EINVAL, "1 to %d workers", TP_WORKERS_MAX);
	b = new_backend(options->workers);
	if (!b)
		return xdp_refuse(reason, -ENOMEM, "out of memory");
	xdp_set_up_libbpf();
	err = open_all(b, options, reason);
	if (err)
		backend_close(b);
	else
		*out = b;
	return err;
}

static size_t interfaces(
	const struct tp_backend *b, struct tp_engine_interface out[TP_INTERFACES_MAX])
{
	for (size_t i = 0; i < b->interfaces_count; i++)
		out[i] = b->interfaces[i].xdp.is;
	return b->interfaces_count;
}

static int steer_queues(const struct interface *interface)
{
	int err = 0;

	for (uint32_t i = 0; !err && i < interface->queues_count; i++) {
		if (interface->queues[i].fd >= 0)
			err = afxdp_steer_to(interface->steer, i, interface->queues[i].fd);
	}
	return err;
}

static int start_interface(
	struct interface *interface, const int fds[TP_REGIONS], char reason[TP_REASON_SIZE])
{
	const char *name = interface->xdp.is.name;
	int err = afxdp_steer_load(fds, afxdp_frame_max(interface->frame_shift),
		interface->queues_count, &interface->steer, reason);

	if (err)
		return err;
	err = steer_queues(interface);
	if (err)
		return xdp_refuse(reason, err, "%s: the sockets cannot be steered to: %s", name,
			strerror(-err));
	err = bpf_link_update(interface->xdp.link_fd, afxdp_steer_fd(interface->steer), NULL);
	if (err)
		return xdp_refuse(reason, err, "%s: the steering program cannot be attached: %s",
			name, strerror(-err));
	interface->program_id = xdp_program_id(afxdp_steer_fd(interface->steer));
	return 0;
}

static int start(struct tp_backend *b, const struct tp_memory *memory, const int fds[TP_REGIONS],
	char reason[TP_REASON_SIZE])
{
	struct tp_worker_counters *counters = memory->regions[TP_REGION_WORKERS];
	int err = 0;

	for (uint32_t i = 0; i < b->workers_count; i++)
		b->workers[i].counters = &counters[i];
	b->locals.config = memory->regions[TP_REGION_CONFIG];
	b->locals.table = memory->regions[TP_REGION_LOCALS];
	afxdp_locals_check(&b->locals);
	for (size_t i = 0; !err && i < b->interfaces_count; i++)
		err = start_interface(&b->interfaces[i], fds, reason);
	return err;
}

static int check_queues(const struct interface *interface, char reason[TP_REASON_SIZE])
{
	for (uint32_t i = 0; i < interface->queues_count; i++) {
		if (interface->queues[i].fd >= 0 && interface->queues[i].broken)
			return xdp_refuse(reason, -EIO,
				"%s: a ring of queue %u holds what nobody put there",
				interface->xdp.is.name, i);
	}
	return 0;
}

static int check(struct tp_backend *b, char reason[TP_REASON_SIZE])
{
	int err = 0;

	afxdp_locals_check(&b->locals);
	for (size_t i = 0; !err && i < b->interfaces_count; i++) {
		err = check_queues(&b->interfaces[i], reason);
		if (!err)
			err = xdp_check(&b->query, &b->interfaces[i].xdp,
				b->interfaces[i].program_id, reason);
	}
	return err;
}

static int audit_interface(struct interface *interface, char reason[TP_REASON_SIZE])
{
	for (uint32_t i = 0; i < interface->queues_count; i++) {
		uint32_t count[AFXDP_PLACES];
		char why[TP_REASON_SIZE];

		if (interface->queues[i].fd < 0)
			continue;
		if (afxdp_queue_audit(&interface->queues[i], count, why) != 0)
			return xdp_refuse(reason, -EIO, "%s: %.200s", interface->xdp.is.name, why);
		tp_debug("%s queue %u: %u frames free, %u to receive, %u to send",
			interface->xdp.is.name, i, count[AFXDP_FREE], count[AFXDP_FILL],
			count[AFXDP_TX]);
	}
	return 0;
}

static int audit(struct tp_backend *b, char reason[TP_REASON_SIZE])
{
	int err = 0;

	for (size_t i = 0; i < b->interfaces_count; i++) {
		if (b->interfaces[i].xdp.link_fd >= 0)
			xdp_link_end(&b->interfaces[i].xdp.link_fd);
	}
	for (size_t i = 0; !err && i < b->interfaces_count; i++)
		err = audit_interface(&b->interfaces[i], reason);
	return err;
}

/* ---- a worker's -------------------------------------------------------------------------------
 */

/* A frame's number: which of the worker's queues it is from, and which frame there. */
static uint64_t number_of(uint32_t queue, uint32_t index)
{
	return (uint64_t)queue << 32 | index;
}

static struct afxdp_queue *queue_of(const struct worker *w, const struct tp_frame *frame)
{
	return w->queues[frame->number >> 32];
}

static uint32_t index_of(const struct tp_frame *frame)
{
	return (uint32_t)frame->number;
}

static uint32_t receive(
	struct tp_backend *b, uint32_t worker, struct tp_packet *pkts, struct tp_frame *frames)
{
	struct worker *w = &b->workers[worker];
	uint32_t indexes[TP_BURST] __attribute__((uninitialized));
	uint32_t taken = 0, at = w->next;

	if (TP_UNLIKELY(w->queues_count == 0)) {
		poll(NULL, 0, IDLE_FOR_GOOD_MS);
		return 0;
	}
	for (uint32_t i = 0; i < w->queues_count && taken < TP_BURST; i++) {
		uint32_t until = taken + afxdp_queue_receive(w->queues[at], pkts + taken,
						 indexes + taken, TP_BURST - taken);

		for (; taken < until; taken++)
			frames[taken].number = number_of(at, indexes[taken]);
		if (++at == w->queues_count)
			at = 0;
	}
	/* None waits for ever behind a busier one. */
	if (++w->next >= w->queues_count)
		w->next = 0;
	return taken;
}

static bool send_one(struct worker *w, const struct tp_packet *pkt, const struct tp_frame *frame)
{
	struct afxdp_queue *from = queue_of(w, frame);
	uint32_t index = index_of(frame);
	bool sent;

	if (pkt->egress == pkt->ingress) {
		sent = afxdp_queue_send(from, index, pkt);
		if (TP_UNLIKELY(!sent))
			afxdp_queue_release(from, index);
		return sent;
	}
	sent = afxdp_queue_send_copy(w->out[pkt->interface], pkt);
	afxdp_queue_release(from, index);
	return sent;
}

/* The interface has fewer queues than there are workers, and none for this one. */
static bool is_detour(const struct worker *w, const struct tp_packet *pkt)
{
	return pkt->egress != pkt->ingress && !w->out[pkt->interface];
}

static uint32_t send_detours(
	struct tp_backend *b, struct worker *w, const struct tp_frame *frames, uint32_t count)
{
	uint32_t sent = 0;

	for (uint32_t i = 0; i < b->interfaces_count; i++) {
		if (w->kernel.packet[i] >= 0)
			sent += afxdp_kernel_flush(&w->kernel, i);
	}
	for (uint32_t i = 0; i < count; i++)
		afxdp_queue_release(queue_of(w, &frames[i]), index_of(&frames[i]));
	return sent;
}

static uint32_t send_burst(struct tp_backend *b, uint32_t worker, const struct tp_packet *pkts,
	const struct tp_frame *frames, uint32_t count)
{
	struct worker *w = &b->workers[worker];
	struct tp_frame detours[TP_BURST] __attribute__((uninitialized));
	uint32_t sent = 0, detours_count = 0;

	for (uint32_t i = 0; i < w->queues_count; i++)
		afxdp_queue_reap(w->queues[i]);
	for (uint32_t i = 0; i < count; i++) {
		if (TP_UNLIKELY(is_detour(w, &pkts[i]))) {
			detours[detours_count++] = frames[i];
			afxdp_kernel_send(&w->kernel, pkts[i].interface, &pkts[i]);
		} else {
			sent += send_one(w, &pkts[i], &frames[i]);
		}
	}
	for (uint32_t i = 0; i < w->queues_count; i++)
		afxdp_queue_flush(w->queues[i]);
	if (detours_count)
		sent += send_detours(b, w, detours, detours_count);
	return sent;
}

static void release(
	struct tp_backend *b, uint32_t worker, const struct tp_frame *frames, uint32_t count)
{
	const struct worker *w = &b->workers[worker];

	for (uint32_t i = 0; i < count; i++)
		afxdp_queue_release(queue_of(w, &frames[i]), index_of(&frames[i]));
}

static uint32_t pass(struct tp_backend *b, uint32_t worker, const struct tp_packet *pkts,
	const struct tp_frame *frames, uint32_t count)
{
	uint32_t taken = afxdp_kernel_pass(&b->workers[worker].kernel, pkts, count);

	release(b, worker, frames, count);
	return taken;
}

static uint32_t output(struct tp_backend *b, uint32_t worker, const struct tp_packet *pkts,
	const struct tp_frame *frames, uint32_t count)
{
	struct worker *w = &b->workers[worker];

	w->counters->verdicts[TP_NOT_SENT] += count - afxdp_kernel_output(&w->kernel, pkts, count);
	release(b, worker, frames, count);
	return count;
}

static void wait_for_frames(struct tp_backend *b, uint32_t worker, uint32_t timeout_us)
{
	struct worker *w = &b->workers[worker];
	const struct timespec time = {
		.tv_sec = timeout_us / 1000000, .tv_nsec = (long)(timeout_us % 1000000) * 1000};

	ppoll(w->polls, w->queues_count, &time, NULL);
}

const struct tp_backend_ops tp_backend_afxdp = {
	.name = "afxdp",
	.open = backend_open,
	.interfaces = interfaces,
	.start = start,
	.receive = receive,
	.send = send_burst,
	.pass = pass,
	.output = output,
	.release = release,
	.wait = wait_for_frames,
	.check = check,
	.audit = audit,
	.close = backend_close,
};
