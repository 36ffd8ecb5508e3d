/*
 * auth/: requests of which the input chooses every part, signed with keys that fit or do not.
 * Whoever is let in has signed with a key of the name, holds a nonce of ours, and says so.
 */
#include "fuzz.h"

#include "base/clock.h"
#include "controlplane/auth/auth.h"
#include "controlplane/auth/credentials.h"
#include "controlplane/auth/nonce.h"

#include <openssl/evp.h>

#define REALM    "example.org"
#define LIFETIME (600 * TP_NS_PER_S)
#define UNIX_S   UINT64_C(1700000000)

static const struct auth_user users[] = {{"alice", "secret-a"}, {"bob", "secret-b"}};
static const char *const secrets[] = {"north-secret", "south-secret"};
static const uint8_t algorithms[8] = {0, AUTH_SHA256, 0, 0, 0, AUTH_MD5, 0, 0};

static struct auth *auth;
static struct auth_digests digests;
static struct tp_addr client;

static void begin(void)
{
	const struct auth_settings settings = {.realm = REALM,
		.users = users,
		.users_count = COUNT(users),
		.secrets = secrets,
		.secrets_count = COUNT(secrets),
		.nonce_lifetime_ns = LIFETIME};

	if (auth)
		return;
	MUST(auth_new(&settings, &auth) == 0);
	digests.md5 = EVP_MD_fetch(NULL, "MD5", NULL);
	digests.sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
	MUST(tp_addr_parse("198.51.100.7:4000", &client) == 0);
}

struct request {
	struct stun_writer w;
	uint8_t bytes[4096];
	char name[1024];
	size_t name_len;
	bool name_known, name_honest; /* a password goes with it; and nothing is odd about it */
	bool realm_right, realm_odd;  /* odd: the input's, which may be right as well */
	bool nonce_right;
	bool algorithms_right; /* or left out */
	enum auth_algorithm algorithm;
	char password[64];
	bool signed_right;
};

static void put_raw(struct feed *feed, struct stun_writer *w, uint16_t type)
{
	struct feed value = feed_take(feed, feed_u8(feed));

	stun_put(w, type, value.bytes, value.len);
}

static void name_by_table(struct request *r, uint8_t which)
{
	const struct auth_user *user = &users[which % COUNT(users)];

	r->name_len = (size_t)snprintf(r->name, sizeof(r->name), "%s", user->name);
	snprintf(r->password, sizeof(r->password), "%s", user->password);
	r->name_known = r->name_honest = true;
}

/* A time-limited name: an expiry, and an id of any bytes. */
static void name_by_time(struct request *r, struct feed *feed)
{
	static const long ends[] = {0, 1, 3600, -1, -3600, 1L << 40};
	uint8_t which = feed_u8(feed);
	struct feed id = feed_take(feed, which >> 4);
	struct auth_name name = {(const uint8_t *)r->name, 0};
	const char *secret = secrets[which >> 3 & 1];

	r->name_len = (size_t)snprintf(
		r->name, sizeof(r->name), "%ld:", (long)UNIX_S + ends[which % COUNT(ends)]);
	memcpy(r->name + r->name_len, id.bytes, id.len);
	r->name_len += id.len;
	name.len = r->name_len;
	r->name_known = true;
	/* NULs at its end are no part of a name, so the password is another's. */
	r->name_honest = ends[which % COUNT(ends)] >= 0 && (!id.len || id.bytes[id.len - 1]);
	auth_rest_password(secret, name, r->password);
}

static void put_name(struct request *r, struct feed *feed)
{
	uint8_t which = feed_u8(feed);
	struct feed raw;

	switch (which % 8) {
	case 0:
	case 1:
	case 2:
		name_by_table(r, which >> 4);
		break;
	case 3:
	case 4:
		name_by_time(r, feed);
		break;
	case 5:
		put_raw(feed, &r->w, STUN_ATTR_USERHASH);
		return;
	case 6:
		return;
	case 7:
		raw = feed_take(feed, feed_u16(feed) % sizeof(r->name));
		memcpy(r->name, raw.bytes, raw.len);
		r->name_len = raw.len;
		break;
	}
	stun_put(&r->w, STUN_ATTR_USERNAME, r->name, r->name_len);
}

static void put_realm(struct request *r, struct feed *feed)
{
	uint8_t which = feed_u8(feed) % 8;

	r->realm_right = which < 6;
	r->realm_odd = which == 6;
	if (which < 5)
		stun_put(&r->w, STUN_ATTR_REALM, REALM, strlen(REALM));
	else if (which == 5)
		stun_put(&r->w, STUN_ATTR_REALM, "\"" REALM "\"", strlen(REALM) + 2);
	else if (which == 6)
		put_raw(feed, &r->w, STUN_ATTR_REALM);
}

static void put_nonce(struct request *r, struct feed *feed, uint64_t now_ns)
{
	uint8_t which = feed_u8(feed) % 16;
	struct tp_addr other = tp_addr_with_port(&client, 1);
	char nonce[AUTH_NONCE_LEN];
	uint8_t at;

	other.ip[15] ^= which == 13;
	r->nonce_right = which < 11;
	if (which == 15)
		return;
	if (which == 14) {
		put_raw(feed, &r->w, STUN_ATTR_NONCE);
		return;
	}
	MUST(auth_nonce_make(REALM, which == 13 ? &other : &client,
		which == 12 ? now_ns - LIFETIME - 2 * TP_NS_PER_S : now_ns, nonce));
	at = feed_u8(feed);
	if (which == 11)
		nonce[at % sizeof(nonce)] ^= 1;
	stun_put(&r->w, STUN_ATTR_NONCE, nonce, sizeof(nonce));
}

static void put_algorithms(struct request *r, struct feed *feed)
{
	uint8_t which = feed_u8(feed) % 8;

	r->algorithm = AUTH_MD5;
	r->algorithms_right = which < 5;
	if (which < 2)
		return;
	if (which == 7)
		put_raw(feed, &r->w, STUN_ATTR_PASSWORD_ALGORITHMS);
	else if (which != 6)
		stun_put(&r->w, STUN_ATTR_PASSWORD_ALGORITHMS, algorithms, sizeof(algorithms));
	if (which == 5)
		put_raw(feed, &r->w, STUN_ATTR_PASSWORD_ALGORITHM);
	else
		stun_put(&r->w, STUN_ATTR_PASSWORD_ALGORITHM, algorithms + (which == 4 ? 4 : 0), 4);
	if (which == 2 || which == 3)
		r->algorithm = AUTH_SHA256;
}

static void sign(struct request *r, struct feed *feed)
{
	uint8_t which = feed_u8(feed) % 16;
	struct auth_name name = {(const uint8_t *)r->name, r->name_len};
	struct auth_key key = {.len = 16};
	struct feed raw;

	if (which == 15)
		return;
	if (r->name_known && which < 12) {
		MUST(auth_derive_key(&digests, r->algorithm, name, REALM, r->password, &key) == 0);
		r->signed_right = true;
	} else {
		raw = feed_take(feed, key.len);
		memcpy(key.bytes, raw.bytes, raw.len);
	}
	if (which % 3 != 1)
		stun_put_integrity(&r->w, STUN_SHA1, key.bytes, key.len);
	if (which % 3 != 0)
		stun_put_integrity(&r->w, STUN_SHA256, key.bytes, key.len);
	if (which & 4)
		stun_put_fingerprint(&r->w);
}

static bool is_empty(const struct auth_identity *id)
{
	static const struct auth_identity none;

	return memcmp(id, &none, sizeof(none)) == 0;
}

static void check_admitted(const struct stun_message *m, const struct auth_identity *id)
{
	size_t len = 0;

	MUST(id->username_len > 0 && id->username_len <= AUTH_USERNAME_MAX);
	MUST(id->key_len == 16 || id->key_len == 32);
	MUST(id->answer == STUN_SHA1 || id->answer == STUN_SHA256);
	MUST(stun_check_integrity(m, id->key, id->key_len));
	auth_quota_name(id, &len);
	MUST(len <= id->username_len);
}

static void check(const struct request *r, const struct auth_now *now, size_t len)
{
	struct auth_now later = {now->mono_ns, UNIX_S + (UINT64_C(1) << 50)};
	struct auth_identity id, again;
	struct stun_message m;
	enum stun_code code;

	if (stun_parse(r->bytes, len, &m) < 0)
		return;
	code = auth_check(auth, now, &client, &m, NULL, &id);
	MUST(code == STUN_OK || code == STUN_BAD_REQUEST || code == STUN_UNAUTHENTICATED ||
		code == STUN_STALE_NONCE);
	if (r->name_honest && r->realm_right && r->nonce_right && r->algorithms_right &&
		r->signed_right)
		MUST(code == STUN_OK);
	if (code != STUN_OK && code != STUN_STALE_NONCE) {
		MUST(is_empty(&id));
		return;
	}
	MUST(r->signed_right && (r->realm_right || r->realm_odd) && r->name_known);
	MUST(code == STUN_STALE_NONCE || r->nonce_right);
	check_admitted(&m, &id);
	/* Whoever holds an allocation goes on with its key, whenever the name ends (REST-7). */
	MUST(auth_check(auth, &later, &client, &m, &id, &again) == code);
	MUST(memcmp(&id, &again, sizeof(id)) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct request r;
	struct feed feed = {data, size};
	struct auth_now now = {100000 * TP_NS_PER_S, UNIX_S};
	uint8_t order;

	begin();
	memset(&r, 0, sizeof(r));
	stun_begin(&r.w, r.bytes, sizeof(r.bytes), STUN_REQUEST, STUN_METHOD_ALLOCATE,
		(const uint8_t *)"abcdefghijkl");
	order = feed_u8(&feed);
	put_name(&r, &feed);
	put_realm(&r, &feed);
	put_nonce(&r, &feed, now.mono_ns);
	put_algorithms(&r, &feed);
	/* Others that follow do not count: the first wins (RFC 8489, 14). */
	for (; order % 4 > 0 && r.name_known; order--)
		put_raw(&feed, &r.w, order & 4 ? STUN_ATTR_SOFTWARE : STUN_ATTR_USERNAME);
	sign(&r, &feed);
	check(&r, &now, stun_finish(&r.w));
	return 0;
}
