/*
 * The link between turnpiked and turnpike-dataplane, both sides in one process: who is let in, what
 * is handed over, and that nothing which comes wrong is acted on.
 */
#include "dataplane/link/link.h"
#include "dataplane/link/message.h"

#include "base/log.h"
#include "base/unix.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#define NOBODY 65534

static char path[96];

static struct tp_link_users one_user(uint32_t uid)
{
	return (struct tp_link_users){.control_uid = uid, .dataplane_uid = uid};
}

static struct tp_link *listen_here(void)
{
	char reason[TP_REASON_SIZE] = "";
	struct tp_link_users users = one_user(geteuid());
	struct tp_link *link = NULL;

	if (tp_link_listen(path, &users, &link, reason) != 0)
		fail_msg("%s", reason);
	return link;
}

static int connect_here(void)
{
	char reason[TP_REASON_SIZE] = "";
	int fd = -1;

	if (tp_link_connect(path, geteuid(), &fd, reason) != 0)
		fail_msg("%s", reason);
	return fd;
}

static struct tp_hello hello_of(const char *engine)
{
	struct tp_hello hello = {.workers = 2,
		.interfaces_count = 2,
		.interfaces = {{"eth0", 2, "zero-copy", true}, {"eth1", 7, "copy", false}}};

	snprintf(hello.engine, sizeof(hello.engine), "%s", engine);
	return hello;
}

static struct tp_shape shape_of(uint32_t flows)
{
	struct tp_shape shape;

	assert_int_equal(tp_shape_init(flows, 2, 100, &shape), 0);
	return shape;
}

static struct tp_tables pages_of(uint32_t flows)
{
	struct tp_shape shape = shape_of(flows);
	struct tp_tables tables;

	assert_int_equal(tp_tables_create_pages(&shape, &tables), 0);
	return tables;
}

/* Through greeting and tables. */
static int greet(struct tp_link *link, const struct tp_tables *tables, struct tp_tables *out)
{
	struct tp_hello hello = hello_of("dpdk"), heard;
	char reason[TP_REASON_SIZE] = "";
	struct tp_tables offered;
	int fd = connect_here();

	assert_int_equal(tp_link_hello(fd, &hello, NULL), 0);
	assert_int_equal(tp_link_next(link, &heard, &offered), TP_LINK_HELLO);
	assert_int_equal(offered.fds[0], -1);
	assert_int_equal(tp_link_give(link, tables), 0);
	if (tp_link_answer(fd, out, reason) != 0)
		fail_msg("%s", reason);
	return fd;
}

static void test_the_socket(void **state)
{
	struct tp_link_users users = one_user(geteuid());
	char reason[TP_REASON_SIZE] = "";
	struct tp_link *link, *second;
	struct stat st;
	int fd = -1;

	assert_int_equal(tp_link_connect(path, geteuid(), &fd, reason), -EAGAIN);
	link = listen_here();
	assert_int_equal(stat(path, &st), 0);
	assert_true(S_ISSOCK(st.st_mode));
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(tp_link_listen(path, &users, &second, reason), -EADDRINUSE);
	assert_non_null(strstr(reason, "a running process serves it"));
	assert_int_equal(access(path, F_OK), 0);
	tp_link_close(link);
	assert_int_equal(access(path, F_OK), -1);
	tp_link_close(NULL);
}

static void test_a_stale_socket_is_replaced(void **state)
{
	struct tp_link *link;
	int fd = -1;

	assert_int_equal(tp_unix_bind(path, SOCK_SEQPACKET, 0600, &fd), 0);
	close(fd);
	assert_int_equal(access(path, F_OK), 0);
	link = listen_here();
	close(connect_here());
	tp_link_close(link);
}

static void test_tables_are_shared(void **state)
{
	struct tp_tables tables = pages_of(64), mine;
	struct tp_link *link = listen_here();
	int fd = greet(link, &tables, &mine);

	for (int i = 0; i < TP_REGIONS; i++) {
		const struct tp_region_shape *region = &tables.memory.shape.regions[i];
		size_t size = (size_t)region->element_size * region->count;
		uint8_t *here = tables.memory.regions[i], *there = mine.memory.regions[i];

		assert_ptr_not_equal(here, there);
		assert_int_equal((uintptr_t)mine.offsets[i] % (2 << 20), 0);
		assert_int_equal(there[0] | there[size - 1], 0);
		here[0] = (uint8_t)(i + 1);
		there[size - 1] = (uint8_t)(i + 101);
		assert_int_equal(there[0], i + 1);
		assert_int_equal(here[size - 1], i + 101);
	}
	assert_memory_equal(&mine.memory.shape, &tables.memory.shape, sizeof(struct tp_shape));
	assert_string_equal(mine.memory.kind, tables.memory.kind);
	assert_true(fcntl(mine.fds[0], F_GETFD) & FD_CLOEXEC);
	tp_tables_close(&mine);
	tp_tables_close(&tables);
	close(fd);
	tp_link_close(link);
}

static void test_hello_says_it_all(void **state)
{
	struct tp_hello hello = hello_of("afxdp"), heard;
	struct tp_link *link = listen_here();
	struct tp_tables offered;
	int fd = connect_here();

	assert_int_equal(tp_link_next(link, &heard, &offered), TP_LINK_NOTHING);
	assert_int_equal(tp_link_hello(fd, &hello, NULL), 0);
	assert_int_equal(tp_link_next(link, &heard, &offered), TP_LINK_HELLO);
	assert_string_equal(heard.engine, "afxdp");
	assert_int_equal(heard.workers, 2);
	assert_int_equal(heard.interfaces_count, 2);
	for (int i = 0; i < 2; i++) {
		assert_string_equal(heard.interfaces[i].name, hello.interfaces[i].name);
		assert_string_equal(heard.interfaces[i].mode, hello.interfaces[i].mode);
		assert_int_equal(heard.interfaces[i].ifindex, hello.interfaces[i].ifindex);
		assert_int_equal(heard.interfaces[i].attached, hello.interfaces[i].attached);
	}
	close(fd);
	assert_int_equal(tp_link_next(link, &heard, &offered), TP_LINK_NOTHING);
	tp_link_close(link);
}

static bool readable(const struct tp_link *link)
{
	struct pollfd p = {.fd = tp_link_fd(link), .events = POLLIN};

	return poll(&p, 1, 0) == 1;
}

static void test_refusals_and_losses(void **state)
{
	struct tp_hello hello = hello_of("dpdk"), heard;
	struct tp_tables tables = pages_of(64), mine, offered;
	char reason[TP_REASON_SIZE] = "";
	struct tp_link *link = listen_here();
	int first, second = connect_here();

	assert_int_equal(tp_link_hello(second, &hello, NULL), 0);
	assert_int_equal(tp_link_next(link, &heard, &offered), TP_LINK_HELLO);
	tp_link_refuse(link, "not today");
	assert_int_equal(tp_link_answer(second, &mine, reason), -ECONNREFUSED);
	assert_string_equal(reason, "not today");
	assert_int_equal(tp_link_answer(second, &mine, reason), -ECONNRESET);
	close(second);

	first = greet(link, &tables, &mine);
	tp_tables_close(&mine);
	assert_false(readable(link));
	second = connect_here();
	assert_true(readable(link));
	assert_int_equal(tp_link_next(link, &heard, &offered), TP_LINK_NOTHING);
	assert_int_equal(tp_link_answer(second, &mine, reason), -ECONNREFUSED);
	assert_string_equal(reason, "another turnpike-dataplane is connected");
	close(second);

	hello.interfaces[0].attached = false;
	assert_int_equal(tp_link_state(first, &hello), 0);
	assert_int_equal(tp_link_next(link, &heard, &offered), TP_LINK_STATE);
	assert_false(heard.interfaces[0].attached);

	/* who died makes room for who follows, in one go */
	close(first);
	second = connect_here();
	assert_int_equal(tp_link_hello(second, &hello, NULL), 0);
	assert_int_equal(tp_link_next(link, &heard, &offered), TP_LINK_LOST);
	assert_int_equal(tp_link_next(link, &heard, &offered), TP_LINK_HELLO);
	close(second);
	tp_tables_close(&tables);
	tp_link_close(link);
}

static void test_tables_outlive_the_server(void **state)
{
	struct tp_hello hello = hello_of("dpdk"), heard;
	struct tp_tables tables = pages_of(64), mine, offered;
	char reason[TP_REASON_SIZE] = "";
	struct tp_link *link = listen_here();
	struct tp_config *config;
	int fd = greet(link, &tables, &mine);

	tp_tables_close(&tables);
	tp_link_close(link);
	assert_int_equal(tp_link_answer(fd, &tables, reason), -ECONNRESET);
	close(fd);
	config = mine.memory.regions[TP_REGION_CONFIG];
	config->magic = 4711;

	link = listen_here();
	fd = connect_here();
	assert_int_equal(tp_link_hello(fd, &hello, &mine), 0);
	assert_int_equal(tp_link_next(link, &heard, &offered), TP_LINK_HELLO);
	assert_int_equal(tp_tables_map(&offered), 0);
	config = offered.memory.regions[TP_REGION_CONFIG];
	assert_int_equal(config->magic, 4711);
	config->magic = 4712;
	assert_int_equal(tp_link_same(link), 0);
	assert_int_equal(tp_link_answer(fd, &tables, reason), -EALREADY);
	assert_int_equal(((struct tp_config *)mine.memory.regions[0])->magic, 4712);
	tp_tables_close(&offered);
	tp_tables_close(&mine);
	close(fd);
	tp_link_close(link);
}

/* A greeting with tables, to be spoiled. */
struct forgery {
	struct message_hello hello;
	struct tp_tables tables;
	int extra_fd; /* -1: none */
};

static void bad_magic(struct forgery *f)
{
	f->hello.header.magic++;
}

static void bad_size(struct forgery *f)
{
	f->hello.header.size--;
}

static void bad_version(struct forgery *f)
{
	f->hello.header.version++;
}

static void bad_abi(struct forgery *f)
{
	f->hello.header.abi++;
}

static void bad_layout(struct forgery *f)
{
	f->hello.header.layout++;
}

static void bad_type(struct forgery *f)
{
	f->hello.header.type = 77;
}

static void early_state(struct forgery *f)
{
	f->hello.header.type = MESSAGE_STATE;
}

static void endless_engine(struct forgery *f)
{
	memset(f->hello.engine, 'x', sizeof(f->hello.engine));
}

static void empty_engine(struct forgery *f)
{
	f->hello.engine[0] = '\0';
}

static void no_workers(struct forgery *f)
{
	f->hello.workers = 0;
}

static void many_workers(struct forgery *f)
{
	f->hello.workers = TP_WORKERS_MAX + 1;
}

static void no_interfaces(struct forgery *f)
{
	f->hello.interfaces_count = 0;
}

static void many_interfaces(struct forgery *f)
{
	f->hello.interfaces_count = TP_INTERFACES_MAX + 1;
}

static void endless_name(struct forgery *f)
{
	memset(f->hello.interfaces[1].name, 'x', TP_IFNAME_SIZE);
}

static void rude_name(struct forgery *f)
{
	f->hello.interfaces[0].name[1] = '\n';
}

static void no_ifindex(struct forgery *f)
{
	f->hello.interfaces[1].ifindex = 0;
}

static void new_mode(struct forgery *f)
{
	f->hello.interfaces[1].mode[0]++;
}

static void bad_kind(struct forgery *f)
{
	f->hello.tables.kind = 3;
}

static void bad_capacity(struct forgery *f)
{
	f->hello.tables.capacity = UINT32_MAX;
}

static void odd_capacity(struct forgery *f)
{
	f->hello.tables.capacity--; /* rounds up to the same regions */
}

static void no_table_workers(struct forgery *f)
{
	f->hello.tables.workers = 0;
}

static void huge_element(struct forgery *f)
{
	f->hello.tables.regions[TP_REGION_FLOWS].element_size *= 2;
}

static void huge_count(struct forgery *f)
{
	f->hello.tables.regions[TP_REGION_FLOWS].count *= 2;
}

static void no_policers(struct forgery *f)
{
	f->hello.tables.regions[TP_REGION_POLICERS].count = 0;
}

static void all_policers(struct forgery *f)
{
	f->hello.tables.regions[TP_REGION_POLICERS].count = UINT32_MAX;
}

static void no_such_fd(struct forgery *f)
{
	f->hello.tables.regions[TP_REGION_FLOWS].fd = 1;
}

static void far_fd(struct forgery *f)
{
	f->hello.tables.regions[TP_REGION_FLOWS].fd = UINT32_MAX;
}

static void fd_too_many(struct forgery *f)
{
	f->extra_fd = f->tables.fds[0];
}

static const struct {
	const char *name;
	void (*spoil)(struct forgery *f);
	const char *reason;
} forgeries[] = {
	{"magic", bad_magic, "the message is not one of turnpike's"},
	{"size", bad_size, "the message is not one of turnpike's"},
	{"version", bad_version, "the other daemon is of another version: its messages"},
	{"abi", bad_abi, "the other daemon is of another version: its tables"},
	{"layout", bad_layout, "the other daemon is of another version"},
	{"type", bad_type, "a message out of turn"},
	{"state before hello", early_state, "a message out of turn"},
	{"endless engine", endless_engine, "the greeting says nothing"},
	{"empty engine", empty_engine, "the greeting says nothing"},
	{"no workers", no_workers, "the greeting says nothing"},
	{"many workers", many_workers, "the greeting says nothing"},
	{"no interfaces", no_interfaces, "the greeting says nothing"},
	{"many interfaces", many_interfaces, "the greeting says nothing"},
	{"endless name", endless_name, "interface 1 is none"},
	{"rude name", rude_name, "interface 0 is none"},
	{"no ifindex", no_ifindex, "interface 1 is none"},
	{"new mode", new_mode, "interface 1 is none"},
	{"kind", bad_kind, "the tables have no shape"},
	{"capacity", bad_capacity, "the tables have no shape"},
	{"odd capacity", odd_capacity, "the tables have no shape"},
	{"no table workers", no_table_workers, "the tables have no shape"},
	{"huge element", huge_element, "the tables have no shape"},
	{"huge count", huge_count, "the tables have no shape"},
	{"no policers", no_policers, "the tables have no shape"},
	{"all policers", all_policers, "the tables have no shape"},
	{"no such fd", no_such_fd, "the tables have no descriptors"},
	{"far fd", far_fd, "the tables have no descriptors"},
	{"an fd too many", fd_too_many, "more descriptors came than tables"},
};

/* Like message_send(), which would never say such things. */
static void send_raw(int fd, const void *bytes, size_t size, const int *fds, size_t fds_count)
{
	struct iovec iov = {.iov_base = (void *)bytes, .iov_len = size};
	char control[CMSG_SPACE(sizeof(int) * 32)] __attribute__((aligned(8))) = {0};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	struct cmsghdr *c = (struct cmsghdr *)control;

	if (fds_count > 0) {
		msg.msg_control = control;
		msg.msg_controllen = CMSG_SPACE(sizeof(int) * fds_count);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int) * fds_count);
		memcpy(CMSG_DATA(c), fds, sizeof(int) * fds_count);
	}
	assert_int_equal(sendmsg(fd, &msg, 0), size);
}

/* What an honest greeting looks like, by eavesdropping. */
static void record_hello(struct forgery *f)
{
	struct tp_hello hello = hello_of("dpdk");
	struct message_received message;
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(tp_link_hello(pair[0], &hello, &f->tables), 0);
	assert_int_equal(message_receive(pair[1], &message), 0);
	assert_int_equal(message.fds_count, 1);
	f->hello = message.is.hello;
	message_drop(&message);
	close(pair[0]);
	close(pair[1]);
}

static int open_fds(void)
{
	int count = 0;

	for (int fd = 0; fd < 1024; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

static void test_forged_greetings(void **state)
{
	struct forgery honest = {.tables = pages_of(64), .extra_fd = -1};
	struct tp_link *link = listen_here();
	int before;

	record_hello(&honest);
	before = open_fds();
	for (size_t i = 0; i < sizeof(forgeries) / sizeof(forgeries[0]); i++) {
		struct forgery f = honest;
		char reason[TP_REASON_SIZE] = "";
		struct tp_tables offered;
		struct tp_hello heard;
		int fd = connect_here(), fds[2] = {f.tables.fds[0], -1};

		forgeries[i].spoil(&f);
		fds[1] = f.extra_fd;
		send_raw(fd, &f.hello, sizeof(f.hello), fds, f.extra_fd >= 0 ? 2 : 1);
		assert_int_equal(tp_link_next(link, &heard, &offered), TP_LINK_NOTHING);
		assert_int_equal(tp_link_answer(fd, &offered, reason), -ECONNREFUSED);
		if (strncmp(reason, forgeries[i].reason, strlen(forgeries[i].reason)) != 0)
			fail_msg("%s: %s", forgeries[i].name, reason);
		close(fd);
		if (open_fds() != before)
			fail_msg("%s: descriptors stay open", forgeries[i].name);
	}
	tp_tables_close(&honest.tables);
	tp_link_close(link);
}

/* Whatever length, and however many descriptors: refused or dropped, and the next one is served. */
static void test_odd_lengths(void **state)
{
	struct forgery f = {.tables = pages_of(64), .extra_fd = -1};
	struct tp_link *link = listen_here();
	struct tp_tables offered, mine;
	uint8_t bytes[sizeof(union message) + 8] = {0};
	struct tp_hello heard;
	int before, fds[20];

	record_hello(&f);
	memcpy(bytes, &f.hello, sizeof(f.hello));
	for (int i = 0; i < 20; i++)
		fds[i] = f.tables.fds[0];
	before = open_fds();
	for (size_t len = 1; len < sizeof(bytes); len++) {
		int fd = connect_here();

		if (len != sizeof(f.hello))
			send_raw(fd, bytes, len, fds, len % 20);
		assert_int_equal(tp_link_next(link, &heard, &offered), TP_LINK_NOTHING);
		close(fd);
		assert_int_equal(tp_link_next(link, &heard, &offered), TP_LINK_NOTHING);
	}
	assert_int_equal(open_fds(), before);
	close(greet(link, &f.tables, &mine));
	tp_tables_close(&mine);
	tp_tables_close(&f.tables);
	tp_link_close(link);
}

/* An answer that is none: what a client makes of it. */
static void test_forged_answers(void **state)
{
	struct message_answer answer = {0};
	char reason[TP_REASON_SIZE];
	struct tp_tables out;
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(tp_link_answer(pair[0], &out, reason), -EAGAIN);
	send_raw(pair[1], &answer, sizeof(answer), NULL, 0);
	assert_int_equal(tp_link_answer(pair[0], &out, reason), -EPROTO);
	assert_int_equal(message_send(pair[1], MESSAGE_HELLO, &answer.header, sizeof(answer),
				 &answer.tables, NULL),
		0);
	assert_int_equal(tp_link_answer(pair[0], &out, reason), -EPROTO);
	assert_int_equal(message_send(pair[1], MESSAGE_TABLES, &answer.header, sizeof(answer),
				 &answer.tables, NULL),
		0);
	assert_int_equal(tp_link_answer(pair[0], &out, reason), -EPROTO);

	/* a refusal is understood whatever the version, and ends where its room does */
	memset(answer.why, 'x', sizeof(answer.why));
	message_send(
		pair[1], MESSAGE_REFUSED, &answer.header, sizeof(answer), &answer.tables, NULL);
	assert_int_equal(tp_link_answer(pair[0], &out, reason), -ECONNREFUSED);
	assert_int_equal(strlen(reason), TP_REASON_SIZE - 1);
	answer.header.version = 99;
	send_raw(pair[1], &answer, offsetof(struct message_answer, tables) + 5, NULL, 0);
	assert_int_equal(tp_link_answer(pair[0], &out, reason), -ECONNREFUSED);
	close(pair[1]);
	assert_int_equal(tp_link_answer(pair[0], &out, reason), -ECONNRESET);
	close(pair[0]);
}

/* Files that are not what they say: never mapped, since touching them would kill. */
static void test_files_that_could_shrink(void **state)
{
	struct tp_tables good = pages_of(64), bad = good;
	off_t size = 64 << 20;
	int unsealed = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int small = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int file = open("/dev/zero", O_RDWR | O_CLOEXEC);

	assert_int_equal(ftruncate(unsealed, size), 0);
	assert_int_equal(fcntl(small, F_ADD_SEALS, F_SEAL_SHRINK), 0);
	memset(bad.memory.regions, 0, sizeof(bad.memory.regions));
	bad.fds[TP_REGION_PORTS] = unsealed;
	assert_int_equal(tp_tables_map(&bad), -EBADF);
	bad.fds[TP_REGION_PORTS] = small;
	assert_int_equal(tp_tables_map(&bad), -EBADF);
	bad.fds[TP_REGION_PORTS] = file;
	assert_int_equal(tp_tables_map(&bad), -EBADF);
	bad.fds[TP_REGION_PORTS] = good.fds[TP_REGION_PORTS];
	bad.offsets[TP_REGION_PORTS] += 4096;
	assert_int_equal(tp_tables_map(&bad), -EBADF);
	bad.offsets[TP_REGION_PORTS] = (uint64_t)1 << 40;
	assert_int_equal(tp_tables_map(&bad), -EBADF);
	bad.offsets[TP_REGION_PORTS] = UINT64_MAX & ~(uint64_t)((2 << 20) - 1);
	assert_int_equal(tp_tables_map(&bad), -EBADF);
	bad.kind = TP_TABLES_MAPS;
	assert_int_equal(tp_tables_map(&bad), -EBADF);
	close(unsealed);
	close(small);
	close(file);
	/* what was mapped before the refusal is ours alone, the descriptors are good's */
	for (int i = 0; i < TP_REGIONS; i++)
		bad.fds[i] = -1;
	bad.kind = TP_TABLES_PAGES;
	tp_tables_close(&bad);
	assert_int_equal(ftruncate(good.fds[0], 4096), -1);
	tp_tables_close(&good);
}

static void test_maps(void **state)
{
	struct tp_shape shape = shape_of(64);
	struct tp_tables tables, mine;
	struct tp_link *link;
	int err = tp_tables_create_maps(&shape, &tables), fd;

	if (err == -EPERM || err == -ENOSYS) {
		print_message("skipped: no BPF maps here: %s\n", strerror(-err));
		skip();
	}
	assert_int_equal(err, 0);
	link = listen_here();
	fd = greet(link, &tables, &mine);
	assert_int_equal(mine.kind, TP_TABLES_MAPS);
	for (int i = 0; i < TP_REGIONS; i++) {
		*(uint32_t *)tables.memory.regions[i] = 7 + (uint32_t)i;
		assert_int_equal(*(uint32_t *)mine.memory.regions[i], 7 + i);
	}
	tp_tables_close(&mine);
	close(fd);

	/* a map of another table in its place */
	mine = tables;
	memset(mine.memory.regions, 0, sizeof(mine.memory.regions));
	mine.fds[TP_REGION_CONFIG] = tables.fds[TP_REGION_FLOWS];
	assert_int_equal(tp_tables_map(&mine), -EBADF);
	mine.fds[TP_REGION_CONFIG] = STDERR_FILENO;
	assert_int_equal(tp_tables_map(&mine), -EBADF);
	tp_tables_close(&tables);
	tp_link_close(link);
}

/* As nobody, at a socket that lets everybody through: what the credentials are for. */
static int answer_to_stranger(void)
{
	char reason[TP_REASON_SIZE] = "";
	struct tp_tables out;
	int fd, err;

	if (setresuid(NOBODY, NOBODY, NOBODY) != 0)
		return 10;
	err = tp_link_connect(path, NOBODY, &fd, reason);
	if (err != 0)
		return err == -EACCES ? 1 : 11;
	for (int i = 0; i < 1000; i++) {
		err = tp_link_answer(fd, &out, reason);
		if (err != -EAGAIN)
			break;
		usleep(10000);
	}
	return err == -ECONNREFUSED && strstr(reason, "only root") ? 2 : 12;
}

static void test_strangers(void **state)
{
	struct tp_tables offered;
	struct tp_hello heard;
	struct tp_link *link;
	int status = 0;

	if (geteuid() != 0) {
		print_message("skipped: only root can become a stranger\n");
		skip();
	}
	link = listen_here();
	for (int pass = 1; pass <= 2; pass++) {
		pid_t child;

		assert_int_equal(chmod(path, pass == 1 ? 0600 : 0666), 0);
		child = fork();
		if (child == 0)
			_exit(answer_to_stranger());
		while (waitpid(child, &status, WNOHANG) == 0) {
			assert_int_equal(tp_link_next(link, &heard, &offered), TP_LINK_NOTHING);
			usleep(1000);
		}
		assert_true(WIFEXITED(status));
		assert_int_equal(WEXITSTATUS(status), pass);
	}
	tp_link_close(link);
}

/* The service's user gets the socket. */
static void test_owner(void **state)
{
	struct tp_link_users users = one_user(NOBODY);
	char reason[TP_REASON_SIZE] = "";
	struct tp_link *link;
	struct stat st;

	if (geteuid() != 0) {
		print_message("skipped: only root can give files away\n");
		skip();
	}
	assert_int_equal(tp_link_listen(path, &users, &link, reason), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_uid, NOBODY);
	assert_int_equal(st.st_mode & 0777, 0600);
	tp_link_close(link);
}

/* In a child with that user and group alone: greets. 0, or what was wrong. */
static int greet_as(uint32_t uid, uint32_t gid)
{
	struct tp_hello hello = hello_of("afxdp");
	char reason[TP_REASON_SIZE] = "";
	int fd;

	if (setgroups(0, NULL) != 0 || setresgid(gid, gid, gid) != 0 ||
		setresuid(uid, uid, uid) != 0)
		return 1;
	if (tp_link_connect(path, NOBODY, &fd, reason) != 0)
		return 2;
	return tp_link_hello(fd, &hello, NULL) == 0 ? 0 : 3;
}

/* The daemons as users of their own: one comes by the group, even turnpiked's user does not. */
static void test_two_users(void **state)
{
	const struct tp_link_users users = {
		.control_uid = NOBODY, .dataplane_uid = 65533, .dataplane_gid = 65532};
	static const struct {
		uint32_t uid, gid;
		int status;
		enum tp_link_event heard;
	} callers[] = {
		{65533, 65532, 0, TP_LINK_HELLO},
		{NOBODY, NOBODY, 0, TP_LINK_NOTHING},
		{65531, 65531, 2, TP_LINK_NOTHING},
		{65531, 65532, 0, TP_LINK_NOTHING},
	};
	char reason[TP_REASON_SIZE] = "";
	struct stat st;

	if (geteuid() != 0) {
		print_message("skipped: only root can become others\n");
		skip();
	}
	for (size_t i = 0; i < sizeof(callers) / sizeof(callers[0]); i++) {
		struct tp_tables offered;
		struct tp_hello heard;
		struct tp_link *link;
		int status = 0;
		pid_t child;

		assert_int_equal(tp_link_listen(path, &users, &link, reason), 0);
		assert_int_equal(stat(path, &st), 0);
		assert_int_equal(st.st_uid, NOBODY);
		assert_int_equal(st.st_gid, 65532);
		assert_int_equal(st.st_mode & 0777, 0660);
		child = fork();
		if (child == 0)
			_exit(greet_as(callers[i].uid, callers[i].gid));
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_int_equal(WEXITSTATUS(status), callers[i].status);
		assert_int_equal(tp_link_next(link, &heard, &offered), callers[i].heard);
		tp_link_close(link);
	}
}

static int make_folder(void **state)
{
	static char folder[] = "/tmp/test_link.XXXXXX";

	tp_log_set_level(TP_LOG_ERROR);
	if (!mkdtemp(folder) || chmod(folder, 0755) != 0)
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
		cmocka_unit_test(test_the_socket),
		cmocka_unit_test(test_a_stale_socket_is_replaced),
		cmocka_unit_test(test_hello_says_it_all),
		cmocka_unit_test(test_tables_are_shared),
		cmocka_unit_test(test_refusals_and_losses),
		cmocka_unit_test(test_tables_outlive_the_server),
		cmocka_unit_test(test_forged_greetings),
		cmocka_unit_test(test_odd_lengths),
		cmocka_unit_test(test_forged_answers),
		cmocka_unit_test(test_files_that_could_shrink),
		cmocka_unit_test(test_maps),
		cmocka_unit_test(test_strangers),
		cmocka_unit_test(test_owner),
		cmocka_unit_test(test_two_users),
	};

	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
