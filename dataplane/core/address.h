/*
 * SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
 *
 * What can be said of an address by itself, for whoever reads packets and whoever writes flows.
 */
#pragma once

#include "packet.h"

/* Neither source nor peer of anything: 0/8, 127/8, 224/3; ::/96 with ::1, ff00::/8. */
static TP_INLINE bool tp_is_martian(const uint64_t ip[2], bool v4)
{
	uint8_t first = (uint8_t)(v4 ? ip[1] >> 32 : ip[0]);

	if (v4)
		return first == 0 || first == 127 || first >= 224;
	return first == 0xff || (ip[0] == 0 && (uint32_t)ip[1] == 0);
}

/*
 * Peers that no policy can allow (threat P18): martians, 169.254/16, fe80::/10, and the IPv6
 * prefixes that embed an IPv4 address: 2002::/16, 2001::/32 (RFC 8656, 21.4), 64:ff9b::/96.
 */
static TP_INLINE bool tp_is_forbidden(const uint64_t ip[2], bool v4)
{
	if (tp_is_martian(ip, v4))
		return true;
	if (v4)
		return (uint16_t)(ip[1] >> 32) == 0xfea9;
	return (ip[0] & 0xc0ff) == 0x80fe || (uint16_t)ip[0] == 0x0220 ||
	       (uint32_t)ip[0] == 0x00000120 || (ip[0] == 0x9bff6400 && (uint32_t)ip[1] == 0);
}
