/*
 * dataplane/engine/afxdp and the worker loop against the real kernel. Runs as root in a network
 * namespace of its own, which ends with the process: veth pairs tpa=tpb (clients, two queues) and
 * tpc=tpd (peers, one queue).
 */
#include "dataplane/engine/afxdp/afxdp.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "dataplane/link/link.h"
#include "dataplane/worker/worker.h"
#include "tests/vectors/frame.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <linux/if_link.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>

#define LISTENER      3478
#define RELAY         50000
#define CLIENT_PORT   4000
#define PEER_PORT     5000
#define CHANNEL       0x4001
#define BOUNCED       0x4002 /* its peer lies behind the client's interface */
#define UNBOUND       0x4003
#define MANY          20000
#define PATIENCE_MS   5000
#define INTERFACES    2
#define WORKER_QUEUES 2
#define FREE_FRAME    4000 /* the first ones are given out first */

static const char *const names[INTERFACES] = {"tpa", "tpc"};
static char reason[TP_REASON_SIZE];

/* A data plane between both cables. */
struct rig {
	struct tp_engine_options options;
	struct tp_tables tables;
	struct tp_table *table;
	struct tp_backend *backend;
	struct tp_workers *workers;
	int client, peer; /* packet sockets at the outer ends */
};

static const struct tp_backend_ops *const ops = &tp_backend_afxdp;

static void run(const char *command)
{
	if (system(command) != 0)
		fail_msg("%s", command);
}

static struct tp_addr address(const char *text)
{
	struct tp_addr out;

	assert_int_equal(tp_addr_parse(text, &out), 0);
	return out;
}

static int open_packets(const char *device)
{
	const struct sockaddr_ll at = {
		.sll_family = AF_PACKET,
		.sll_protocol = htons(ETH_P_ALL),
		.sll_ifindex = (int)if_nametoindex(device),
	};
	const int size = 64 << 20;
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_ALL));

	assert_true(fd >= 0);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)), 0);
	assert_int_equal(bind(fd, (const void *)&at, sizeof(at)), 0);
	return fd;
}

/* MACs of the lab end in the device's letter. */
static void set_hop(struct rig *rig, uint16_t index, uint16_t interface, uint8_t from, uint8_t to)
{
	const struct tp_next_hop hop = {
		.ifindex = if_nametoindex(names[interface]),
		.interface = interface,
		.mtu = 1500,
		.source = {2, 0, 0, 0, 0, from},
		.destination = {2, 0, 0, 0, 0, to},
	};

	tp_table_set_next_hop_record(rig->table, index, &hop);
}

static void publish(struct rig *rig, enum tp_flow_kind kind, struct tp_flow_side in,
	struct tp_flow_side out, uint16_t hop)
{
	const struct tp_flow_spec spec = {
		.kind = kind,
		.in = in,
		.out = out,
		.next_hop = hop,
		.expires_ns = tp_clock_now_ns() + 600 * TP_NS_PER_S,
	};
	uint32_t slot;

	assert_int_equal(tp_table_publish(rig->table, &spec, &slot), 0);
}

static void grant(struct rig *rig, const char *listener, const char *relay, const char *client,
	const char *peer)
{
	uint8_t inner, outer;
	struct tp_addr a = address(listener), b = address(relay);
	struct tp_flow_side from = {.remote = address(client), .local_port = LISTENER};
	struct tp_flow_side to = {.remote = address(peer), .local_port = RELAY};

	assert_int_equal(tp_table_add_local(rig->table, &a, &inner), 0);
	assert_int_equal(tp_table_add_local(rig->table, &b, &outer), 0);
	tp_table_set_port(rig->table, inner, LISTENER, TP_PORT_LISTENER);
	tp_table_set_port(rig->table, outer, RELAY, TP_PORT_RELAY);
	from.local = inner;
	to.local = outer;
	publish(rig, TP_FLOW_CLIENT, from, (struct tp_flow_side){0}, 0);
	from.channel = CHANNEL;
	publish(rig, TP_FLOW_CHANNEL, from, to, 2);
	publish(rig, TP_FLOW_PEER, to, from, 1);
	from.channel = BOUNCED;
	to.remote.port = PEER_PORT + 1;
	publish(rig, TP_FLOW_CHANNEL, from, to, 1);
}

static void fill_tables(struct rig *rig)
{
	assert_int_equal(tp_table_create(&rig->tables.memory, 0x4fff, &rig->table), 0);
	set_hop(rig, 1, 0, 0xa, 0xb);
	set_hop(rig, 2, 1, 0xc, 0xd);
	grant(rig, "192.0.2.1:0", "198.51.100.1:0", "10.9.9.9:4000", "10.8.8.8:5000");
	grant(rig, "[2001:db8::1]:0", "[2001:db8:1::1]:0", "[2001:db8:9::9]:4000",
		"[2001:db8:8::8]:5000");
	tp_table_enable(rig->table, true);
}

static void open_rig(struct rig *rig, uint32_t workers)
{
	struct tp_shape shape;

	*rig = (struct rig){
		.options = {.interfaces = names,
			.interfaces_count = INTERFACES,
			.workers = workers,
			.idle_sleep_us = 1000},
		.tables = tp_tables_none(),
	};
	assert_int_equal(tp_shape_init(1024, workers, 64, &shape), 0);
	assert_int_equal(tp_tables_create_maps(&shape, &rig->tables), 0);
	fill_tables(rig);
	if (ops->open(&rig->options, &rig->backend, reason) != 0)
		fail_msg("%s", reason);
	if (ops->start(rig->backend, &rig->tables.memory, rig->tables.fds, reason) != 0)
		fail_msg("%s", reason);
	if (tp_workers_start(ops, rig->backend, &rig->tables.memory, &rig->options, &rig->workers,
		    reason) != 0)
		fail_msg("%s", reason);
	rig->client = open_packets("tpb");
	rig->peer = open_packets("tpd");
}

/* Every frame has to be accounted for. */
static void close_rig(struct rig *rig)
{
	close(rig->client);
	close(rig->peer);
	tp_workers_stop(rig->workers);
	if (ops->audit(rig->backend, reason) != 0)
		fail_msg("%s", reason);
	ops->close(rig->backend);
	tp_table_destroy(rig->table);
	tp_tables_close(&rig->tables);
}

struct sides {
	const char *client, *listener, *relay, *peer;
};
static const struct sides v4 = {
	"10.9.9.9:4000", "192.0.2.1:3478", "198.51.100.1:50000", "10.8.8.8:5000"};
static const struct sides v6 = {"[2001:db8:9::9]:4000", "[2001:db8::1]:3478",
	"[2001:db8:1::1]:50000", "[2001:db8:8::8]:5000"};

static void build(const char *source, const char *destination, uint16_t channel, uint32_t number,
	struct frame *out)
{
	bool at_peer = strcmp(destination, v4.relay) == 0 || strcmp(destination, v6.relay) == 0;
	const struct frame_spec spec = {
		.source = address(source),
		.destination = address(destination),
		.link_source = {2, 0, 0, 0, 0, 0xee},
		.link_destination = {2, 0, 0, 0, 0, at_peer ? 0xc : 0xa},
		.ttl = 64,
		.channel = channel,
		.data = (const void *)&number,
		.data_len = sizeof(number),
	};

	frame_build(&spec, out);
}

static void put(int fd, const struct frame *frame)
{
	while (send(fd, frame->bytes, frame->len, 0) < 0)
		assert_true(errno == ENOBUFS || errno == EAGAIN);
}

/* The next UDP packet that came in there for this port; false: none. */
static bool get(int fd, uint16_t port, struct frame *out, int patience_ms)
{
	uint64_t end = tp_clock_now_ns() + (uint64_t)patience_ms * TP_NS_PER_MS;

	while (tp_clock_now_ns() < end) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		struct sockaddr_ll from;
		socklen_t size = sizeof(from);
		ssize_t len;

		poll(&p, 1, 10);
		len = recvfrom(
			fd, out->bytes, sizeof(out->bytes), MSG_DONTWAIT, (void *)&from, &size);
		if (len < 0 || from.sll_pkttype == PACKET_OUTGOING)
			continue;
		out->len = (size_t)len;
		if (frame_locate(out) && frame_get16(out, out->l4 + 2) == port)
			return true;
	}
	return false;
}

static uint64_t relayed(const struct rig *rig)
{
	struct tp_worker_counters sum = tp_table_totals(rig->table);

	return tp_worker_direction(&sum, TP_CLIENT_TO_PEER).packets +
	       tp_worker_direction(&sum, TP_PEER_TO_CLIENT).packets;
}

static void check_both_ways(struct rig *rig, const struct sides *at)
{
	struct frame in, out;

	build(at->client, at->listener, CHANNEL, 1, &in);
	put(rig->client, &in);
	assert_true(get(rig->peer, PEER_PORT, &out, PATIENCE_MS));
	assert_true(frame_udp_checksum_ok(&out) && frame_ip_checksum_ok(&out));
	assert_int_equal(out.bytes[5], 0xd);
	assert_int_equal(out.len, in.len - TP_CHANNELDATA_LEN);
	assert_memory_equal(out.bytes + out.payload, in.bytes + in.payload + 4, 4);

	build(at->peer, at->relay, 0, 2, &in);
	put(rig->peer, &in);
	assert_true(get(rig->client, CLIENT_PORT, &out, PATIENCE_MS));
	assert_true(frame_udp_checksum_ok(&out) && frame_ip_checksum_ok(&out));
	assert_int_equal(frame_get16(&out, out.payload), CHANNEL);
	assert_int_equal(out.len, in.len + TP_CHANNELDATA_LEN);
}

static void test_both_ways(void **state)
{
	struct tp_engine_interface is[TP_INTERFACES_MAX];
	struct rig rig;

	open_rig(&rig, 1);
	assert_int_equal(ops->interfaces(rig.backend, is), INTERFACES);
	assert_string_equal(is[0].mode, "copy");
	assert_true(is[0].attached && is[1].attached);
	check_both_ways(&rig, &v4);
	check_both_ways(&rig, &v6);
	assert_int_equal(relayed(&rig), 4);
	assert_int_equal(ops->check(rig.backend, reason), 0);
	close_rig(&rig);
}

/* Out of the interface it came by: the same frame. */
static void test_back_where_it_came_from(void **state)
{
	struct frame in, out;
	struct rig rig;

	open_rig(&rig, 1);
	build(v4.client, v4.listener, BOUNCED, 7, &in);
	put(rig.client, &in);
	assert_true(get(rig.client, PEER_PORT + 1, &out, PATIENCE_MS));
	assert_int_equal(out.bytes[5], 0xb);
	close_rig(&rig);
}

/*
 * More than all frames there are, to and fro and through the copies. What veth's own queue loses is
 * not counted here; what the sockets hold must be whole at the end.
 */
static void test_many(void **state)
{
	static const uint16_t channels[] = {CHANNEL, BOUNCED, UNBOUND};
	struct frame in;
	struct rig rig;
	uint64_t seen = 0;

	open_rig(&rig, WORKER_QUEUES);
	for (uint32_t i = 0; i < MANY; i++) {
		build(i & 1 ? v4.client : v6.client, i & 1 ? v4.listener : v6.listener,
			channels[i % 3], i, &in);
		put(rig.client, &in);
		build(i & 1 ? v4.peer : v6.peer, i & 1 ? v4.relay : v6.relay, 0, i, &in);
		put(rig.peer, &in);
		if (i % 32 == 0)
			usleep(200); /* veth's queue is short */
	}
	while (seen != relayed(&rig)) {
		seen = relayed(&rig);
		usleep(50000);
	}
	assert_true(seen > MANY / 2);
	close_rig(&rig);
}

static int open_udp(const char *text)
{
	struct tp_addr at = address(text);
	struct sockaddr_storage ss;
	socklen_t size = tp_addr_to_sockaddr(&at, &ss);
	int fd = socket(ss.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (void *)&ss, size), 0);
	return fd;
}

static void expect_at(int fd, const char *source, const void *payload, size_t len)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	struct tp_addr want = address(source), got;
	struct sockaddr_storage from;
	socklen_t size = sizeof(from);
	uint8_t data[2048];

	if (poll(&p, 1, PATIENCE_MS) != 1)
		fail_msg("nothing of %s came", source);
	assert_int_equal(recvfrom(fd, data, sizeof(data), 0, (void *)&from, &size), len);
	assert_memory_equal(data, payload, len);
	assert_int_equal(tp_addr_from_sockaddr((void *)&from, &got), 0);
	assert_true(tp_addr_equal(&want, &got));
}

/* What the core gives back reaches the kernel's socket, from whom it came. */
static void check_passed(struct rig *rig, const struct sides *at)
{
	TP_AUTO_CLOSE int fd = open_udp(at->listener);
	uint64_t before = tp_table_totals(rig->table).verdicts[TP_UNBOUND];
	struct frame in;

	build(at->client, at->listener, UNBOUND, 3, &in);
	put(rig->client, &in);
	expect_at(fd, at->client, in.bytes + in.payload, in.len - in.payload);
	assert_int_equal(tp_table_totals(rig->table).verdicts[TP_UNBOUND], before + 1);
}

static void test_passed(void **state)
{
	struct rig rig;

	open_rig(&rig, 1);
	check_passed(&rig, &v4);
	check_passed(&rig, &v6);
	close_rig(&rig);
}

/* A wrong IPv4 checksum is not mended on the way to the kernel. */
static void test_passed_but_broken(void **state)
{
	TP_AUTO_CLOSE int fd = open_udp(v4.listener);
	struct pollfd p = {.fd = fd, .events = POLLIN};
	struct frame in;
	struct rig rig;

	open_rig(&rig, 1);
	build(v4.client, v4.listener, UNBOUND, 3, &in);
	in.bytes[in.l3 + 10] ^= 0x55;
	put(rig.client, &in);
	for (int i = 0; i < 500 && tp_table_totals(rig.table).verdicts[TP_UNBOUND] == 0; i++)
		usleep(10000);
	assert_int_equal(tp_table_totals(rig.table).verdicts[TP_UNBOUND], 1);
	assert_int_equal(poll(&p, 1, 100), 0);
	close_rig(&rig);
}

/* Its length promises more than came: what lies behind it is somebody else's packet. */
static void check_not_passed(struct afxdp_kernel *kernel, const struct sides *at)
{
	TP_AUTO_CLOSE int fd = open_udp(at->listener);
	struct pollfd p = {.fd = fd, .events = POLLIN};
	struct tp_packet pkt;
	struct frame in;

	build(at->client, at->listener, UNBOUND, 3, &in);
	pkt = (struct tp_packet){.data = in.bytes, .end = in.bytes + in.len - 1};
	assert_int_equal(afxdp_kernel_pass(kernel, &pkt, 1), 1);
	assert_int_equal(poll(&p, 1, 100), 0);
	pkt.end++;
	assert_int_equal(afxdp_kernel_pass(kernel, &pkt, 1), 1);
	expect_at(fd, at->client, in.bytes + in.payload, in.len - in.payload);
}

static void test_passed_as_it_came(void **state)
{
	const struct tp_config config = {.locals = 2};
	struct tp_addr inner[] = {address(v4.listener), address(v6.listener)};
	struct tp_local table[TP_LOCALS_MAX];
	struct afxdp_locals locals = {.config = &config, .table = table};
	struct afxdp_kernel kernel = {.raw4 = -1, .raw6 = -1};

	for (size_t i = 0; i < TP_INTERFACES_MAX; i++)
		kernel.packet[i] = -1;
	for (int i = 0; i < 2; i++)
		memcpy(table[i].ip, inner[i].ip, sizeof(table[i].ip));
	assert_int_equal(afxdp_kernel_open(&kernel, &locals), 0);
	check_not_passed(&kernel, &v4);
	check_not_passed(&kernel, &v6);
	afxdp_kernel_close(&kernel);
}

/*
 * An address of the tables that another machine has now: what comes for it all the same is not sent
 * there, from somebody else's address.
 */
static void test_address_that_went_elsewhere(void **state)
{
	struct frame in, out;
	struct rig rig;

	open_rig(&rig, 1);
	run("ip addr del 192.0.2.1/24 dev tpa && ip route add 192.0.2.1/32 dev tpc && "
	    "ip neigh add 192.0.2.1 lladdr 02:00:00:00:00:0d dev tpc");
	assert_int_equal(ops->check(rig.backend, reason), 0);
	build(v4.client, v4.listener, UNBOUND, 3, &in);
	put(rig.client, &in);
	assert_false(get(rig.peer, LISTENER, &out, 300));
	assert_int_equal(tp_table_totals(rig.table).verdicts[TP_UNBOUND], 1);
	run("ip neigh del 192.0.2.1 dev tpc && ip route del 192.0.2.1/32 dev tpc && "
	    "ip addr add 192.0.2.1/24 dev tpa && ip route replace 10.9.9.0/24 dev tpa");
	assert_int_equal(ops->check(rig.backend, reason), 0);
	check_passed(&rig, &v4);
	close_rig(&rig);
}

/* Requests, fragments, options never come to a worker: the kernel has them. */
static void test_left_to_the_kernel(void **state)
{
	static const uint8_t request[20] = {0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42};
	TP_AUTO_CLOSE int fd = open_udp(v4.listener);
	struct frame_spec spec = {
		.source = address(v4.client),
		.destination = address(v4.listener),
		.link_source = {2, 0, 0, 0, 0, 0xee},
		.link_destination = {2, 0, 0, 0, 0, 0xa},
		.ttl = 64,
		.data = request,
		.data_len = sizeof(request),
	};
	struct tp_worker_counters sum;
	struct frame in;
	struct rig rig;

	open_rig(&rig, 1);
	frame_build(&spec, &in);
	put(rig.client, &in);
	expect_at(fd, v4.client, request, sizeof(request));
	spec.options = 1;
	frame_build(&spec, &in);
	put(rig.client, &in);
	expect_at(fd, v4.client, request, sizeof(request));
	spec.options = 0;
	spec.channel = CHANNEL;
	spec.fragment = 0x2000;
	frame_build(&spec, &in);
	put(rig.client, &in);
	/* One that is taken, behind all of these. */
	check_both_ways(&rig, &v4);
	sum = tp_table_totals(rig.table);
	for (int i = 0; i < TP_VERDICT_COUNT; i++)
		assert_int_equal(sum.verdicts[i], 0);
	close_rig(&rig);
}

/* The peers' cable has one queue, and it is worker 0's: worker 1 sends there all the same. */
static void test_detour(void **state)
{
	struct frame in, out;
	struct rig rig;
	struct tp_worker_counters *counters;
	uint64_t by_other = 0;

	open_rig(&rig, WORKER_QUEUES);
	counters = rig.tables.memory.regions[TP_REGION_WORKERS];
	/* Which queue a flow takes is the sender's choice, by its ports: of 64 some take each. */
	for (uint16_t i = 0; i < 64; i++) {
		struct tp_flow_side from = {.remote = address(v4.client), .local_port = LISTENER};
		struct tp_flow_side to = {
			.remote = address(v4.peer), .local_port = RELAY, .local = 1};

		from.remote.port = (uint16_t)(6000 + i);
		from.channel = CHANNEL;
		publish(&rig, TP_FLOW_CHANNEL, from, to, 2);
	}
	for (uint16_t i = 0; i < 64; i++) {
		char client[64];

		snprintf(client, sizeof(client), "10.9.9.9:%d", 6000 + i);
		build(client, v4.listener, CHANNEL, i, &in);
		put(rig.client, &in);
		assert_true(get(rig.peer, PEER_PORT, &out, PATIENCE_MS));
	}
	for (int i = 0; i < TP_PAIRS; i++)
		by_other += counters[1].relayed[TP_CLIENT_TO_PEER][i].packets;
	assert_int_equal(relayed(&rig), 64);
	assert_true(by_other > 0 && by_other < 64);
	close_rig(&rig);
}

static uint64_t seen_by(const struct rig *rig, uint64_t kernel)
{
	return kernel + tp_table_totals(rig->table).verdicts[TP_NO_FLOW];
}

/* Somebody else's socket has a queue: its packets go to the kernel (threat D24). */
static void test_queue_without_a_socket(void **state)
{
	static const struct afxdp_queue_options taken = {
		.interface = "tpa", .id = 1, .frame_shift = 11};
	struct afxdp_queue other;
	TP_AUTO_CLOSE int fd = -1;
	struct frame in;
	struct rig rig;
	uint64_t by_kernel = 0;

	assert_int_equal(afxdp_queue_open(&taken, &other), 0);
	open_rig(&rig, WORKER_QUEUES);
	fd = open_udp(v4.listener);
	for (uint16_t i = 0; i < 64; i++) {
		struct pollfd polls[] = {{.fd = fd, .events = POLLIN}};
		char client[64];
		uint8_t data[64];

		snprintf(client, sizeof(client), "10.9.9.9:%d", 7000 + i);
		build(client, v4.listener, CHANNEL, i, &in);
		put(rig.client, &in);
		/* One way or the other: both are told. */
		for (int tries = 0; tries < PATIENCE_MS && seen_by(&rig, by_kernel) <= i; tries++) {
			poll(polls, 1, 1);
			by_kernel += recv(fd, data, sizeof(data), MSG_DONTWAIT) > 0;
		}
	}
	assert_true(by_kernel > 0);
	assert_int_equal(seen_by(&rig, by_kernel), 64);
	close_rig(&rig);
	afxdp_queue_close(&other);
}

/* A ring that holds what nobody put there is not believed (threat D18). */
static void test_corrupt_rings(void **state)
{
	static const struct afxdp_queue_options options = {
		.interface = "tpc", .id = 0, .frame_shift = 11};
	static const struct xdp_desc wrong[] = {
		{.addr = UINT64_C(1) << 40, .len = 60}, /* beyond the memory */
		{.addr = UINT64_MAX, .len = 60},
		{.addr = FREE_FRAME << 11, .len = 60},        /* nobody gave it to the kernel */
		{.addr = (5 << 11) + 256, .len = 2048 - 255}, /* into the next frame */
	};
	struct tp_packet pkts[TP_BURST];
	uint32_t indexes[TP_BURST], count[AFXDP_PLACES];

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct afxdp_queue q;
		struct xdp_desc *desc;

		assert_int_equal(afxdp_queue_open(&options, &q), 0);
		assert_int_equal(afxdp_queue_audit(&q, count, reason), 0);
		assert_int_equal(q.places[FREE_FRAME], AFXDP_FREE);
		desc = &((struct xdp_desc *)q.rx.ring)[*q.rx.producer & q.rx.mask];
		*desc = wrong[i];
		__atomic_fetch_add(q.rx.producer, 1, __ATOMIC_RELEASE);
		assert_int_equal(afxdp_queue_receive(&q, pkts, indexes, TP_BURST), 0);
		assert_true(q.broken);
		assert_int_equal(afxdp_queue_audit(&q, count, reason), -EIO);
		afxdp_queue_close(&q);
	}
}

static void test_foreign_program(void **state)
{
	static const struct bpf_insn insns[] = {
		{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = XDP_PASS},
		{.code = BPF_JMP | BPF_EXIT},
	};
	int fd = bpf_prog_load(BPF_PROG_TYPE_XDP, "somebody_elses", "GPL", insns, 2, NULL);
	int ifindex = (int)if_nametoindex("tpc");
	struct tp_engine_options options = {
		.interfaces = names, .interfaces_count = INTERFACES, .workers = 1};
	struct tp_backend *backend = NULL;
	uint32_t id = 0;

	assert_true(fd >= 0);
	assert_int_equal(bpf_xdp_attach(ifindex, fd, XDP_FLAGS_DRV_MODE, NULL), 0);
	assert_int_equal(ops->open(&options, &backend, reason), -EBUSY);
	assert_non_null(strstr(reason, "somebody_elses"));
	assert_null(backend);
	assert_int_equal(bpf_xdp_query_id(ifindex, 0, &id), 0);
	assert_true(id != 0);
	assert_int_equal(bpf_xdp_query_id((int)if_nametoindex("tpa"), 0, &id), 0);
	assert_int_equal(id, 0);
	assert_int_equal(bpf_xdp_detach(ifindex, XDP_FLAGS_DRV_MODE, NULL), 0);
	close(fd);
}

static void test_interface_goes_away(void **state)
{
	struct rig rig;

	open_rig(&rig, 1);
	close(rig.peer);
	run("ip link del tpc");
	assert_int_equal(ops->check(rig.backend, reason), -ENOLINK);
	assert_non_null(strstr(reason, "tpc"));
	assert_int_equal(ops->check(rig.backend, reason), 0);
	rig.peer = socket(AF_PACKET, SOCK_RAW, 0);
	close_rig(&rig);
	run("ip link add tpc address 02:00:00:00:00:0c type veth peer name tpd address 02:00:00:00:00:0d");
}

static void make_links(void)
{
	/* What is passed comes by the loopback, from addresses that lie elsewhere. */
	run("ip link set lo up && sysctl -qw net.ipv4.conf.all.rp_filter=1 net.ipv4.conf.lo.rp_filter=1 "
	    "net.ipv4.conf.default.rp_filter=1");
	run("ip link add tpa address 02:00:00:00:00:0a numrxqueues 2 numtxqueues 2 type veth "
	    "peer name tpb address 02:00:00:00:00:0b numrxqueues 2 numtxqueues 2");
	run("ip link add tpc address 02:00:00:00:00:0c type veth peer name tpd address 02:00:00:00:00:0d");
	run("for i in tpa tpb tpc tpd; do sysctl -qw net.ipv6.conf.$i.accept_dad=0; "
	    "ip link set $i up; ethtool -K $i tx off gro on >/dev/null; done");
	run("ip addr add 192.0.2.1/24 dev tpa && ip addr add 2001:db8::1/64 dev tpa nodad && "
	    "ip route add 10.9.9.0/24 dev tpa && ip route add 2001:db8:9::/64 dev tpa");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_both_ways),
		cmocka_unit_test(test_back_where_it_came_from),
		cmocka_unit_test(test_many),
		cmocka_unit_test(test_passed),
		cmocka_unit_test(test_passed_but_broken),
		cmocka_unit_test(test_passed_as_it_came),
		cmocka_unit_test(test_address_that_went_elsewhere),
		cmocka_unit_test(test_left_to_the_kernel),
		cmocka_unit_test(test_detour),
		cmocka_unit_test(test_queue_without_a_socket),
		cmocka_unit_test(test_corrupt_rings),
		cmocka_unit_test(test_foreign_program),
		cmocka_unit_test(test_interface_goes_away),
	};

	if (geteuid() != 0 || unshare(CLONE_NEWNET) != 0) {
		printf("skipped: needs root and a network namespace of its own\n");
		return 77;
	}
	make_links();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
