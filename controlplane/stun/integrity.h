/*
 * HMAC as STUN uses it, for the other modules that need one over scattered bytes (nonces,
 * time-limited passwords). Any thread; no I/O.
 */
#pragma once

#include "stun.h"

#define STUN_HMAC_MAX 32

struct stun_bytes {
	const void *data;
	size_t len;
};

/* Bytes of a MAC of that kind: 20 or 32. */
static inline size_t stun_hmac_len(enum stun_integrity kind)
{
	return kind == STUN_SHA256 ? 32 : 20;
}

/* HMAC-SHA1 or HMAC-SHA256 over the parts in their order; writes stun_hmac_len(kind) bytes. */
void stun_hmac(enum stun_integrity kind, const void *key, size_t key_len,
	const struct stun_bytes *parts, size_t count, uint8_t out[STUN_HMAC_MAX]);
