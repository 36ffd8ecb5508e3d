/*
 * SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
 *
 * CRC-32 of STUN's FINGERPRINT (RFC 8489, 14.7; ITU V.42), eight bytes a step. Clients that put a
 * fingerprint on every message put it on their media too, and the control plane discards a wrong
 * one (RFC 8489, 7): a few instructions a byte, where the way to the sockets costs microseconds.
 */
#pragma once

#include "packet.h"

#define TP_FINGERPRINT_XOR UINT32_C(0x5354554e)
#define TP_CRC_MAX         2048 /* bytes of a message that is looked at here */
#define TP_CRC_STEP        8

/* An entry is the sum of the entries of its number's bits. */
#define TP_CRC_1(i, a, b, c, d, e, f, g, h)                                                        \
	(((i)&1 ? a : 0) ^ ((i)&2 ? b : 0) ^ ((i)&4 ? c : 0) ^ ((i)&8 ? d : 0) ^                   \
		((i)&16 ? e : 0) ^ ((i)&32 ? f : 0) ^ ((i)&64 ? g : 0) ^ ((i)&128 ? h : 0))
#define TP_CRC_4(i, ...)                                                                           \
	TP_CRC_1(i, __VA_ARGS__), TP_CRC_1((i) + 1, __VA_ARGS__), TP_CRC_1((i) + 2, __VA_ARGS__),  \
		TP_CRC_1((i) + 3, __VA_ARGS__)
#define TP_CRC_16(i, ...)                                                                          \
	TP_CRC_4(i, __VA_ARGS__), TP_CRC_4((i) + 4, __VA_ARGS__), TP_CRC_4((i) + 8, __VA_ARGS__),  \
		TP_CRC_4((i) + 12, __VA_ARGS__)
#define TP_CRC_64(i, ...)                                                                          \
	TP_CRC_16(i, __VA_ARGS__), TP_CRC_16((i) + 16, __VA_ARGS__),                               \
		TP_CRC_16((i) + 32, __VA_ARGS__), TP_CRC_16((i) + 48, __VA_ARGS__)
#define TP_CRC_256(...)                                                                            \
	{                                                                                          \
		TP_CRC_64(0, __VA_ARGS__), TP_CRC_64(64, __VA_ARGS__),                             \
			TP_CRC_64(128, __VA_ARGS__), TP_CRC_64(192, __VA_ARGS__)                   \
	}

/* tp_crc_table[n]: a byte with n bytes of zeros behind it. */
static const uint32_t tp_crc_table[TP_CRC_STEP][256] = {
	TP_CRC_256(0x77073096, 0xee0e612c, 0x076dc419, 0x0edb8832, 0x1db71064, 0x3b6e20c8,
		0x76dc4190, 0xedb88320),
	TP_CRC_256(0x191b3141, 0x32366282, 0x646cc504, 0xc8d98a08, 0x4ac21251, 0x958424a2,
		0xf0794f05, 0x3b83984b),
	TP_CRC_256(0x01c26a37, 0x0384d46e, 0x0709a8dc, 0x0e1351b8, 0x1c26a370, 0x384d46e0,
		0x709a8dc0, 0xe1351b80),
	TP_CRC_256(0xb8bc6765, 0xaa09c88b, 0x8f629757, 0xc5b428ef, 0x5019579f, 0xa032af3e,
		0x9b14583d, 0xed59b63b),
	TP_CRC_256(0x3d6029b0, 0x7ac05360, 0xf580a6c0, 0x30704bc1, 0x60e09782, 0xc1c12f04,
		0x58f35849, 0xb1e6b092),
	TP_CRC_256(0xcb5cd3a5, 0x4dc8a10b, 0x9b914216, 0xec53826d, 0x03d6029b, 0x07ac0536,
		0x0f580a6c, 0x1eb014d8),
	TP_CRC_256(0xa6770bb4, 0x979f1129, 0xf44f2413, 0x33ef4e67, 0x67de9cce, 0xcfbd399c,
		0x440b7579, 0x8816eaf2),
	TP_CRC_256(0xccaa009e, 0x4225077d, 0x844a0efa, 0xd3e51bb5, 0x7cbb312b, 0xf9766256,
		0x299dc2ed, 0x533b85da),
};

/* A word with `behind` bytes of zeros behind it. */
static TP_INLINE uint32_t tp_crc_word(uint32_t word, unsigned behind)
{
	return tp_crc_table[behind + 3][word & 0xff] ^ tp_crc_table[behind + 2][word >> 8 & 0xff] ^
	       tp_crc_table[behind + 1][word >> 16 & 0xff] ^ tp_crc_table[behind][word >> 24];
}

/*
 * Of `len` bytes, a multiple of 4. False: not fewer than TP_CRC_MAX, or past the end. A step waits
 * for the step before it with its first word only, so longer steps are faster ones.
 */
static TP_INLINE bool tp_crc32(
	const struct tp_packet *pkt, const uint8_t *from, uint32_t len, uint32_t *out)
{
	uint32_t crc = ~UINT32_C(0);
	uint32_t at = 0;

	if (len >= TP_CRC_MAX)
		return false;
	for (; at < TP_CRC_MAX && at + TP_CRC_STEP <= len; at += TP_CRC_STEP) {
		TP_KEEP(from);
		if (from + TP_CRC_STEP > pkt->end)
			return false;
		crc = tp_crc_word(crc ^ tp_get32(from), 4) ^ tp_crc_word(tp_get32(from + 4), 0);
		from += TP_CRC_STEP;
	}
	if (at < len) {
		if (from + 4 > pkt->end)
			return false;
		crc = tp_crc_word(crc ^ tp_get32(from), 0);
	}
	*out = ~crc;
	return true;
}
