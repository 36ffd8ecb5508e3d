#include "wire.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "dataplane/worker/worker.h"

#define PATIENCE_NS (20 * TP_NS_PER_S) /* the machine may be busy with other things */

struct wire_runner {
	const struct wire *wire;
	struct tp_backend *backend;
	struct tp_engine_interface interfaces[TP_INTERFACES_MAX];
	struct tp_memory memory;
	struct tp_worker_counters *worker;
	struct tp_workers *workers;
	uint32_t held; /* before the first packet */
	int output;    /* the far end of the kernel's cable */
};

static void must(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "wire: %s\n", what);
	exit(1);
}

/* The kernel's own packets, of which IPv6 sends some unasked, are not what is counted here. */
static void enter_silent_namespace(void)
{
	int fd;

	must(unshare(CLONE_NEWNET) == 0, "network namespace");
	fd = open("/proc/sys/net/ipv6/conf/default/disable_ipv6", O_WRONLY | O_CLOEXEC);
	must(fd < 0 || write(fd, "1", 1) == 1, "disable_ipv6");
	if (fd >= 0)
		close(fd);
}

/* The kernel has the world's addresses, and a way to everywhere on which there are no questions. */
static int lay_cable(void)
{
	must(system("ip link set lo up && sysctl -qw net.ipv6.conf.lo.disable_ipv6=0 && "
		    "for a in 192.0.2.1/32 192.0.2.2/32 2001:db8::1/128 2001:db8::2/128; do "
		    "ip addr add $a dev lo || exit 1; done") == 0,
		"addresses");
	must(system("ip link add kernel0 mtu 4000 type veth peer name kernel1 && "
		    "ip link set kernel1 mtu 4000 up && ip link set kernel0 arp off && "
		    "sysctl -qw net.ipv6.conf.kernel0.disable_ipv6=0 && "
		    "ip link set kernel0 up && ip route add default dev kernel0 && "
		    "ip -6 route add default dev kernel0") == 0,
		"the kernel's cable");
	return wire_open_device("kernel1");
}

static void start(struct wire_runner *runner, const struct world *world)
{
	const struct tp_backend_ops *backend = runner->wire->backend;
	const struct tp_engine_options *options = runner->wire->options;
	char reason[TP_REASON_SIZE] = "";
	int fds[TP_REGIONS];

	memset(fds, -1, sizeof(fds));
	must(backend->open(options, &runner->backend, reason) == 0, reason);
	must(backend->interfaces(runner->backend, runner->interfaces) > WIRE_REDIRECT,
		"interfaces");
	if (runner->wire->make_tables)
		must(runner->wire->make_tables(&world->memory.shape, &runner->memory, fds),
			"tables");
	else
		must(tp_memory_create_plain(&world->memory.shape, &runner->memory) == 0, "memory");
	runner->worker = runner->memory.regions[TP_REGION_WORKERS];
	must(backend->start(runner->backend, &runner->memory, fds, reason) == 0, reason);
	must(tp_workers_start(backend, runner->backend, &runner->memory, options, &runner->workers,
		     reason) == 0,
		reason);
}

struct wire_runner *wire_open(const struct world *world, const char **reason)
{
	struct wire_runner *runner;

	*reason = !the_wire ? "built without a wire" : geteuid() != 0 ? "needs root" : NULL;
	if (*reason)
		return NULL;
	runner = calloc(1, sizeof(*runner));
	must(runner != NULL, "memory");
	runner->wire = the_wire;
	enter_silent_namespace();
	runner->output = lay_cable();
	must(runner->output >= 0, "the kernel's cable");
	if (runner->wire->prepare)
		must(runner->wire->prepare(reason), *reason);
	start(runner, world);
	must(runner->wire->connect(reason), *reason);
	runner->held = runner->wire->held();
	return runner;
}

/* The world's interfaces have the numbers that BPF_PROG_TEST_RUN wants; these have their own. */
static void translate_hops(struct wire_runner *runner, const struct world *world)
{
	struct tp_next_hop *hops = runner->memory.regions[TP_REGION_NEXT_HOPS];

	for (uint32_t i = 0; i < TP_NEXT_HOPS_MAX; i++) {
		if (hops[i].ifindex == WORLD_INGRESS)
			hops[i].ifindex = runner->interfaces[0].ifindex;
		else if (hops[i].ifindex == world->interfaces[WIRE_REDIRECT])
			hops[i].ifindex = runner->interfaces[WIRE_REDIRECT].ifindex;
	}
}

/* The worker adds its polls and times to the counters all the while. */
static void copy_counters(struct tp_worker_counters *to, const struct tp_worker_counters *from)
{
	memcpy(to->verdicts, from->verdicts, sizeof(to->verdicts));
	memcpy(to->relayed, from->relayed, sizeof(to->relayed));
	to->hairpins = from->hairpins;
	to->outputs = from->outputs;
}

void wire_copy_world(struct wire_runner *runner, const struct world *world)
{
	for (int i = 0; i < TP_REGIONS; i++) {
		const struct tp_region_shape *region = &world->memory.shape.regions[i];

		if (i != TP_REGION_WORKERS)
			memcpy(runner->memory.regions[i], world->memory.regions[i],
				(size_t)region->element_size * region->count);
	}
	translate_hops(runner, world);
	copy_counters(runner->worker, world->memory.regions[TP_REGION_WORKERS]);
}

/* The verdict that was counted since, once all is; TP_VERDICT_COUNT: none yet. */
static enum tp_verdict counted(
	const struct tp_worker_counters *before, const struct tp_worker_counters *worker)
{
	if (__atomic_load_n(&worker->bursts, __ATOMIC_ACQUIRE) == before->bursts)
		return TP_VERDICT_COUNT;
	for (int i = 0; i < TP_VERDICT_CELLS; i++)
		if (worker->verdicts[i] != before->verdicts[i])
			return (enum tp_verdict)i;
	for (int i = 0; i < TP_DIRECTIONS; i++)
		if (tp_worker_direction(worker, i).packets !=
			tp_worker_direction(before, i).packets)
			return TP_RELAYED;
	return TP_VERDICT_COUNT;
}

/* WIRE_STEERED: the kernel has got it meanwhile, and *out is the frame. */
static enum tp_verdict await_verdict(const struct wire_runner *runner,
	const struct tp_worker_counters *before, struct frame *out)
{
	uint64_t end = tp_clock_now_ns() + PATIENCE_NS;
	enum tp_verdict verdict;

	do {
		verdict = counted(before, runner->worker);
		if (verdict != TP_VERDICT_COUNT)
			return verdict;
		if (runner->wire->left_alone && runner->wire->left_alone(out))
			return WIRE_STEERED;
	} while (tp_clock_now_ns() < end);
	must(false, "a verdict for every packet");
	return verdict;
}

/* What else the kernel sends there has nothing to do with it. */
static bool was_output(const struct wire_runner *runner, struct frame *out)
{
	while (wire_read(runner->output, out)) {
		if (frame_locate(out))
			return true;
	}
	return false;
}

static bool fetch(const struct wire_runner *runner, enum tp_fate fate, const struct world *world,
	struct outcome *out)
{
	const struct wire *wire = runner->wire;

	out->egress = WORLD_INGRESS;
	out->output = fate == TP_FATE_PASS && was_output(runner, &out->frame);
	if (fate == TP_FATE_PASS)
		return out->output || wire->passed(&out->frame);
	if (wire->left(0, &out->frame))
		return true;
	out->egress = world->interfaces[WIRE_REDIRECT];
	return wire->left(WIRE_REDIRECT, &out->frame);
}

/* It drops at once, before anyone could look, what ends inside the Ethernet header, or within
 * two bytes behind the tag. */
static bool kernel_takes(const struct frame *in)
{
	uint16_t type = in->len < 14 ? 0 : frame_get16(in, 12);

	return in->len >= (type == 0x8100 || type == 0x88a8 ? 20 : 14);
}

static void end_by_loss(const struct frame *in, enum tp_verdict verdict)
{
	for (size_t i = 0; i < in->len; i++)
		fprintf(stderr, "%02x%s", in->bytes[i], i % 32 == 31 ? "\n" : " ");
	fprintf(stderr, "\nwire: verdict %d, but the packet did not come out\n", verdict);
	exit(1);
}

bool wire_run(struct wire_runner *runner, const struct world *world, const struct frame *in,
	struct outcome *out)
{
	struct tp_worker_counters before = *runner->worker;
	uint64_t end;
	enum tp_fate fate;

	if (!kernel_takes(in))
		return false;
	runner->wire->put(in);
	out->frame = *in;
	out->output = false;
	out->verdict = await_verdict(runner, &before, &out->frame);
	if (out->verdict == WIRE_STEERED)
		return true;
	fate = tp_verdict_fate(out->verdict);
	end = tp_clock_now_ns() + PATIENCE_NS;
	while (fate != TP_FATE_DROP && !fetch(runner, fate, world, out)) {
		if (tp_clock_now_ns() > end)
			end_by_loss(in, out->verdict);
	}
	if (out->verdict == TP_RELAYED || out->output)
		frame_forget_random(in, &out->frame, out->transaction);
	return true;
}

bool wire_frame_equal(struct outcome *got, const struct outcome *native)
{
	static struct frame want;

	if (got->output != native->output)
		return false;
	if (tp_verdict_fate(got->verdict) == TP_FATE_DROP)
		return true;
	want = native->frame;
	if (got->output) {
		frame_forget_kernel(&want);
		frame_forget_kernel(&got->frame);
	}
	return frame_equal(&got->frame, &want);
}

bool wire_counters_equal(const struct wire_runner *runner, const struct world *world)
{
	struct tp_worker_counters want = *runner->worker;
	bool equal = true;

	for (uint32_t slot = 0; slot < tp_table_slots(world->table); slot++)
		equal &= world_counted_equally(&runner->memory, &world->memory, slot);
	copy_counters(&want, world->memory.regions[TP_REGION_WORKERS]);
	return equal &&
	       memcmp(want.verdicts, runner->worker->verdicts, sizeof(want.verdicts)) == 0 &&
	       memcmp(want.relayed, runner->worker->relayed, sizeof(want.relayed)) == 0 &&
	       want.hairpins == runner->worker->hairpins && want.outputs == runner->worker->outputs;
}

/* The last packet's buffer may still be on its way home. */
static bool settles(const struct wire_runner *runner)
{
	uint64_t end = tp_clock_now_ns() + PATIENCE_NS;

	while (runner->wire->held() != runner->held && tp_clock_now_ns() < end)
		sched_yield();
	if (runner->wire->held() == runner->held)
		return true;
	printf("FAILED: %s: %u buffers held before, %u after\n", runner->wire->name, runner->held,
		runner->wire->held());
	return false;
}

bool wire_close(struct wire_runner *runner)
{
	char reason[TP_REASON_SIZE] = "";
	bool whole;

	if (!runner)
		return true;
	whole = settles(runner);
	tp_workers_stop(runner->workers);
	runner->wire->disconnect();
	close(runner->output);
	if (runner->wire->backend->audit(runner->backend, reason) != 0) {
		printf("FAILED: %s: %s\n", runner->wire->name, reason);
		whole = false;
	}
	runner->wire->backend->close(runner->backend);
	if (runner->wire->drop_tables)
		runner->wire->drop_tables();
	else
		tp_memory_destroy_plain(&runner->memory);
	free(runner);
	return whole;
}

int wire_open_device(const char *name)
{
	const struct sockaddr_ll at = {
		.sll_family = AF_PACKET,
		.sll_protocol = htons(ETH_P_ALL),
		.sll_ifindex = (int)if_nametoindex(name),
	};
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), one = 1;

	if (fd >= 0 && setsockopt(fd, SOL_PACKET, PACKET_AUXDATA, &one, sizeof(one)) == 0 &&
		setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof(one)) == 0 &&
		bind(fd, (const struct sockaddr *)&at, sizeof(at)) == 0)
		return fd;
	if (fd >= 0)
		close(fd);
	return -1;
}

/* A packet socket is told the outermost tag beside the frame. */
static void put_tag_back(struct frame *out, const struct msghdr *message)
{
	struct cmsghdr *control = CMSG_FIRSTHDR(message);
	const struct tpacket_auxdata *aux;

	if (!control || control->cmsg_type != PACKET_AUXDATA)
		return;
	aux = (const void *)CMSG_DATA(control);
	if (!(aux->tp_status & TP_STATUS_VLAN_VALID))
		return;
	memmove(out->bytes + 16, out->bytes + 12, out->len - 12);
	out->len += 4;
	frame_put16(out, 12, aux->tp_vlan_tpid);
	frame_put16(out, 14, aux->tp_vlan_tci);
}

bool wire_read(int fd, struct frame *out)
{
	union {
		char bytes[CMSG_SPACE(sizeof(struct tpacket_auxdata))];
		struct cmsghdr align;
	} control;
	struct iovec part = {.iov_base = out->bytes, .iov_len = FRAME_MAX - 4};
	struct msghdr message = {.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control)};
	ssize_t len = recvmsg(fd, &message, 0);

	if (len <= 0)
		return false;
	out->len = (size_t)len;
	put_tag_back(out, &message);
	return true;
}
