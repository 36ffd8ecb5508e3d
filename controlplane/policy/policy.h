/*
 * Which peers a client may reach: one function, asked on every path (threats P01-P24). Rules are
 * prefixes, never names; the longest wins, deny wins ties. A built-in default-deny list takes part
 * and loses ties against the operator: "allow 10.0.0.0/8" opens what is denied as RFC 1918, "allow
 * 0.0.0.0/0" does not. Over all stands what no configuration can allow: loopback, unspecified,
 * link-local, multicast, IPv4 addresses inside IPv6 ones, the machine's own. No I/O. One thread.
 */
#pragma once

#include "base/addr.h"

#include <stdbool.h>

#define POLICY_RULE_SIZE 96

struct policy;

int policy_new(struct policy **out);
void policy_free(struct policy *policy);

/*
 * Operator's rule "10.1.0.0/16", "2001:db8::/32", "192.0.2.7". -EINVAL, and `error` says what is
 * wrong: bad address, length past the family's, bits set behind the prefix, an IPv4 network written
 * as IPv6. Nothing is added then, nor with -ENOMEM.
 */
int policy_add_rule(struct policy *policy, bool allow, const char *prefix, char error[128]);

/*
 * Relay addresses of this server: peers there are other clients' relayed addresses (P13, P14). They
 * may be named twice; an operator's deny rule closes them all the same.
 */
int policy_add_relay_address(struct policy *policy, const struct tp_addr *ip);

/*
 * What the machine itself is, replaced as a whole when netlink reports a change: own addresses,
 * broadcast addresses, gateways (never allowed), and connected subnets (denied unless a rule of the
 * operator allows them, of whatever length). On failure the old ones stay.
 */
struct policy_prefix {
	struct tp_addr ip;
	uint8_t length; /* bits, of the address's own family */
};
struct policy_locals {
	const struct policy_prefix *never; /* own addresses, broadcasts, gateways */
	size_t never_count;
	const struct policy_prefix *connected;
	size_t connected_count;
};
int policy_set_locals(struct policy *policy, const struct policy_locals *locals);

enum policy_verdict {
	POLICY_ALLOW,
	POLICY_DENY,
	POLICY_RELAYS_ONLY, /* an own relay address: only ports that are live relays */
};

/* The port is ignored. `rule` (may be NULL) gets the rule that decided, as an operator writes it.
 */
enum policy_verdict policy_check(
	const struct policy *policy, const struct tp_addr *peer, char rule[POLICY_RULE_SIZE]);

/* Client addresses that no answer may go to: tunnels, multicast, unspecified (P06, L07). */
bool policy_client_allowed(const struct policy *policy, const struct tp_addr *client);
