/*
 * ICMP errors as raw sockets receive them, and the UDP datagrams that they quote (RFC 792, RFC
 * 4443). Anybody can send them: bounds are checked before every read. No state, no I/O.
 */
#pragma once

#include "base/addr.h"

struct icmp_error {
	struct tp_addr source, destination; /* of the datagram that is quoted */
	uint8_t type, code;                 /* ICMPv4 or ICMPv6, by their family */
	uint32_t data;                      /* next-hop MTU, where the type has one */
};

/* From the outer IP header on. False: no error, its checksum is wrong, or no UDP header is quoted.
 */
bool icmp_parse_v4(const uint8_t *bytes, size_t len, struct icmp_error *out);

/* From the ICMPv6 header on; its checksum is the kernel's business. */
bool icmp_parse_v6(const uint8_t *bytes, size_t len, struct icmp_error *out);
