/* SipHash-2-4 and SipHash-1-3, from the paper's description. No state. */
#include "hash.h"

#include <string.h>

static inline uint64_t rotl(uint64_t x, int n)
{
	return (x << n) | (x >> (64 - n));
}

static inline void sip_round(uint64_t v[4])
{
	v[0] += v[1];
	v[1] = rotl(v[1], 13) ^ v[0];
	v[0] = rotl(v[0], 32);
	v[2] += v[3];
	v[3] = rotl(v[3], 16) ^ v[2];
	v[0] += v[3];
	v[3] = rotl(v[3], 21) ^ v[0];
	v[2] += v[1];
	v[1] = rotl(v[1], 17) ^ v[2];
	v[2] = rotl(v[2], 32);
}

static inline void sip_rounds(uint64_t v[4], int rounds)
{
	for (int i = 0; i < rounds; i++)
		sip_round(v);
}

static inline void absorb(uint64_t v[4], uint64_t word, int rounds)
{
	v[3] ^= word;
	sip_rounds(v, rounds);
	v[0] ^= word;
}

static inline void begin(uint64_t v[4], const struct tp_hash_key *key)
{
	v[0] = key->k[0] ^ UINT64_C(0x736f6d6570736575);
	v[1] = key->k[1] ^ UINT64_C(0x646f72616e646f6d);
	v[2] = key->k[0] ^ UINT64_C(0x6c7967656e657261);
	v[3] = key->k[1] ^ UINT64_C(0x7465646279746573);
}

static inline void absorb_all(uint64_t v[4], const void *data, size_t len, int rounds)
{
	const uint8_t *p = data;
	uint64_t last = (uint64_t)len << 56;
	size_t whole = len & ~(size_t)7;
	uint64_t word;

	for (size_t i = 0; i < whole; i += 8) {
		memcpy(&word, p + i, 8);
		absorb(v, word, rounds);
	}
	for (size_t i = whole; i < len; i++)
		last |= (uint64_t)p[i] << (8 * (i - whole));
	absorb(v, last, rounds);
}

static inline uint64_t finish(uint64_t v[4], int rounds)
{
	sip_rounds(v, rounds);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

uint64_t tp_siphash(const struct tp_hash_key *key, const void *data, size_t len)
{
	uint64_t v[4];

	begin(v, key);
	absorb_all(v, data, len, 2);
	v[2] ^= 0xff;
	return finish(v, 4);
}

uint64_t tp_siphash13(const struct tp_hash_key *key, const void *data, size_t len)
{
	uint64_t v[4];

	begin(v, key);
	absorb_all(v, data, len, 1);
	v[2] ^= 0xff;
	return finish(v, 3);
}

void tp_siphash128(
	const struct tp_hash_key *key, const void *data, size_t len, uint8_t out[TP_SIPHASH128_LEN])
{
	uint64_t v[4], words[2];

	begin(v, key);
	v[1] ^= 0xee;
	absorb_all(v, data, len, 2);
	v[2] ^= 0xee;
	words[0] = finish(v, 4);
	v[1] ^= 0xdd;
	words[1] = finish(v, 4);
	memcpy(out, words, TP_SIPHASH128_LEN);
}
