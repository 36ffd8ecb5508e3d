/*
 * Names to keys: the table of long-term users, and what a time-limited name (TURN REST) says of
 * itself. Holds keys and shared secrets, which are wiped when freed.
 */
#pragma once

#include "auth.h"

#include <openssl/evp.h>

/* IANA's numbers (RFC 8489, 18.5). */
enum auth_algorithm { AUTH_MD5 = 1, AUTH_SHA256 = 2 };

struct auth_name {
	const uint8_t *bytes;
	size_t len;
};

struct auth_key {
	uint8_t bytes[AUTH_KEY_MAX];
	size_t len;
};

/* Digests, looked up once. */
struct auth_digests {
	EVP_MD *md5, *sha256;
};

/* key = digest(name ":" realm ":" password) (RFC 8489, 9.2.2 and 18.5.1). */
int auth_derive_key(const struct auth_digests *digests, enum auth_algorithm algorithm,
	struct auth_name name, const char *realm, const char *password, struct auth_key *out);

/* Sorted once, then only read. */
struct auth_users;

/* -EINVAL: a name that is empty or too long; -EEXIST: a name twice. */
int auth_users_new(const struct auth_digests *digests, const struct auth_settings *settings,
	struct auth_users **out);
void auth_users_free(struct auth_users *users);
/* NULL: nobody. */
const struct auth_key *auth_users_key(
	const struct auth_users *users, struct auth_name name, enum auth_algorithm algorithm);

/* "expiry" or "expiry:id", expiry in unsigned decimal (REST-1). `id` is behind the colon, or all.
 */
bool auth_rest_parse(struct auth_name name, uint64_t *expiry_s, struct auth_name *id);
/* base64(HMAC-SHA1(secret, name)) (REST-2). */
void auth_rest_password(
	const char *secret, struct auth_name name, char out[AUTH_MINTED_PASSWORD_SIZE]);
