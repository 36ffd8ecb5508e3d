/* What the two IP families call the same socket option. No state. */
#pragma once

#include <netinet/in.h>

struct tp_ip_options {
	int level, receive_ttl, receive_tos, receive_error, receive_local, mtu_discover, ttl, tos;
	int fragment, no_fragment, freebind;
};

/* family: AF_INET or AF_INET6. */
const struct tp_ip_options *tp_ip_options(int family);

/* 0 or -errno. */
int tp_set_option(int fd, int level, int option, int value);
