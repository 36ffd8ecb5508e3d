/* SipHash-2-4 (Aumasson, Bernstein 2012): for every table whose keys strangers choose (threat R11).
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct tp_hash_key {
	uint64_t k[2];
};

uint64_t tp_siphash(const struct tp_hash_key *key, const void *data, size_t len);
