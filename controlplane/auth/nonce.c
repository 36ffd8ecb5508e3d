/*
 * Stateless nonces. Owns one key for the life of the process; any thread; does not block. The MAC
 * is SipHash: a grant makes one nonce and checks two, and this is what that function is for, like
 * the kernel's cookies of TCP Fast Open.
 */
#include "nonce.h"

#include "auth.h"

#include "base/clock.h"
#include "base/hash.h"
#include "base/random.h"

#include <errno.h>
#include <limits.h>
#include <openssl/crypto.h>
#include <pthread.h>
#include <string.h>
#include <sys/random.h>

#define COOKIE_MAGIC     "obMatJos2"
#define COOKIE_MAGIC_LEN 9
#define COOKIE_LEN       13
/* Bit 0, password algorithms, is the lowest of the 24 (erratum 6290). */
#define COOKIE COOKIE_MAGIC "AAAB"

#define TIME_LEN   4
#define RANDOM_LEN 6
#define MAC_LEN    10
#define OPEN_LEN   (TIME_LEN + RANDOM_LEN)
#define BODY_LEN   (OPEN_LEN + MAC_LEN)
#define TEXT_LEN   (AUTH_NONCE_LEN - COOKIE_LEN) /* of the body */

_Static_assert((BODY_LEN * 8 + 5) / 6 == TEXT_LEN, "base64 without padding");
_Static_assert(sizeof(struct tp_addr) == 20, "no padding in what the MAC covers");
_Static_assert(MAC_LEN <= TP_SIPHASH128_LEN, "cut off");

static const char alphabet[65] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

#define NO_DIGIT 64
static uint8_t digits[UCHAR_MAX + 1]; /* the place of each character in it */

static struct tp_hash_key process_key;
static bool have_key;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void prepare(void)
{
	memset(digits, NO_DIGIT, sizeof(digits));
	for (uint8_t i = 0; i < NO_DIGIT; i++)
		digits[(uint8_t)alphabet[i]] = i;
	have_key = getrandom(&process_key, sizeof(process_key), 0) == sizeof(process_key);
}

int auth_nonce_init(void)
{
	pthread_once(&once, prepare);
	return have_key ? 0 : -EIO;
}

/* Unpadded. */
static void encode(const uint8_t in[BODY_LEN], char out[TEXT_LEN])
{
	uint32_t bits = 0;
	int held = 0;

	for (size_t i = 0; i < BODY_LEN; i++) {
		bits = bits << 8 | in[i];
		for (held += 8; held >= 6; held -= 6)
			*out++ = alphabet[bits >> (held - 6) & 63];
	}
	*out = alphabet[bits << (6 - held) & 63];
}

/* Only what encode() would have written: one text for one body. */
static bool decode(const uint8_t in[TEXT_LEN], uint8_t out[BODY_LEN])
{
	uint32_t bits = 0, wrong = 0;
	int held = 0;

	for (size_t i = 0; i < TEXT_LEN; i++) {
		uint8_t digit = digits[in[i]];

		wrong |= digit & NO_DIGIT;
		bits = bits << 6 | (digit & 63u);
		held += 6;
		if (held < 8)
			continue;
		held -= 8;
		*out++ = (uint8_t)(bits >> held);
	}
	return !wrong && !(bits & ((1u << held) - 1));
}

/* What the MAC covers, as bytes in a row. Only the realm's length varies. */
struct covered {
	uint8_t cookie[COOKIE_LEN];
	uint8_t open[OPEN_LEN];
	uint8_t client[sizeof(struct tp_addr)];
	uint8_t realm[AUTH_REALM_MAX];
};

/* Behind what is open of the body. */
static void put_mac(uint8_t body[BODY_LEN], const char *realm, const struct tp_addr *client)
{
	size_t realm_len = strnlen(realm, AUTH_REALM_MAX);
	uint8_t mac[TP_SIPHASH128_LEN];
	struct covered covered;

	memcpy(covered.cookie, COOKIE, COOKIE_LEN);
	memcpy(covered.open, body, OPEN_LEN);
	memcpy(covered.client, client, sizeof(*client));
	memcpy(covered.realm, realm, realm_len);
	tp_siphash128(&process_key, &covered, offsetof(struct covered, realm) + realm_len, mac);
	memcpy(body + OPEN_LEN, mac, MAC_LEN);
}

bool auth_nonce_make(
	const char *realm, const struct tp_addr *client, uint64_t now_ns, char out[AUTH_NONCE_LEN])
{
	uint32_t now_s = (uint32_t)(now_ns / TP_NS_PER_S);
	uint8_t body[BODY_LEN];

	memcpy(body, &now_s, TIME_LEN);
	if (!tp_random(body + TIME_LEN, RANDOM_LEN))
		return false;
	put_mac(body, realm, client);
	memcpy(out, COOKIE, COOKIE_LEN);
	encode(body, out + COOKIE_LEN);
	return true;
}

bool auth_nonce_valid(struct stun_attribute nonce, const char *realm, const struct tp_addr *client,
	uint64_t now_ns, uint64_t lifetime_ns)
{
	uint8_t got[BODY_LEN], want[BODY_LEN];
	uint32_t issued_s, age_s;

	if (nonce.len != AUTH_NONCE_LEN || memcmp(nonce.value, COOKIE, COOKIE_LEN) != 0 ||
		!decode(nonce.value + COOKIE_LEN, got))
		return false;
	memcpy(want, got, OPEN_LEN);
	put_mac(want, realm, client);
	if (CRYPTO_memcmp(want, got, BODY_LEN) != 0)
		return false;
	memcpy(&issued_s, got, TIME_LEN);
	age_s = (uint32_t)(now_ns / TP_NS_PER_S) - issued_s;
	return age_s <= lifetime_ns / TP_NS_PER_S;
}

bool auth_nonce_has_algorithms(struct stun_attribute nonce)
{
	const char *last;

	if (nonce.len < COOKIE_LEN || memcmp(nonce.value, COOKIE_MAGIC, COOKIE_MAGIC_LEN) != 0)
		return false;
	last = nonce.value[COOKIE_LEN - 1] ? strchr(alphabet, nonce.value[COOKIE_LEN - 1]) : NULL;
	return last && (last - alphabet) % 2 == 1;
}
