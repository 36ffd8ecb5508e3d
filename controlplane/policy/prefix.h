/* Address prefixes and sorted sets of them with longest-prefix match. No I/O. */
#pragma once

#include "policy.h"

#include <stddef.h>

struct prefix {
	struct tp_addr ip; /* port 0, bits behind the prefix 0 */
	uint8_t bits;      /* of the 16 bytes: an IPv4 /8 is 104 */
	bool allow;
	const char *reason; /* lives as long as the program */
};

/* "10.0.0.0/8", "2001:db8::/32", or an address alone. -EINVAL, and `error` says what is wrong. */
int prefix_parse(const char *text, struct prefix *out, char error[128]);

/* From an address and a length of its own family; bits behind it are cut off. */
int prefix_make(const struct tp_addr *ip, uint8_t length, struct prefix *out);

/* "deny 10.0.0.0/8 (reason)" */
void prefix_text(const struct prefix *prefix, char out[POLICY_RULE_SIZE]);

/* All zero is an empty set. */
struct prefix_set {
	struct prefix *list; /* by family, address, length */
	size_t count, room;
};

void prefix_set_free(struct prefix_set *set);
/* Of two rules for the same prefix the one that denies stays. -ENOMEM. */
int prefix_set_add(struct prefix_set *set, const struct prefix *prefix);
/* The longest that holds the address, of its own family; NULL: none does. */
const struct prefix *prefix_set_match(const struct prefix_set *set, const struct tp_addr *ip);
