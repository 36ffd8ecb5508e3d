/*
 * The control socket: what the command groups have in common, and their methods on two sockets of
 * different rights. Event loop's thread; nothing blocks.
 */
#include "command.h"
#include "server.h"

#include "base/clock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct control {
	struct server *all, *readonly;
	struct control_deps deps;
	struct control_load load;
	struct rpc_method methods[16];
};

static const struct rpc_method *const commands[] = {
	&command_status,
	&command_stats,
	&command_allocations_list,
	&command_allocations_show,
	&command_allocations_delete,
	&command_flows_list,
	&command_flows_audit,
	&command_policy_explain,
	&command_credentials_mint,
};

#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

json_int_t command_seconds_left(uint64_t deadline_ns, uint64_t now_ns)
{
	if (deadline_ns <= now_ns)
		return 0;
	return (json_int_t)((deadline_ns - now_ns + TP_NS_PER_S - 1) / TP_NS_PER_S);
}

json_t *command_traffic(uint64_t packets, uint64_t bytes)
{
	return json_pack("{s:I, s:I}", "packets", (json_int_t)packets, "bytes", (json_int_t)bytes);
}

json_t *command_address(const struct tp_addr *address)
{
	char text[TP_ADDR_TEXT];

	return json_string(tp_addr_text(address, text));
}

json_t *command_ip(const struct tp_addr *address)
{
	char text[TP_ADDR_TEXT];

	return json_string(tp_addr_ip_text(address, text));
}

struct command_list command_list(const char *name, const json_t *params)
{
	const json_t *limit = json_object_get(params, "limit");

	return (struct command_list){
		.name = name,
		.limit = limit ? (size_t)json_integer_value(limit) : COMMAND_LIST_DEFAULT,
	};
}

static bool put_before_element(const struct command_list *list, const struct rpc_sink *out)
{
	char text[64];
	int len = list->count ? snprintf(text, sizeof(text), ",")
			      : snprintf(text, sizeof(text), "{\"%s\":[", list->name);

	return out->put(text, (size_t)len, out->arg) == 0;
}

bool command_list_add(struct command_list *list, json_t *element, const struct rpc_sink *out)
{
	bool added = element && put_before_element(list, out) &&
		     json_dump_callback(element, out->put, out->arg, JSON_COMPACT) == 0;

	json_decref(element);
	list->count++;
	return added;
}

enum rpc_progress command_list_end(const struct command_list *list, const struct rpc_sink *out)
{
	if (list->count == 0 && !put_before_element(list, out))
		return RPC_FAILED;
	return out->put("]}", 2, out->arg) == 0 ? RPC_DONE : RPC_FAILED;
}

int control_open(const struct config_control *settings, struct control **out, char error[256])
{
	struct server_socket all = {settings->socket, settings->group, false};
	struct server_socket looks = {settings->readonly_socket, settings->readonly_group, true};
	struct control *control = calloc(1, sizeof(*control));
	int err;

	if (!control) {
		snprintf(error, 256, "control socket: out of memory");
		return -ENOMEM;
	}
	err = server_open(&all, &control->all, error);
	if (err == 0 && looks.path)
		err = server_open(&looks, &control->readonly, error);
	if (err < 0) {
		control_free(control);
		return err;
	}
	*out = control;
	return 0;
}

int control_serve(struct control *control, struct event_base *base, const struct control_deps *deps)
{
	struct rpc_service service = {control->methods, COMMANDS, &control->deps};
	int err;

	control->deps = *deps;
	control->deps.load = &control->load;
	/* Twice: what the workers did before is nobody's business now. */
	control_sample(control);
	control_sample(control);
	for (size_t i = 0; i < COMMANDS; i++)
		control->methods[i] = *commands[i];
	err = server_start(control->all, base, &service);
	if (err == 0 && control->readonly)
		err = server_start(control->readonly, base, &service);
	return err;
}

void control_sample(struct control *control)
{
	const struct tp_memory *memory = tp_table_memory(control->deps.table);
	const struct tp_worker_counters *workers = memory->regions[TP_REGION_WORKERS];
	struct control_load *load = &control->load;

	memcpy(load->before, load->last, sizeof(load->before));
	for (uint32_t i = 0; i < memory->shape.workers && i < TP_WORKERS_MAX; i++)
		load->last[i] = (struct control_time){workers[i].busy_ns, workers[i].up_ns};
}

void control_free(struct control *control)
{
	if (!control)
		return;
	server_close(control->all);
	server_close(control->readonly);
	free(control);
}
