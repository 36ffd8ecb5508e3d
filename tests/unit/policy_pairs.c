/*
 * Reads lines from tests/unit/policy_pairs.py and compares: "new", "allow PREFIX", "deny PREFIX",
 * "check ADDRESS allow|deny". Exit 1 when anything differs.
 */
#include "controlplane/policy/policy.h"

#include <stdio.h>
#include <stdlib.h>

static struct policy *policy;
static size_t checks, differences;

static bool check(const char *address, bool want)
{
	char rule[POLICY_RULE_SIZE];
	struct tp_addr peer;

	if (tp_addr_parse_ip(address, &peer) < 0)
		return false;
	checks++;
	if ((policy_check(policy, &peer, rule) == POLICY_ALLOW) == want)
		return true;
	if (differences++ < 10)
		fprintf(stderr, "%s should be %s, but: %s\n", address, want ? "allowed" : "denied",
			rule);
	return true;
}

static bool run_line(const char *line)
{
	char verb[8], argument[64], want[8], error[128];
	int words = sscanf(line, "%7s %63s %7s", verb, argument, want);

	if (words == 1 && strcmp(verb, "new") == 0) {
		policy_free(policy);
		return policy_new(&policy) == 0;
	}
	if (words == 2 && policy)
		return policy_add_rule(policy, strcmp(verb, "allow") == 0, argument, error) == 0;
	return words == 3 && policy && check(argument, strcmp(want, "allow") == 0);
}

int main(void)
{
	char line[160];
	bool read = true;

	while (read && fgets(line, sizeof(line), stdin)) {
		read = run_line(line);
		if (!read)
			fprintf(stderr, "not understood: %s", line);
	}
	policy_free(policy);
	printf("%zu pairs, %zu differences\n", checks, differences);
	return !read || checks == 0 || differences > 0;
}
