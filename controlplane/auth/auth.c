/*
 * The long-term credential mechanism (RFC 8489, 9.2.4): who sent this request? Owns copies of the
 * shared secrets and of the users' keys. Read only after auth_new(); does not block.
 */
#include "auth.h"
#include "credentials.h"
#include "nonce.h"

#include "base/cleanup.h"
#include "base/clock.h"

#include <errno.h>
#include <inttypes.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <sys/random.h>

/* SHA-256 before MD5: a client takes the first one that it knows (RFC 8489, 18.5). */
static const uint8_t algorithms[8] = {0, AUTH_SHA256, 0, 0, 0, AUTH_MD5, 0, 0};

struct auth {
	char realm[AUTH_REALM_MAX + 1];
	uint64_t nonce_lifetime_ns;
	struct auth_digests digests;
	struct auth_users *users;
	char **secrets;
	size_t secrets_count;
	struct auth_key nobody; /* what unknown names are checked against */
};

static int copy_secrets(struct auth *auth, const struct auth_settings *settings)
{
	auth->secrets = calloc(settings->secrets_count + 1, sizeof(*auth->secrets));
	if (!auth->secrets)
		return -ENOMEM;
	for (size_t i = 0; i < settings->secrets_count; i++) {
		if (*settings->secrets[i] == '\0')
			return -EINVAL;
		auth->secrets[i] = strdup(settings->secrets[i]);
		if (!auth->secrets[i])
			return -ENOMEM;
		auth->secrets_count++;
	}
	return 0;
}

static int open_digests(struct auth_digests *digests)
{
	digests->md5 = EVP_MD_fetch(NULL, "MD5", NULL);
	digests->sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
	return digests->md5 && digests->sha256 ? 0 : -ENOTSUP;
}

static int copy_realm(struct auth *auth, const char *realm)
{
	size_t len = strlen(realm);

	if (len == 0 || len > AUTH_REALM_MAX || strpbrk(realm, "\"\\"))
		return -EINVAL;
	memcpy(auth->realm, realm, len + 1);
	return 0;
}

static void free_auth(struct auth **auth)
{
	auth_free(*auth);
}

int auth_new(const struct auth_settings *settings, struct auth **out)
{
	TP_CLEANUP(free_auth) struct auth *auth = calloc(1, sizeof(*auth));
	int err;

	if (!auth)
		return -ENOMEM;
	auth->nonce_lifetime_ns = settings->nonce_lifetime_ns;
	err = auth_nonce_init();
	if (!err)
		err = copy_realm(auth, settings->realm);
	if (!err)
		err = copy_secrets(auth, settings);
	if (!err)
		err = open_digests(&auth->digests);
	if (!err)
		err = auth_users_new(&auth->digests, settings, &auth->users);
	if (!err && getrandom(auth->nobody.bytes, AUTH_KEY_MAX, 0) != AUTH_KEY_MAX)
		err = -EIO;
	if (err)
		return err;
	*out = TP_TAKE(auth);
	return 0;
}

void auth_free(struct auth *auth)
{
	if (!auth)
		return;
	for (size_t i = 0; i < auth->secrets_count; i++) {
		OPENSSL_cleanse(auth->secrets[i], strlen(auth->secrets[i]));
		free(auth->secrets[i]);
	}
	free(auth->secrets);
	auth_users_free(auth->users);
	EVP_MD_free(auth->digests.md5);
	EVP_MD_free(auth->digests.sha256);
	OPENSSL_cleanse(auth, sizeof(*auth));
	free(auth);
}

/* What a request says of its sender. */
struct claim {
	struct auth_name name; /* bytes NULL: only a USERHASH, which names nobody here */
	struct auth_name realm;
	struct stun_attribute nonce;
	enum auth_algorithm algorithm;
	enum stun_integrity answer;
};

/* Quotes around and NULs behind are not part of names and realms (RFC 8489, 9.2.2). */
static struct auth_name unquoted(struct stun_attribute a)
{
	struct auth_name name = {a.value, a.value ? a.len : 0};

	while (name.len > 0 && name.bytes[name.len - 1] == '\0')
		name.len--;
	if (name.len >= 2 && name.bytes[0] == '"' && name.bytes[name.len - 1] == '"') {
		name.bytes++;
		name.len -= 2;
	}
	return name;
}

static enum stun_code read_claim(const struct stun_message *m, struct claim *out)
{
	struct stun_attribute username = stun_find(m, STUN_ATTR_USERNAME);
	struct stun_attribute userhash = stun_find(m, STUN_ATTR_USERHASH);
	struct stun_attribute realm = stun_find(m, STUN_ATTR_REALM);

	if (!m->integrity_at && !m->integrity256_at)
		return STUN_UNAUTHENTICATED;
	out->nonce = stun_find(m, STUN_ATTR_NONCE);
	if ((!username.value && !userhash.value) || !realm.value || !out->nonce.value)
		return STUN_BAD_REQUEST;
	if (username.len > STUN_USERNAME_MAX || (userhash.value && userhash.len != 32))
		return STUN_BAD_REQUEST;
	out->name = unquoted(username);
	out->realm = unquoted(realm);
	return STUN_OK;
}

static bool is_offered(struct stun_attribute list, struct stun_attribute choice)
{
	if (!list.value || list.len != sizeof(algorithms) ||
		memcmp(list.value, algorithms, sizeof(algorithms)) != 0)
		return false;
	return choice.value && choice.len == 4 &&
	       (memcmp(choice.value, algorithms, 4) == 0 ||
		       memcmp(choice.value, algorithms + 4, 4) == 0);
}

static enum stun_code choose_algorithm(const struct stun_message *m, struct claim *claim)
{
	struct stun_attribute list = stun_find(m, STUN_ATTR_PASSWORD_ALGORITHMS);
	struct stun_attribute choice = stun_find(m, STUN_ATTR_PASSWORD_ALGORITHM);
	bool named = list.value || choice.value;

	claim->algorithm = AUTH_MD5;
	claim->answer = named ? STUN_SHA256 : STUN_SHA1;
	if (is_offered(list, choice))
		claim->algorithm = choice.value[1];
	else if (named && auth_nonce_has_algorithms(claim->nonce))
		return STUN_BAD_REQUEST;
	return STUN_OK;
}

static bool verify(
	const struct stun_message *m, const struct auth_key *key, struct auth_identity *out)
{
	if (!stun_check_integrity(m, key->bytes, key->len))
		return false;
	memcpy(out->key, key->bytes, key->len);
	out->key_len = (uint8_t)key->len;
	return true;
}

static bool verify_held(const struct stun_message *m, const struct claim *claim,
	const struct auth_identity *held, struct auth_identity *out)
{
	struct auth_key key = {.len = held->key_len};
	bool right;

	if (held->key_len != (claim->algorithm == AUTH_SHA256 ? 32u : 16u))
		return false;
	memcpy(key.bytes, held->key, held->key_len);
	right = verify(m, &key, out);
	OPENSSL_cleanse(&key, sizeof(key));
	return right;
}

static bool verify_secret(const struct auth *auth, const char *secret, const struct stun_message *m,
	const struct claim *claim, struct auth_identity *out)
{
	char password[AUTH_MINTED_PASSWORD_SIZE];
	struct auth_key key = {.len = 0};
	bool right;

	auth_rest_password(secret, claim->name, password);
	right = auth_derive_key(&auth->digests, claim->algorithm, claim->name, auth->realm,
			password, &key) == 0 &&
		verify(m, &key, out);
	OPENSSL_cleanse(password, sizeof(password));
	OPENSSL_cleanse(&key, sizeof(key));
	return right;
}

/* Names that say nothing true of themselves cost what a wrong password costs (N08, N09). */
static bool verify_nobody(const struct auth *auth, const struct stun_message *m,
	const struct claim *claim, struct auth_identity *out)
{
	struct auth_key key = auth->nobody;

	key.len = claim->algorithm == AUTH_SHA256 ? 32 : 16;
	verify(m, &key, out);
	return false;
}

static bool verify_current(const struct auth *auth, uint64_t unix_s, const struct stun_message *m,
	const struct claim *claim, struct auth_identity *out)
{
	const struct auth_key *key = auth_users_key(auth->users, claim->name, claim->algorithm);
	uint64_t expiry_s;
	struct auth_name id;

	if (key)
		return verify(m, key, out);
	if (auth->secrets_count == 0 || claim->name.len > AUTH_USERNAME_MAX ||
		!auth_rest_parse(claim->name, &expiry_s, &id) || expiry_s < unix_s)
		return verify_nobody(auth, m, claim, out);
	out->time_limited = true;
	for (size_t i = 0; i < auth->secrets_count; i++)
		if (verify_secret(auth, auth->secrets[i], m, claim, out))
			return true;
	return false;
}

static bool is_name_of(const struct claim *claim, const struct auth_identity *held)
{
	return claim->name.bytes && claim->name.len == held->username_len &&
	       memcmp(claim->name.bytes, held->username, held->username_len) == 0;
}

static enum stun_code authenticate(const struct auth *auth, const struct auth_now *now,
	const struct stun_message *m, const struct claim *claim, const struct auth_identity *held,
	struct auth_identity *out)
{
	bool ours = claim->realm.len == strlen(auth->realm) &&
		    memcmp(claim->realm.bytes, auth->realm, claim->realm.len) == 0;
	bool renewed = held && is_name_of(claim, held);
	/* Its expiry counted when the allocation was made (REST-7). */
	uint64_t unix_s = renewed && held->time_limited ? 0 : now->unix_s;
	bool right;

	right = renewed && verify_held(m, claim, held, out);
	if (right)
		out->time_limited = held->time_limited;
	else
		right = verify_current(auth, unix_s, m, claim, out);
	if (!right || !ours) {
		OPENSSL_cleanse(out, sizeof(*out));
		return STUN_UNAUTHENTICATED;
	}
	out->username = (const char *)claim->name.bytes;
	out->username_len = (uint16_t)claim->name.len;
	out->answer = (uint8_t)claim->answer;
	return STUN_OK;
}

enum stun_code auth_check(const struct auth *auth, const struct auth_now *now,
	const struct tp_addr *client, const struct stun_message *m,
	const struct auth_identity *held, struct auth_identity *out)
{
	struct claim claim = {0};
	enum stun_code code;

	memset(out, 0, sizeof(*out));
	code = read_claim(m, &claim);
	if (code == STUN_OK)
		code = choose_algorithm(m, &claim);
	if (code == STUN_OK)
		code = authenticate(auth, now, m, &claim, held, out);
	/* Last, so that a stale nonce tells nothing to who does not know the password (DEC-3). */
	if (code == STUN_OK && !auth_nonce_valid(claim.nonce, auth->realm, client, now->mono_ns,
				       auth->nonce_lifetime_ns))
		code = STUN_STALE_NONCE;
	return code;
}

void auth_put_challenge(const struct auth *auth, const struct auth_now *now,
	const struct tp_addr *client, struct stun_writer *w)
{
	char nonce[AUTH_NONCE_LEN];

	if (!auth_nonce_make(auth->realm, client, now->mono_ns, nonce)) {
		w->overflow = true;
		return;
	}
	stun_put(w, STUN_ATTR_REALM, auth->realm, strlen(auth->realm));
	stun_put(w, STUN_ATTR_NONCE, nonce, sizeof(nonce));
	stun_put(w, STUN_ATTR_PASSWORD_ALGORITHMS, algorithms, sizeof(algorithms));
}

struct auth_identity *auth_identity_copy(const struct auth_identity *identity)
{
	struct auth_identity *copy = malloc(sizeof(*copy) + identity->username_len + 1);
	char *name;

	if (!copy)
		return NULL;
	name = (char *)(copy + 1);
	memcpy(name, identity->username, identity->username_len);
	name[identity->username_len] = '\0';
	*copy = *identity;
	copy->username = name;
	return copy;
}

void auth_identity_free(struct auth_identity *copy)
{
	if (!copy)
		return;
	OPENSSL_cleanse(copy, sizeof(*copy) + copy->username_len);
	free(copy);
}

const char *auth_quota_name(const struct auth_identity *id, size_t *len)
{
	struct auth_name name = {(const uint8_t *)id->username, id->username_len};
	uint64_t expiry_s;

	if (id->time_limited)
		auth_rest_parse(name, &expiry_s, &name);
	*len = name.len;
	return (const char *)name.bytes;
}

int auth_mint(const struct auth *auth, const char *name, uint64_t expires_unix_s,
	char username[AUTH_USERNAME_MAX + 1], char password[AUTH_MINTED_PASSWORD_SIZE])
{
	struct auth_name minted = {(const uint8_t *)username, 0};
	int len;

	if (auth->secrets_count == 0)
		return -ENOENT;
	len = snprintf(username, AUTH_USERNAME_MAX + 1, "%" PRIu64 "%s%s", expires_unix_s,
		*name ? ":" : "", name);
	if (len < 0 || len > AUTH_USERNAME_MAX)
		return -EINVAL;
	minted.len = (size_t)len;
	auth_rest_password(auth->secrets[0], minted, password);
	return 0;
}
