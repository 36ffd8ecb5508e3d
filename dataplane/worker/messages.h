/*
 * What goes to the kernel through a socket, a burst with one call. The bytes stay where they are
 * until they are sent. One thread.
 */
#pragma once

#include "dataplane/core/packet.h"

#include <netinet/in.h>
#include <sys/socket.h>

struct tp_messages {
	unsigned int count;
	struct mmsghdr messages[TP_BURST];
	struct iovec parts[TP_BURST];
	union {
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;
	} to[TP_BURST];
};

/* Up to TP_BURST of them. Without an address, which may be set: to where the socket is bound. */
struct msghdr *tp_messages_add(struct tp_messages *messages, const uint8_t *data, size_t len);
void tp_message_to_v4(struct msghdr *message, uint32_t wire);
void tp_message_to_v6(struct msghdr *message, const uint8_t wire[16]);

/*
 * Never waits: what the socket does not take at once is lost; a message that it refuses costs no
 * other. How many were sent.
 */
uint32_t tp_messages_send(struct tp_messages *messages, int fd);
