/*
 * Who may be a peer. Owns the operator's rules, the machine's own addresses and the built-in list;
 * one thread, no I/O.
 */
#include "policy.h"
#include "builtin.h"
#include "prefix.h"

#include "base/cleanup.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Every packet on a socket asks; most ask about the same few peers. */
#define CACHE_SIZE 1024 /* what cache_entry() makes of 64 - 54 bits */

struct cached {
	struct tp_addr ip; /* family 0: empty */
	enum policy_verdict verdict;
};

struct policy {
	struct cached *cache;        /* emptied whenever a rule changes */
	struct prefix_set always;    /* built in, over all others */
	struct prefix_set defaults;  /* built in, beside the operator's */
	struct prefix_set clients;   /* both; here `allow` says that it may be a client */
	struct prefix_set operators; /* configured */
	struct prefix_set relays;
	struct prefix_set own, connected; /* the machine as it is now */
};

static int add_builtin(struct policy *policy, const struct builtin *row)
{
	struct prefix prefix, client;
	char error[128];
	int err;

	err = prefix_parse(row->prefix, &prefix, error);
	if (err)
		return err;
	prefix.reason = row->reason;
	prefix.allow = row->flags & BUILTIN_ALLOW;
	client = prefix;
	client.allow = !(row->flags & BUILTIN_NO_CLIENT);
	err = prefix_set_add(&policy->clients, &client);
	if (err)
		return err;
	return prefix_set_add(
		row->flags & BUILTIN_ALWAYS ? &policy->always : &policy->defaults, &prefix);
}

static void free_policy(struct policy **policy)
{
	policy_free(*policy);
}

int policy_new(struct policy **out)
{
	TP_CLEANUP(free_policy) struct policy *policy = calloc(1, sizeof(*policy));
	int err = 0;

	if (!policy)
		return -ENOMEM;
	policy->cache = calloc(CACHE_SIZE, sizeof(*policy->cache));
	if (!policy->cache)
		return -ENOMEM;
	for (size_t i = 0; i < policy_builtins_count && !err; i++)
		err = add_builtin(policy, &policy_builtins[i]);
	if (err)
		return err;
	*out = TP_TAKE(policy);
	return 0;
}

void policy_free(struct policy *policy)
{
	if (!policy)
		return;
	prefix_set_free(&policy->always);
	prefix_set_free(&policy->defaults);
	prefix_set_free(&policy->clients);
	prefix_set_free(&policy->operators);
	prefix_set_free(&policy->relays);
	prefix_set_free(&policy->own);
	prefix_set_free(&policy->connected);
	free(policy->cache);
	free(policy);
}

static void forget_verdicts(struct policy *policy)
{
	memset(policy->cache, 0, CACHE_SIZE * sizeof(*policy->cache));
}

/* Whoever denies ::ffff:10.0.0.0/104 means 10.0.0.0/8, which that would leave open (P03). */
static bool is_mapped(const struct prefix *p)
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

	return p->ip.family == TP_IPV6 && p->bits >= 96 && memcmp(p->ip.ip, mapped, 12) == 0;
}

int policy_add_rule(struct policy *policy, bool allow, const char *prefix, char error[128])
{
	struct prefix parsed;
	int err;

	err = prefix_parse(prefix, &parsed, error);
	if (err)
		return err;
	if (is_mapped(&parsed)) {
		snprintf(error, 128, "%.60s: an IPv4 network; write it as IPv4", prefix);
		return -EINVAL;
	}
	parsed.allow = allow;
	parsed.reason = "configured";
	forget_verdicts(policy);
	err = prefix_set_add(&policy->operators, &parsed);
	if (err)
		snprintf(error, 128, "out of memory");
	return err;
}

int policy_add_relay_address(struct policy *policy, const struct tp_addr *ip)
{
	struct prefix prefix;
	int err = prefix_make(ip, ip->family == TP_IPV4 ? 32 : 128, &prefix);

	if (err)
		return err;
	prefix.allow = true;
	prefix.reason = "own relay address, live relays only";
	forget_verdicts(policy);
	return prefix_set_add(&policy->relays, &prefix);
}

static int add_locals(
	struct prefix_set *set, const struct policy_prefix *list, size_t count, const char *reason)
{
	struct prefix prefix;
	int err = 0;

	for (size_t i = 0; i < count && !err; i++) {
		err = prefix_make(&list[i].ip, list[i].length, &prefix);
		prefix.reason = reason;
		if (!err)
			err = prefix_set_add(set, &prefix);
	}
	return err;
}

static void swap_sets(struct prefix_set *a, struct prefix_set *b)
{
	struct prefix_set kept = *a;

	*a = *b;
	*b = kept;
}

int policy_set_locals(struct policy *policy, const struct policy_locals *locals)
{
	/* Filled with the new, freed with the old. */
	TP_CLEANUP(prefix_set_free) struct prefix_set own = {0}, connected = {0};
	int err;

	err = add_locals(
		&own, locals->never, locals->never_count, "own address, broadcast or gateway");
	if (!err)
		err = add_locals(
			&connected, locals->connected, locals->connected_count, "connected subnet");
	if (err)
		return err;
	forget_verdicts(policy);
	swap_sets(&policy->own, &own);
	swap_sets(&policy->connected, &connected);
	return 0;
}

struct decision {
	enum policy_verdict verdict;
	const struct prefix *rule;
};

static struct decision decide_by(const struct prefix *rule)
{
	return (struct decision){rule && rule->allow ? POLICY_ALLOW : POLICY_DENY, rule};
}

/* The order is the policy: what cannot be opened, then relays, then the longest rule. */
static struct decision decide(const struct policy *policy, const struct tp_addr *peer)
{
	const struct prefix *always = prefix_set_match(&policy->always, peer);
	const struct prefix *configured = prefix_set_match(&policy->operators, peer);
	const struct prefix *relay = prefix_set_match(&policy->relays, peer);
	const struct prefix *own = prefix_set_match(&policy->own, peer);
	const struct prefix *builtin = prefix_set_match(&policy->defaults, peer);
	const struct prefix *connected = prefix_set_match(&policy->connected, peer);

	if (always)
		return decide_by(always);
	if (relay && configured && !configured->allow)
		return decide_by(configured);
	if (relay)
		return (struct decision){POLICY_RELAYS_ONLY, relay};
	if (own)
		return decide_by(own);
	if (configured && (!builtin || configured->bits >= builtin->bits))
		return decide_by(configured);
	/* Named by no rule that denies, but a neighbour. */
	if (connected && builtin && builtin->allow)
		return decide_by(connected);
	return decide_by(builtin);
}

/* ISATAP (RFC 5214): the last 32 bits are where the packet really goes. */
static bool embeds_isatap(const struct tp_addr *peer, struct tp_addr *v4)
{
	static const uint8_t marks[2][4] = {{0x00, 0x00, 0x5e, 0xfe}, {0x02, 0x00, 0x5e, 0xfe}};

	if (peer->family != TP_IPV6 ||
		(memcmp(peer->ip + 8, marks[0], 4) != 0 && memcmp(peer->ip + 8, marks[1], 4) != 0))
		return false;
	*v4 = tp_addr_make(TP_IPV4, peer->ip + 12, 0);
	return true;
}

static struct decision decide_with_embedded(const struct policy *policy, const struct tp_addr *peer)
{
	struct decision decision = decide(policy, peer), inner;
	struct tp_addr v4;

	if (decision.verdict == POLICY_ALLOW && embeds_isatap(peer, &v4)) {
		inner = decide(policy, &v4);
		if (inner.verdict != POLICY_ALLOW)
			return (struct decision){POLICY_DENY, inner.rule};
	}
	return decision;
}

/* An entry that someone else's address has taken is only taken back: no key, no secret needed. */
static struct cached *cache_entry(const struct policy *policy, const struct tp_addr *peer)
{
	uint64_t high, low;

	memcpy(&high, peer->ip, sizeof(high));
	memcpy(&low, peer->ip + 8, sizeof(low));
	return &policy->cache[((high ^ low) * UINT64_C(0x9e3779b97f4a7c15)) >> 54];
}

static enum policy_verdict cached_verdict(const struct policy *policy, const struct tp_addr *peer)
{
	struct cached *entry = cache_entry(policy, peer);

	if (!tp_addr_equal_ip(&entry->ip, peer) || entry->ip.family == TP_NO_FAMILY) {
		entry->ip = tp_addr_with_port(peer, 0);
		entry->verdict = decide_with_embedded(policy, peer).verdict;
	}
	return entry->verdict;
}

enum policy_verdict policy_check(
	const struct policy *policy, const struct tp_addr *peer, char rule[POLICY_RULE_SIZE])
{
	struct decision decision;

	if (!rule)
		return cached_verdict(policy, peer);
	decision = decide_with_embedded(policy, peer);
	if (decision.rule)
		prefix_text(decision.rule, rule);
	else
		snprintf(rule, POLICY_RULE_SIZE, "deny (not an address)");
	return decision.verdict;
}

bool policy_client_allowed(const struct policy *policy, const struct tp_addr *client)
{
	const struct prefix *rule = prefix_set_match(&policy->clients, client);

	return rule && rule->allow;
}
