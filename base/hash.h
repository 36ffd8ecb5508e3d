/*
 * SipHash (Aumasson, Bernstein 2012). SipHash-2-4 where few bytes are to be told from forged ones,
 * or the hash is kept; SipHash-1-3, which takes two thirds of its time, for every table whose keys
 * strangers choose (threat R11): they never see a hash, as in the tables of CPython and Rust.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct tp_hash_key {
	uint64_t k[2];
};

uint64_t tp_siphash(const struct tp_hash_key *key, const void *data, size_t len);
uint64_t tp_siphash13(const struct tp_hash_key *key, const void *data, size_t len);

/* The variant with twice the output, as the bytes that the reference implementation writes. */
#define TP_SIPHASH128_LEN 16
void tp_siphash128(const struct tp_hash_key *key, const void *data, size_t len,
	uint8_t out[TP_SIPHASH128_LEN]);
