/*
 * MESSAGE-INTEGRITY, MESSAGE-INTEGRITY-SHA256 and FINGERPRINT. Owns two prepared HMAC contexts for
 * the life of the process, which every thread copies and none changes.
 */
#include "integrity.h"
#include "wire.h"

#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <string.h>
#include <zlib.h>

#define FINGERPRINT_XOR UINT32_C(0x5354554E)

/* Looking up a digest by name takes a lock and longer than the HMAC itself: done once. */
static EVP_MAC_CTX *prepared_sha1, *prepared_sha256;
static pthread_once_t prepared = PTHREAD_ONCE_INIT;

static EVP_MAC_CTX *prepare(EVP_MAC *hmac, const char *digest)
{
	char name[8];
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, name, 0),
		OSSL_PARAM_construct_end(),
	};
	EVP_MAC_CTX *ctx = EVP_MAC_CTX_new(hmac);

	strncpy(name, digest, sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	params[0].data_size = strlen(name);
	/* Only a context that had a key can be copied. */
	if (ctx && EVP_MAC_init(ctx, (const unsigned char *)"", 1, params))
		return ctx;
	EVP_MAC_CTX_free(ctx);
	return NULL;
}

static void prepare_all(void)
{
	EVP_MAC *hmac = EVP_MAC_fetch(NULL, "HMAC", NULL);

	if (!hmac)
		return;
	prepared_sha1 = prepare(hmac, "SHA1");
	prepared_sha256 = prepare(hmac, "SHA256");
	EVP_MAC_free(hmac);
}

static bool mac_parts(EVP_MAC_CTX *ctx, const void *key, size_t key_len,
	const struct stun_bytes *parts, size_t count, uint8_t *out, size_t want)
{
	static const unsigned char empty[1];
	size_t written = 0;

	/* A NULL key would mean "the key you have": the one of prepare(). */
	if (!EVP_MAC_init(ctx, key_len ? key : empty, key_len, NULL))
		return false;
	for (size_t i = 0; i < count; i++)
		if (!EVP_MAC_update(ctx, parts[i].data, parts[i].len))
			return false;
	return EVP_MAC_final(ctx, out, &written, STUN_HMAC_MAX) && written == want;
}

int stun_hmac(enum stun_integrity kind, const void *key, size_t key_len,
	const struct stun_bytes *parts, size_t count, uint8_t out[STUN_HMAC_MAX])
{
	EVP_MAC_CTX *from, *ctx;
	bool done;

	memset(out, 0, STUN_HMAC_MAX);
	pthread_once(&prepared, prepare_all);
	from = kind == STUN_SHA256 ? prepared_sha256 : prepared_sha1;
	ctx = from ? EVP_MAC_CTX_dup(from) : NULL;
	if (!ctx)
		return -ENOMEM;
	done = mac_parts(ctx, key, key_len, parts, count, out, stun_hmac_len(kind));
	EVP_MAC_CTX_free(ctx);
	if (!done)
		memset(out, 0, STUN_HMAC_MAX);
	return done ? 0 : -ENOMEM;
}

/* The MAC of what lies before offset `at`, with the header length that ends behind the MAC. */
static int message_mac(const uint8_t *bytes, size_t at, enum stun_integrity kind,
	const uint8_t *key, size_t key_len, uint8_t out[STUN_HMAC_MAX])
{
	uint8_t header[STUN_HEADER_LEN];
	struct stun_bytes parts[] = {
		{header, sizeof(header)},
		{bytes + STUN_HEADER_LEN, at - STUN_HEADER_LEN},
	};
	size_t end = at + STUN_ATTRIBUTE_HEADER_LEN + stun_hmac_len(kind);

	memcpy(header, bytes, sizeof(header));
	stun_store16(header + 2, (uint16_t)(end - STUN_HEADER_LEN));
	return stun_hmac(kind, key, key_len, parts, 2, out);
}

bool stun_check_integrity(const struct stun_message *m, const uint8_t *key, size_t key_len)
{
	enum stun_integrity kind = m->integrity256_at ? STUN_SHA256 : STUN_SHA1;
	size_t at = m->integrity256_at ? m->integrity256_at : m->integrity_at;
	size_t want = stun_hmac_len(kind);
	uint8_t mac[STUN_HMAC_MAX];

	/* No truncation: TURN does not allow it (RFC 8489, 14.6). */
	if (at == 0 || stun_load16(m->bytes + at + 2) != want)
		return false;
	if (message_mac(m->bytes, at, kind, key, key_len, mac) < 0)
		return false;
	return CRYPTO_memcmp(mac, m->bytes + at + STUN_ATTRIBUTE_HEADER_LEN, want) == 0;
}

void stun_put_integrity(
	struct stun_writer *w, enum stun_integrity kind, const uint8_t *key, size_t key_len)
{
	uint8_t mac[STUN_HMAC_MAX];

	if (kind == STUN_NO_INTEGRITY || w->overflow)
		return;
	if (message_mac(w->bytes, w->len, kind, key, key_len, mac) < 0) {
		w->overflow = true;
		return;
	}
	stun_put(w,
		kind == STUN_SHA256 ? STUN_ATTR_MESSAGE_INTEGRITY_SHA256
				    : STUN_ATTR_MESSAGE_INTEGRITY,
		mac, stun_hmac_len(kind));
}

uint32_t stun_fingerprint(const uint8_t *bytes, size_t at)
{
	uint8_t header[STUN_HEADER_LEN];
	size_t end = at + STUN_ATTRIBUTE_HEADER_LEN + STUN_FINGERPRINT_LEN;
	uLong crc;

	memcpy(header, bytes, sizeof(header));
	stun_store16(header + 2, (uint16_t)(end - STUN_HEADER_LEN));
	crc = crc32(0, header, sizeof(header));
	crc = crc32(crc, bytes + STUN_HEADER_LEN, (uInt)(at - STUN_HEADER_LEN));
	return (uint32_t)crc ^ FINGERPRINT_XOR;
}

void stun_put_fingerprint(struct stun_writer *w)
{
	if (!w->overflow)
		stun_put_u32(w, STUN_ATTR_FINGERPRINT, stun_fingerprint(w->bytes, w->len));
}
