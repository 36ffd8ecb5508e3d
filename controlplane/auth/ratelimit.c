/*
 * Token buckets of source prefixes, in fixed memory. Owned by the thread that answers; does not
 * block. A bucket is one number: the time at which all that was taken will have come back.
 */
#include "ratelimit.h"

#include "base/clock.h"
#include "base/cleanup.h"
#include "base/hash.h"

#include <errno.h>
#include <sys/random.h>

#define SETS 4096
#define WAYS 4

struct bucket {
	uint64_t prefix; /* hash of it */
	uint64_t full_at_ns;
};

struct ratelimit {
	struct tp_hash_key key;
	uint64_t token_ns; /* time a token takes to come back */
	uint64_t burst_ns; /* of a second's worth of tokens */
	struct bucket buckets[SETS][WAYS];
};

int ratelimit_new(uint32_t replies_per_second, struct ratelimit **out)
{
	TP_AUTO_FREE struct ratelimit *limit = NULL;

	if (replies_per_second == 0 || replies_per_second > TP_NS_PER_S)
		return -EINVAL;
	limit = calloc(1, sizeof(*limit));
	if (!limit)
		return -ENOMEM;
	if (getrandom(&limit->key, sizeof(limit->key), 0) != sizeof(limit->key))
		return -EIO;
	limit->token_ns = TP_NS_PER_S / replies_per_second;
	limit->burst_ns = limit->token_ns * replies_per_second;
	*out = TP_TAKE(limit);
	return 0;
}

void ratelimit_free(struct ratelimit *limit)
{
	free(limit);
}

static uint64_t hash_prefix(const struct ratelimit *limit, const struct tp_addr *client)
{
	uint8_t prefix[9] = {client->family};

	/* Whoever has an IPv6 address has its /64. */
	memcpy(prefix + 1, client->family == TP_IPV4 ? client->ip + 8 : client->ip, 8);
	return tp_siphash13(&limit->key, prefix, sizeof(prefix));
}

/* The prefix's bucket, or the fullest of its set: what is forgotten with that one matters least. */
static struct bucket *find_bucket(struct bucket set[WAYS], uint64_t prefix)
{
	struct bucket *fullest = &set[0];

	for (int i = 0; i < WAYS; i++) {
		if (set[i].prefix == prefix)
			return &set[i];
		if (set[i].full_at_ns < fullest->full_at_ns)
			fullest = &set[i];
	}
	*fullest = (struct bucket){.prefix = prefix};
	return fullest;
}

bool ratelimit_allow(struct ratelimit *limit, const struct tp_addr *client, uint64_t now_ns)
{
	uint64_t prefix = hash_prefix(limit, client);
	struct bucket *bucket = find_bucket(limit->buckets[prefix % SETS], prefix);

	if (bucket->full_at_ns < now_ns)
		bucket->full_at_ns = now_ns;
	if (bucket->full_at_ns + limit->token_ns > now_ns + limit->burst_ns)
		return false;
	bucket->full_at_ns += limit->token_ns;
	return true;
}
