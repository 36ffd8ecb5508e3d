/*
 * dataplane/engine/xdp against the real kernel. Runs as root in network and mount namespaces of its
 * own, which end with the process: veth pairs tpa=tpb and tpc=tpd, a bpffs of its own.
 */
#include "base/cleanup.h"
#include "dataplane/engine/engine.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/if_link.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>

#define PIN_DIR "/sys/fs/bpf/tptest"
#define NOBODY  65534

static char reason[TP_REASON_SIZE];

static void run(const char *command)
{
	if (system(command) != 0)
		fail_msg("%s", command);
}

static struct tp_engine_options options_for(const char *const *names, size_t count)
{
	return (struct tp_engine_options){
		.interfaces = names,
		.interfaces_count = count,
		.xdp_mode = TP_XDP_AUTO,
		.flows = 1024,
		.pin_dir = PIN_DIR,
		.owner_uid = 0,
	};
}

static const char *const both[] = {"tpa", "tpc"};

static struct tp_engine *must_start(const struct tp_engine_options *options)
{
	struct tp_engine *engine = NULL;

	if (tp_engine_xdp.start(options, &engine, reason) != 0)
		fail_msg("%s", reason);
	return engine;
}

static void must_refuse(const struct tp_engine_options *options, int err, const char *says)
{
	struct tp_engine *engine = NULL;
	int got = tp_engine_xdp.start(options, &engine, reason);

	if (got != err || !strstr(reason, says))
		fail_msg("%d instead of %d: %s", got, err, reason);
	assert_null(engine);
}

static uint32_t attached_id(const char *name)
{
	uint32_t id = 0;

	assert_int_equal(bpf_xdp_query_id((int)if_nametoindex(name), 0, &id), 0);
	return id;
}

static int count_entries(const char *path)
{
	DIR *dir = opendir(path);
	int count = 0;

	if (!dir)
		return -errno;
	while (readdir(dir))
		count++;
	closedir(dir);
	return count - 2;
}

static void assert_nothing_left(void)
{
	assert_int_equal(attached_id("tpa"), 0);
	assert_int_equal(attached_id("tpc"), 0);
	assert_int_equal(count_entries(PIN_DIR), -ENOENT);
}

static int pass_program(void)
{
	static const struct bpf_insn insns[] = {
		{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = XDP_PASS},
		{.code = BPF_JMP | BPF_EXIT},
	};

	return bpf_prog_load(BPF_PROG_TYPE_XDP, "somebody_elses", "GPL", insns, 2, NULL);
}

static int open_pin(const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), PIN_DIR "/%s", name);
	return bpf_obj_get(path);
}

static void test_attach_and_stop(void **state)
{
	struct tp_engine_options options = options_for(both, 2);
	struct tp_engine_interface is[TP_INTERFACES_MAX];
	struct tp_engine *engine = must_start(&options);
	struct tp_table *table;
	struct tp_config config;
	uint32_t key = 0;
	struct stat st;
	int fd;

	assert_string_equal(reason, "native XDP on tpa, tpc");
	assert_int_equal(tp_engine_xdp.interfaces(engine, is), 2);
	assert_string_equal(is[1].name, "tpc");
	assert_true(is[0].attached && is[1].attached);
	assert_true(attached_id("tpa") != 0);
	assert_int_equal(attached_id("tpa"), attached_id("tpc"));
	assert_int_equal(count_entries(PIN_DIR), TP_REGIONS + 1 + 1 + 2);
	assert_int_equal(stat(PIN_DIR, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	assert_int_equal(stat(PIN_DIR "/flows", &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);

	assert_int_equal(tp_table_create(tp_engine_xdp.memory(engine), 0x4fff, &table), 0);
	fd = open_pin("config");
	assert_true(fd >= 0);
	assert_int_equal(bpf_map_lookup_elem(fd, &key, &config), 0);
	assert_int_equal(config.magic, TP_MAGIC);
	assert_true(config.layout == tp_layout_hash());
	close(fd);
	assert_int_equal(tp_engine_xdp.check(engine, reason), 0);
	tp_table_destroy(table);
	tp_engine_xdp.stop(engine);
	assert_nothing_left();
}

/* One frame from tpb to tpa, of a kind that is nobody's. */
static void send_frame(void)
{
	uint8_t frame[60] = {[12] = 0x88, [13] = 0xb5};
	struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_halen = 6};
	TP_AUTO_CLOSE int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);

	to.sll_ifindex = (int)if_nametoindex("tpb");
	assert_true(fd >= 0);
	memset(frame, 0xff, 6);
	assert_int_equal(sendto(fd, frame, sizeof(frame), 0, (struct sockaddr *)&to, sizeof(to)),
		sizeof(frame));
}

static uint64_t wait_for_verdict(const struct tp_table *table, enum tp_verdict verdict)
{
	uint64_t seen = 0;

	for (int i = 0; i < 2000 && seen == 0; i++) {
		usleep(10000);
		seen = tp_table_totals(table).verdicts[verdict];
	}
	return seen;
}

/* The program reads what is written through the mapping, and its counters are read back. */
static void test_program_and_mapping_are_one(void **state)
{
	struct tp_engine_options options = options_for(both, 2);
	struct tp_engine *engine = must_start(&options);
	struct tp_table *table;

	assert_int_equal(tp_table_create(tp_engine_xdp.memory(engine), 0x4fff, &table), 0);
	send_frame();
	assert_true(wait_for_verdict(table, TP_NOT_OURS) > 0);
	tp_table_enable(table, false);
	send_frame();
	assert_true(wait_for_verdict(table, TP_OFF) > 0);
	tp_table_destroy(table);
	tp_engine_xdp.stop(engine);
	assert_nothing_left();
}

/* Threat D02, and one directory serves one living instance. */
static void test_others_are_kept_out(void **state)
{
	struct tp_engine_options options = options_for(both, 2);
	struct tp_engine *engine = must_start(&options);
	int program = pass_program(), ifindex = (int)if_nametoindex("tpa"), status;
	pid_t child;

	must_refuse(&options, -EBUSY, "another turnpiked is running");
	assert_int_equal(tp_engine_xdp.check(engine, reason), 0);
	/* Neither `ip link set dev tpa xdp off` nor another program gets past the link. */
	assert_int_equal(bpf_xdp_detach(ifindex, 0, NULL), -EBUSY);
	assert_int_equal(bpf_xdp_attach(ifindex, program, 0, NULL), -EBUSY);
	assert_int_not_equal(system("ip link set dev tpa xdp off 2>/dev/null"), 0);
	close(program);
	assert_int_equal(tp_engine_xdp.check(engine, reason), 0);
	child = fork();
	if (child == 0) {
		if (setuid(NOBODY) != 0)
			_exit(1);
		_exit(open_pin("config") == -EACCES && open_pin("flows") == -EACCES ? 0 : 2);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	tp_engine_xdp.stop(engine);
	assert_nothing_left();
}

static void test_foreign_program(void **state)
{
	struct tp_engine_options options = options_for(both, 2);
	int program = pass_program(), ifindex = (int)if_nametoindex("tpc");
	uint32_t id;

	assert_true(program >= 0);
	assert_int_equal(bpf_xdp_attach(ifindex, program, 0, NULL), 0);
	id = attached_id("tpc");
	must_refuse(&options, -EBUSY, "tpc: another XDP program");
	assert_non_null(strstr(reason, "name somebody_elses"));
	assert_int_equal(attached_id("tpc"), id);
	assert_int_equal(bpf_xdp_detach(ifindex, 0, NULL), 0);
	close(program);
	assert_nothing_left();
}

static void test_mode_in_the_kernels_words(void **state)
{
	static const char words[] = "Peer MTU is too large to set XDP";
	struct tp_engine_options options = options_for(both, 2);
	struct tp_engine_interface is[TP_INTERFACES_MAX];
	struct tp_engine *engine;

	run("ip link set tpb mtu 9000");
	options.xdp_mode = TP_XDP_NATIVE;
	must_refuse(&options, -ERANGE, words);
	assert_nothing_left();
	options.xdp_mode = TP_XDP_AUTO;
	engine = must_start(&options);
	assert_string_equal(reason,
		"native XDP on tpc; tpa: native refused (veth: Peer MTU is too large "
		"to set XDP), generic attached");
	tp_engine_xdp.interfaces(engine, is);
	assert_string_equal(is[0].mode, "generic");
	tp_engine_xdp.stop(engine);
	run("ip link set tpb mtu 1500");
	options.xdp_mode = TP_XDP_GENERIC;
	engine = must_start(&options);
	assert_string_equal(reason, "generic XDP on tpa, tpc");
	tp_engine_xdp.stop(engine);
	assert_nothing_left();
}

static void test_loss_is_told_once(void **state)
{
	struct tp_engine_options options = options_for(both, 2);
	struct tp_engine *engine = must_start(&options);
	struct tp_engine_interface is[TP_INTERFACES_MAX];
	char name[32];
	int link;

	snprintf(name, sizeof(name), "link-%u", if_nametoindex("tpc"));
	link = open_pin(name);
	assert_true(link >= 0);
	assert_int_equal(tp_engine_xdp.check(engine, reason), 0);
	assert_int_equal(bpf_link_detach(link), 0);
	close(link);
	assert_int_equal(tp_engine_xdp.check(engine, reason), -ENOLINK);
	assert_string_equal(reason, "tpc: the XDP program was removed");
	assert_int_equal(tp_engine_xdp.check(engine, reason), 0);
	tp_engine_xdp.interfaces(engine, is);
	assert_true(is[0].attached && !is[1].attached);
	tp_engine_xdp.stop(engine);
	assert_nothing_left();
}

/* Interfaces with the same numbers as ours, elsewhere. */
static void enter_another_network(void)
{
	unsigned int a = if_nametoindex("tpa"), c = if_nametoindex("tpc");
	char command[256];

	snprintf(command, sizeof(command),
		"ip link add tpa index %u type veth peer name tpb index 101 && "
		"ip link add tpc index %u type veth peer name tpd index 102",
		a, c);
	if (unshare(CLONE_NEWNET) != 0 || system(command) != 0)
		_exit(1);
}

/* Runs in a child that is killed: starts, fills the table's head, tells, and waits. */
static void live_until_killed(const struct tp_engine_options *options, int ready, bool elsewhere)
{
	struct tp_engine *engine;
	struct tp_table *table;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (elsewhere)
		enter_another_network();
	if (tp_engine_xdp.start(options, &engine, reason) != 0)
		_exit(1);
	if (tp_table_create(tp_engine_xdp.memory(engine), 0x4fff, &table) != 0)
		_exit(1);
	tp_table_set_next_hop_record(table, 1, &(struct tp_next_hop){.mtu = 1500});
	if (write(ready, "x", 1) != 1)
		_exit(1);
	for (;;)
		pause();
}

/* Returns a descriptor of the network it lived in, which keeps that network. */
static int leave_a_dead(const struct tp_engine_options *options, bool elsewhere)
{
	char path[64], c;
	int ready[2], status, network;
	pid_t child;

	assert_int_equal(pipe(ready), 0);
	child = fork();
	if (child == 0)
		live_until_killed(options, ready[1], elsewhere);
	close(ready[1]);
	assert_int_equal(read(ready[0], &c, 1), 1);
	close(ready[0]);
	snprintf(path, sizeof(path), "/proc/%d/ns/net", child);
	network = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(network >= 0);
	kill(child, SIGKILL);
	assert_int_equal(waitpid(child, &status, 0), child);
	return network;
}

static int leave_a_dead_predecessor(bool elsewhere)
{
	struct tp_engine_options options = options_for(both, 2);

	return leave_a_dead(&options, elsewhere);
}

struct watch {
	pthread_t thread;
	bool stop;
	uint64_t looks, gaps;
};

static void *watch_tpa(void *arg)
{
	struct watch *w = arg;
	int ifindex = (int)if_nametoindex("tpa");

	while (!__atomic_load_n(&w->stop, __ATOMIC_RELAXED)) {
		uint32_t id = 0;

		if (bpf_xdp_query_id(ifindex, 0, &id) == 0) {
			w->looks++;
			w->gaps += id == 0;
		}
	}
	return NULL;
}

static void test_take_over_without_a_gap(void **state)
{
	static const char *const one[] = {"tpa"};
	struct tp_engine_options options = options_for(one, 1);
	struct watch watch = {0};
	struct tp_engine *engine;
	uint32_t before;

	close(leave_a_dead_predecessor(false));
	before = attached_id("tpa");
	assert_true(before != 0 && attached_id("tpc") == before);
	assert_int_equal(pthread_create(&watch.thread, NULL, watch_tpa, &watch), 0);
	engine = must_start(&options);
	__atomic_store_n(&watch.stop, true, __ATOMIC_RELAXED);
	pthread_join(watch.thread, NULL);
	print_message(
		"%lu looks during the take-over, %lu without a program\n", watch.looks, watch.gaps);
	assert_true(watch.looks > 10);
	assert_int_equal(watch.gaps, 0);
	assert_string_equal(reason, "native XDP on tpa (taken over)");
	assert_true(attached_id("tpa") != 0 && attached_id("tpa") != before);
	assert_int_equal(attached_id("tpc"), 0);
	assert_int_equal(count_entries(PIN_DIR), TP_REGIONS + 1 + 1 + 1);
	assert_int_equal(tp_engine_xdp.check(engine, reason), 0);
	tp_engine_xdp.stop(engine);
	assert_nothing_left();
}

static void test_take_over_in_another_mode(void **state)
{
	struct tp_engine_options options = options_for(both, 2);
	struct tp_engine *engine;

	close(leave_a_dead_predecessor(false));
	options.xdp_mode = TP_XDP_GENERIC;
	engine = must_start(&options);
	assert_string_equal(reason, "generic XDP on tpa, tpc");
	tp_engine_xdp.stop(engine);
	assert_nothing_left();
}

/* An engine after a killed one: its tables hold what the other's held, and which they are. */
static struct tp_next_hop *start_after(
	const struct tp_engine_options *options, struct tp_engine **engine, bool *kept)
{
	struct tp_memory *memory;

	close(leave_a_dead_predecessor(false));
	*engine = must_start(options);
	memory = tp_engine_xdp.memory(*engine);
	*kept = tp_memory_is_kept(memory);
	return memory->regions[TP_REGION_NEXT_HOPS];
}

/* The tables of the same shape are gone on with; next hops where interfaces have their places. */
static void test_tables_outlive_their_owner(void **state)
{
	static const char *const swapped[] = {"tpc", "tpa"};
	struct tp_engine_options options = options_for(both, 2);
	struct tp_next_hop *hops;
	struct tp_engine *engine;
	bool kept;

	hops = start_after(&options, &engine, &kept);
	assert_true(kept && hops[1].seq == 2);
	tp_engine_xdp.stop(engine);
	assert_nothing_left();

	options.interfaces = swapped;
	hops = start_after(&options, &engine, &kept);
	assert_true(kept && hops[1].seq == 3);
	tp_engine_xdp.stop(engine);
	assert_nothing_left();

	options = options_for(both, 2);
	options.flows *= 2;
	hops = start_after(&options, &engine, &kept);
	assert_true(!kept && hops[1].seq == 0);
	tp_engine_xdp.stop(engine);
	assert_nothing_left();
}

#define FEW_RIGHTS                                                                                 \
	(1u << CAP_DAC_OVERRIDE | 1u << CAP_DAC_READ_SEARCH | 1u << CAP_FOWNER |                   \
		1u << CAP_SYS_ADMIN)

static void drop_rights(uint32_t rights)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct caps[2];

	if (syscall(SYS_capget, &header, caps) != 0)
		_exit(2);
	caps[0].effective &= ~rights;
	caps[0].permitted &= ~rights;
	if (syscall(SYS_capset, &header, caps) != 0)
		_exit(3);
}

/* As under the service file: the pins are the other user's, and root has few capabilities. */
static void test_take_over_with_few_rights(void **state)
{
	struct tp_engine_options options = options_for(both, 2);
	struct tp_engine *engine;
	int status;
	pid_t child;

	options.owner_uid = NOBODY;
	close(leave_a_dead_predecessor(false));
	assert_int_equal(chown(PIN_DIR, NOBODY, (gid_t)-1), 0);
	child = fork();
	if (child == 0) {
		drop_rights(FEW_RIGHTS);
		if (tp_engine_xdp.start(&options, &engine, reason) != 0) {
			print_message("%s\n", reason);
			_exit(4);
		}
		/* stop() is the other user's. */
		if (setresuid(NOBODY, NOBODY, NOBODY) != 0)
			_exit(5);
		tp_engine_xdp.stop(engine);
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_nothing_left();
}

/* What is attached and pinned, and what the pinned tables say. */
struct found {
	struct xdp_found {
		uint32_t id;
		bool generic;
	} tpa;
	char names[1024];
	uint32_t config_id, hop_seq, owner;
};

static void look(struct found *out)
{
	LIBBPF_OPTS(bpf_xdp_query_opts, query);
	struct bpf_map_info info = {0};
	uint32_t size = sizeof(info), key = 1;
	struct tp_next_hop hop;
	struct dirent **list;
	struct stat st;
	int config = open_pin("config"), hops = open_pin("next_hops");
	int count = scandir(PIN_DIR, &list, NULL, alphasort);

	*out = (struct found){0};
	assert_true(config >= 0 && hops >= 0 && count > 0);
	assert_int_equal(bpf_xdp_query((int)if_nametoindex("tpa"), 0, &query), 0);
	out->tpa = (struct xdp_found){query.prog_id, query.attach_mode == XDP_ATTACHED_SKB};
	for (int i = 0; i < count; i++) {
		size_t len = strlen(out->names);

		snprintf(out->names + len, sizeof(out->names) - len, "%s ", list[i]->d_name);
		free(list[i]);
	}
	free(list);
	assert_int_equal(bpf_obj_get_info_by_fd(config, &info, &size), 0);
	out->config_id = info.id;
	assert_int_equal(bpf_map_lookup_elem(hops, &key, &hop), 0);
	out->hop_seq = hop.seq;
	assert_int_equal(stat(PIN_DIR, &st), 0);
	out->owner = st.st_uid;
	close(config);
	close(hops);
}

static void assert_as_found(const struct found *before)
{
	struct found now;

	look(&now);
	assert_int_equal(now.tpa.id, before->tpa.id);
	assert_int_equal(now.tpa.generic, before->tpa.generic);
	assert_string_equal(now.names, before->names);
	assert_int_equal(now.config_id, before->config_id);
	assert_int_equal(now.hop_seq, before->hop_seq);
	assert_int_equal(now.owner, before->owner);
}

/* The next one, whose configuration is right, goes on with all of it. */
static void must_adopt(const struct tp_engine_options *options, const char *says)
{
	struct tp_engine *engine = must_start(options);

	assert_string_equal(reason, says);
	assert_true(tp_memory_is_kept(tp_engine_xdp.memory(engine)));
	tp_engine_xdp.stop(engine);
	assert_nothing_left();
}

/* The second interface refuses when the first one has been taken over already. */
static void test_failed_attach_changes_nothing(void **state)
{
	struct tp_engine_options before = options_for(both, 1), options = options_for(both, 2);
	struct found found;

	for (int i = 0; i < 2; i++) {
		close(leave_a_dead(&before, false));
		look(&found);
		run("ip link set tpd mtu 9000");
		options.xdp_mode = TP_XDP_NATIVE;
		options.flows = before.flows << i;
		must_refuse(&options, -ERANGE, "tpc: native XDP refused");
		run("ip link set tpd mtu 1500");
		assert_as_found(&found);
		assert_int_equal(attached_id("tpc"), 0);
		must_adopt(&before, "native XDP on tpa (taken over)");
	}
}

/* In another mode than is wanted it had to go first. */
static void test_failed_attach_in_another_mode(void **state)
{
	struct tp_engine_options before = options_for(both, 1), options = options_for(both, 2);
	struct found found;

	before.xdp_mode = TP_XDP_GENERIC;
	close(leave_a_dead(&before, false));
	look(&found);
	assert_true(found.tpa.generic);
	run("ip link set tpd mtu 9000");
	options.xdp_mode = TP_XDP_NATIVE;
	must_refuse(&options, -ERANGE, "tpc: native XDP refused");
	run("ip link set tpd mtu 1500");
	assert_as_found(&found);
	must_adopt(&before, "generic XDP on tpa (taken over)");
}

/* The directory cannot be given to whoever runs stop(). */
static void test_failed_pins_change_nothing(void **state)
{
	struct tp_engine_options options = options_for(both, 2);
	struct found found;
	int status;
	pid_t child;

	close(leave_a_dead_predecessor(false));
	look(&found);
	child = fork();
	if (child == 0) {
		struct tp_engine *engine;

		drop_rights(1u << CAP_CHOWN);
		options.owner_uid = NOBODY;
		_exit(tp_engine_xdp.start(&options, &engine, reason) == -EPERM ? 0 : 1);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_as_found(&found);
	must_adopt(&options, "native XDP on tpa (taken over), tpc (taken over)");
}

/* Does the call that is about to be made change what a successor finds? */
static bool changes_something(pid_t child)
{
	struct __ptrace_syscall_info info;

	if (ptrace(PTRACE_GET_SYSCALL_INFO, child, sizeof(info), &info) <= 0 ||
		info.op != PTRACE_SYSCALL_INFO_ENTRY)
		return false;
	switch (info.entry.nr) {
	case SYS_bpf:
		return info.entry.args[0] == BPF_OBJ_PIN || info.entry.args[0] == BPF_LINK_CREATE ||
		       info.entry.args[0] == BPF_LINK_UPDATE ||
		       info.entry.args[0] == BPF_LINK_DETACH;
	case SYS_unlinkat:
	case SYS_renameat:
	case SYS_renameat2:
	case SYS_fchown:
		return true;
	default:
		return false;
	}
}

/* One life with few rights, which is killed before its `moment`th change; false: it was through. */
static bool live_until_moment(const struct tp_engine_options *options, int moment)
{
	struct tp_engine *engine;
	int status, changes = 0;
	pid_t child = fork();

	if (child == 0) {
		drop_rights(FEW_RIGHTS);
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		raise(SIGSTOP);
		if (tp_engine_xdp.start(options, &engine, reason) != 0)
			print_message("%s\n", reason);
		_exit(reason[0] && strstr(reason, "native XDP on") ? 0 : 1);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	ptrace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL);
	while (WIFSTOPPED(status)) {
		if (changes_something(child) && changes++ == moment)
			kill(child, SIGKILL);
		ptrace(PTRACE_SYSCALL, child, 0, 0);
		assert_int_equal(waitpid(child, &status, 0), child);
	}
	if (WIFSIGNALED(status))
		return true;
	assert_int_equal(status, 0);
	return false;
}

/*
 * Each life is killed `step` moments later in taking its predecessor's place: what is attached goes
 * on, and the next one knows all that it finds.
 */
static void live_and_die(uint32_t more_flows, int step)
{
	struct tp_engine_options options = options_for(both, 1);
	int moment = -step;

	options.owner_uid = NOBODY;
	close(leave_a_dead(&options, false));
	do {
		moment += step;
		options.interfaces_count = 1 + moment % 2;
		options.flows = 1024 + (moment % 2 ? more_flows : 0);
		assert_int_not_equal(attached_id("tpa"), 0);
	} while (live_until_moment(&options, moment));
	print_message("lived at moment %d\n", moment);
	assert_true(moment > 6);
}

static void test_killed_at_any_moment(void **state)
{
	struct tp_engine_options options = options_for(both, 2);
	bool thorough = getenv("TURNPIKE_KILLS"); /* tests/run --long: a life takes a second */
	struct tp_engine *engine;

	options.owner_uid = NOBODY;
	live_and_die(0, thorough ? 1 : 3);
	must_adopt(&options, "native XDP on tpa (taken over), tpc (taken over)");
	live_and_die(1024, thorough ? 3 : 9);
	options.flows = 4096;
	engine = must_start(&options);
	assert_int_equal(count_entries(PIN_DIR), TP_REGIONS + 1 + 1 + 2);
	tp_engine_xdp.stop(engine);
	assert_nothing_left();
}

/* Before another engine starts: the dead one's program would drop what it does not know. */
static void test_clear(void **state)
{
	struct tp_engine_options options = options_for(both, 2);
	struct tp_engine *engine;

	assert_int_equal(tp_engine_xdp.clear(&options, reason), 0);
	assert_nothing_left();
	close(leave_a_dead_predecessor(false));
	assert_int_not_equal(attached_id("tpa"), 0);
	assert_int_equal(tp_engine_xdp.clear(&options, reason), 0);
	assert_nothing_left();
	/* One that lives is left alone. */
	engine = must_start(&options);
	assert_int_equal(tp_engine_xdp.clear(&options, reason), -EBUSY);
	assert_int_not_equal(attached_id("tpa"), 0);
	assert_int_equal(tp_engine_xdp.check(engine, reason), 0);
	tp_engine_xdp.stop(engine);
	assert_nothing_left();
}

/* Threat D03: what squats in the directory is refused and not touched. */
enum squatter { WRONG_VALUE_SIZE, WRONG_FLAGS, UNKNOWN_NAME, MAP_AS_PROGRAM, OTHER_LAYOUT };

static int make_map(uint32_t value_size, uint32_t flags)
{
	struct bpf_map_create_opts options = {.sz = sizeof(options), .map_flags = flags};

	return bpf_map_create(BPF_MAP_TYPE_ARRAY, ".data.config", 4, value_size, 1, &options);
}

static void squat(enum squatter squatter, char path[128])
{
	static const char *const names[] = {"config", "config", "stranger", "program", "config"};
	uint32_t size = sizeof(struct tp_config), flags = BPF_F_MMAPABLE;
	struct tp_config config = {.magic = TP_MAGIC, .abi = TP_ABI_VERSION, .layout = 1};
	uint32_t key = 0;
	int fd = make_map(
		squatter == WRONG_VALUE_SIZE ? 8 : size, squatter == WRONG_FLAGS ? 0 : flags);

	assert_true(fd >= 0);
	if (squatter == OTHER_LAYOUT)
		assert_int_equal(bpf_map_update_elem(fd, &key, &config, BPF_ANY), 0);
	assert_int_equal(mkdir(PIN_DIR, 0700), 0);
	snprintf(path, 128, PIN_DIR "/%s", names[squatter]);
	assert_int_equal(bpf_obj_pin(fd, path), 0);
	close(fd);
}

static void test_squatters(void **state)
{
	struct tp_engine_options options = options_for(both, 2);
	struct tp_engine *engine;
	char path[128];

	for (enum squatter s = WRONG_VALUE_SIZE; s <= OTHER_LAYOUT; s++) {
		squat(s, path);
		must_refuse(&options, -EEXIST, path);
		assert_int_equal(access(path, F_OK), 0);
		assert_int_equal(attached_id("tpa"), 0);
		assert_int_equal(unlink(path), 0);
		assert_int_equal(rmdir(PIN_DIR), 0);
	}
	assert_int_equal(mkdir(PIN_DIR, 0777), 0);
	assert_int_equal(chown(PIN_DIR, 12345, 0), 0);
	must_refuse(&options, -EPERM, "belongs to uid 12345");
	assert_int_equal(rmdir(PIN_DIR), 0);
	/* An empty table of a predecessor that died early is no squatter. */
	squat(OTHER_LAYOUT, path);
	unlink(path);
	engine = must_start(&options);
	tp_engine_xdp.stop(engine);
	assert_nothing_left();
}

static void test_without_privileges_after_start(void **state)
{
	struct tp_engine_options options = options_for(both, 2);
	int status;
	pid_t child = fork();

	options.owner_uid = NOBODY;
	if (child == 0) {
		struct tp_engine *engine;

		if (tp_engine_xdp.start(&options, &engine, reason) != 0 || setuid(NOBODY) != 0)
			_exit(1);
		if (tp_engine_xdp.check(engine, reason) != 0)
			_exit(2);
		if (open_pin("config") >= 0)
			_exit(3);
		tp_engine_xdp.stop(engine);
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_nothing_left();
}

static void test_interface_goes_away(void **state)
{
	static const char *const passing[] = {"tpe", "tpa"};
	struct tp_engine_options options = options_for(passing, 2);
	struct tp_engine *engine;

	run("ip link add tpe type veth peer name tpf");
	engine = must_start(&options);
	run("ip link del tpe");
	assert_int_equal(tp_engine_xdp.check(engine, reason), -ENOLINK);
	assert_non_null(strstr(reason, "tpe: the interface is gone"));
	assert_int_equal(tp_engine_xdp.check(engine, reason), 0);
	tp_engine_xdp.stop(engine);
	assert_nothing_left();
}

/* The pinned link of an interface that is not there any more is no obstacle. */
static void test_take_over_of_a_new_interface(void **state)
{
	struct tp_engine_options options = options_for(both, 2);
	struct tp_engine *engine;

	close(leave_a_dead_predecessor(false));
	run("ip link del tpc && ip link add tpc type veth peer name tpd");
	engine = must_start(&options);
	assert_string_equal(reason, "native XDP on tpa (taken over), tpc");
	assert_int_equal(count_entries(PIN_DIR), TP_REGIONS + 1 + 1 + 2);
	tp_engine_xdp.stop(engine);
	assert_nothing_left();
}

static void test_predecessor_in_another_network(void **state)
{
	struct tp_engine_options options = options_for(both, 2);
	int network = leave_a_dead_predecessor(true);
	struct tp_engine *engine = must_start(&options);

	assert_string_equal(reason, "native XDP on tpa, tpc");
	assert_true(attached_id("tpa") != 0);
	assert_int_equal(tp_engine_xdp.check(engine, reason), 0);
	close(network);
	tp_engine_xdp.stop(engine);
	assert_nothing_left();
}

static void test_unprivileged_start(void **state)
{
	struct tp_engine_options options = options_for(both, 2);
	int status;
	pid_t child = fork();

	if (child == 0) {
		struct tp_engine *engine;

		if (setuid(NOBODY) != 0)
			_exit(1);
		if (tp_engine_xdp.start(&options, &engine, reason) != -EPERM)
			_exit(2);
		_exit(strstr(reason, "loading needs root") ? 0 : 3);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_nothing_left();
}

static void test_refused_options(void **state)
{
	static const char *const missing[] = {"tpnone"}, *const twice[] = {"tpa", "tpa"};
	struct tp_engine_options options = options_for(missing, 1);

	must_refuse(&options, -ENODEV, "no interface tpnone");
	options = options_for(twice, 2);
	must_refuse(&options, -EINVAL, "named twice");
	options = options_for(both, 0);
	must_refuse(&options, -EINVAL, "1 to 16 interfaces");
	options = options_for(both, 2);
	options.pin_dir = "/tmp/tptest";
	must_refuse(&options, -EINVAL, "not on a mounted bpffs");
	assert_nothing_left();
}

static int enter_namespaces(void)
{
	if (unshare(CLONE_NEWNET | CLONE_NEWNS) != 0)
		return -errno;
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
		return -errno;
	/* The engine has to mount a bpffs itself; this one is nobody else's. */
	while (umount2("/sys/fs/bpf", MNT_DETACH) == 0)
		;
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_attach_and_stop),
		cmocka_unit_test(test_program_and_mapping_are_one),
		cmocka_unit_test(test_others_are_kept_out),
		cmocka_unit_test(test_foreign_program),
		cmocka_unit_test(test_mode_in_the_kernels_words),
		cmocka_unit_test(test_loss_is_told_once),
		cmocka_unit_test(test_take_over_without_a_gap),
		cmocka_unit_test(test_tables_outlive_their_owner),
		cmocka_unit_test(test_take_over_in_another_mode),
		cmocka_unit_test(test_take_over_with_few_rights),
		cmocka_unit_test(test_failed_attach_changes_nothing),
		cmocka_unit_test(test_failed_attach_in_another_mode),
		cmocka_unit_test(test_failed_pins_change_nothing),
		cmocka_unit_test(test_killed_at_any_moment),
		cmocka_unit_test(test_clear),
		cmocka_unit_test(test_predecessor_in_another_network),
		cmocka_unit_test(test_squatters),
		cmocka_unit_test(test_without_privileges_after_start),
		cmocka_unit_test(test_unprivileged_start),
		cmocka_unit_test(test_interface_goes_away),
		cmocka_unit_test(test_take_over_of_a_new_interface),
		cmocka_unit_test(test_refused_options),
	};

	if (geteuid() != 0 || enter_namespaces() != 0) {
		printf("skipped: needs root and namespaces of its own\n");
		return 77;
	}
	run("ip link add tpa type veth peer name tpb && ip link add tpc type veth peer name tpd");
	run("for i in tpa tpb tpc tpd; do ip link set $i up; done");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
