/*
 * Replies to requests that are not authenticated, limited per source prefix (/32, /64), so that the
 * server is no reflector (threats L02, R12). Fixed memory: a table of token buckets.
 */
#pragma once

#include "base/addr.h"

struct ratelimit;

int ratelimit_new(uint32_t replies_per_second, struct ratelimit **out);
void ratelimit_free(struct ratelimit *limit);

/* Takes a token of the client's prefix; false: stay silent. */
bool ratelimit_allow(struct ratelimit *limit, const struct tp_addr *client, uint64_t now_ns);
