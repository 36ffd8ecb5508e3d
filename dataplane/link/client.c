/* turnpike-dataplane's side of the link: greets, and takes the tables. Its main thread. */
#include "message.h"

#include "base/cleanup.h"
#include "base/unix.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

int tp_link_connect(const char *path, uint32_t control_uid, int *fd, char reason[TP_REASON_SIZE])
{
	TP_AUTO_CLOSE int s = -1;
	int err = tp_unix_connect(path, SOCK_SEQPACKET, &s);

	if (err == -ENOENT || err == -ECONNREFUSED || err == -EAGAIN)
		return -EAGAIN;
	if (err < 0)
		return link_refuse(reason, err, "%s: %s", path, strerror(-err));
	if (!link_trusts(s, control_uid))
		return link_refuse(
			reason, -EPERM, "%s: who listens there is neither root nor ours", path);
	*fd = TP_TAKE_FD(s);
	return 0;
}

static int greet(
	int fd, enum message_type type, const struct tp_hello *hello, const struct tp_tables *held)
{
	struct message_hello message;

	message_write_hello(hello, &message);
	return message_send(fd, type, &message.header, sizeof(message), &message.tables, held);
}

int tp_link_hello(int fd, const struct tp_hello *hello, const struct tp_tables *held)
{
	return greet(fd, MESSAGE_HELLO, hello, held);
}

int tp_link_state(int fd, const struct tp_hello *hello)
{
	return greet(fd, MESSAGE_STATE, hello, NULL);
}

static int take_tables(
	struct message_received *message, struct tp_tables *out, char reason[TP_REASON_SIZE])
{
	TP_CLEANUP(tp_tables_close) struct tp_tables tables = tp_tables_none();
	int err = message_take_tables(message, &message->is.answer.tables, &tables, reason);

	if (err < 0)
		return err;
	err = tp_tables_map(&tables);
	if (err < 0)
		return link_refuse(
			reason, -EPROTO, "the tables cannot be mapped: %s", strerror(-err));
	*out = tables;
	tables = tp_tables_none();
	return 0;
}

/* The one message that is understood whatever the version: why there will be none. */
static bool is_refusal(const struct message_received *message)
{
	return message->len >= offsetof(struct message_answer, tables) &&
	       message->is.header.magic == MESSAGE_MAGIC &&
	       message->is.header.type == MESSAGE_REFUSED;
}

static int understand(
	struct message_received *message, struct tp_tables *out, char reason[TP_REASON_SIZE])
{
	int err;

	if (is_refusal(message))
		return link_refuse(
			reason, -ECONNREFUSED, "%.*s", TP_REASON_SIZE - 1, message->is.answer.why);
	err = message_check(message, sizeof(message->is.answer), reason);
	if (err < 0)
		return err;
	if (message->is.header.type == MESSAGE_SAME)
		return -EALREADY;
	if (message->is.header.type != MESSAGE_TABLES)
		return link_refuse(reason, -EPROTO, "the message is no answer");
	return take_tables(message, out, reason);
}

int tp_link_answer(int fd, struct tp_tables *out, char reason[TP_REASON_SIZE])
{
	struct message_received message;
	int err = message_receive(fd, &message);

	if (err == -EPROTO)
		link_refuse(reason, err, "the message is too long");
	if (err == -ECONNRESET)
		link_refuse(reason, err, "turnpiked is gone");
	if (err < 0)
		return err;
	err = understand(&message, out, reason);
	message_drop(&message);
	return err;
}
