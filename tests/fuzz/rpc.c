/*
 * control/: lines for the control socket, first straight into JSON-RPC, then through the socket
 * with its framing, cut where the input says. Each answer is one line of JSON-RPC.
 */
#include "fuzz.h"

#include "base/log.h"
#include "controlplane/control/server.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define TURNS_MAX 10000 /* of the event loop, for one client */

static json_t *echo(const void *context, const json_t *params, struct rpc_error *error)
{
	return json_deep_copy(params);
}

static json_t *refuse(const void *context, const json_t *params, struct rpc_error *error)
{
	return rpc_refuse(
		error, RPC_REFUSED, "no %s", json_string_value(json_object_get(params, "name")));
}

static const struct rpc_param echo_params[] = {{"name", JSON_STRING, false, 1, 64},
	{"count", JSON_INTEGER, false, -5, 1000}, {NULL, JSON_NULL, false, 0, 0}};
static const struct rpc_param refuse_params[] = {
	{"name", JSON_STRING, true, 0, 1 << 20}, {NULL, JSON_NULL, false, 0, 0}};
static const struct rpc_method methods[] = {
	{"echo", true, echo_params, echo},
	{"refuse", false, refuse_params, refuse},
	{"none", true, NULL, echo},
};
static const struct rpc_service service = {methods, COUNT(methods), NULL};

static struct event_base *base;
static struct server *server;
static char path[] = "rpc-XXXXXX/control";

static void clean(void)
{
	server_close(server);
	event_base_free(base);
	*strrchr(path, '/') = '\0';
	rmdir(path);
}

static void begin(void)
{
	struct server_socket settings = {path, "root", false};
	char error[256], *slash = strrchr(path, '/');

	if (server)
		return;
	tp_log_set_level(TP_LOG_ERROR);
	*slash = '\0';
	MUST(mkdtemp(path));
	*slash = '/';
	base = event_base_new();
	MUST(base && server_open(&settings, &server, error) == 0);
	MUST(server_start(server, base, &service) == 0);
	atexit(clean);
}

static void check_answer(const char *line, size_t len)
{
	json_t *answer = json_loadb(line, len, 0, NULL);
	const char *version;

	MUST(answer && json_object_size(answer) == 3 && json_object_get(answer, "id"));
	version = json_string_value(json_object_get(answer, "jsonrpc"));
	MUST(version && strcmp(version, "2.0") == 0);
	MUST(!json_object_get(answer, "result") != !json_object_get(answer, "error"));
	json_decref(answer);
}

static void answer_line(struct feed line, bool readonly)
{
	struct rpc_call *call;
	char *answer = rpc_answer(&service, readonly, (const char *)line.bytes, line.len, &call);

	if (answer) {
		MUST(strchr(answer, '\n') == answer + strlen(answer) - 1);
		check_answer(answer, strlen(answer));
	}
	free(answer);
}

/* What has come so far; false when the server has hung up. */
static bool receive(int fd, char **text, size_t *len)
{
	char chunk[4096];
	ssize_t got;

	while ((got = recv(fd, chunk, sizeof(chunk), MSG_DONTWAIT)) > 0) {
		*text = realloc(*text, *len + (size_t)got);
		MUST(*text);
		memcpy(*text + *len, chunk, (size_t)got);
		*len += (size_t)got;
	}
	return got < 0 && errno == EAGAIN;
}

static void check_answers(const char *text, size_t len, size_t asked)
{
	struct feed feed = {(const uint8_t *)text, len};

	MUST(len == 0 || text[len - 1] == '\n');
	for (; feed.len > 0; asked--) {
		struct feed line = feed_until(&feed, '\n');

		MUST(asked > 0);
		check_answer((const char *)line.bytes, line.len);
	}
}

static size_t lines_of(struct feed feed)
{
	size_t lines = 0;

	for (; feed.len > 0; lines++)
		feed_until(&feed, '\n');
	return lines;
}

static void talk(struct feed feed, size_t cut)
{
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	size_t len = 0, lines = lines_of(feed);
	char *text = NULL;
	bool open = true;

	memcpy(sun.sun_path, path, sizeof(path));
	MUST(fd >= 0 && connect(fd, (const struct sockaddr *)&sun, sizeof(sun)) == 0);
	for (int turns = 0; open; turns++) {
		struct feed part = feed_take(&feed, cut);

		MUST(turns < TURNS_MAX);
		if (part.len > 0)
			send(fd, part.bytes, part.len, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (feed.len == 0)
			shutdown(fd, SHUT_WR);
		event_base_loop(base, EVLOOP_NONBLOCK);
		open = receive(fd, &text, &len);
	}
	close(fd);
	event_base_loop(base, EVLOOP_NONBLOCK);
	check_answers(text, len, lines);
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct feed feed = {data, size}, line;
	uint8_t how = feed_u8(&feed);
	struct feed lines = feed;

	begin();
	while (lines.len > 0) {
		line = feed_until(&lines, '\n');
		answer_line(line, how & 0x80);
	}
	talk(feed, how & 0x7f ? (size_t)(how & 0x7f) << 4 : SIZE_MAX);
	return 0;
}
