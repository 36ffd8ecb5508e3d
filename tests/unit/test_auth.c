/* auth/: the checks of RFC 8489, 9.2.4, as rows; nonces; TURN REST; the limit of replies. */
#include "base/clock.h"
#include "controlplane/auth/auth.h"
#include "controlplane/auth/ratelimit.h"

#include <errno.h>
#include <openssl/evp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define COUNT(rows) (sizeof(rows) / sizeof((rows)[0]))
#define ROOM        4096
#define LIFETIME_S  600
#define UNIX_NOW    UINT64_C(1900000000)

#define BOTH   "\0\2\0\0\0\1\0\0"
#define SHA256 "\0\2\0\0"
#define MD5    "\0\1\0\0"
#define ALICE  "2000000000:alice"

struct bytes {
	const char *data;
	size_t len;
};
#define TEXT(literal)                                                                              \
	{                                                                                          \
		(literal), sizeof(literal) - 1                                                     \
	}

/* A request as a client would write it; data NULL: attribute left out. */
struct request {
	struct bytes username, realm, nonce, list, choice, userhash;
	struct {
		enum stun_integrity kind;
		enum stun_integrity digest; /* of the key: STUN_SHA1 means MD5 here */
		const char *password;
	} macs[2];
};

static struct auth *auth;
static const struct auth_now now = {.mono_ns = 5000 * TP_NS_PER_S, .unix_s = UNIX_NOW};

static struct tp_addr address(const char *text)
{
	struct tp_addr a;

	assert_int_equal(tp_addr_parse(text, &a), 0);
	return a;
}

static size_t client_key(const struct request *r, size_t mac, uint8_t out[AUTH_KEY_MAX])
{
	const char *digest = r->macs[mac].digest == STUN_SHA256 ? "SHA256" : "MD5";
	char text[2048];
	size_t len = 0;
	int tail;

	if (r->username.data)
		memcpy(text, r->username.data, r->username.len);
	tail = snprintf(text + r->username.len, sizeof(text) - r->username.len, ":realm:%s",
		r->macs[mac].password);
	assert_true(
		EVP_Q_digest(NULL, digest, NULL, text, r->username.len + (size_t)tail, out, &len));
	return len;
}

static size_t write_request(const struct request *r, uint8_t out[ROOM])
{
	static const uint8_t tid[STUN_TRANSACTION_LEN] = {1};
	const struct {
		uint16_t type;
		struct bytes value;
	} attributes[] = {
		{STUN_ATTR_USERNAME, r->username},
		{STUN_ATTR_USERHASH, r->userhash},
		{STUN_ATTR_REALM, r->realm},
		{STUN_ATTR_NONCE, r->nonce},
		{STUN_ATTR_PASSWORD_ALGORITHMS, r->list},
		{STUN_ATTR_PASSWORD_ALGORITHM, r->choice},
	};
	uint8_t key[AUTH_KEY_MAX];
	struct stun_writer w;

	stun_begin(&w, out, ROOM, STUN_REQUEST, STUN_METHOD_ALLOCATE, tid);
	for (size_t i = 0; i < COUNT(attributes); i++)
		if (attributes[i].value.data)
			stun_put(&w, attributes[i].type, attributes[i].value.data,
				attributes[i].value.len);
	for (size_t i = 0; i < 2; i++)
		if (r->macs[i].kind)
			stun_put_integrity(&w, r->macs[i].kind, key, client_key(r, i, key));
	return stun_finish(&w);
}

static enum stun_code check_at(const struct request *r, const struct auth_now *at,
	const struct tp_addr *client, const struct auth_identity *held, struct auth_identity *out)
{
	static uint8_t bytes[ROOM]; /* the identity's name is in it */
	struct stun_message m;

	assert_int_equal(stun_parse(bytes, write_request(r, bytes), &m), 0);
	return auth_check(auth, at, client, &m, held, out);
}

/* A 401's nonce. */
static struct bytes challenge(
	const struct auth_now *at, const struct tp_addr *client, char out[AUTH_REALM_MAX + 1])
{
	uint8_t bytes[ROOM], tid[STUN_TRANSACTION_LEN] = {0};
	struct stun_attribute nonce;
	struct stun_message m;
	struct stun_writer w;

	stun_begin(&w, bytes, sizeof(bytes), STUN_ERROR, STUN_METHOD_ALLOCATE, tid);
	auth_put_challenge(auth, at, client, &w);
	assert_int_equal(stun_parse(bytes, stun_finish(&w), &m), 0);
	nonce = stun_find(&m, STUN_ATTR_NONCE);
	assert_true(nonce.len < 128);
	memcpy(out, nonce.value, nonce.len);
	return (struct bytes){out, nonce.len};
}

static struct request good_request(struct bytes nonce)
{
	return (struct request){
		.username = TEXT("user"),
		.realm = TEXT("realm"),
		.nonce = nonce,
		.macs = {{STUN_SHA1, STUN_SHA1, "pass"}},
	};
}

static int set_up(void **state)
{
	static const struct auth_user users[] = {
		{"user", "pass"}, {"other", "word"}, {"1000000000:static", "kept"}};
	static const char *const secrets[] = {"north", "south"};
	struct auth_settings settings = {.realm = "realm",
		.users = users,
		.users_count = COUNT(users),
		.secrets = secrets,
		.secrets_count = COUNT(secrets),
		.nonce_lifetime_ns = LIFETIME_S * TP_NS_PER_S};

	return auth_new(&settings, &auth);
}

static int tear_down(void **state)
{
	auth_free(auth);
	auth = NULL;
	return 0;
}

static void test_challenge(void **state)
{
	uint8_t bytes[ROOM], tid[STUN_TRANSACTION_LEN] = {0};
	struct tp_addr client = address("192.0.2.1:1000");
	struct stun_attribute a;
	struct stun_message m;
	struct stun_writer w;

	stun_begin(&w, bytes, sizeof(bytes), STUN_ERROR, STUN_METHOD_ALLOCATE, tid);
	stun_put_error(&w, STUN_UNAUTHENTICATED);
	auth_put_challenge(auth, &now, &client, &w);
	assert_true(stun_finish(&w) > 0);
	assert_true(stun_finish(&w) <= 100); /* with a realm of 8 bytes or less */
	assert_int_equal(stun_parse(bytes, stun_finish(&w), &m), 0);
	a = stun_find(&m, STUN_ATTR_REALM);
	assert_int_equal(a.len, 5);
	assert_memory_equal(a.value, "realm", 5);
	a = stun_find(&m, STUN_ATTR_PASSWORD_ALGORITHMS);
	assert_int_equal(a.len, 8);
	assert_memory_equal(a.value, BOTH, 8);
	a = stun_find(&m, STUN_ATTR_NONCE);
	assert_true(a.len >= 13);
	assert_memory_equal(a.value, "obMatJos2AAAB", 13);
	for (size_t i = 0; i < a.len; i++)
		assert_true(a.value[i] > 0x20 && a.value[i] < 0x7f && a.value[i] != '"' &&
			    a.value[i] != '\\');
}

#define PASS                                                                                       \
	{                                                                                          \
		{                                                                                  \
			STUN_SHA1, STUN_SHA1, "pass"                                               \
		}                                                                                  \
	}
#define SIGNED(kind, digest)                                                                       \
	{                                                                                          \
		{                                                                                  \
			(kind), (digest), "pass"                                                   \
		}                                                                                  \
	}

static const struct row {
	const char *name;
	struct request request; /* nonce: a fresh one where it is the text "fresh" */
	enum stun_code want;
	enum stun_integrity answer;
} rows[] = {
	{"nothing", {.username = {NULL, 0}}, STUN_UNAUTHENTICATED},
	{"no integrity", {TEXT("user"), TEXT("realm"), TEXT("fresh")}, STUN_UNAUTHENTICATED},
	{"no username", {{NULL, 0}, TEXT("realm"), TEXT("fresh"), .macs = PASS}, STUN_BAD_REQUEST},
	{"no realm", {TEXT("user"), {NULL, 0}, TEXT("fresh"), .macs = PASS}, STUN_BAD_REQUEST},
	{"no nonce", {TEXT("user"), TEXT("realm"), {NULL, 0}, .macs = PASS}, STUN_BAD_REQUEST},
	{"right", {TEXT("user"), TEXT("realm"), TEXT("fresh"), .macs = PASS}, STUN_OK, STUN_SHA1},
	{"unknown user", {TEXT("nobody"), TEXT("realm"), TEXT("fresh"), .macs = PASS},
		STUN_UNAUTHENTICATED},
	{"empty user", {TEXT(""), TEXT("realm"), TEXT("fresh"), .macs = PASS},
		STUN_UNAUTHENTICATED},
	{"wrong password",
		{TEXT("user"), TEXT("realm"), TEXT("fresh"),
			.macs = {{STUN_SHA1, STUN_SHA1, "word"}}},
		STUN_UNAUTHENTICATED},
	{"prefix of a user", {TEXT("use"), TEXT("realm"), TEXT("fresh"), .macs = PASS},
		STUN_UNAUTHENTICATED},
	{"NUL inside a name", {TEXT("user\0x"), TEXT("realm"), TEXT("fresh"), .macs = PASS},
		STUN_UNAUTHENTICATED},
	{"invalid UTF-8", {TEXT("us\xff\xfe"), TEXT("realm"), TEXT("fresh"), .macs = PASS},
		STUN_UNAUTHENTICATED},
	{"other realm", {TEXT("user"), TEXT("other"), TEXT("fresh"), .macs = PASS},
		STUN_UNAUTHENTICATED},
	{"prefix of the realm", {TEXT("user"), TEXT("real"), TEXT("fresh"), .macs = PASS},
		STUN_UNAUTHENTICATED},
	{"quoted realm", {TEXT("user"), TEXT("\"realm\""), TEXT("fresh"), .macs = PASS}, STUN_OK,
		STUN_SHA1},
	{"realm with a NUL behind", {TEXT("user"), TEXT("realm\0"), TEXT("fresh"), .macs = PASS},
		STUN_OK, STUN_SHA1},
	/* 9.2.4-16: no algorithm named is MD5, whatever the MAC */
	{"MD5 key under MI256",
		{TEXT("user"), TEXT("realm"), TEXT("fresh"),
			.macs = SIGNED(STUN_SHA256, STUN_SHA1)},
		STUN_OK, STUN_SHA1},
	{"SHA-256 key unasked",
		{TEXT("user"), TEXT("realm"), TEXT("fresh"),
			.macs = SIGNED(STUN_SHA256, STUN_SHA256)},
		STUN_UNAUTHENTICATED},
	/* 9.2.4-17 */
	{"MD5 named, MI",
		{TEXT("user"), TEXT("realm"), TEXT("fresh"), TEXT(BOTH), TEXT(MD5), .macs = PASS},
		STUN_OK, STUN_SHA256},
	/* 9.2.4-21 */
	{"list without choice",
		{TEXT("user"), TEXT("realm"), TEXT("fresh"), TEXT(BOTH), .macs = PASS},
		STUN_BAD_REQUEST},
	{"choice without list",
		{TEXT("user"), TEXT("realm"), TEXT("fresh"), {NULL, 0}, TEXT(MD5), .macs = PASS},
		STUN_BAD_REQUEST},
	/* 9.2.4-22 */
	{"reversed list",
		{TEXT("user"), TEXT("realm"), TEXT("fresh"), TEXT(MD5 SHA256), TEXT(MD5),
			.macs = PASS},
		STUN_BAD_REQUEST},
	{"shortened list",
		{TEXT("user"), TEXT("realm"), TEXT("fresh"), TEXT(MD5), TEXT(MD5), .macs = PASS},
		STUN_BAD_REQUEST},
	{"longer list",
		{TEXT("user"), TEXT("realm"), TEXT("fresh"), TEXT(BOTH "\0\3\0\0"), TEXT(MD5),
			.macs = PASS},
		STUN_BAD_REQUEST},
	{"parameters in the list",
		{TEXT("user"), TEXT("realm"), TEXT("fresh"), TEXT("\0\1\0\1x\0\0\0" SHA256),
			TEXT(MD5), .macs = PASS},
		STUN_BAD_REQUEST},
	{"empty list",
		{TEXT("user"), TEXT("realm"), TEXT("fresh"), TEXT(""), TEXT(MD5), .macs = PASS},
		STUN_BAD_REQUEST},
	/* 9.2.4-23 */
	{"algorithm 3",
		{TEXT("user"), TEXT("realm"), TEXT("fresh"), TEXT(BOTH), TEXT("\0\3\0\0"),
			.macs = PASS},
		STUN_BAD_REQUEST},
	{"algorithm 0",
		{TEXT("user"), TEXT("realm"), TEXT("fresh"), TEXT(BOTH), TEXT("\0\0\0\0"),
			.macs = PASS},
		STUN_BAD_REQUEST},
	{"cut algorithm",
		{TEXT("user"), TEXT("realm"), TEXT("fresh"), TEXT(BOTH), TEXT("\0\1"),
			.macs = PASS},
		STUN_BAD_REQUEST},
	{"wrong list, unknown user",
		{TEXT("nobody"), TEXT("realm"), TEXT("fresh"), TEXT(MD5), TEXT(MD5), .macs = PASS},
		STUN_BAD_REQUEST},
	/* 9.2.4-24, -25 */
	{"SHA-256",
		{TEXT("user"), TEXT("realm"), TEXT("fresh"), TEXT(BOTH), TEXT(SHA256),
			.macs = SIGNED(STUN_SHA256, STUN_SHA256)},
		STUN_OK, STUN_SHA256},
	{"SHA-256 named, MD5 key",
		{TEXT("user"), TEXT("realm"), TEXT("fresh"), TEXT(BOTH), TEXT(SHA256),
			.macs = SIGNED(STUN_SHA256, STUN_SHA1)},
		STUN_UNAUTHENTICATED},
	{"both MACs under the SHA-256 key",
		{TEXT("user"), TEXT("realm"), TEXT("fresh"), TEXT(BOTH), TEXT(SHA256),
			.macs = {{STUN_SHA1, STUN_SHA256, "pass"},
				{STUN_SHA256, STUN_SHA256, "pass"}}},
		STUN_OK, STUN_SHA256},
	{"right MI, wrong MI256",
		{TEXT("user"), TEXT("realm"), TEXT("fresh"),
			.macs = {{STUN_SHA1, STUN_SHA1, "pass"}, {STUN_SHA256, STUN_SHA1, "x"}}},
		STUN_UNAUTHENTICATED},
	/* no name here is known by its hash */
	{"userhash alone",
		{{NULL, 0}, TEXT("realm"), TEXT("fresh"),
			.userhash = TEXT("0123456789abcdef0123456789abcdef"),
			.macs = {{STUN_SHA1, STUN_SHA1, "pass"}}},
		STUN_UNAUTHENTICATED},
	{"userhash of 31 bytes",
		{TEXT("user"), TEXT("realm"), TEXT("fresh"),
			.userhash = TEXT("0123456789abcdef0123456789abcde"), .macs = PASS},
		STUN_BAD_REQUEST},
	/* nonces that were never issued (9.2.4-14), and the order of checks (9.2.4-11) */
	{"empty nonce", {TEXT("user"), TEXT("realm"), TEXT(""), .macs = PASS}, STUN_STALE_NONCE,
		STUN_SHA1},
	{"garbage nonce", {TEXT("user"), TEXT("realm"), TEXT("garbage"), .macs = PASS},
		STUN_STALE_NONCE, STUN_SHA1},
	{"cookie alone", {TEXT("user"), TEXT("realm"), TEXT("obMatJos2AAAB"), .macs = PASS},
		STUN_STALE_NONCE, STUN_SHA1},
	{"NULs for a nonce",
		{TEXT("user"), TEXT("realm"),
			TEXT("obMatJos2AAAB\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
			.macs = PASS},
		STUN_STALE_NONCE, STUN_SHA1},
	{"bytes outside the alphabet",
		{TEXT("user"), TEXT("realm"),
			TEXT("obMatJos2AAAB\xff\xfe\xfd++++//////////////////////"), .macs = PASS},
		STUN_STALE_NONCE, STUN_SHA1},
	{"nonce of 128 characters",
		{TEXT("user"), TEXT("realm"),
			TEXT("obMatJos2AAABxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
			     "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"),
			.macs = PASS},
		STUN_STALE_NONCE, STUN_SHA1},
	{"bad nonce, wrong password",
		{TEXT("user"), TEXT("realm"), TEXT("garbage"),
			.macs = {{STUN_SHA1, STUN_SHA1, "word"}}},
		STUN_UNAUTHENTICATED},
	{"bad nonce, unknown user", {TEXT("nobody"), TEXT("realm"), TEXT("garbage"), .macs = PASS},
		STUN_UNAUTHENTICATED},
	/* of another server: without the bit the named algorithms are not looked at */
	{"cookie without the bit",
		{TEXT("user"), TEXT("realm"), TEXT("obMatJos2AAAAxxxxxxxxxxxxxxxxxxxxxxxxxxx"),
			TEXT(MD5), .macs = PASS},
		STUN_STALE_NONCE, STUN_SHA256},
	{"cookie with both bits",
		{TEXT("user"), TEXT("realm"), TEXT("obMatJos2AAADxxxxxxxxxxxxxxxxxxxxxxxxxxx"),
			TEXT(MD5), .macs = PASS},
		STUN_BAD_REQUEST},
	/* TURN REST; the first two are the vectors of the convention */
	{"time-limited",
		{TEXT(ALICE), TEXT("realm"), TEXT("fresh"),
			.macs = {{STUN_SHA1, STUN_SHA1, "uoDL/AHil9mhKpZV8sTerU3VXBM="}}},
		STUN_OK, STUN_SHA1},
	{"time-limited, SHA-256",
		{TEXT(ALICE), TEXT("realm"), TEXT("fresh"), TEXT(BOTH), TEXT(SHA256),
			.macs = {{STUN_SHA256, STUN_SHA256, "uoDL/AHil9mhKpZV8sTerU3VXBM="}}},
		STUN_OK, STUN_SHA256},
	{"without its padding",
		{TEXT(ALICE), TEXT("realm"), TEXT("fresh"),
			.macs = {{STUN_SHA1, STUN_SHA1, "uoDL/AHil9mhKpZV8sTerU3VXBM"}}},
		STUN_UNAUTHENTICATED},
	{"run out",
		{TEXT("1266890800:mbzrxpgjys"), TEXT("realm"), TEXT("fresh"),
			.macs = {{STUN_SHA1, STUN_SHA1, "nbRcrnq5h6xXhyNhlwk+lDLvVVo="}}},
		STUN_UNAUTHENTICATED},
	{"a user, though it looks run out",
		{TEXT("1000000000:static"), TEXT("realm"), TEXT("fresh"),
			.macs = {{STUN_SHA1, STUN_SHA1, "kept"}}},
		STUN_OK, STUN_SHA1},
};

static void check_row(const struct row *row)
{
	static const struct auth_identity none;
	struct tp_addr client = address("192.0.2.1:1000");
	struct request request = row->request;
	uint8_t key[AUTH_KEY_MAX];
	struct auth_identity id;
	char nonce[AUTH_REALM_MAX + 1];
	enum stun_code code;

	if (request.nonce.data && strcmp(request.nonce.data, "fresh") == 0)
		request.nonce = challenge(&now, &client, nonce);
	memset(&id, 0xee, sizeof(id));
	code = check_at(&request, &now, &client, NULL, &id);
	if (code != row->want)
		fail_msg("%s: %d, not %d", row->name, code, row->want);
	if (code == STUN_BAD_REQUEST || code == STUN_UNAUTHENTICATED) {
		if (memcmp(&id, &none, sizeof(id)) != 0)
			fail_msg("%s: an identity all the same", row->name);
		return;
	}
	if (id.answer != row->answer || id.username_len != request.username.len ||
		memcmp(id.username, request.username.data, id.username_len) != 0 ||
		id.key_len != client_key(&request, request.macs[1].kind ? 1 : 0, key) ||
		memcmp(id.key, key, id.key_len) != 0)
		fail_msg("%s: not that identity", row->name);
}

static void test_rows(void **state)
{
	for (size_t i = 0; i < COUNT(rows); i++)
		check_row(&rows[i]);
}

/* The keys of RFC 8489, 9.2.2 and 18.5.1. */
static void test_key_vectors(void **state)
{
	static const uint8_t md5[] = {0x84, 0x93, 0xfb, 0xc5, 0x3b, 0xa5, 0x82, 0xfb, 0x4c, 0x04,
		0x4c, 0x45, 0x6b, 0xdc, 0x40, 0xeb};
	static const uint8_t sha256[] = {0x07, 0xe9, 0x34, 0x11, 0x7a, 0xbd, 0x40, 0x83, 0x6e, 0x7c,
		0x63, 0x29, 0xb5, 0x47, 0x31, 0xb2, 0xb2, 0xd2, 0xa5, 0xf9, 0xa7, 0x1f, 0x54, 0x49,
		0x22, 0xd7, 0x5e, 0x07, 0x30, 0xd8, 0x25, 0x1b};
	struct tp_addr client = address("192.0.2.1:1000");
	char nonce[AUTH_REALM_MAX + 1];
	struct auth_identity id;
	struct request r = good_request(challenge(&now, &client, nonce));

	assert_int_equal(check_at(&r, &now, &client, NULL, &id), STUN_OK);
	assert_int_equal(id.key_len, sizeof(md5));
	assert_memory_equal(id.key, md5, sizeof(md5));
	r.list = (struct bytes)TEXT(BOTH);
	r.choice = (struct bytes)TEXT(SHA256);
	r.macs[0].kind = r.macs[0].digest = STUN_SHA256;
	assert_int_equal(check_at(&r, &now, &client, NULL, &id), STUN_OK);
	assert_int_equal(id.key_len, sizeof(sha256));
	assert_memory_equal(id.key, sha256, sizeof(sha256));
}

/* Threat N03: from elsewhere, too old, from the future. */
static void test_nonce_is_bound(void **state)
{
	static const struct {
		const char *name, *client;
		int64_t later_ms;
		enum stun_code want;
	} cases[] = {
		{"same", "192.0.2.1:1000", 0, STUN_OK},
		{"at the end of its life", "192.0.2.1:1000", LIFETIME_S * 1000, STUN_OK},
		{"in the overlap", "192.0.2.1:1000", LIFETIME_S * 1000 + 300, STUN_OK},
		{"behind its life", "192.0.2.1:1000", LIFETIME_S * 1000 + 1000, STUN_STALE_NONCE},
		{"long behind", "192.0.2.1:1000", 86400 * 1000, STUN_STALE_NONCE},
		{"before it was issued", "192.0.2.1:1000", -1000, STUN_STALE_NONCE},
		{"other port", "192.0.2.1:1001", 0, STUN_STALE_NONCE},
		{"other address", "192.0.2.2:1000", 0, STUN_STALE_NONCE},
		{"other family", "[::ffff:192.0.2.1]:1000", 0, STUN_STALE_NONCE},
	};
	struct tp_addr client = address("192.0.2.1:1000");
	char nonce[AUTH_REALM_MAX + 1];
	struct request r = good_request(challenge(&now, &client, nonce));

	for (size_t i = 0; i < COUNT(cases); i++) {
		struct tp_addr from = address(cases[i].client);
		struct auth_now at = now;
		struct auth_identity id;

		at.mono_ns += (uint64_t)(cases[i].later_ms * (int64_t)TP_NS_PER_MS);
		if (check_at(&r, &at, &from, NULL, &id) != cases[i].want)
			fail_msg("%s", cases[i].name);
		assert_int_equal(id.username_len, 4); /* a 438 has integrity, too */
	}
}

static void test_nonce_bits(void **state)
{
	struct tp_addr client = address("192.0.2.1:1000");
	char nonce[AUTH_REALM_MAX + 1];
	struct bytes fresh = challenge(&now, &client, nonce);
	struct auth_identity id;
	struct request r = good_request(fresh);

	for (size_t bit = 0; bit < 8 * fresh.len; bit++) {
		nonce[bit / 8] ^= (char)(1 << bit % 8);
		assert_int_equal(check_at(&r, &now, &client, NULL, &id), STUN_STALE_NONCE);
		nonce[bit / 8] ^= (char)(1 << bit % 8);
	}
	assert_int_equal(check_at(&r, &now, &client, NULL, &id), STUN_OK);
	nonce[fresh.len] = 'A';
	for (r.nonce.len = 0; r.nonce.len <= fresh.len + 1; r.nonce.len++)
		assert_int_equal(check_at(&r, &now, &client, NULL, &id),
			r.nonce.len == fresh.len ? STUN_OK : STUN_STALE_NONCE);
}

/* Nonces outlive a reload, but not a change of realm. */
static void test_nonce_and_reload(void **state)
{
	static const struct auth_user users[] = {{"user", "pass"}};
	struct auth_settings settings = {.realm = "realm",
		.users = users,
		.users_count = 1,
		.nonce_lifetime_ns = LIFETIME_S * TP_NS_PER_S};
	struct tp_addr client = address("192.0.2.1:1000");
	char nonce[AUTH_REALM_MAX + 1];
	struct auth *before = auth;
	struct auth_identity id;
	struct request r = good_request(challenge(&now, &client, nonce));

	assert_int_equal(auth_new(&settings, &auth), 0);
	assert_int_equal(check_at(&r, &now, &client, NULL, &id), STUN_OK);
	auth_free(auth);
	settings.realm = "realm2";
	assert_int_equal(auth_new(&settings, &auth), 0);
	r = good_request(challenge(&now, &client, nonce));
	auth_free(auth);
	auth = before;
	assert_int_equal(check_at(&r, &now, &client, NULL, &id), STUN_STALE_NONCE);
}

static int compare_nonces(const void *a, const void *b)
{
	return memcmp(a, b, 40);
}

/* Threat N02: no repeats, and no bit of the secret part leans to one side. */
static void test_nonces_do_not_repeat(void **state)
{
	enum { N = 100000 };
	struct tp_addr client = address("192.0.2.1:1000");
	char(*nonces)[40] = calloc(N, 40);
	size_t counts[64] = {0};
	double chi = 0;

	assert_non_null(nonces);
	for (size_t i = 0; i < N; i++) {
		char nonce[AUTH_REALM_MAX + 1];

		assert_int_equal(challenge(&now, &client, nonce).len, 40);
		memcpy(nonces[i], nonce, 40);
		/* Characters behind the time, but for the last, which has 4 bits. */
		for (size_t k = 19; k < 39; k++) {
			const char *alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuv"
					       "wxyz0123456789-_";
			const char *at = strchr(alphabet, nonce[k]);

			assert_non_null(at);
			counts[at - alphabet]++;
		}
	}
	qsort(nonces, N, 40, compare_nonces);
	for (size_t i = 1; i < N; i++)
		assert_memory_not_equal(nonces[i - 1], nonces[i], 40);
	for (size_t i = 0; i < 64; i++) {
		double want = N * 20 / 64.0, off = (double)counts[i] - want;

		chi += off * off / want;
	}
	assert_true(chi < 150); /* 63 degrees of freedom: once in 10^8 */
	free(nonces);
}

/* Threat N11: what is no expiry time, and which times are over. */
static void test_rest_names(void **state)
{
	static const struct {
		const char *name;
		enum stun_code want;
		const char *quota;
	} cases[] = {
		{"1900000000", STUN_OK, "1900000000"},
		{"1900000000:", STUN_OK, "1900000000:"},
		{"1900000000:u", STUN_OK, "u"},
		{"1900000002:u", STUN_OK, "u"},
		{"1900000001:a:b", STUN_OK, "a:b"},
		{"18446744073709551615:u", STUN_OK, "u"},
		{"1899999999:u", STUN_UNAUTHENTICATED, NULL},
		{"0:u", STUN_UNAUTHENTICATED, NULL},
		{"-1:u", STUN_UNAUTHENTICATED, NULL},
		{"+2000000000:u", STUN_UNAUTHENTICATED, NULL},
		{" 2000000000:u", STUN_UNAUTHENTICATED, NULL},
		{"2000000000 :u", STUN_UNAUTHENTICATED, NULL},
		{"0x77359400:u", STUN_UNAUTHENTICATED, NULL},
		{"2e9:u", STUN_UNAUTHENTICATED, NULL},
		{"18446744073709551616:u", STUN_UNAUTHENTICATED, NULL},
		{"99999999999999999999:u", STUN_UNAUTHENTICATED, NULL},
		{"200000000000000000000000000000:u", STUN_UNAUTHENTICATED, NULL},
		{"alice", STUN_UNAUTHENTICATED, NULL},
		{"alice:2000000000", STUN_UNAUTHENTICATED, NULL},
		{":alice", STUN_UNAUTHENTICATED, NULL},
	};
	static const char *const secrets[] = {"north", "south", "west"};
	struct tp_addr client = address("192.0.2.1:1000");

	for (size_t i = 0; i < COUNT(cases) * COUNT(secrets); i++) {
		const char *secret = secrets[i % COUNT(secrets)];
		enum stun_code want = cases[i / COUNT(secrets)].want;
		struct bytes name = {cases[i / COUNT(secrets)].name, 0};
		char nonce[AUTH_REALM_MAX + 1], password[32];
		struct request r = good_request(challenge(&now, &client, nonce));
		struct auth_identity id;
		uint8_t mac[20];
		size_t len = 0;

		name.len = strlen(name.data);
		assert_non_null(EVP_Q_mac(NULL, "HMAC", NULL, "SHA1", NULL, secret, strlen(secret),
			(const uint8_t *)name.data, name.len, mac, sizeof(mac), &len));
		EVP_EncodeBlock((uint8_t *)password, mac, 20);
		r.username = name;
		r.macs[0].password = password;
		if (strcmp(secret, "west") == 0)
			want = STUN_UNAUTHENTICATED;
		if (check_at(&r, &now, &client, NULL, &id) != want)
			fail_msg("%s under %s", name.data, secret);
		if (want != STUN_OK)
			continue;
		name.data = auth_quota_name(&id, &len);
		assert_int_equal(len, strlen(cases[i / COUNT(secrets)].quota));
		assert_memory_equal(name.data, cases[i / COUNT(secrets)].quota, len);
	}
}

/* A name can be time-limited and right and yet too long to be one. */
static void test_rest_name_length(void **state)
{
	struct tp_addr client = address("192.0.2.1:1000");

	for (size_t len = AUTH_USERNAME_MAX - 1; len <= AUTH_USERNAME_MAX + 2; len++) {
		char nonce[AUTH_REALM_MAX + 1], password[32], name[AUTH_USERNAME_MAX + 3];
		struct request r = good_request(challenge(&now, &client, nonce));
		struct auth_identity id;
		uint8_t mac[20];
		size_t mac_len;

		memset(name, 'n', sizeof(name));
		memcpy(name, "2000000000:", 11);
		assert_non_null(EVP_Q_mac(NULL, "HMAC", NULL, "SHA1", NULL, "north", 5,
			(const uint8_t *)name, len, mac, sizeof(mac), &mac_len));
		EVP_EncodeBlock((uint8_t *)password, mac, 20);
		r.username = (struct bytes){name, len};
		r.macs[0].password = password;
		assert_int_equal(check_at(&r, &now, &client, NULL, &id),
			len <= AUTH_USERNAME_MAX ? STUN_OK : STUN_UNAUTHENTICATED);
	}
}

/* What was copied does not need the request, and neither the name's end nor NULs in it are lost. */
static void test_identity_copy(void **state)
{
	char name[] = "a\0lice of the request";
	struct auth_identity id = {
		.username = name,
		.username_len = 6,
		.key = "key",
		.key_len = 16,
		.answer = STUN_SHA256,
		.time_limited = true,
	};
	struct auth_identity *copy = auth_identity_copy(&id);

	assert_non_null(copy);
	memset(name, 'x', sizeof(name));
	assert_memory_equal(copy->username, "a\0lice", 7);
	assert_int_equal(copy->username_len, 6);
	assert_memory_equal(copy->key, id.key, sizeof(id.key));
	assert_int_equal(copy->key_len, 16);
	assert_int_equal(copy->answer, STUN_SHA256);
	assert_true(copy->time_limited);
	auth_identity_free(copy);
	auth_identity_free(NULL);
}

static void test_quota_name_of_a_user(void **state)
{
	struct tp_addr client = address("192.0.2.1:1000");
	char nonce[AUTH_REALM_MAX + 1];
	struct request r = good_request(challenge(&now, &client, nonce));
	struct auth_identity id;
	size_t len;

	r.username = (struct bytes)TEXT("1000000000:static");
	r.macs[0].password = "kept";
	assert_int_equal(check_at(&r, &now, &client, NULL, &id), STUN_OK);
	assert_ptr_equal(auth_quota_name(&id, &len), id.username);
	assert_int_equal(len, r.username.len);
}

static void test_mint(void **state)
{
	struct auth_settings settings = {.realm = "realm", .nonce_lifetime_ns = 1};
	char username[AUTH_USERNAME_MAX + 1], password[AUTH_MINTED_PASSWORD_SIZE], name[600];
	struct auth *no_secrets;

	assert_int_equal(auth_mint(auth, "alice", 2000000000, username, password), 0);
	assert_string_equal(username, ALICE);
	assert_string_equal(password, "uoDL/AHil9mhKpZV8sTerU3VXBM=");
	assert_int_equal(auth_mint(auth, "", 2000000000, username, password), 0);
	assert_string_equal(username, "2000000000");
	memset(name, 'x', sizeof(name));
	name[AUTH_USERNAME_MAX - 11] = '\0';
	assert_int_equal(auth_mint(auth, name, 2000000000, username, password), 0);
	assert_int_equal(strlen(username), AUTH_USERNAME_MAX);
	memset(name, 'x', sizeof(name));
	name[AUTH_USERNAME_MAX - 10] = '\0';
	assert_int_equal(auth_mint(auth, name, 2000000000, username, password), -EINVAL);
	assert_int_equal(auth_new(&settings, &no_secrets), 0);
	assert_int_equal(auth_mint(no_secrets, "alice", 1, username, password), -ENOENT);
	auth_free(no_secrets);
}

/* Threat N17; 14.3: up to 508 bytes can be a name, up to 763 are read. */
static void test_name_lengths(void **state)
{
	static char long_name[AUTH_USERNAME_MAX + 1], text[3000];
	struct auth_user users[] = {{long_name, "pass"}};
	struct auth_settings settings = {.realm = "realm",
		.users = users,
		.users_count = 1,
		.nonce_lifetime_ns = TP_NS_PER_S};
	static const struct {
		size_t len;
		enum stun_code want;
	} cases[] = {{507, STUN_UNAUTHENTICATED}, {508, STUN_OK}, {509, STUN_UNAUTHENTICATED},
		{513, STUN_UNAUTHENTICATED}, {763, STUN_UNAUTHENTICATED}, {764, STUN_BAD_REQUEST},
		{2000, STUN_BAD_REQUEST}};
	struct tp_addr client = address("192.0.2.1:1000");
	struct auth *before = auth;

	memset(long_name, 'n', AUTH_USERNAME_MAX);
	memset(text, 'n', sizeof(text));
	assert_int_equal(auth_new(&settings, &auth), 0);
	for (size_t i = 0; i < COUNT(cases); i++) {
		char nonce[AUTH_REALM_MAX + 1];
		struct request r = good_request(challenge(&now, &client, nonce));
		struct auth_identity id;

		r.username = (struct bytes){text, cases[i].len};
		if (cases[i].len > 1900)
			r.macs[0].password = "";
		assert_int_equal(check_at(&r, &now, &client, NULL, &id), cases[i].want);
	}
	auth_free(auth);
	auth = before;
}

/* CRED-1, REST-7: whose allocation it is stays known; who else comes is somebody else. */
static void test_held_identity(void **state)
{
	static const struct {
		const char *name;
		struct bytes username;
		const char *password;
		bool sha256, holds;
		uint64_t unix_s;
		enum stun_code want;
	} cases[] = {
		{"a user that is gone", TEXT("gone"), "old", false, true, UNIX_NOW, STUN_OK},
		{"but not without allocation", TEXT("gone"), "old", false, false, UNIX_NOW,
			STUN_UNAUTHENTICATED},
		{"nor with a wrong password", TEXT("gone"), "new", false, true, UNIX_NOW,
			STUN_UNAUTHENTICATED},
		{"somebody else on the 5-tuple", TEXT("other"), "word", false, true, UNIX_NOW,
			STUN_OK},
		{"somebody else with the owner's key", TEXT("other"), "old", false, true, UNIX_NOW,
			STUN_UNAUTHENTICATED},
		{"time-limited, run out", TEXT(ALICE), "uoDL/AHil9mhKpZV8sTerU3VXBM=", false, true,
			2000000001, STUN_OK},
		{"the same with the other algorithm", TEXT(ALICE),
			"uoDL/AHil9mhKpZV8sTerU3VXBM=", true, true, 2000000001, STUN_OK},
		{"time-limited, run out, no allocation", TEXT(ALICE),
			"uoDL/AHil9mhKpZV8sTerU3VXBM=", false, false, 2000000001,
			STUN_UNAUTHENTICATED},
	};
	struct tp_addr client = address("192.0.2.1:1000");

	for (size_t i = 0; i < COUNT(cases); i++) {
		bool alice = cases[i].username.len == sizeof(ALICE) - 1;
		struct auth_now at = {now.mono_ns, cases[i].unix_s};
		struct auth_identity held = {.answer = STUN_SHA1, .time_limited = alice}, id;
		char nonce[AUTH_REALM_MAX + 1];
		struct request owner = {.username = TEXT("gone"), .macs = {{.password = "old"}}};
		struct request r = good_request(challenge(&at, &client, nonce));

		if (alice)
			owner.username = cases[i].username;
		if (alice)
			owner.macs[0].password = cases[i].password;
		held.username = owner.username.data;
		held.username_len = owner.username.len;
		held.key_len = (uint8_t)client_key(&owner, 0, held.key);
		r.username = cases[i].username;
		r.macs[0].password = cases[i].password;
		if (cases[i].sha256) {
			r.list = (struct bytes)TEXT(BOTH);
			r.choice = (struct bytes)TEXT(SHA256);
			r.macs[0].kind = r.macs[0].digest = STUN_SHA256;
		}
		if (check_at(&r, &at, &client, cases[i].holds ? &held : NULL, &id) != cases[i].want)
			fail_msg("%s", cases[i].name);
		if (cases[i].want == STUN_OK)
			assert_int_equal(id.time_limited, alice);
	}
}

/* The held key and the held name's spent expiry are for that name only. */
static void test_held_is_for_its_name(void **state)
{
	static const struct {
		struct bytes username;
		const char *password;
		bool time_limited;
	} cases[] = {
		{TEXT("other"), "old", false},
		{TEXT("1266890800:mbzrxpgjys"), "nbRcrnq5h6xXhyNhlwk+lDLvVVo=", true},
	};
	struct tp_addr client = address("192.0.2.1:1000");

	for (size_t i = 0; i < COUNT(cases); i++) {
		struct auth_identity held = {.time_limited = cases[i].time_limited}, id;
		char nonce[AUTH_REALM_MAX + 1];
		struct request r = good_request(challenge(&now, &client, nonce));

		r.username = cases[i].username;
		r.macs[0].password = cases[i].password;
		held.key_len = (uint8_t)client_key(&r, 0, held.key);
		held.username = "gone";
		held.username_len = 4;
		assert_int_equal(check_at(&r, &now, &client, &held, &id), STUN_UNAUTHENTICATED);
		held.username = r.username.data;
		held.username_len = r.username.len;
		assert_int_equal(check_at(&r, &now, &client, &held, &id), STUN_OK);
	}
}

/* After the password changed, the allocation's owner may come with either. */
static void test_held_and_changed(void **state)
{
	struct tp_addr client = address("192.0.2.1:1000");
	char nonce[AUTH_REALM_MAX + 1];
	struct request r = good_request(challenge(&now, &client, nonce));
	struct auth_identity held = {.username = "user", .username_len = 4}, id;

	r.macs[0].password = "before";
	assert_int_equal(check_at(&r, &now, &client, NULL, &id), STUN_UNAUTHENTICATED);
	held.key_len = (uint8_t)client_key(&r, 0, held.key);
	assert_int_equal(check_at(&r, &now, &client, &held, &id), STUN_OK);
	assert_memory_equal(id.key, held.key, held.key_len);
	r.macs[0].password = "pass";
	assert_int_equal(check_at(&r, &now, &client, &held, &id), STUN_OK);
	assert_memory_not_equal(id.key, held.key, held.key_len);
}

static void test_settings(void **state)
{
	static char long_name[AUTH_USERNAME_MAX + 2];
	static const struct auth_user twice[] = {{"a", "x"}, {"b", "x"}, {"a", "y"}};
	static const struct auth_user empty[] = {{"", "x"}}, too_long[] = {{long_name, "x"}};
	static const char *const no_secret[] = {""};
	static char long_realm[AUTH_REALM_MAX + 2];
	const struct {
		struct auth_settings settings;
		int want;
	} cases[] = {
		{{.realm = "r"}, 0},
		{{.realm = ""}, -EINVAL},
		{{.realm = "a\"b"}, -EINVAL},
		{{.realm = "a\\b"}, -EINVAL},
		{{.realm = long_realm}, -EINVAL},
		{{.realm = "r", .users = twice, .users_count = 3}, -EEXIST},
		{{.realm = "r", .users = twice, .users_count = 2}, 0},
		{{.realm = "r", .users = empty, .users_count = 1}, -EINVAL},
		{{.realm = "r", .users = too_long, .users_count = 1}, -EINVAL},
		{{.realm = "r", .secrets = no_secret, .secrets_count = 1}, -EINVAL},
	};

	memset(long_name, 'n', sizeof(long_name) - 1);
	memset(long_realm, 'r', sizeof(long_realm) - 1);
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct auth *made = NULL;

		assert_int_equal(auth_new(&cases[i].settings, &made), cases[i].want);
		assert_int_equal(made != NULL, cases[i].want == 0);
		auth_free(made);
	}
}

static void test_ratelimit(void **state)
{
	static const struct {
		const char *client;
		uint64_t at_ms;
		int tries, allowed;
	} steps[] = {
		{"192.0.2.1:1", 1000, 20, 10},
		{"192.0.2.1:2", 1000, 20, 0}, /* other port, same prefix */
		{"192.0.2.2:1", 1000, 20, 10}, {"[2001:db8::1]:1", 1000, 20, 10},
		{"[2001:db8::ffff:1]:1", 1000, 20, 0}, /* the same /64 */
		{"[2001:db8:0:1::1]:1", 1000, 20, 10}, {"192.0.2.1:1", 1099, 20, 0},
		{"192.0.2.1:1", 1100, 20, 1}, {"192.0.2.1:1", 1500, 20, 4},
		{"192.0.2.1:1", 2500, 20, 10},
		{"192.0.2.1:1", 900000, 20, 10}, /* no more than a burst is saved up */
	};
	struct ratelimit *limit;

	assert_int_equal(ratelimit_new(0, &limit), -EINVAL);
	assert_int_equal(ratelimit_new(10, &limit), 0);
	for (size_t i = 0; i < COUNT(steps); i++) {
		struct tp_addr client = address(steps[i].client);
		int allowed = 0;

		for (int k = 0; k < steps[i].tries; k++)
			allowed += ratelimit_allow(limit, &client, steps[i].at_ms * TP_NS_PER_MS);
		if (allowed != steps[i].allowed)
			fail_msg("step %zu: %d, not %d", i, allowed, steps[i].allowed);
	}
	ratelimit_free(limit);
}

/* R12: a flood from many prefixes takes no bystander's turn, and makes nobody's debt forgotten. */
static void test_ratelimit_under_flood(void **state)
{
	struct tp_addr bystander = address("198.51.100.7:1"), loud = address("203.0.113.9:1");
	int allowed = 0, loud_allowed = 0;
	struct ratelimit *limit;

	assert_int_equal(ratelimit_new(10, &limit), 0);
	for (uint32_t i = 0; i < 50000; i++) {
		uint8_t ip[4] = {10, (uint8_t)(i >> 16), (uint8_t)(i >> 8), (uint8_t)i};
		struct tp_addr flooder = tp_addr_make(TP_IPV4, ip, 1);

		loud_allowed += ratelimit_allow(limit, &loud, TP_NS_PER_S);
		ratelimit_allow(limit, &flooder, TP_NS_PER_S);
		if (i % 5000 == 0)
			allowed += ratelimit_allow(limit, &bystander, TP_NS_PER_S);
	}
	assert_int_equal(allowed, 10);
	assert_int_equal(loud_allowed, 10);
	ratelimit_free(limit);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_challenge),
		cmocka_unit_test(test_rows),
		cmocka_unit_test(test_key_vectors),
		cmocka_unit_test(test_nonce_is_bound),
		cmocka_unit_test(test_nonce_bits),
		cmocka_unit_test(test_nonce_and_reload),
		cmocka_unit_test(test_nonces_do_not_repeat),
		cmocka_unit_test(test_rest_names),
		cmocka_unit_test(test_rest_name_length),
		cmocka_unit_test(test_identity_copy),
		cmocka_unit_test(test_quota_name_of_a_user),
		cmocka_unit_test(test_mint),
		cmocka_unit_test(test_name_lengths),
		cmocka_unit_test(test_held_identity),
		cmocka_unit_test(test_held_is_for_its_name),
		cmocka_unit_test(test_held_and_changed),
		cmocka_unit_test(test_settings),
		cmocka_unit_test(test_ratelimit),
		cmocka_unit_test(test_ratelimit_under_flood),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
