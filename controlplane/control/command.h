/* What the command groups share: one file per group, one method table each, collected in control.c.
 */
#pragma once

#include "control.h"
#include "rpc.h"

/*
 * Longer lists are asked for explicitly. However long: the event loop also relays packets, so that
 * what walks over allocations or flows does it in pieces (struct rpc_walk).
 */
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

/* A list that is told element by element: {"NAME":[...]}, at most so many of them. */
struct command_list {
	const char *name;
	size_t limit; /* the parameter `limit`, or the default */
	size_t count;
};

struct command_list command_list(const char *name, const json_t *params);
/* Takes the reference of `element`; false: memory is out. */
bool command_list_add(struct command_list *list, json_t *element, const struct rpc_sink *out);
enum rpc_progress command_list_end(const struct command_list *list, const struct rpc_sink *out);
