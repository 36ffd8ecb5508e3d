/*
 * Users' keys and time-limited names. The table is built once and then only read, by its owner's
 * thread; nothing here blocks.
 */
#include "credentials.h"

#include "base/cleanup.h"
#include "base/hash.h"
#include "controlplane/stun/integrity.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <string.h>
#include <sys/random.h>

struct user {
	uint64_t hash;
	struct auth_name name; /* into `names` */
	struct auth_key md5, sha256;
};

struct auth_users {
	struct tp_hash_key hash_key;
	char *names;
	size_t count;
	struct user users[]; /* by hash */
};

static void free_digest(EVP_MD_CTX **ctx)
{
	EVP_MD_CTX_free(*ctx);
}

int auth_derive_key(const struct auth_digests *digests, enum auth_algorithm algorithm,
	struct auth_name name, const char *realm, const char *password, struct auth_key *out)
{
	TP_CLEANUP(free_digest) EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	const EVP_MD *md = algorithm == AUTH_SHA256 ? digests->sha256 : digests->md5;
	unsigned int len = 0;

	if (!ctx || !EVP_DigestInit_ex2(ctx, md, NULL) ||
		!EVP_DigestUpdate(ctx, name.bytes, name.len) || !EVP_DigestUpdate(ctx, ":", 1) ||
		!EVP_DigestUpdate(ctx, realm, strlen(realm)) || !EVP_DigestUpdate(ctx, ":", 1) ||
		!EVP_DigestUpdate(ctx, password, strlen(password)) ||
		!EVP_DigestFinal_ex(ctx, out->bytes, &len))
		return -ENOMEM;
	out->len = len;
	return 0;
}

static int by_hash(const void *a, const void *b)
{
	const struct user *left = a, *right = b;

	return (left->hash > right->hash) - (left->hash < right->hash);
}

static bool same_name(struct auth_name a, struct auth_name b)
{
	return a.len == b.len && memcmp(a.bytes, b.bytes, a.len) == 0;
}

static const struct user *find_user(const struct auth_users *users, struct auth_name name)
{
	uint64_t hash = tp_siphash13(&users->hash_key, name.bytes, name.len);
	size_t low = 0, high = users->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (users->users[middle].hash < hash)
			low = middle + 1;
		else
			high = middle;
	}
	for (; low < users->count && users->users[low].hash == hash; low++)
		if (same_name(users->users[low].name, name))
			return &users->users[low];
	return NULL;
}

const struct auth_key *auth_users_key(
	const struct auth_users *users, struct auth_name name, enum auth_algorithm algorithm)
{
	const struct user *user = find_user(users, name);

	if (!user)
		return NULL;
	return algorithm == AUTH_SHA256 ? &user->sha256 : &user->md5;
}

static int fill_user(struct auth_users *users, const struct auth_digests *digests,
	const struct auth_user *from, const char *realm, struct user *out)
{
	int err;

	if (out->name.len == 0 || out->name.len > AUTH_USERNAME_MAX)
		return -EINVAL;
	out->hash = tp_siphash13(&users->hash_key, out->name.bytes, out->name.len);
	err = auth_derive_key(digests, AUTH_MD5, out->name, realm, from->password, &out->md5);
	if (err)
		return err;
	return auth_derive_key(
		digests, AUTH_SHA256, out->name, realm, from->password, &out->sha256);
}

/* One block for all names: their users are then found in few cache lines. */
static int copy_names(struct auth_users *users, const struct auth_settings *settings)
{
	size_t room = 1, at = 0;

	for (size_t i = 0; i < settings->users_count; i++)
		room += strlen(settings->users[i].name);
	users->names = malloc(room);
	if (!users->names)
		return -ENOMEM;
	for (size_t i = 0; i < settings->users_count; i++) {
		struct auth_name *name = &users->users[i].name;

		name->bytes = (const uint8_t *)users->names + at;
		name->len = strlen(settings->users[i].name);
		memcpy(users->names + at, settings->users[i].name, name->len);
		at += name->len;
	}
	return 0;
}

static bool has_duplicates(const struct auth_users *users)
{
	for (size_t i = 1; i < users->count; i++)
		if (users->users[i].hash == users->users[i - 1].hash &&
			same_name(users->users[i].name, users->users[i - 1].name))
			return true;
	return false;
}

static void free_users(struct auth_users **users)
{
	auth_users_free(*users);
}

int auth_users_new(const struct auth_digests *digests, const struct auth_settings *settings,
	struct auth_users **out)
{
	TP_CLEANUP(free_users) struct auth_users *users = NULL;
	int err;

	users = calloc(1, sizeof(*users) + settings->users_count * sizeof(users->users[0]));
	if (!users)
		return -ENOMEM;
	users->count = settings->users_count;
	if (getrandom(&users->hash_key, sizeof(users->hash_key), 0) != sizeof(users->hash_key))
		return -EIO;
	err = copy_names(users, settings);
	for (size_t i = 0; i < users->count && !err; i++)
		err = fill_user(
			users, digests, &settings->users[i], settings->realm, &users->users[i]);
	if (err)
		return err;
	qsort(users->users, users->count, sizeof(users->users[0]), by_hash);
	if (has_duplicates(users))
		return -EEXIST;
	*out = TP_TAKE(users);
	return 0;
}

void auth_users_free(struct auth_users *users)
{
	if (!users)
		return;
	free(users->names);
	OPENSSL_cleanse(users->users, users->count * sizeof(users->users[0]));
	free(users);
}

bool auth_rest_parse(struct auth_name name, uint64_t *expiry_s, struct auth_name *id)
{
	uint64_t value = 0;
	size_t i = 0;

	for (; i < name.len && name.bytes[i] >= '0' && name.bytes[i] <= '9'; i++)
		if (__builtin_mul_overflow(value, 10, &value) ||
			__builtin_add_overflow(value, (uint64_t)(name.bytes[i] - '0'), &value))
			return false;
	if (i == 0 || (i < name.len && name.bytes[i] != ':'))
		return false;
	*expiry_s = value;
	*id = name;
	if (i + 1 < name.len)
		*id = (struct auth_name){name.bytes + i + 1, name.len - i - 1};
	return true;
}

void auth_rest_password(
	const char *secret, struct auth_name name, char out[AUTH_MINTED_PASSWORD_SIZE])
{
	struct stun_bytes part = {name.bytes, name.len};
	uint8_t mac[STUN_HMAC_MAX];

	stun_hmac(STUN_SHA1, secret, strlen(secret), &part, 1, mac);
	EVP_EncodeBlock((unsigned char *)out, mac, (int)stun_hmac_len(STUN_SHA1));
	OPENSSL_cleanse(mac, sizeof(mac));
}
