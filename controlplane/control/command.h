/* What the command groups share: one file per group, one method table each, collected in control.c.
 */
#pragma once

#include "control.h"
#include "rpc.h"

/* Longer lists are asked for explicitly, and never so long that the event loop, which also relays
 * packets, stops for seconds: whoever may only look could ask for them again and again. */
#define COMMAND_LIST_DEFAULT 10000
#define COMMAND_LIST_MAX     100000

extern const struct rpc_method command_status;
extern const struct rpc_method command_stats;
extern const struct rpc_method command_allocations_list;
extern const struct rpc_method command_allocations_show;
extern const struct rpc_method command_allocations_delete;
extern const struct rpc_method command_flows_list;
extern const struct rpc_method command_flows_audit;
extern const struct rpc_method command_policy_explain;
extern const struct rpc_method command_credentials_mint;

/* Seconds from now on, rounded up; 0 when it is over. */
json_int_t command_seconds_left(uint64_t deadline_ns, uint64_t now_ns);

json_t *command_traffic(uint64_t packets, uint64_t bytes); /* {"packets","bytes"} */
json_t *command_address(const struct tp_addr *address);    /* "ip:port", "[ip]:port" */
json_t *command_ip(const struct tp_addr *address);         /* "ip" */

/* The parameter `limit`, or the default. */
size_t command_limit(const json_t *params);
