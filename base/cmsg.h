/* Ancillary data of sendmsg(2), one message behind the other. */
#pragma once

#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

/* Writes one at `c` and returns where the next one goes; room is the caller's to have made. */
static inline struct cmsghdr *tp_cmsg_put(
	struct cmsghdr *c, int level, int type, const void *value, size_t size)
{
	c->cmsg_level = level;
	c->cmsg_type = type;
	c->cmsg_len = CMSG_LEN(size);
	memcpy(CMSG_DATA(c), value, size);
	return (void *)((uint8_t *)c + CMSG_SPACE(size));
}

static inline struct cmsghdr *tp_cmsg_put_int(struct cmsghdr *c, int level, int type, int value)
{
	return tp_cmsg_put(c, level, type, &value, sizeof(value));
}

/* What is between the first one and where the next one would go. */
static inline void tp_cmsg_end(struct msghdr *m, void *first, const struct cmsghdr *end)
{
	m->msg_control = first;
	m->msg_controllen = (size_t)((const uint8_t *)end - (const uint8_t *)first);
}
