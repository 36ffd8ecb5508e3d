/*
 * turnpiked's side of the link. Waits for two things behind one descriptor: somebody new at the
 * socket, and what the one who is there has to say. Control plane's thread; does not block.
 */
#include "message.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/unix.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>

#define BACKLOG 4

/* Nobody who is trusted keeps the place without a word, but a stopped process may. */
#define GREETING_NS (5 * TP_NS_PER_S)

struct tp_link {
	char path[sizeof(((struct sockaddr_un *)NULL)->sun_path)];
	struct tp_link_users users;
	int listen_fd, epoll_fd;
	int peer_fd;           /* -1: nobody is there */
	bool greeted;          /* its HELLO was answered with tables */
	uint64_t connected_ns; /* when it came */
	struct tp_log_limit log_limit;
};

static int watch(const struct tp_link *link, int fd)
{
	struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};

	return epoll_ctl(link->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

/* Who may connect is in mode and owners, so these have to be right before anybody can. */
static int open_socket(struct tp_link *link)
{
	const struct tp_link_users *users = &link->users;
	bool apart = users->control_uid != users->dataplane_uid;
	gid_t group = apart ? users->dataplane_gid : (gid_t)-1;
	int err = tp_unix_bind(link->path, SOCK_SEQPACKET, apart ? 0660 : 0600, &link->listen_fd);

	if (err < 0)
		return err;
	if (geteuid() == 0 && lchown(link->path, users->control_uid, group) < 0)
		return -errno;
	if (listen(link->listen_fd, BACKLOG) < 0)
		return -errno;
	link->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	return link->epoll_fd < 0 ? -errno : watch(link, link->listen_fd);
}

int tp_link_listen(const char *path, const struct tp_link_users *users, struct tp_link **out,
	char reason[TP_REASON_SIZE])
{
	struct tp_link *link = calloc(1, sizeof(*link));
	int err;

	if (!link)
		return link_refuse(reason, -ENOMEM, "out of memory");
	link->listen_fd = link->epoll_fd = link->peer_fd = -1;
	link->users = *users;
	err = snprintf(link->path, sizeof(link->path), "%s", path) < (int)sizeof(link->path)
		      ? open_socket(link)
		      : -ENAMETOOLONG;
	if (err < 0) {
		link_refuse(reason, err, "link socket %.120s: %s", path,
			err == -EADDRINUSE ? "a running process serves it, or it is no socket"
					   : strerror(-err));
		tp_link_close(link);
		return err;
	}
	*out = link;
	return 0;
}

int tp_link_fd(const struct tp_link *link)
{
	return link->epoll_fd;
}

static void say(int fd, enum message_type type, const char *why)
{
	struct message_answer answer = {0};

	snprintf(answer.why, sizeof(answer.why), "%s", why);
	message_send(fd, type, &answer.header, sizeof(answer), &answer.tables, NULL);
}

/* True when somebody was lost who had been served. */
static bool drop_peer(struct tp_link *link)
{
	bool served = link->greeted;

	if (link->peer_fd >= 0)
		close(link->peer_fd);
	link->peer_fd = -1;
	link->greeted = false;
	return served;
}

void tp_link_refuse(struct tp_link *link, const char *why)
{
	if (link->peer_fd < 0)
		return;
	say(link->peer_fd, MESSAGE_REFUSED, why);
	if (tp_log_allowed(&link->log_limit))
		tp_warning("turnpike-dataplane was refused: %s", why);
	drop_peer(link);
}

/* An error says nothing new: the connection is gone, and tp_link_next() will notice. */
int tp_link_give(struct tp_link *link, const struct tp_tables *tables)
{
	struct message_answer answer = {0};

	link->greeted = true;
	return message_send(link->peer_fd, MESSAGE_TABLES, &answer.header, sizeof(answer),
		&answer.tables, tables);
}

int tp_link_same(struct tp_link *link)
{
	struct message_answer answer = {0};

	link->greeted = true;
	return message_send(
		link->peer_fd, MESSAGE_SAME, &answer.header, sizeof(answer), &answer.tables, NULL);
}

static void admit(struct tp_link *link, int fd)
{
	TP_AUTO_CLOSE int owned = fd;

	if (!link_trusts(fd, link->users.dataplane_uid)) {
		say(fd, MESSAGE_REFUSED, "only root and the data plane's own user may connect");
		return;
	}
	if (link->peer_fd >= 0) {
		say(fd, MESSAGE_REFUSED, "another turnpike-dataplane is connected");
		if (tp_log_allowed(&link->log_limit))
			tp_warning("a second turnpike-dataplane was refused");
		return;
	}
	if (watch(link, fd) < 0)
		return;
	link->peer_fd = TP_TAKE_FD(owned);
	link->connected_ns = tp_clock_now_ns();
}

static void admit_all(struct tp_link *link)
{
	for (int i = 0; i < BACKLOG; i++) {
		int fd = accept4(link->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd < 0)
			return;
		admit(link, fd);
	}
}

static int read_hello(struct message_received *message, struct tp_hello *hello,
	struct tp_tables *offered, char reason[TP_REASON_SIZE])
{
	const struct message_hello *from = &message->is.hello;
	int err = message_check(message, sizeof(*from), reason);

	if (!err)
		err = message_read_hello(from, hello, reason);
	if (!err && from->tables.present)
		err = message_take_tables(message, &from->tables, offered, reason);
	return err;
}

/* What the message means; *dropped: it was the end of one who had been served. */
static enum tp_link_event understand(struct tp_link *link, struct message_received *message,
	struct tp_hello *hello, struct tp_tables *offered)
{
	char reason[TP_REASON_SIZE];
	uint16_t type = message->is.header.type;

	if (read_hello(message, hello, offered, reason) == 0) {
		if (type == MESSAGE_HELLO && !link->greeted)
			return TP_LINK_HELLO;
		tp_tables_close(offered);
		if (type == MESSAGE_STATE && link->greeted)
			return TP_LINK_STATE;
		link_refuse(reason, 0, "a message out of turn");
	}
	say(link->peer_fd, MESSAGE_REFUSED, reason);
	if (tp_log_allowed(&link->log_limit))
		tp_warning("turnpike-dataplane was refused: %s", reason);
	return drop_peer(link) ? TP_LINK_LOST : TP_LINK_NOTHING;
}

static enum tp_link_event hear_peer(
	struct tp_link *link, struct tp_hello *hello, struct tp_tables *offered)
{
	struct message_received message;
	enum tp_link_event event;
	int err = message_receive(link->peer_fd, &message);

	if (err == -EAGAIN && !link->greeted &&
		tp_clock_now_ns() - link->connected_ns > GREETING_NS)
		tp_link_refuse(link, "no greeting came");
	if (err == -EAGAIN)
		return TP_LINK_NOTHING;
	if (err < 0)
		return drop_peer(link) ? TP_LINK_LOST : TP_LINK_NOTHING;
	event = understand(link, &message, hello, offered);
	message_drop(&message);
	return event;
}

/* Who is there comes first, so that who died makes room for who follows. */
enum tp_link_event tp_link_next(
	struct tp_link *link, struct tp_hello *hello, struct tp_tables *offered)
{
	enum tp_link_event event = TP_LINK_NOTHING;

	*offered = tp_tables_none();
	if (link->peer_fd >= 0)
		event = hear_peer(link, hello, offered);
	if (event != TP_LINK_NOTHING)
		return event;
	admit_all(link);
	return link->peer_fd >= 0 && !link->greeted ? hear_peer(link, hello, offered)
						    : TP_LINK_NOTHING;
}

void tp_link_close(struct tp_link *link)
{
	if (!link)
		return;
	drop_peer(link);
	if (link->listen_fd >= 0) {
		unlink(link->path);
		close(link->listen_fd);
	}
	if (link->epoll_fd >= 0)
		close(link->epoll_fd);
	free(link);
}
