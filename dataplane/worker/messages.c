#include "messages.h"

#include <errno.h>
#include <string.h>

struct msghdr *tp_messages_add(struct tp_messages *m, const uint8_t *data, size_t len)
{
	unsigned int i = m->count++;
	struct msghdr *message = &m->messages[i].msg_hdr;

	m->parts[i] = (struct iovec){(void *)data, len};
	memset(&m->to[i], 0, sizeof(m->to[i]));
	*message = (struct msghdr){.msg_iov = &m->parts[i], .msg_iovlen = 1};
	/* Where an address would be; nobody looks while its length is 0. */
	message->msg_name = &m->to[i];
	return message;
}

void tp_message_to_v4(struct msghdr *message, uint32_t wire)
{
	struct sockaddr_in *to = message->msg_name;

	to->sin_family = AF_INET;
	to->sin_addr.s_addr = wire;
	message->msg_namelen = sizeof(*to);
}

void tp_message_to_v6(struct msghdr *message, const uint8_t wire[16])
{
	struct sockaddr_in6 *to = message->msg_name;

	to->sin6_family = AF_INET6;
	memcpy(&to->sin6_addr, wire, sizeof(to->sin6_addr));
	message->msg_namelen = sizeof(*to);
}

uint32_t tp_messages_send(struct tp_messages *m, int fd)
{
	uint32_t sent = 0, at = 0;

	while (at < m->count) {
		int n = sendmmsg(fd, m->messages + at, m->count - at, MSG_DONTWAIT);

		if (n <= 0 && (errno == EAGAIN || errno == ENOBUFS))
			break;
		sent += n > 0 ? (uint32_t)n : 0;
		at += n > 0 ? (uint32_t)n : 1;
	}
	m->count = 0;
	return sent;
}
