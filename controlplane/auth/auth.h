/*
 * Long-term credentials (RFC 8489, 9.2) and time-limited ones (TURN REST), with stateless nonces:
 * nothing is remembered of a client that has not authenticated (threats R01, R02). No I/O but
 * reading the users and secrets handed to auth_new(). One thread.
 */
#pragma once

#include "controlplane/stun/stun.h"

#define AUTH_KEY_MAX      32  /* MD5: 16 bytes, SHA-256: 32 bytes */
#define AUTH_USERNAME_MAX 508 /* RFC 8489, 14.3 */
#define AUTH_REALM_MAX    127

struct auth_user {
	const char *name;
	const char *password;
};

struct auth_settings {
	const char *realm;
	const struct auth_user *users;
	size_t users_count;
	const char *const *secrets; /* TURN REST: all valid at once, so that they can be rotated */
	size_t secrets_count;
	uint64_t nonce_lifetime_ns;
};

struct auth;

/*
 * Copies what it needs: keys, not passwords (RFC 8656, 6). -EINVAL: a realm or name that is empty
 * or too long, a realm with quotes or backslashes, an empty secret; -EEXIST: a name twice. The
 * nonce key is the process's, so that nonces outlive a reload.
 */
int auth_new(const struct auth_settings *settings, struct auth **out);
void auth_free(struct auth *auth);

/*
 * Who a request is from, and how its answer is to be protected. The name is in the request, of
 * whose bytes it is a part: it lasts as long as those.
 */
struct auth_identity {
	/* At most AUTH_USERNAME_MAX bytes. Quotes around it and NULs behind it are off (RFC 8489,
	 * 9.2.2); NULs inside are bytes. */
	const char *username;
	uint16_t username_len;
	bool time_limited; /* a TURN REST name */
	uint8_t answer;    /* STUN_SHA1 or STUN_SHA256 (RFC 8489, 9.2.4) */
	uint8_t key_len;
	uint8_t key[AUTH_KEY_MAX];
};

/* To keep: one block with the name, which a NUL ends here, and no larger than that needs. NULL: out
 * of memory. free() wipes it; NULL is legal. */
struct auth_identity *auth_identity_copy(const struct auth_identity *identity);
void auth_identity_free(struct auth_identity *copy);

struct auth_now {
	uint64_t mono_ns;
	uint64_t unix_s;
};

/*
 * The checks of RFC 8489, 9.2.4, in its order. STUN_OK fills `out`; STUN_STALE_NONCE fills it too,
 * for an answer with integrity; 400 and 401 leave it empty. `held` (may be NULL) is the identity of
 * the allocation on this 5-tuple: its key stays valid for it after the user was changed or the
 * time-limited name has run out (CRED-1, REST-7). Unknown user and wrong password cost the same and
 * give the same answer (N08, N09).
 */
enum stun_code auth_check(const struct auth *auth, const struct auth_now *now,
	const struct tp_addr *client, const struct stun_message *m,
	const struct auth_identity *held, struct auth_identity *out);

/* REALM, a fresh NONCE for this client, PASSWORD-ALGORITHMS: for 401 and 438. */
void auth_put_challenge(const struct auth *auth, const struct auth_now *now,
	const struct tp_addr *client, struct stun_writer *w);

/* The part of the name that quotas count: the user id of a TURN REST name, else all (REST-11). */
const char *auth_quota_name(const struct auth_identity *id, size_t *len);

/* A TURN REST name and password from the first secret. -ENOENT: no secret is configured. */
#define AUTH_MINTED_PASSWORD_SIZE 32
int auth_mint(const struct auth *auth, const char *name, uint64_t expires_unix_s,
	char username[AUTH_USERNAME_MAX + 1], char password[AUTH_MINTED_PASSWORD_SIZE]);
