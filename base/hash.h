/*
 * SipHash-2-4 (Aumasson, Bernstein 2012): for every table whose keys strangers choose (threat R11),
 * and where few bytes are to be told from forged ones.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct tp_hash_key {
	uint64_t k[2];
};

uint64_t tp_siphash(const struct tp_hash_key *key, const void *data, size_t len);

/* The variant with twice the output, as the bytes that the reference implementation writes. */
#define TP_SIPHASH128_LEN 16
void tp_siphash128(const struct tp_hash_key *key, const void *data, size_t len,
	uint8_t out[TP_SIPHASH128_LEN]);
