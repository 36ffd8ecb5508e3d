/*
 * SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
 *
 * Integers as they lie on the wire. Byte order is a type: comparing a tp_be16 with a number does
 * not compile. The types are aligned to 2, as headers behind a 14-byte Ethernet header are.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TP_INLINE inline __attribute__((always_inline))

/* Rare paths stay out of the common one's registers and cache lines. */
#define TP_OUT_OF_LINE __attribute__((noinline, unused))

/* The same of what BPF, whose stack is small, had better not call. */
#ifdef __bpf__
#define TP_COLD TP_INLINE
#else
#define TP_COLD TP_OUT_OF_LINE
#endif

#define TP_LIKELY(x)   __builtin_expect(!!(x), 1)
#define TP_UNLIKELY(x) __builtin_expect(!!(x), 0)

typedef struct {
	uint16_t be;
} tp_be16;

typedef struct {
	uint32_t be;
} __attribute__((packed, aligned(2))) tp_be32;

static TP_INLINE tp_be16 tp_to_be16(uint16_t host)
{
	return (tp_be16){__builtin_bswap16(host)};
}

static TP_INLINE uint16_t tp_from_be16(tp_be16 wire)
{
	return __builtin_bswap16(wire.be);
}

static TP_INLINE tp_be32 tp_to_be32(uint32_t host)
{
	return (tp_be32){__builtin_bswap32(host)};
}

static TP_INLINE uint32_t tp_from_be32(tp_be32 wire)
{
	return __builtin_bswap32(wire.be);
}

static TP_INLINE bool tp_be16_equal(tp_be16 a, tp_be16 b)
{
	return a.be == b.be;
}

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "big-endian hosts: swap nothing here");
_Static_assert(sizeof(tp_be16) == 2, "wire layout");
_Static_assert(sizeof(tp_be32) == 4, "wire layout");
_Static_assert(_Alignof(tp_be16) == 2 && _Alignof(tp_be32) == 2, "wire layout");
