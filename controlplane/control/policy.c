/* policy explain: may a peer be reached, and which rule says so. */
#include "command.h"

static json_t *run_explain(const void *context, const json_t *params, struct rpc_error *error)
{
	const struct control_deps *deps = context;
	const char *text = json_string_value(json_object_get(params, "address"));
	char rule[POLICY_RULE_SIZE] = "";
	enum policy_verdict verdict;
	struct tp_addr peer;

	if (tp_addr_parse_ip(text, &peer) < 0 && tp_addr_parse(text, &peer) < 0)
		return rpc_refuse(error, RPC_INVALID_PARAMS,
			"address: expected one like 192.0.2.1 or 2001:db8::1");
	verdict = policy_check(deps->policy, &peer, rule);
	/* Of this server's own relay addresses only ports with a live relay are reachable (P14). */
	return json_pack("{s:o, s:b, s:s, s:b}", "address", command_ip(&peer), "allowed",
		verdict != POLICY_DENY, "rule", rule, "relays_only", verdict == POLICY_RELAYS_ONLY);
}

static const struct rpc_param explain_params[] = {
	{"address", JSON_STRING, true, 1, TP_ADDR_TEXT},
	{NULL},
};

const struct rpc_method command_policy_explain = {
	"policy.explain", true, explain_params, run_explain};
