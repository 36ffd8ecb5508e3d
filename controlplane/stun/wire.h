/* Bytes of a STUN message, for the files of this module: no alignment is assumed (threat F05). */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define STUN_ATTRIBUTE_HEADER_LEN 4
#define STUN_FINGERPRINT_LEN      4

/* Type bits that are the class; the others are the method (RFC 8489, 5). */
#define STUN_CLASS_MASK 0x0110

enum { STUN_WIRE_IPV4 = 1, STUN_WIRE_IPV6 = 2 };

static inline uint16_t stun_load16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static inline uint32_t stun_load32(const uint8_t *p)
{
	return (uint32_t)stun_load16(p) << 16 | stun_load16(p + 2);
}

static inline void stun_store16(uint8_t *p, uint16_t value)
{
	p[0] = (uint8_t)(value >> 8);
	p[1] = (uint8_t)value;
}

static inline void stun_store32(uint8_t *p, uint32_t value)
{
	stun_store16(p, (uint16_t)(value >> 16));
	stun_store16(p + 2, (uint16_t)value);
}

static inline size_t stun_padded(size_t len)
{
	return (len + 3) & ~(size_t)3;
}

/* XOR with cookie and transaction id, which lie side by side in the header (RFC 8489, 14.2). */
static inline void stun_xor_ip(const uint8_t *message, const uint8_t *in, size_t len, uint8_t *out)
{
	for (size_t i = 0; i < len; i++)
		out[i] = in[i] ^ message[4 + i];
}

/* FINGERPRINT of the message whose FINGERPRINT attribute begins at offset `at`. */
uint32_t stun_fingerprint(const uint8_t *bytes, size_t at);
