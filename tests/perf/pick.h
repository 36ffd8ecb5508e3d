/* Which datagrams an end takes off the kernel's way: by the place they come from, or go to. */
#pragma once

#include <linux/types.h>

struct pick {
	__u32 ip[4];     /* of the first, in host order; IPv4 as ::ffff:a.b.c.d */
	__u32 addresses; /* from there upwards, within the last 32 bits */
	__be16 port;
	__u8 by_source;
	__u8 is_ip6;
};
