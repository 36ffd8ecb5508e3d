/*
 * The control socket's plumbing. A client gets its answer before its next line is looked at, so
 * what it can make us keep is one line and one answer; a client that does not read is dropped.
 * Answers that come in pieces are gone on with by one piece in each turn of the event loop.
 */
#include "server.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/unix.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/listener.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define NO_GROUP   ((gid_t)-1)
#define GROUPS_MAX 1024
#define IDLE_S     600 /* a forgotten client must not hold a place forever */
#define UNREAD_S   10  /* an answer nobody takes */
#define PAUSE_S    1   /* when the system has no more descriptors or memory */

/* A piece of an answer takes what a batch of packets takes, and no more is made than is read. */
#define PIECE_NS   (100 * UINT64_C(1000))
#define UNREAD_MAX 65536

struct session {
	TAILQ_ENTRY(session) link;
	struct server *server;
	struct bufferevent *stream;
	struct rpc_call *call; /* whose answer is under way */
	bool ending;           /* close when the output is out */
};

struct server {
	int fd;
	char path[sizeof(((struct sockaddr_un *)NULL)->sun_path)];
	bool bound;
	gid_t group;
	bool readonly;
	struct evconnlistener *listener;
	struct event *pause;
	struct event *turn; /* to go on with a call */
	struct rpc_service service;
	TAILQ_HEAD(session_list, session) sessions; /* whose turn it is comes first */
	size_t sessions_count;
	struct tp_log_limit log;
};

static void session_end(struct session *session)
{
	TAILQ_REMOVE(&session->server->sessions, session, link);
	session->server->sessions_count--;
	rpc_call_end(session->call);
	bufferevent_free(session->stream);
	free(session);
}

static size_t unsent(const struct session *session)
{
	return evbuffer_get_length(bufferevent_get_output(session->stream));
}

static bool is_idle(const struct session *session)
{
	return !session->call && unsent(session) == 0;
}

static bool can_go_on(const struct session *session)
{
	return session->call && unsent(session) < UNREAD_MAX;
}

static void send_line(struct session *session, char *line)
{
	if (!line || bufferevent_write(session->stream, line, strlen(line)) < 0)
		session->ending = true;
	free(line);
}

static bool is_blank(const char *line)
{
	return line[strspn(line, " \t\r")] == '\0';
}

/* Answers one line; false when no whole one is there. */
static bool take_line(struct session *session)
{
	struct evbuffer *input = bufferevent_get_input(session->stream);
	size_t len;
	TP_AUTO_FREE char *line = evbuffer_readln(input, &len, EVBUFFER_EOL_LF);
	char *answer;

	if (!line)
		return false;
	if (len == strlen(line) && is_blank(line))
		return true;
	answer = rpc_answer(
		&session->server->service, session->server->readonly, line, len, &session->call);
	if (answer)
		send_line(session, answer);
	return true;
}

/* Behind all other events of a turn of the loop, and not before the next one. */
static void take_a_turn(struct server *server)
{
	static const struct timeval at_once = {0};

	if (!event_pending(server->turn, EV_TIMEOUT, NULL))
		event_add(server->turn, &at_once);
}

/* Answers while the client takes the answers. The session may be gone afterwards. */
static void session_work(struct session *session)
{
	struct evbuffer *input = bufferevent_get_input(session->stream);

	while (!session->ending && is_idle(session) && take_line(session))
		continue;
	if (!session->ending && is_idle(session) && evbuffer_get_length(input) > SERVER_LINE_MAX) {
		send_line(session,
			rpc_complaint(RPC_INVALID_REQUEST, "the line is longer than 65536 bytes"));
		session->ending = true;
	}
	if (can_go_on(session))
		take_a_turn(session->server);
	if (is_idle(session) && session->ending)
		session_end(session);
	else if (!is_idle(session))
		bufferevent_disable(session->stream, EV_READ);
	else
		bufferevent_enable(session->stream, EV_READ);
}

static int put_unsent(const char *text, size_t len, void *arg)
{
	const struct session *session = arg;

	return evbuffer_add(bufferevent_get_output(session->stream), text, len);
}

/* The session may be gone afterwards. */
static void session_go_on(struct session *session)
{
	struct rpc_sink out = {put_unsent, session};
	enum rpc_progress progress =
		rpc_call_go_on(session->call, tp_clock_now_ns() + PIECE_NS, &out);

	if (progress != RPC_MORE) {
		rpc_call_end(session->call);
		session->call = NULL;
		session->ending |= progress == RPC_FAILED;
	}
	session_work(session);
}

/* One piece for whoever has waited longest; session_work() asks for the next turn. */
static void on_turn(evutil_socket_t fd, short what, void *arg)
{
	struct server *server = arg;
	struct session *session, *next;
	bool others = false;

	TAILQ_FOREACH(session, &server->sessions, link)
		if (can_go_on(session))
			break;
	if (!session)
		return;
	TAILQ_FOREACH(next, &server->sessions, link)
		others |= next != session && can_go_on(next);
	TAILQ_REMOVE(&server->sessions, session, link);
	TAILQ_INSERT_TAIL(&server->sessions, session, link);
	session_go_on(session);
	if (others)
		take_a_turn(server);
}

static void on_data(struct bufferevent *stream, void *arg)
{
	session_work(arg);
}

static void on_event(struct bufferevent *stream, short what, void *arg)
{
	struct session *session = arg;

	/* A client that has sent all it wants still gets its answers (socat, printf | nc -N). */
	if ((what & BEV_EVENT_EOF) && !is_idle(session)) {
		session->ending = true;
		return;
	}
	session_end(session);
}

static bool in_group(int fd, const struct ucred *peer, gid_t group)
{
	gid_t groups[GROUPS_MAX];
	socklen_t size = sizeof(groups);

	if (group == NO_GROUP)
		return false;
	if (peer->gid == group)
		return true;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &size) < 0)
		return false;
	for (size_t i = 0; i < size / sizeof(groups[0]); i++) {
		if (groups[i] == group)
			return true;
	}
	return false;
}

/* The file's mode says the same; this also holds for sockets that were opened by others. */
static bool may_connect(const struct server *server, int fd)
{
	struct ucred peer;
	socklen_t size = sizeof(peer);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
		return false;
	return peer.uid == 0 || peer.uid == geteuid() || in_group(fd, &peer, server->group);
}

/* One line to a client that is not let in; it fits any fresh socket's buffer. */
static void turn_away(struct server *server, int fd, enum rpc_code code, const char *why)
{
	char *line = rpc_complaint(code, why);

	if (tp_log_allowed(&server->log))
		tp_warning("control: turned a client away: %s", why);
	if (line && send(fd, line, strlen(line), MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		tp_debug("control: %s", strerror(errno));
	free(line);
	close(fd);
}

static void session_begin(struct server *server, struct event_base *base, int fd)
{
	static const struct timeval idle = {.tv_sec = IDLE_S}, unread = {.tv_sec = UNREAD_S};
	struct session *session = calloc(1, sizeof(*session));

	if (session)
		session->stream = bufferevent_socket_new(base, fd, BEV_OPT_CLOSE_ON_FREE);
	if (!session || !session->stream) {
		free(session);
		close(fd);
		return;
	}
	session->server = server;
	TAILQ_INSERT_TAIL(&server->sessions, session, link);
	server->sessions_count++;
	bufferevent_setcb(session->stream, on_data, on_data, on_event, session);
	/* No watermark: libevent 2.1 crashes there when memory is short, and session_work() looks.
	 */
	bufferevent_set_timeouts(session->stream, &idle, &unread);
	bufferevent_enable(session->stream, EV_READ | EV_WRITE);
}

static void on_accept(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *from,
	int from_size, void *arg)
{
	struct server *server = arg;

	if (!may_connect(server, fd))
		turn_away(server, fd, RPC_FORBIDDEN, "this user may not use the socket");
	else if (server->sessions_count >= SERVER_CLIENTS_MAX)
		turn_away(server, fd, RPC_BUSY, "too many clients, try again later");
	else
		session_begin(server, evconnlistener_get_base(listener), fd);
}

/* Who waits to be accepted goes on waiting: without a pause that is a loop at full speed (R14). */
static void on_accept_error(struct evconnlistener *listener, void *arg)
{
	static const struct timeval pause = {.tv_sec = PAUSE_S};
	struct server *server = arg;

	if (tp_log_allowed(&server->log))
		tp_warning("control: cannot accept a client: %s", strerror(errno));
	evconnlistener_disable(listener);
	event_add(server->pause, &pause);
}

static void on_pause_end(evutil_socket_t fd, short what, void *arg)
{
	evconnlistener_enable(((struct server *)arg)->listener);
}

static gid_t find_group(const char *name)
{
	const struct group *group = name ? getgrnam(name) : NULL;

	if (!group)
		tp_warning("control: no group %s here: only root may use the socket",
			name ? name : "(none)");
	return group ? group->gr_gid : NO_GROUP;
}

/* Nobody can connect before listen(), so the owner is right for the first client. */
static int give_to_group(const struct server *server)
{
	bool root = geteuid() == 0;
	gid_t group = server->group != NO_GROUP ? server->group : getegid();

	if (lchown(server->path, root ? 0 : (uid_t)-1, group) < 0) {
		if (root)
			return -errno;
		tp_warning("control: %s keeps its group: %s", server->path, strerror(errno));
	}
	return 0;
}

static int open_socket(struct server *server)
{
	int err = tp_unix_bind(server->path, SOCK_STREAM, 0660, &server->fd);

	if (err < 0)
		return err;
	server->bound = true;
	err = give_to_group(server);
	if (err == 0 && listen(server->fd, SERVER_CLIENTS_MAX) < 0)
		err = -errno;
	return err;
}

int server_open(const struct server_socket *settings, struct server **out, char error[256])
{
	struct server *server = calloc(1, sizeof(*server));
	int err = -ENOMEM;

	if (server) {
		server->fd = -1;
		TAILQ_INIT(&server->sessions);
		server->readonly = settings->readonly;
		snprintf(server->path, sizeof(server->path), "%s", settings->path);
		server->group = find_group(settings->group);
		err = strlen(settings->path) < sizeof(server->path) ? open_socket(server)
								    : -ENAMETOOLONG;
	}
	if (err < 0) {
		snprintf(error, 256, "control socket %.120s: %s", settings->path,
			err == -EADDRINUSE ? "a running process serves it, or it is no socket"
					   : strerror(-err));
		server_close(server);
		return err;
	}
	*out = server;
	return 0;
}

int server_start(struct server *server, struct event_base *base, const struct rpc_service *service)
{
	server->service = *service;
	server->listener =
		evconnlistener_new(base, on_accept, server, LEV_OPT_CLOSE_ON_EXEC, 0, server->fd);
	server->pause = evtimer_new(base, on_pause_end, server);
	server->turn = evtimer_new(base, on_turn, server);
	if (!server->listener || !server->pause || !server->turn)
		return -ENOMEM;
	evconnlistener_set_error_cb(server->listener, on_accept_error);
	return 0;
}

void server_close(struct server *server)
{
	if (!server)
		return;
	while (!TAILQ_EMPTY(&server->sessions))
		session_end(TAILQ_FIRST(&server->sessions));
	if (server->pause)
		event_free(server->pause);
	if (server->turn)
		event_free(server->turn);
	if (server->listener)
		evconnlistener_free(server->listener);
	/* Without the right to remove the file it stays, and the next start replaces it. */
	if (server->bound && unlink(server->path) < 0)
		tp_debug("control: %s stays: %s", server->path, strerror(errno));
	if (server->fd >= 0)
		close(server->fd);
	free(server);
}
