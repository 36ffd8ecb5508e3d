/*
 * Messages out and in. What comes is checked here, whole, before anybody acts on it: sizes, counts,
 * texts, and that the tables described are ones that we could have made ourselves.
 */
#include "message.h"

#include "base/cleanup.h"
#include "base/cmsg.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

int link_refuse(char reason[TP_REASON_SIZE], int err, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(reason, TP_REASON_SIZE, format, args);
	va_end(args);
	return err;
}

bool link_trusts(int fd, uint32_t uid)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 && len == sizeof(peer) &&
	       (peer.uid == 0 || peer.uid == uid);
}

/* Descriptors without repetition; returns the place of `fd` among them. */
static uint32_t add_fd(int fds[TP_REGIONS], size_t *count, int fd)
{
	for (size_t i = 0; i < *count; i++) {
		if (fds[i] == fd)
			return (uint32_t)i;
	}
	fds[*count] = fd;
	return (uint32_t)(*count)++;
}

static size_t describe_tables(
	const struct tp_tables *tables, struct message_tables *out, int fds[TP_REGIONS])
{
	size_t count = 0;

	*out = (struct message_tables){
		.present = 1,
		.kind = tables->kind,
		.capacity = tables->memory.shape.capacity,
		.workers = tables->memory.shape.workers,
	};
	for (int i = 0; i < TP_REGIONS; i++) {
		const struct tp_region_shape *region = &tables->memory.shape.regions[i];

		out->regions[i] = (struct message_region){
			.offset = tables->offsets[i],
			.fd = add_fd(fds, &count, tables->fds[i]),
			.element_size = region->element_size,
			.count = region->count,
		};
	}
	return count;
}

union fds_buffer {
	char bytes[CMSG_SPACE(sizeof(int) * TP_REGIONS)];
	struct cmsghdr align;
};

static void attach_fds(struct msghdr *msg, union fds_buffer *buffer, const int *fds, size_t count)
{
	memset(buffer, 0, sizeof(*buffer));
	tp_cmsg_end(msg, buffer->bytes,
		tp_cmsg_put(&buffer->align, SOL_SOCKET, SCM_RIGHTS, fds, sizeof(int) * count));
}

int message_send(int fd, enum message_type type, struct message_header *message, size_t size,
	struct message_tables *into, const struct tp_tables *tables)
{
	struct iovec iov = {.iov_base = message, .iov_len = size};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	union fds_buffer buffer;
	int fds[TP_REGIONS];

	*message = (struct message_header){
		.magic = MESSAGE_MAGIC,
		.version = MESSAGE_VERSION,
		.type = (uint16_t)type,
		.size = (uint32_t)size,
		.abi = TP_ABI_VERSION,
		.layout = tp_layout_hash(),
	};
	if (tables)
		attach_fds(&msg, &buffer, fds, describe_tables(tables, into, fds));
	return sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)size ? 0 : -errno;
}

/* Whatever came along becomes ours, so that nothing stays open that nobody knows of. */
static void collect_fds(struct msghdr *msg, struct message_received *out)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < count; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
			if (out->fds_count < COUNT(out->fds))
				out->fds[out->fds_count++] = fd;
			else
				close(fd);
		}
	}
}

int message_receive(int fd, struct message_received *out)
{
	struct iovec iov = {.iov_base = &out->is, .iov_len = sizeof(out->is)};
	union fds_buffer buffer;
	struct msghdr msg = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = buffer.bytes,
		.msg_controllen = sizeof(buffer.bytes)};
	ssize_t n;

	memset(out, 0, sizeof(*out));
	n = recvmsg(fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? -EAGAIN : -ECONNRESET;
	collect_fds(&msg, out);
	out->len = (size_t)n;
	if (n > 0 && !(msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC)))
		return 0;
	message_drop(out);
	return n ? -EPROTO : -ECONNRESET;
}

void message_drop(struct message_received *message)
{
	while (message->fds_count > 0)
		close(message->fds[--message->fds_count]);
}

int message_check(const struct message_received *message, size_t size, char reason[TP_REASON_SIZE])
{
	const struct message_header *header = &message->is.header;

	if (message->len < sizeof(*header) || header->magic != MESSAGE_MAGIC ||
		header->size != message->len)
		return link_refuse(reason, -EPROTO, "the message is not one of turnpike's");
	if (header->version != MESSAGE_VERSION)
		return link_refuse(reason, -EPROTO,
			"the other daemon is of another version: its messages have number %u, "
			"ours %d",
			header->version, MESSAGE_VERSION);
	if (header->abi != TP_ABI_VERSION || header->layout != tp_layout_hash())
		return link_refuse(reason, -EPROTO,
			"the other daemon is of another version: its tables have number %u, "
			"ours %d",
			header->abi, TP_ABI_VERSION);
	if (message->len != size)
		return link_refuse(
			reason, -EPROTO, "the message has %zu bytes, not %zu", message->len, size);
	return 0;
}

/* The shape is computed here; the other side's numbers only have to agree. */
static int read_shape(const struct message_tables *from, struct tp_shape *out)
{
	uint32_t policers = from->regions[TP_REGION_POLICERS].count;

	if (from->kind > TP_TABLES_HUGE_PAGES || policers == 0 ||
		tp_shape_init(from->capacity, from->workers, policers - 1, out) != 0)
		return -EPROTO;
	for (int i = 0; i < TP_REGIONS; i++) {
		if (from->regions[i].element_size != out->regions[i].element_size ||
			from->regions[i].count != out->regions[i].count)
			return -EPROTO;
	}
	return from->capacity == out->capacity ? 0 : -EPROTO;
}

int message_take_tables(struct message_received *message, const struct message_tables *from,
	struct tp_tables *out, char reason[TP_REASON_SIZE])
{
	struct tp_tables tables = tp_tables_none();
	uint32_t used = 0;

	if (read_shape(from, &tables.memory.shape) != 0)
		return link_refuse(reason, -EPROTO, "the tables have no shape that there is");
	tables.kind = (enum tp_tables_kind)from->kind;
	for (int i = 0; i < TP_REGIONS; i++) {
		uint32_t fd = from->regions[i].fd;

		if (fd >= message->fds_count)
			return link_refuse(reason, -EPROTO, "the tables have no descriptors");
		used |= UINT32_C(1) << fd;
		tables.fds[i] = message->fds[fd];
		tables.offsets[i] = from->regions[i].offset;
	}
	if (used != (UINT32_C(1) << message->fds_count) - 1)
		return link_refuse(reason, -EPROTO, "more descriptors came than tables");
	message->fds_count = 0;
	*out = tables;
	return 0;
}

static bool is_word(const char *text, size_t size)
{
	size_t len = strnlen(text, size);

	for (size_t i = 0; i < len; i++) {
		if (!isgraph((unsigned char)text[i]))
			return false;
	}
	return len > 0 && len < size;
}

/* Modes are words of ours: the text that came is not kept. */
static const char *known_mode(const char *text)
{
	static const char *const modes[] = {"native", "generic", "zero-copy", "copy", "dpdk"};

	for (size_t i = 0; i < COUNT(modes); i++) {
		if (strncmp(text, modes[i], TP_IFNAME_SIZE) == 0)
			return modes[i];
	}
	return NULL;
}

int message_read_hello(
	const struct message_hello *from, struct tp_hello *out, char reason[TP_REASON_SIZE])
{
	struct tp_hello hello = {
		.workers = from->workers, .interfaces_count = from->interfaces_count};

	if (!is_word(from->engine, sizeof(from->engine)) || from->workers == 0 ||
		from->workers > TP_WORKERS_MAX || from->interfaces_count == 0 ||
		from->interfaces_count > TP_INTERFACES_MAX)
		return link_refuse(reason, -EPROTO, "the greeting says nothing that can be");
	memcpy(hello.engine, from->engine, sizeof(hello.engine));
	for (uint32_t i = 0; i < from->interfaces_count; i++) {
		const struct message_interface *in = &from->interfaces[i];
		struct tp_engine_interface *is = &hello.interfaces[i];

		is->mode = known_mode(in->mode);
		if (!is->mode || !is_word(in->name, sizeof(in->name)) || in->ifindex == 0)
			return link_refuse(reason, -EPROTO, "interface %u is none", i);
		memcpy(is->name, in->name, sizeof(is->name));
		is->ifindex = in->ifindex;
		is->attached = in->attached != 0;
	}
	*out = hello;
	return 0;
}

void message_write_hello(const struct tp_hello *from, struct message_hello *out)
{
	memset(out, 0, sizeof(*out));
	snprintf(out->engine, sizeof(out->engine), "%s", from->engine);
	out->workers = from->workers;
	out->interfaces_count = from->interfaces_count;
	for (uint32_t i = 0; i < from->interfaces_count && i < TP_INTERFACES_MAX; i++) {
		const struct tp_engine_interface *is = &from->interfaces[i];
		struct message_interface *to = &out->interfaces[i];

		snprintf(to->name, sizeof(to->name), "%s", is->name);
		snprintf(to->mode, sizeof(to->mode), "%s", is->mode);
		to->ifindex = is->ifindex;
		to->attached = is->attached;
	}
}
