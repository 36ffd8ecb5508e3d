/*
 * engines afxdp and dpdk without packets: turnpiked's side against a turnpike-dataplane that only
 * greets. Either may start first, die and come back; what the other has mapped stays.
 */
#include "base/clock.h"
#include "base/log.h"
#include "dataplane/link/link.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#define PATIENCE_MS 60000

static char path[96];

/* A turnpike-dataplane: one greeting and its answer. */
struct fake {
	struct tp_hello hello;
	const struct tp_tables *held;
	int delay_ms;
	pthread_t thread;

	int fd; /* -1: none */
	int answer;
	struct tp_tables tables;
	char reason[TP_REASON_SIZE];
};

static void greet(struct fake *f)
{
	struct pollfd p = {.events = POLLIN};
	uint64_t end = tp_clock_now_ns() + PATIENCE_MS * TP_NS_PER_MS;

	f->tables = tp_tables_none();
	while (tp_link_connect(path, geteuid(), &f->fd, f->reason) == -EAGAIN &&
		tp_clock_now_ns() < end)
		usleep(1000);
	p.fd = f->fd;
	f->answer = tp_link_hello(f->fd, &f->hello, f->held);
	if (f->answer == 0 && poll(&p, 1, PATIENCE_MS) == 1)
		f->answer = tp_link_answer(f->fd, &f->tables, f->reason);
	else
		f->answer = -ETIMEDOUT;
}

static void *greet_later(void *arg)
{
	struct fake *f = arg;

	usleep((useconds_t)f->delay_ms * 1000);
	greet(f);
	return NULL;
}

static struct fake fake_of(const char *engine)
{
	struct fake f = {
		.hello = {.workers = 2,
			.interfaces_count = 2,
			.interfaces = {{"eth0", 2, "copy", true}, {"eth1", 7, "copy", true}}},
		.fd = -1,
	};

	snprintf(f.hello.engine, sizeof(f.hello.engine), "%s", engine);
	return f;
}

static void begin(struct fake *f)
{
	assert_int_equal(pthread_create(&f->thread, NULL, greet_later, f), 0);
}

static void end(struct fake *f)
{
	pthread_join(f->thread, NULL);
}

/* Its process is gone, and with it what it had open. */
static void die(struct fake *f)
{
	tp_tables_close(&f->tables);
	close(f->fd);
}

static struct tp_engine_options options_of(uint32_t flows)
{
	return (struct tp_engine_options){
		.flows = flows,
		.workers = 2,
		.allocations = 10,
		.link_path = path,
		.owner_uid = geteuid(),
		.dataplane_uid = geteuid(),
	};
}

static struct tp_engine *start(
	const struct tp_engine_ops *ops, uint32_t flows, char reason[TP_REASON_SIZE])
{
	struct tp_engine_options options = options_of(flows);
	struct tp_engine *engine = NULL;

	reason[0] = '\0';
	if (ops->start(&options, &engine, reason) != 0)
		fail_msg("%s", reason);
	return engine;
}

/* As the event loop would. */
static void serve(const struct tp_engine_ops *ops, struct tp_engine *engine)
{
	struct pollfd p = {.fd = ops->fd(engine), .events = POLLIN};

	while (poll(&p, 1, 0) == 1)
		ops->process(engine);
}

/* Serves until the fake has its answer. */
static void serve_fake(const struct tp_engine_ops *ops, struct tp_engine *engine, struct fake *f)
{
	struct timespec soon;

	begin(f);
	do {
		serve(ops, engine);
		clock_gettime(CLOCK_REALTIME, &soon);
		soon.tv_sec += soon.tv_nsec >= 999000000;
		soon.tv_nsec = (soon.tv_nsec + 1000000) % 1000000000;
	} while (pthread_timedjoin_np(f->thread, NULL, &soon) != 0);
}

static struct tp_config *config_in(const struct tp_tables *tables)
{
	return tables->memory.regions[TP_REGION_CONFIG];
}

static void check_start(const struct tp_engine_ops *ops, int delay_ms)
{
	struct tp_engine_interface interfaces[TP_INTERFACES_MAX];
	char reason[TP_REASON_SIZE];
	struct fake f = fake_of(ops->name);
	struct tp_engine *engine;
	struct tp_table *table;

	f.delay_ms = delay_ms;
	begin(&f);
	engine = start(ops, 64, reason);
	end(&f);
	assert_int_equal(f.answer, 0);
	if (strncmp(reason, "2 workers on eth0 (copy), eth1 (copy); tables in ", 49) != 0)
		fail_msg("%s", reason);
	assert_int_equal(ops->interfaces(engine, interfaces), 2);
	assert_string_equal(interfaces[1].name, "eth1");
	assert_int_equal(interfaces[1].ifindex, 7);
	assert_true(interfaces[1].attached);
	assert_true(ops->alive(engine));
	assert_int_equal(config_in(&f.tables)->magic, 0);
	assert_int_equal(tp_table_create(ops->memory(engine), 0x4fff, &table), 0);
	assert_int_equal(config_in(&f.tables)->magic, TP_MAGIC);
	tp_table_destroy(table);
	ops->stop(engine);
	die(&f);
}

static void test_dataplane_first(void **state)
{
	check_start(&tp_engine_dpdk, 0);
}

static void test_turnpiked_first(void **state)
{
	check_start(&tp_engine_dpdk, 1500);
}

static bool have_maps(void)
{
	struct tp_shape shape;
	struct tp_tables tables;
	int err;

	assert_int_equal(tp_shape_init(64, 1, 1, &shape), 0);
	err = tp_tables_create_maps(&shape, &tables);
	if (err == 0)
		tp_tables_close(&tables);
	else
		print_message("skipped: no BPF maps here: %s\n", strerror(-err));
	return err == 0;
}

static void test_afxdp_has_maps(void **state)
{
	if (!have_maps())
		skip();
	check_start(&tp_engine_afxdp, 0);
}

static void check_loss_and_return(const struct tp_engine_ops *ops)
{
	struct tp_engine_interface interfaces[TP_INTERFACES_MAX];
	struct fake first = fake_of(ops->name), second = fake_of(ops->name);
	char reason[TP_REASON_SIZE];
	struct tp_engine *engine;

	begin(&first);
	engine = start(ops, 64, reason);
	end(&first);
	config_in(&first.tables)->magic = 4711;
	assert_int_equal(ops->check(engine, reason), 0);
	die(&first);
	serve(ops, engine);
	assert_false(ops->alive(engine));
	assert_int_equal(ops->interfaces(engine, interfaces), 2);
	assert_false(interfaces[0].attached);
	assert_int_equal(ops->check(engine, reason), -ENOLINK);
	assert_non_null(strstr(reason, "turnpike-dataplane is gone"));
	assert_int_equal(ops->check(engine, reason), 0);

	serve_fake(ops, engine, &second);
	assert_int_equal(second.answer, 0);
	assert_int_equal(config_in(&second.tables)->magic, 4711);
	assert_true(ops->alive(engine));
	assert_int_equal(ops->interfaces(engine, interfaces), 2);
	assert_true(interfaces[0].attached);
	assert_int_equal(ops->check(engine, reason), 0);
	die(&second);
	ops->stop(engine);
}

static void test_loss_and_return(void **state)
{
	check_loss_and_return(&tp_engine_dpdk);
	if (have_maps())
		check_loss_and_return(&tp_engine_afxdp);
}

/* The link alone was lost: who offers our own tables goes on with them. */
static void test_link_lost_and_found(void **state)
{
	const struct tp_engine_ops *ops = have_maps() ? &tp_engine_afxdp : &tp_engine_dpdk;
	struct fake f = fake_of(ops->name), again = fake_of(ops->name);
	char reason[TP_REASON_SIZE];
	struct tp_engine *engine;

	begin(&f);
	engine = start(ops, 64, reason);
	end(&f);
	config_in(&f.tables)->magic = 4711;
	close(f.fd);
	again.held = &f.tables;
	serve_fake(ops, engine, &again);
	assert_int_equal(again.answer, -EALREADY);
	assert_int_equal(config_in(&f.tables)->magic, 4711);
	close(again.fd);
	tp_tables_close(&f.tables);
	ops->stop(engine);
}

/* What a killed turnpiked left is handed on as it is, once no worker holds what it has seen. */
static void check_turnpiked_killed(const struct tp_engine_ops *ops)
{
	struct fake f = fake_of(ops->name), again = fake_of(ops->name);
	struct tp_worker_counters *workers;
	char reason[TP_REASON_SIZE];
	struct tp_addr local;
	struct tp_engine *engine;
	struct tp_table *table;
	uint64_t gate;
	uint8_t index;

	begin(&f);
	engine = start(ops, 64, reason);
	end(&f);
	assert_int_equal(tp_table_create(ops->memory(engine), 0x4fff, &table), 0);
	assert_int_equal(tp_addr_parse_ip("192.0.2.1", &local), 0);
	assert_int_equal(tp_table_add_local(table, &local, &index), 0);
	gate = config_in(&f.tables)->gate;
	assert_int_not_equal(gate, 0);
	tp_table_destroy(table);
	ops->stop(engine);
	close(f.fd);
	workers = f.tables.memory.regions[TP_REGION_WORKERS];
	workers[1].epoch = 8;

	again.held = &f.tables;
	begin(&again);
	engine = start(ops, 64, reason);
	end(&again);
	assert_int_equal(again.answer, -EALREADY);
	assert_true(tp_memory_is_kept(ops->memory(engine)));
	assert_int_equal(config_in(&f.tables)->gate, gate);
	assert_int_equal(config_in(&f.tables)->locals, 1);
	ops->stop(engine);
	close(again.fd);
	tp_tables_close(&f.tables);
}

static void test_turnpiked_killed(void **state)
{
	check_turnpiked_killed(&tp_engine_dpdk);
	if (have_maps())
		check_turnpiked_killed(&tp_engine_afxdp);
}

static void check_turnpiked_restart(const struct tp_engine_ops *ops)
{
	struct fake f = fake_of(ops->name), again = fake_of(ops->name);
	struct tp_worker_counters *workers;
	char reason[TP_REASON_SIZE];
	struct tp_engine *engine;

	begin(&f);
	engine = start(ops, 64, reason);
	end(&f);
	ops->stop(engine);
	close(f.fd);
	workers = f.tables.memory.regions[TP_REGION_WORKERS];
	config_in(&f.tables)->magic = TP_MAGIC;
	config_in(&f.tables)->locals = 3;
	workers[1].polls = 99;
	workers[1].epoch = 8;

	again.held = &f.tables;
	begin(&again);
	engine = start(ops, 64, reason);
	end(&again);
	assert_int_equal(again.answer, -EALREADY);
	assert_int_equal(config_in(&f.tables)->magic, 0);
	assert_int_equal(config_in(&f.tables)->locals, 0);
	assert_int_equal(workers[1].polls, 99);
	config_in(&f.tables)->magic = 4711;
	assert_int_equal(
		((struct tp_config *)ops->memory(engine)->regions[TP_REGION_CONFIG])->magic, 4711);
	ops->stop(engine);
	close(again.fd);
	tp_tables_close(&f.tables);
}

static void test_turnpiked_restarts(void **state)
{
	check_turnpiked_restart(&tp_engine_dpdk);
	if (have_maps())
		check_turnpiked_restart(&tp_engine_afxdp);
}

/* Tables that cannot be taken back: others come, and the workers have to start anew. */
static void check_new_tables(uint32_t flows, uint64_t epoch)
{
	struct fake f = fake_of("dpdk"), again = fake_of("dpdk");
	struct tp_worker_counters *workers;
	char reason[TP_REASON_SIZE];
	struct tp_engine *engine;

	begin(&f);
	engine = start(&tp_engine_dpdk, 64, reason);
	end(&f);
	tp_engine_dpdk.stop(engine);
	close(f.fd);
	workers = f.tables.memory.regions[TP_REGION_WORKERS];
	workers[0].epoch = epoch;
	again.held = &f.tables;
	begin(&again);
	engine = start(&tp_engine_dpdk, flows, reason);
	end(&again);
	assert_int_equal(again.answer, 0);
	assert_false(tp_tables_are_same(&again.tables, &f.tables));
	tp_engine_dpdk.stop(engine);
	die(&again);
	tp_tables_close(&f.tables);
}

static void test_tables_that_do_not_fit(void **state)
{
	check_new_tables(128, 0);
	check_new_tables(64, 7); /* a worker that does not move */
}

static void test_refused_while_waiting(void **state)
{
	struct fake xdp = fake_of("afxdp"), few = fake_of("dpdk"), good = fake_of("dpdk");
	char reason[TP_REASON_SIZE];
	struct tp_engine *engine;

	few.hello.workers = 1;
	few.delay_ms = 100;
	good.delay_ms = 500;
	begin(&xdp);
	begin(&few);
	begin(&good);
	engine = start(&tp_engine_dpdk, 64, reason);
	end(&xdp);
	end(&few);
	end(&good);
	assert_int_equal(xdp.answer, -ECONNREFUSED);
	assert_string_equal(xdp.reason, "turnpiked runs the engine dpdk, not afxdp");
	assert_int_equal(few.answer, -ECONNREFUSED);
	assert_string_equal(few.reason, "turnpiked has tables for 2 workers, not for 1");
	assert_int_equal(good.answer, 0);
	tp_engine_dpdk.stop(engine);
	close(xdp.fd);
	close(few.fd);
	die(&good);
}

static void test_refused_when_changed(void **state)
{
	struct fake first = fake_of("dpdk"), other = fake_of("dpdk"), fewer = fake_of("dpdk");
	const struct tp_engine_ops *ops = &tp_engine_dpdk;
	char reason[TP_REASON_SIZE];
	struct tp_engine *engine;

	begin(&first);
	engine = start(ops, 64, reason);
	end(&first);
	die(&first);
	other.hello.interfaces[1].ifindex = 9;
	serve_fake(ops, engine, &other);
	assert_int_equal(other.answer, -ECONNREFUSED);
	assert_string_equal(other.reason, "interface eth1 is number 9, but turnpiked was started "
					  "with eth1 as number 7: restart it");
	fewer.hello.interfaces_count = 1;
	serve_fake(ops, engine, &fewer);
	assert_int_equal(fewer.answer, -ECONNREFUSED);
	assert_false(ops->alive(engine));
	ops->stop(engine);
	close(other.fd);
	close(fewer.fd);
}

static void test_an_interface_lost(void **state)
{
	struct tp_engine_interface interfaces[TP_INTERFACES_MAX];
	const struct tp_engine_ops *ops = &tp_engine_dpdk;
	struct fake f = fake_of("dpdk");
	char reason[TP_REASON_SIZE];
	struct tp_engine *engine;

	begin(&f);
	engine = start(ops, 64, reason);
	end(&f);
	for (int round = 0; round < 2; round++) {
		f.hello.interfaces[1].attached = false;
		assert_int_equal(tp_link_state(f.fd, &f.hello), 0);
		assert_int_equal(ops->check(engine, reason), -ENOLINK);
		assert_string_equal(reason, "eth1: turnpike-dataplane gets no packets from there");
		assert_int_equal(ops->check(engine, reason), 0);
		ops->interfaces(engine, interfaces);
		assert_true(interfaces[0].attached);
		assert_false(interfaces[1].attached);
		f.hello.interfaces[1].attached = true;
		assert_int_equal(tp_link_state(f.fd, &f.hello), 0);
		assert_int_equal(ops->check(engine, reason), 0);
		ops->interfaces(engine, interfaces);
		assert_true(interfaces[1].attached);
	}
	ops->stop(engine);
	die(&f);
}

/* As main() has it: signals are held back, and must end the wait all the same. */
static void test_stopped_while_waiting(void **state)
{
	static const int stops[] = {SIGTERM, SIGINT};

	for (size_t i = 0; i < 2; i++) {
		struct tp_engine_options options = options_of(64);
		struct tp_engine *engine = NULL;
		char reason[TP_REASON_SIZE] = "";
		sigset_t set;
		int caught;

		sigemptyset(&set);
		sigaddset(&set, stops[i]);
		sigprocmask(SIG_BLOCK, &set, NULL);
		raise(stops[i]);
		assert_int_equal(tp_engine_dpdk.start(&options, &engine, reason), -EINTR);
		assert_string_equal(reason, "stopped while waiting for turnpike-dataplane");
		assert_null(engine);
		assert_int_equal(access(path, F_OK), -1);
		/* still pending: whoever minds signals gets it */
		assert_int_equal(sigwait(&set, &caught), 0);
		assert_int_equal(caught, stops[i]);
		sigprocmask(SIG_UNBLOCK, &set, NULL);
	}
}

static void test_no_tables(void **state)
{
	struct tp_engine_options options = options_of(0);
	struct tp_engine *engine;
	char reason[TP_REASON_SIZE];

	assert_int_equal(tp_engine_dpdk.start(&options, &engine, reason), -EINVAL);
	assert_string_equal(reason, "no tables for 0 flows and 2 workers");
}

static int make_folder(void **state)
{
	static char folder[] = "/tmp/test_remote.XXXXXX";

	tp_log_set_level(TP_LOG_ERROR);
	if (!mkdtemp(folder))
		return -1;
	snprintf(path, sizeof(path), "%s/dataplane.sock", folder);
	*state = folder;
	return 0;
}

static int remove_folder(void **state)
{
	unlink(path);
	return rmdir(*state);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_dataplane_first),
		cmocka_unit_test(test_turnpiked_first),
		cmocka_unit_test(test_afxdp_has_maps),
		cmocka_unit_test(test_loss_and_return),
		cmocka_unit_test(test_link_lost_and_found),
		cmocka_unit_test(test_turnpiked_killed),
		cmocka_unit_test(test_turnpiked_restarts),
		cmocka_unit_test(test_tables_that_do_not_fit),
		cmocka_unit_test(test_refused_while_waiting),
		cmocka_unit_test(test_refused_when_changed),
		cmocka_unit_test(test_an_interface_lost),
		cmocka_unit_test(test_stopped_while_waiting),
		cmocka_unit_test(test_no_tables),
	};

	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
