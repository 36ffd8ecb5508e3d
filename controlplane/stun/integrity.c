/*
 * MESSAGE-INTEGRITY, MESSAGE-INTEGRITY-SHA256 and FINGERPRINT. A thread that makes MACs owns an
 * HMAC context of each kind until it ends. A context remembers its key: a request and its answer
 * have the same one, nonces always have.
 */
#include "integrity.h"
#include "wire.h"

#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define FINGERPRINT_XOR UINT32_C(0x5354554E)

/* Longer keys, which only shared secrets can be, are set up anew each time. */
#define KEPT_KEY_MAX 64

struct hmac {
	EVP_MAC_CTX *ctx;
	size_t key_len; /* 0: none is kept */
	uint8_t key[KEPT_KEY_MAX];
};

struct hmacs {
	struct hmac sha1, sha256;
};

static pthread_key_t of_thread;
static bool has_threads;
static EVP_MAC *algorithm;
static pthread_once_t prepared = PTHREAD_ONCE_INIT;

static void free_hmacs(void *arg)
{
	struct hmacs *h = arg;

	EVP_MAC_CTX_free(h->sha1.ctx);
	EVP_MAC_CTX_free(h->sha256.ctx);
	OPENSSL_cleanse(h, sizeof(*h));
	free(h);
}

static void prepare(void)
{
	algorithm = EVP_MAC_fetch(NULL, "HMAC", NULL);
	has_threads = pthread_key_create(&of_thread, free_hmacs) == 0;
}

/* Looking up a digest by name takes a lock and longer than the HMAC itself: once a thread. */
static EVP_MAC_CTX *new_context(const char *digest)
{
	char name[8];
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, name, 0),
		OSSL_PARAM_construct_end(),
	};
	EVP_MAC_CTX *ctx = EVP_MAC_CTX_new(algorithm);

	strncpy(name, digest, sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	params[0].data_size = strlen(name);
	if (ctx && EVP_MAC_CTX_set_params(ctx, params))
		return ctx;
	EVP_MAC_CTX_free(ctx);
	return NULL;
}

static struct hmacs *new_hmacs(void)
{
	struct hmacs *h = calloc(1, sizeof(*h));

	if (!h)
		return NULL;
	h->sha1.ctx = new_context("SHA1");
	h->sha256.ctx = new_context("SHA256");
	if (h->sha1.ctx && h->sha256.ctx && pthread_setspecific(of_thread, h) == 0)
		return h;
	free_hmacs(h);
	return NULL;
}

static struct hmac *hmac_of_thread(enum stun_integrity kind)
{
	struct hmacs *h;

	pthread_once(&prepared, prepare);
	if (!algorithm || !has_threads)
		return NULL;
	h = pthread_getspecific(of_thread);
	if (!h)
		h = new_hmacs();
	if (!h)
		return NULL;
	return kind == STUN_SHA256 ? &h->sha256 : &h->sha1;
}

static bool set_key(struct hmac *h, const uint8_t *key, size_t key_len)
{
	static const unsigned char empty[1];

	if (key_len && key_len == h->key_len && CRYPTO_memcmp(key, h->key, key_len) == 0)
		return EVP_MAC_init(h->ctx, NULL, 0, NULL); /* "the key you have" */
	h->key_len = 0;
	if (!EVP_MAC_init(h->ctx, key_len ? key : empty, key_len, NULL))
		return false;
	if (key_len <= sizeof(h->key)) {
		if (key_len)
			memcpy(h->key, key, key_len);
		h->key_len = key_len;
	}
	return true;
}

static bool mac_parts(
	struct hmac *h, const struct stun_bytes *parts, size_t count, uint8_t *out, size_t want)
{
	size_t written = 0;

	for (size_t i = 0; i < count; i++)
		if (!EVP_MAC_update(h->ctx, parts[i].data, parts[i].len))
			return false;
	return EVP_MAC_final(h->ctx, out, &written, STUN_HMAC_MAX) && written == want;
}

int stun_hmac(enum stun_integrity kind, const void *key, size_t key_len,
	const struct stun_bytes *parts, size_t count, uint8_t out[STUN_HMAC_MAX])
{
	struct hmac *h = hmac_of_thread(kind);

	memset(out, 0, STUN_HMAC_MAX);
	if (!h)
		return -ENOMEM;
	if (set_key(h, key, key_len) && mac_parts(h, parts, count, out, stun_hmac_len(kind)))
		return 0;
	h->key_len = 0; /* whatever state it is in */
	memset(out, 0, STUN_HMAC_MAX);
	return -ENOMEM;
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
