/* control/: framing, dispatch, rights and limits of the control socket, with commands of our own.
 */
#include "controlplane/control/server.h"

#include <errno.h>
#include <event2/event.h>
#include <grp.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

static int changes;

static json_t *run_echo(const void *context, const json_t *params, struct rpc_error *error)
{
	return json_pack("{s:O}", "you_said", params);
}

static json_t *run_change(const void *context, const json_t *params, struct rpc_error *error)
{
	changes++;
	return json_true();
}

static json_t *run_fail(const void *context, const json_t *params, struct rpc_error *error)
{
	return rpc_refuse(error, RPC_REFUSED, "no allocation %d", 7);
}

/* About 1 MiB: far more than a socket takes at once. */
static json_t *run_flood(const void *context, const json_t *params, struct rpc_error *error)
{
	static char text[1 << 20];

	memset(text, 'x', sizeof(text));
	return json_stringn(text, sizeof(text));
}

/* Counts up to `count` in pieces, whatever time it is given; 13 cannot be begun, 50 not be ended.
 */
struct counting {
	json_int_t count, next;
};

static int countings; /* that have begun and not ended */

static void *begin_count(const void *context, const json_t *params, struct rpc_error *error)
{
	json_int_t count = json_integer_value(json_object_get(params, "count"));
	struct counting *c = count == 13 ? NULL : calloc(1, sizeof(*c));

	if (!c)
		return rpc_refuse(error, RPC_REFUSED, "13 is too much");
	*c = (struct counting){count, 0};
	countings++;
	return c;
}

static enum rpc_progress go_on_counting(void *walk, uint64_t until_ns, const struct rpc_sink *out)
{
	struct counting *c = walk;
	char text[1024];
	int len = snprintf(text, sizeof(text), "%s%lld", c->next ? "," : "[", (long long)c->next);

	memset(text + len, ' ', sizeof(text) - (size_t)len); /* JSON takes no notice */
	if ((c->count == 50 && c->next == 17) ||
		out->put(text, c->count > 99 ? sizeof(text) : (size_t)len, out->arg))
		return RPC_FAILED;
	if (++c->next < c->count)
		return RPC_MORE;
	return out->put("]", 1, out->arg) == 0 ? RPC_DONE : RPC_FAILED;
}

static void end_count(void *walk)
{
	countings--;
	free(walk);
}

static const struct rpc_walk count_walk = {begin_count, go_on_counting, end_count};
static const struct rpc_param count_params[] = {{"count", JSON_INTEGER, true, 1, 5000}, {NULL}};

static const struct rpc_param echo_params[] = {
	{"name", JSON_STRING, true, 1, 8},
	{"count", JSON_INTEGER, false, 1, 100},
	{NULL},
};
static const struct rpc_method methods[] = {
	{"echo", true, echo_params, run_echo},
	{"change", false, NULL, run_change},
	{"fail", true, NULL, run_fail},
	{"flood", true, NULL, run_flood},
	{"count", true, count_params, .walk = &count_walk},
};
static const struct rpc_service service = {methods, sizeof(methods) / sizeof(methods[0]), NULL};

#define CALL(method, rest) "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"" method "\"" rest "}"
#define RESULT(value)      "{\"jsonrpc\":\"2.0\",\"result\":" value ",\"id\":1}\n"
#define ERROR(id, code)    "{\"jsonrpc\":\"2.0\",\"error\":{\"code\":" code ",\"message\":\""

/* A message, whether it came on the read-only socket, and how the answer begins and ends. */
static const struct {
	const char *message;
	bool readonly;
	const char *begin, *end; /* NULL: no answer at all */
} rows[] = {
	{CALL("echo", ",\"params\":{\"name\":\"a\"}"), false,
		RESULT("{\"you_said\":{\"name\":\"a\"}}"), ""},
	{CALL("echo", ",\"params\":{\"name\":\"a\",\"count\":100}"), true,
		"{\"jsonrpc\":\"2.0\",\"result\"", ""},
	{"{\"jsonrpc\":\"2.0\",\"id\":\"x\",\"method\":\"change\"}", false,
		"{\"jsonrpc\":\"2.0\",\"result\":true,\"id\":\"x\"}\n", ""},
	{"{\"jsonrpc\":\"2.0\",\"id\":null,\"method\":\"change\"}", false,
		"{\"jsonrpc\":\"2.0\",\"result\":true,\"id\":null}\n", ""},
	{CALL("change", ",\"params\":{}"), false, RESULT("true"), ""},
	{"{\"jsonrpc\":\"2.0\",\"method\":\"change\"}", false, NULL, NULL},
	{"{\"jsonrpc\":\"2.0\",\"method\":\"absent\"}", false, NULL, NULL},

	{"{", false, ERROR(null, "-32700"), "\"id\":null}\n"},
	{"", false, ERROR(null, "-32700"), "\"id\":null}\n"},
	{"\xff", false, ERROR(null, "-32700"), "\"id\":null}\n"},
	{"{\"a\":1,\"a\":2}", false, ERROR(null, "-32700"), "\"id\":null}\n"},
	{CALL("echo", "") " x", false, ERROR(null, "-32700"), "\"id\":null}\n"},

	{"[" CALL("change", "") "]", false, ERROR(null, "-32600") "batches are not", "null}\n"},
	{"5", false, ERROR(null, "-32600"), "\"id\":null}\n"},
	{"{\"id\":1,\"method\":\"change\"}", false, ERROR(1, "-32600") "jsonrpc", "\"id\":1}\n"},
	{"{\"jsonrpc\":\"1.0\",\"id\":1,\"method\":\"change\"}", false, ERROR(1, "-32600"),
		"\"id\":1}\n"},
	{"{\"jsonrpc\":\"2.0\",\"id\":1}", false, ERROR(1, "-32600") "method", "\"id\":1}\n"},
	{"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":5}", false, ERROR(1, "-32600"), "\"id\":1}\n"},
	{"{\"jsonrpc\":\"2.0\",\"id\":{},\"method\":\"change\"}", false, ERROR(null, "-32600"),
		"\"id\":null}\n"},

	{CALL("absent", ""), false, ERROR(1, "-32601") "no method absent", "\"id\":1}\n"},
	{CALL("", ""), false, ERROR(1, "-32601"), "\"id\":1}\n"},

	{CALL("echo", ""), false, ERROR(1, "-32602") "echo needs the parameter name", ""},
	{CALL("echo", ",\"params\":[\"a\"]"), false, ERROR(1, "-32602") "params", ""},
	{CALL("echo", ",\"params\":null"), false, ERROR(1, "-32602") "params", ""},
	{CALL("echo", ",\"params\":{\"name\":\"a\",\"mane\":1}"), false,
		ERROR(1, "-32602") "echo has no parameter mane", ""},
	{CALL("echo", ",\"params\":{\"name\":5}"), false, ERROR(1, "-32602") "name: expected", ""},
	{CALL("echo", ",\"params\":{\"name\":\"\"}"), false, ERROR(1, "-32602") "name", ""},
	{CALL("echo", ",\"params\":{\"name\":\"123456789\"}"), false, ERROR(1, "-32602"), ""},
	{CALL("echo", ",\"params\":{\"name\":\"a\",\"count\":0}"), false,
		ERROR(1, "-32602") "count: expected a whole number from 1 to 100", ""},
	{CALL("echo", ",\"params\":{\"name\":\"a\",\"count\":1.5}"), false,
		ERROR(1, "-32602") "count", ""},
	{CALL("change", ",\"params\":{\"x\":1}"), false, ERROR(1, "-32602") "change has no", ""},

	{CALL("count", ""), true, ERROR(1, "-32602") "count needs the parameter count", ""},
	{CALL("count", ",\"params\":{\"count\":13}"), true, ERROR(1, "-32000") "13 is", ""},
	{"{\"jsonrpc\":\"2.0\",\"method\":\"count\",\"params\":{\"count\":3}}", false, NULL, NULL},

	{CALL("fail", ""), false, ERROR(1, "-32000") "no allocation 7\"}", "\"id\":1}\n"},
	{CALL("change", ""), true, ERROR(1, "-32001") "change changes something", "\"id\":1}\n"},
	{CALL("absent", ""), true, ERROR(1, "-32601"), ""},
};

static bool begins_and_ends(const char *text, const char *begin, const char *end)
{
	size_t len = strlen(text), end_len = strlen(end);

	return strncmp(text, begin, strlen(begin)) == 0 && len >= end_len &&
	       strcmp(text + len - end_len, end) == 0 && text[len - 1] == '\n' &&
	       strchr(text, '\n') == text + len - 1;
}

static void test_messages(void **state)
{
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct rpc_call *call;
		char *answer = rpc_answer(&service, rows[i].readonly, rows[i].message,
			strlen(rows[i].message), &call);
		bool right = rows[i].begin
				     ? answer && begins_and_ends(answer, rows[i].begin, rows[i].end)
				     : answer == NULL;

		if (!right)
			fail_msg("row %zu: %s\nwanted: %s ... %s\ngot:    %s", i, rows[i].message,
				rows[i].begin ? rows[i].begin : "nothing",
				rows[i].end ? rows[i].end : "", answer ? answer : "nothing");
		free(answer);
		assert_null(call);
	}
}

/* Asks for what is answered at once, or not at all. */
static void ask(bool readonly, const char *line)
{
	struct rpc_call *call;

	free(rpc_answer(&service, readonly, line, strlen(line), &call));
	assert_null(call);
}

/* What is refused has no effect; a notification has one. */
static void test_effects(void **state)
{
	static const char call[] = CALL("change", "");
	static const char notification[] = "{\"jsonrpc\":\"2.0\",\"method\":\"change\"}";

	changes = 0;
	ask(true, call);
	ask(true, notification);
	assert_int_equal(changes, 0);
	ask(false, call);
	ask(false, notification);
	assert_int_equal(changes, 2);
}

struct fixture {
	struct event_base *base;
	struct server *server;
	char path[64];
};

static int start(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct server_socket settings = {.path = f->path};
	char error[256];

	snprintf(f->path, sizeof(f->path), "/tmp/test_control.%d.sock", (int)getpid());
	f->base = event_base_new();
	*state = f;
	if (!f->base || server_open(&settings, &f->server, error) < 0)
		return -1;
	return server_start(f->server, f->base, &service);
}

static int finish(void **state)
{
	struct fixture *f = *state;
	struct stat st;

	server_close(f->server);
	event_base_free(f->base);
	assert_int_equal(lstat(f->path, &st), -1);
	free(f);
	return 0;
}

static int connect_to(const char *path)
{
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

	memcpy(sun.sun_path, path, strlen(path) + 1);
	assert_int_equal(connect(fd, (struct sockaddr *)&sun, sizeof(sun)), 0);
	return fd;
}

static void put(int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

/* Lets the server work and reads what it answers, until it has nothing more; -1: it hung up. */
static ssize_t get(struct fixture *f, int fd, char *out, size_t size)
{
	size_t len = 0;

	for (int idle = 0; idle < 20;) {
		ssize_t n;

		event_base_loop(f->base, EVLOOP_NONBLOCK);
		n = recv(fd, out + len, size - 1 - len, 0);
		if (n == 0 || (n < 0 && errno != EAGAIN)) {
			out[len] = '\0';
			return len ? (ssize_t)len : -1;
		}
		idle = n > 0 ? 0 : idle + 1;
		len += n > 0 ? (size_t)n : 0;
	}
	out[len] = '\0';
	return (ssize_t)len;
}

static void expect(struct fixture *f, int fd, const char *want)
{
	char answer[4096];

	get(f, fd, answer, sizeof(answer));
	assert_string_equal(answer, want);
}

static void test_framing(void **state)
{
	struct fixture *f = *state;
	int fd = connect_to(f->path);

	/* in pieces, two at once, with CR LF, blank lines between */
	put(fd, "{\"jsonrpc\":\"2.0\",\"id\":1,");
	expect(f, fd, "");
	put(fd, "\"method\":\"change\"}\n");
	expect(f, fd, RESULT("true"));
	put(fd, CALL("change", "") "\n" CALL("change", "") "\r\n\n \n" CALL("change", "") "\n");
	expect(f, fd, RESULT("true") RESULT("true") RESULT("true"));
	/* a client that stops sending still gets its answers, and then the end */
	put(fd, CALL("change", "") "\n" CALL("change", "") "\n");
	assert_int_equal(shutdown(fd, SHUT_WR), 0);
	expect(f, fd, RESULT("true") RESULT("true"));
	assert_int_equal(recv(fd, (char[1]){0}, 1, 0), 0);
	close(fd);
}

static void test_too_long(void **state)
{
	struct fixture *f = *state;
	static char line[SERVER_LINE_MAX + 2];
	int fd = connect_to(f->path);
	char answer[512];

	/* spaces are JSON: the longest line that is legal */
	memset(line, ' ', sizeof(line));
	memcpy(line, CALL("change", ""), strlen(CALL("change", "")));
	line[SERVER_LINE_MAX - 1] = '\n';
	line[SERVER_LINE_MAX] = '\0';
	put(fd, line);
	expect(f, fd, RESULT("true"));

	line[SERVER_LINE_MAX - 1] = ' ';
	line[SERVER_LINE_MAX] = ' ';
	line[SERVER_LINE_MAX + 1] = '\0';
	put(fd, line);
	assert_true(get(f, fd, answer, sizeof(answer)) > 0);
	assert_non_null(strstr(answer, "-32600"));
	assert_int_equal(get(f, fd, answer, sizeof(answer)), -1);
	close(fd);
}

static void test_too_many(void **state)
{
	struct fixture *f = *state;
	int fds[SERVER_CLIENTS_MAX + 1];
	char answer[512];

	for (size_t i = 0; i <= SERVER_CLIENTS_MAX; i++) {
		fds[i] = connect_to(f->path);
		event_base_loop(f->base, EVLOOP_NONBLOCK);
	}
	assert_true(get(f, fds[SERVER_CLIENTS_MAX], answer, sizeof(answer)) > 0);
	assert_non_null(strstr(answer, "too many clients"));
	put(fds[0], CALL("change", "") "\n");
	expect(f, fds[0], RESULT("true"));
	/* one leaves, one may come */
	close(fds[0]);
	close(fds[SERVER_CLIENTS_MAX]);
	event_base_loop(f->base, EVLOOP_NONBLOCK);
	fds[0] = connect_to(f->path);
	put(fds[0], CALL("change", "") "\n");
	expect(f, fds[0], RESULT("true"));
	for (size_t i = 0; i < SERVER_CLIENTS_MAX; i++)
		close(fds[i]);
	event_base_loop(f->base, EVLOOP_NONBLOCK);
}

/* Commands behind an answer that nobody takes are not looked at. */
static void test_slow_reader(void **state)
{
	struct fixture *f = *state;
	static char answer[2 << 20];
	int fd = connect_to(f->path);

	changes = 0;
	put(fd, CALL("flood", "") "\n" CALL("change", "") "\n");
	for (int i = 0; i < 50; i++)
		event_base_loop(f->base, EVLOOP_NONBLOCK);
	assert_int_equal(changes, 0);
	assert_true(get(f, fd, answer, sizeof(answer)) > 1 << 20);
	assert_int_equal(changes, 1);
	close(fd);
	event_base_loop(f->base, EVLOOP_NONBLOCK);
}

#define COUNT_TO(n) CALL("count", ",\"params\":{\"count\":" #n "}") "\n"

/* Piece by piece, in one line each; the client's next line has to wait for the end of it. */
static void test_pieces(void **state)
{
	struct fixture *f = *state;
	int fd = connect_to(f->path);

	put(fd, COUNT_TO(3) CALL("change", "") "\n" COUNT_TO(1));
	expect(f, fd, RESULT("[0,1,2]") RESULT("true") RESULT("[0]"));
	assert_int_equal(countings, 0);
	/* also when it will say no more */
	put(fd, COUNT_TO(5));
	assert_int_equal(shutdown(fd, SHUT_WR), 0);
	expect(f, fd, RESULT("[0,1,2,3,4]"));
	assert_int_equal(recv(fd, (char[1]){0}, 1, 0), 0);
	close(fd);
}

/* One that cannot be finished has no end, and nothing comes behind it. */
static void test_pieces_that_fail(void **state)
{
	struct fixture *f = *state;
	char answer[4096];
	int fd = connect_to(f->path);

	changes = 0;
	put(fd, COUNT_TO(50) CALL("change", "") "\n");
	assert_true(get(f, fd, answer, sizeof(answer)) > 0);
	assert_null(strchr(answer, '\n'));
	assert_int_equal(recv(fd, (char[1]){0}, 1, 0), 0);
	assert_int_equal(changes + countings, 0);
	close(fd);
}

static void turn(struct fixture *f, int times)
{
	for (int i = 0; i < times; i++)
		event_base_loop(f->base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
}

/* Who asks meanwhile has an answer long before; who walks as well has turns of his own. */
static void test_others_between_pieces(void **state)
{
	struct fixture *f = *state;
	int walkers[2] = {connect_to(f->path), connect_to(f->path)}, fd = connect_to(f->path);
	char answer[65536];

	for (int i = 0; i < 2; i++)
		put(walkers[i], COUNT_TO(16));
	turn(f, 8);
	assert_int_equal(countings, 2);
	put(fd, CALL("change", "") "\n");
	turn(f, 3);
	assert_int_equal(recv(fd, answer, sizeof(answer), 0), strlen(RESULT("true")));
	assert_int_equal(countings, 2);
	for (int i = 0; i < 2; i++) {
		assert_true(get(f, walkers[i], answer, sizeof(answer)) > 0);
		assert_non_null(strstr(answer, "14,15],\"id\":1}\n"));
		close(walkers[i]);
	}
	close(fd);
	turn(f, 3);
	assert_int_equal(countings, 0);
}

/* No more is made than is read, and nothing more once the client has gone. */
static void test_pieces_that_nobody_reads(void **state)
{
	struct fixture *f = *state;
	int fd = connect_to(f->path);

	/* Of its five million bytes neither the socket nor our output takes more than a part. */
	put(fd, COUNT_TO(5000));
	turn(f, 10000);
	assert_int_equal(countings, 1);
	close(fd);
	turn(f, 3);
	assert_int_equal(countings, 0);
}

static void test_socket_file(void **state)
{
	struct fixture *f = *state;
	struct server_socket settings = {.path = f->path};
	struct server *second = NULL;
	char error[256] = "";
	struct stat st;

	assert_int_equal(lstat(f->path, &st), 0);
	assert_true(S_ISSOCK(st.st_mode));
	assert_int_equal(st.st_mode & 07777, 0660);
	assert_int_equal(server_open(&settings, &second, error), -EADDRINUSE);
	assert_non_null(strstr(error, f->path));
	/* the live one has stayed */
	close(connect_to(f->path));
	event_base_loop(f->base, EVLOOP_NONBLOCK);
}

static void test_stale_socket(void **state)
{
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	struct server_socket settings = {.path = sun.sun_path};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	struct server *server = NULL;
	char error[256];
	FILE *file;

	snprintf(sun.sun_path, sizeof(sun.sun_path), "/tmp/test_control.%d.stale", (int)getpid());
	assert_int_equal(bind(fd, (struct sockaddr *)&sun, sizeof(sun)), 0);
	close(fd);
	assert_int_equal(server_open(&settings, &server, error), 0);
	server_close(server);

	/* what is no socket is nobody's to remove */
	file = fopen(sun.sun_path, "w");
	assert_non_null(file);
	fclose(file);
	assert_int_equal(server_open(&settings, &server, error), -EADDRINUSE);
	assert_int_equal(unlink(sun.sun_path), 0);
}

/* Who is told what: (user, group, supplementary group, file mode) against a socket of group 1. */
static const struct {
	gid_t group, supplementary;
	mode_t mode;
	const char *want;
} visitors[] = {
	{65534, 65534, 0660, "EACCES"},
	{65534, 65534, 0666, "may not use the socket"},
	{1, 65534, 0660, "\"result\":true"},
	{65534, 1, 0660, "\"result\":true"},
};

/* The child: becomes the visitor, asks, and leaves with 0 when it was told what it should be. */
static int visit(const char *path, size_t i)
{
	static const char call[] = CALL("change", "") "\n";
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	struct timeval patience = {.tv_sec = 5};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	char answer[512] = "";

	memcpy(sun.sun_path, path, strlen(path) + 1);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (setgroups(1, &visitors[i].supplementary) < 0 || setgid(visitors[i].group) < 0 ||
		setuid(65534) < 0)
		return 1;
	if (connect(fd, (struct sockaddr *)&sun, sizeof(sun)) < 0)
		return errno == EACCES && strcmp(visitors[i].want, "EACCES") == 0 ? 0 : 2;
	if (send(fd, call, strlen(call), MSG_NOSIGNAL) < 0 && errno != EPIPE)
		return 3;
	if (recv(fd, answer, sizeof(answer) - 1, 0) < 0)
		return 4;
	return strstr(answer, visitors[i].want) ? 0 : 5;
}

static void test_visitors(void **state)
{
	struct fixture *f = *state;
	char path[64], error[256];
	struct server_socket settings = {.path = path, .group = "daemon"};
	struct server *server = NULL;

	if (geteuid() != 0)
		skip();
	snprintf(path, sizeof(path), "/tmp/test_control.%d.group", (int)getpid());
	assert_int_equal(server_open(&settings, &server, error), 0);
	assert_int_equal(server_start(server, f->base, &service), 0);
	for (size_t i = 0; i < sizeof(visitors) / sizeof(visitors[0]); i++) {
		int status = -1;
		pid_t child;

		assert_int_equal(chmod(settings.path, visitors[i].mode), 0);
		child = fork();
		if (child == 0)
			_exit(visit(settings.path, i));
		for (int tries = 0; tries < 1000 && waitpid(child, &status, WNOHANG) == 0;
			tries++) {
			event_base_loop(f->base, EVLOOP_NONBLOCK);
			usleep(10000);
		}
		if (status != 0)
			fail_msg("visitor %zu: status %x", i, (unsigned)status);
	}
	server_close(server);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_messages),
		cmocka_unit_test(test_effects),
		cmocka_unit_test_setup_teardown(test_framing, start, finish),
		cmocka_unit_test_setup_teardown(test_too_long, start, finish),
		cmocka_unit_test_setup_teardown(test_too_many, start, finish),
		cmocka_unit_test_setup_teardown(test_slow_reader, start, finish),
		cmocka_unit_test_setup_teardown(test_pieces, start, finish),
		cmocka_unit_test_setup_teardown(test_pieces_that_fail, start, finish),
		cmocka_unit_test_setup_teardown(test_others_between_pieces, start, finish),
		cmocka_unit_test_setup_teardown(test_pieces_that_nobody_reads, start, finish),
		cmocka_unit_test_setup_teardown(test_socket_file, start, finish),
		cmocka_unit_test(test_stale_socket),
		cmocka_unit_test_setup_teardown(test_visitors, start, finish),
	};

	signal(SIGPIPE, SIG_IGN); /* as turnpiked does */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
