/*
 * dataplane/worker over a back end that is a script: which frames go where, what is counted, and
 * what another thread may rely on. The worker's thread is real.
 */
#include "dataplane/worker/worker.h"
#include "base/clock.h"
#include "dataplane/table/table.h"
#include "tests/vectors/frame.h"

#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#define IFINDEX     7
#define CLIENT      "10.9.9.9:4000"
#define LISTENER    "192.0.2.1:3478"
#define PEER        "10.8.8.8:5000"
#define CHANNEL     0x4001
#define UNROUTED    0x4002 /* granted, but nobody knows the way */
#define UNKNOWN     0x4003
#define ROOM        64 /* around a frame */
#define PATIENCE_MS 10000

/* What a frame of the script becomes, by its number modulo 4. */
enum { SENT, PASSED, OUTPUT, DROPPED, FATES };

struct tp_backend {
	uint8_t buffers[TP_BURST][2 * ROOM + FRAME_MAX];
	size_t lens[TP_BURST];
	atomic_uint next; /* burst to deliver: this many frames, then 0 */
	uint32_t send_at_most, output_at_most;

	atomic_uint fates[FATES][TP_BURST];
	atomic_bool even_outside, sent_first;
	atomic_int entered, left;
	int enter_error;
	const struct tp_worker_counters *counters;
};

static char reason[TP_REASON_SIZE];

static size_t interfaces(
	const struct tp_backend *backend, struct tp_engine_interface out[TP_INTERFACES_MAX])
{
	out[0] = (struct tp_engine_interface){.name = "script", .ifindex = IFINDEX};
	return 1;
}

static int enter(struct tp_backend *b, uint32_t worker)
{
	atomic_fetch_add(&b->entered, 1);
	return b->enter_error;
}

static void leave(struct tp_backend *b, uint32_t worker)
{
	atomic_fetch_add(&b->left, 1);
}

static uint32_t receive(
	struct tp_backend *b, uint32_t worker, struct tp_packet *pkts, struct tp_frame *frames)
{
	uint32_t count = worker == 0 ? atomic_exchange(&b->next, 0) : 0;

	if (b->counters->epoch & 1)
		b->even_outside = false;
	for (uint32_t i = 0; i < count; i++) {
		uint8_t *buffer = b->buffers[i];

		pkts[i] = (struct tp_packet){
			.data = buffer + ROOM,
			.end = buffer + ROOM + b->lens[i],
			.ingress = IFINDEX,
			.room = buffer,
			.room_end = buffer + sizeof(b->buffers[i]),
		};
		frames[i].number = i;
	}
	return count;
}

static void note(struct tp_backend *b, int fate, const struct tp_frame *frames, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		atomic_fetch_add(&b->fates[fate][frames[i].number], 1);
}

/* Packets and frames have to stay together, in the order in which they came. */
static uint32_t send_burst(struct tp_backend *b, uint32_t worker, const struct tp_packet *pkts,
	const struct tp_frame *frames, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		assert_ptr_equal(pkts[i].room, b->buffers[frames[i].number]);
		assert_true(i == 0 || frames[i].number > frames[i - 1].number);
	}
	note(b, SENT, frames, count);
	return count < b->send_at_most ? count : b->send_at_most;
}

static uint32_t pass(struct tp_backend *b, uint32_t worker, const struct tp_packet *pkts,
	const struct tp_frame *frames, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		assert_ptr_equal(pkts[i].data, b->buffers[frames[i].number] + ROOM);
	if (b->fates[SENT][0])
		b->sent_first = true;
	note(b, PASSED, frames, count);
	return count;
}

/* From the relayed address to the peer, and nothing around it. */
static uint32_t output(struct tp_backend *b, uint32_t worker, const struct tp_packet *pkts,
	const struct tp_frame *frames, uint32_t count)
{
	static const uint8_t want[] = {
		10, 8, 8, 8, 50001 >> 8, 50001 & 0xff, 5000 >> 8, 5000 & 0xff};

	for (uint32_t i = 0; i < count; i++) {
		const uint8_t *packet = pkts[i].data;

		assert_ptr_equal(pkts[i].room, b->buffers[frames[i].number]);
		assert_int_equal(packet[0], 0x45);
		assert_memory_equal(packet + 16, want, sizeof(want));
		assert_int_equal(pkts[i].end - packet, 20 + 8 + 4);
		assert_memory_equal(packet + 28, "data", 4);
	}
	note(b, OUTPUT, frames, count);
	return count < b->output_at_most ? count : b->output_at_most;
}

static void release(
	struct tp_backend *b, uint32_t worker, const struct tp_frame *frames, uint32_t count)
{
	note(b, DROPPED, frames, count);
}

static const struct tp_backend_ops script = {
	.name = "script",
	.interfaces = interfaces,
	.enter = enter,
	.leave = leave,
	.receive = receive,
	.send = send_burst,
	.pass = pass,
	.output = output,
	.release = release,
};

struct rig {
	struct tp_memory memory;
	struct tp_table *table;
	struct tp_backend backend;
	struct tp_workers *workers;
	struct tp_engine_options options;
	struct tp_backend_ops ops;
};

static struct tp_addr address(const char *text)
{
	struct tp_addr out;

	assert_int_equal(tp_addr_parse(text, &out), 0);
	return out;
}

/* Two channels that are granted; the others are unknown, of the same client and of strangers. */
static void build(struct tp_backend *b, uint32_t index)
{
	static const char *const sources[FATES] = {CLIENT, CLIENT, CLIENT, "10.9.9.9:4001"};
	static const uint16_t channels[FATES] = {CHANNEL, UNKNOWN, UNROUTED, UNKNOWN};
	const struct frame_spec spec = {
		.source = address(sources[index % FATES]),
		.destination = address(LISTENER),
		.ttl = 64,
		.channel = channels[index % FATES],
		.data = (const void *)"data",
		.data_len = 4,
	};
	struct frame frame;

	frame_build(&spec, &frame);
	b->lens[index] = frame.len;
	memcpy(b->buffers[index] + ROOM, frame.bytes, frame.len);
}

static void publish(struct rig *rig, enum tp_flow_kind kind, uint16_t channel)
{
	struct tp_flow_spec spec = {
		.kind = kind,
		.in = {.remote = address(CLIENT), .local_port = 3478, .channel = channel},
		.next_hop = channel == CHANNEL,
		.expires_ns = tp_clock_now_ns() + 600 * TP_NS_PER_S,
	};
	uint32_t slot;

	if (kind == TP_FLOW_CHANNEL)
		spec.out = (struct tp_flow_side){.remote = address(PEER),
			.local_port = (uint16_t)(50000 + channel - CHANNEL)};
	assert_int_equal(tp_table_publish(rig->table, &spec, &slot), 0);
}

static void make_tables(struct rig *rig, uint32_t workers)
{
	const struct tp_next_hop hop = {.ifindex = IFINDEX, .mtu = 1500};
	struct tp_addr local = address(LISTENER);
	struct tp_shape shape;
	uint8_t index;

	assert_int_equal(tp_shape_init(64, workers, 8, &shape), 0);
	assert_int_equal(tp_memory_create_plain(&shape, &rig->memory), 0);
	assert_int_equal(tp_table_create(&rig->memory, 0x4fff, &rig->table), 0);
	assert_int_equal(tp_table_add_local(rig->table, &local, &index), 0);
	tp_table_set_port(rig->table, index, 3478, TP_PORT_LISTENER);
	tp_table_set_next_hop_record(rig->table, 1, &hop);
	publish(rig, TP_FLOW_CLIENT, 0);
	publish(rig, TP_FLOW_CHANNEL, CHANNEL);
	publish(rig, TP_FLOW_CHANNEL, UNROUTED);
	tp_table_enable(rig->table, true);
}

static struct tp_worker_counters *counters_of(struct rig *rig, uint32_t worker)
{
	struct tp_worker_counters *all = rig->memory.regions[TP_REGION_WORKERS];

	return &all[worker];
}

static void make(struct rig *rig, uint32_t workers)
{
	memset(rig, 0, sizeof(*rig));
	rig->options.workers = workers;
	rig->options.idle_sleep_us = 100;
	rig->ops = script;
	rig->backend.send_at_most = rig->backend.output_at_most = UINT32_MAX;
	rig->backend.even_outside = true;
	make_tables(rig, workers);
	rig->backend.counters = counters_of(rig, 0);
}

static void start(struct rig *rig)
{
	if (tp_workers_start(&rig->ops, &rig->backend, &rig->memory, &rig->options, &rig->workers,
		    reason) != 0)
		fail_msg("%s", reason);
}

static void end(struct rig *rig)
{
	tp_workers_stop(rig->workers);
	tp_table_destroy(rig->table);
	tp_memory_destroy_plain(&rig->memory);
}

static void deliver(struct rig *rig, uint32_t count)
{
	uint64_t until = tp_clock_now_ns() + PATIENCE_MS * TP_NS_PER_MS;
	const volatile uint64_t *bursts = &counters_of(rig, 0)->bursts;
	uint64_t before = *bursts;

	for (uint32_t i = 0; i < count; i++)
		build(&rig->backend, i);
	atomic_store(&rig->backend.next, count);
	while (*bursts == before && tp_clock_now_ns() < until)
		sched_yield();
	assert_int_equal(*bursts, before + 1);
}

/* Every frame goes one way, once; what is for turnpiked goes first. */
static void test_fates(void **state)
{
	static struct rig rig;

	make(&rig, 1);
	start(&rig);
	deliver(&rig, TP_BURST);
	end(&rig);
	for (uint32_t i = 0; i < TP_BURST; i++) {
		for (int fate = 0; fate < FATES; fate++)
			assert_int_equal(rig.backend.fates[fate][i], (int)i % FATES == fate);
	}
	assert_false(rig.backend.sent_first);
}

static void test_counters(void **state)
{
	static struct rig rig;
	const struct tp_worker_counters *own;
	struct tp_worker_counters sum;

	make(&rig, 1);
	own = counters_of(&rig, 0);
	start(&rig);
	deliver(&rig, 40);
	deliver(&rig, 4);
	tp_workers_stop(rig.workers);
	rig.workers = NULL;
	sum = tp_table_totals(rig.table);
	assert_int_equal(tp_worker_direction(&sum, TP_CLIENT_TO_PEER).packets, 22);
	assert_int_equal(tp_worker_direction(&sum, TP_CLIENT_TO_PEER).bytes, 22 * 4);
	assert_int_equal(sum.outputs, 11);
	assert_int_equal(sum.verdicts[TP_NO_NEXT_HOP], 11);
	assert_int_equal(sum.verdicts[TP_UNBOUND], 11);
	assert_int_equal(sum.verdicts[TP_NO_FLOW], 11);
	assert_int_equal(sum.verdicts[TP_QUEUE_FULL], 0);
	assert_int_equal(own->bursts, 2);
	assert_true(own->polls > 2);
	assert_true(own->busy_ns > 0 && own->busy_ns <= own->up_ns);
	end(&rig);
}

/* What the back end could not send was already counted as relayed: that is told too. */
static void test_full_queue(void **state)
{
	static struct rig rig;

	make(&rig, 1);
	rig.backend.send_at_most = 4;
	rig.backend.output_at_most = 9;
	start(&rig);
	deliver(&rig, 40);
	tp_workers_stop(rig.workers);
	rig.workers = NULL;
	assert_int_equal(tp_table_totals(rig.table).verdicts[TP_QUEUE_FULL], 6 + 1);
	end(&rig);
}

/* Over a back end that hands nothing to the kernel's IP output, such packets stay as they came. */
static void test_without_output(void **state)
{
	static struct rig rig;
	struct tp_worker_counters sum;

	make(&rig, 1);
	rig.ops.output = NULL;
	start(&rig);
	deliver(&rig, 40);
	tp_workers_stop(rig.workers);
	rig.workers = NULL;
	for (uint32_t i = 0; i < 40; i++)
		assert_int_equal(
			rig.backend.fates[PASSED][i], i % FATES == PASSED || i % FATES == OUTPUT);
	sum = tp_table_totals(rig.table);
	assert_int_equal(sum.verdicts[TP_NO_NEXT_HOP], 10);
	assert_int_equal(sum.outputs, 0);
	assert_int_equal(tp_worker_direction(&sum, TP_CLIENT_TO_PEER).packets, 10);
	end(&rig);
}

/* Odd only while records are held, and never the same again, whoever wrote there before. */
static void test_epoch(void **state)
{
	static struct rig rig;
	uint64_t before;

	make(&rig, 1);
	counters_of(&rig, 0)->epoch = 17; /* a predecessor was killed in a burst */
	start(&rig);
	before = counters_of(&rig, 0)->epoch;
	assert_true(before > 17 && before % 2 == 0);
	deliver(&rig, 3);
	assert_int_equal(counters_of(&rig, 0)->epoch, before + 2);
	/* turnpiked clears the tables under the worker. */
	__atomic_store_n(&counters_of(&rig, 0)->epoch, 0, __ATOMIC_RELEASE);
	deliver(&rig, 3);
	assert_int_equal(counters_of(&rig, 0)->epoch, before + 4);
	tp_workers_stop(rig.workers);
	rig.workers = NULL;
	assert_true(rig.backend.even_outside);
	end(&rig);
}

static void test_enter_and_leave(void **state)
{
	static struct rig rig;

	make(&rig, 3);
	start(&rig);
	assert_int_equal(rig.backend.entered, 3);
	tp_workers_stop(rig.workers);
	rig.workers = NULL;
	assert_int_equal(rig.backend.left, 3);
	end(&rig);
}

static void must_refuse(struct rig *rig, int err, const char *says)
{
	int got = tp_workers_start(
		&script, &rig->backend, &rig->memory, &rig->options, &rig->workers, reason);

	if (got != err || !strstr(reason, says))
		fail_msg("%d instead of %d: %s", got, err, reason);
	assert_null(rig->workers);
}

static void test_refusals(void **state)
{
	static const uint16_t nowhere[] = {1000};
	static struct rig rig;

	make(&rig, 1);
	rig.backend.enter_error = -EPERM;
	must_refuse(&rig, -EPERM, "worker 0");
	rig.backend.enter_error = 0;
	rig.options.cores = nowhere;
	rig.options.cores_count = 1;
	must_refuse(&rig, -EINVAL, "core 1000");
	rig.options.cores_count = 0;
	rig.options.workers = 2;
	must_refuse(&rig, -EINVAL, "tables for 1");
	end(&rig);
}

static void test_cores(void **state)
{
	static const uint16_t first[] = {0};
	static struct rig rig;

	make(&rig, 1);
	rig.options.cores = first;
	rig.options.cores_count = 1;
	start(&rig);
	deliver(&rig, 3);
	end(&rig);
}

static void test_cores_that_are_left(void **state)
{
	struct tp_engine_options options = {0};
	uint16_t taken[CPU_SETSIZE];
	cpu_set_t all, left;

	assert_int_equal(sched_getaffinity(0, sizeof(all), &all), 0);
	left = tp_cores_off_workers(&options);
	assert_true(CPU_EQUAL(&left, &all));
	options.cores = taken;
	for (uint16_t i = 0; i < CPU_SETSIZE; i++) {
		if (!CPU_ISSET(i, &all))
			continue;
		taken[options.cores_count++] = i;
		left = tp_cores_off_workers(&options);
		if ((int)options.cores_count == CPU_COUNT(&all))
			assert_true(CPU_EQUAL(&left, &all));
		else
			assert_int_equal(
				CPU_COUNT(&left), CPU_COUNT(&all) - (int)options.cores_count);
		assert_true(CPU_ISSET(i, &left) == CPU_EQUAL(&left, &all));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fates),
		cmocka_unit_test(test_counters),
		cmocka_unit_test(test_full_queue),
		cmocka_unit_test(test_without_output),
		cmocka_unit_test(test_epoch),
		cmocka_unit_test(test_enter_and_leave),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_cores),
		cmocka_unit_test(test_cores_that_are_left),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
