/* UDP datagrams as Ethernet frames, and back. IPv4 and IPv6; no options, fragments or VLANs. */
#pragma once

#include "base/addr.h"

#define FRAME_MAX     1514 /* without its check sequence */
#define FRAME_FCS     4
#define FRAME_MAC_LEN 6

struct frame_macs {
	uint8_t source[FRAME_MAC_LEN], destination[FRAME_MAC_LEN];
};

/* What is before the data. */
size_t frame_headers_len(enum tp_family family);

/* `out` has room for FRAME_MAX, and so much it is at most: else 0. DF is set, checksums are right.
 */
size_t frame_write(uint8_t *out, const struct frame_macs *macs, const struct tp_addr *from,
	const struct tp_addr *to, const uint8_t *data, size_t len);

struct frame_datagram {
	struct tp_addr from, to;
	uint8_t *data;
	size_t len;
};

/* Of a message with its header, after those of IP: 0 when the checksum in it is right (RFC 1071; as
 * it lies in memory). `protocol`: IPPROTO_UDP, IPPROTO_ICMPV6. */
uint16_t frame_checksum(const struct tp_addr *from, const struct tp_addr *to, uint8_t protocol,
	const uint8_t *message, size_t len);

/* False: it is no such datagram, or a checksum is wrong. */
bool frame_read(uint8_t *bytes, size_t len, struct frame_datagram *out);
