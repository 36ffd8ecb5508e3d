/* What the program of an end as frames shares with it. */
#pragma once

#include <linux/types.h>

/* Which datagrams it takes off the kernel's way: by the place they come from, or go to. */
struct pick {
	__u32 ip[4];     /* of the first, in host order; IPv4 as ::ffff:a.b.c.d */
	__u32 addresses; /* from there upwards, within the last 32 bits */
	__be16 port;
	__u8 by_source;
	__u8 is_ip6;
};

#define PICK_FRAMES    64   /* of one run */
#define PICK_FRAME_MAX 1514 /* without its check sequence */

/* A live frame, as it is to leave. */
struct pick_frame {
	__u32 len;
	__u16 time_at;  /* where the time it leaves is put, eight bytes, as ktime has it; 0: nowhere
			 */
	__u16 check_at; /* and the UDP checksum, right for what is there already */
	__u8 bytes[PICK_FRAME_MAX + 6]; /* of padding */
};
