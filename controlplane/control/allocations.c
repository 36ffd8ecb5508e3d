/* allocations list, show, delete. */
#include "command.h"

#include "base/clock.h"

#include <string.h>

/* Names come from strangers as bytes; what is no UTF-8 is written as \xNN. */
static json_t *text_of(const char *bytes, size_t len)
{
	static const char hex[] = "0123456789abcdef";
	char safe[AUTH_USERNAME_MAX * 4 + 1];
	json_t *text = json_stringn(bytes, len);
	size_t n = 0;

	for (size_t i = 0; !text && i < len && n + 4 < sizeof(safe); i++) {
		unsigned char c = (unsigned char)bytes[i];

		if (c >= 0x20 && c < 0x7f) {
			safe[n++] = (char)c;
			continue;
		}
		memcpy(safe + n, (char[]){'\\', 'x', hex[c >> 4], hex[c & 15]}, 4);
		n += 4;
	}
	return text ? text : json_stringn(safe, n);
}

static json_t *describe_permissions(const struct alloc_relay *relay, uint64_t now_ns, json_t *list)
{
	const struct alloc_permission *p;

	for (p = alloc_next_permission(relay, NULL); p; p = alloc_next_permission(relay, p))
		json_array_append_new(
			list, json_pack("{s:o, s:I}", "peer", command_ip(&p->peer), "expires_s",
				      command_seconds_left(p->expires_ns, now_ns)));
	return list;
}

static json_t *describe_channels(const struct alloc_relay *relay, uint64_t now_ns, json_t *list)
{
	const struct alloc_channel *c;

	for (c = alloc_next_channel(relay, NULL); c; c = alloc_next_channel(relay, c))
		json_array_append_new(list, json_pack("{s:i, s:o, s:I}", "number", (int)c->number,
						    "peer", command_address(&c->peer), "expires_s",
						    command_seconds_left(c->expires_ns, now_ns)));
	return list;
}

/* As the client was told. */
static json_t *describe_relay(const struct alloc_relay *relay)
{
	bool told = relay->external.family != TP_NO_FAMILY;
	struct tp_addr address =
		tp_addr_with_port(told ? &relay->external : &relay->address, relay->address.port);

	return command_address(&address);
}

static json_t *describe(
	const struct control_deps *deps, const struct allocation *a, uint64_t now_ns)
{
	struct alloc_traffic sent = a->sent, received = a->received;
	json_t *permissions = json_array(), *channels = json_array(), *relays = json_array();
	uint64_t expires_ns = 0;
	json_t *doc;

	for (size_t i = 0; i < ALLOC_RELAYS; i++) {
		const struct alloc_relay *relay = a->relays[i];

		if (!relay)
			continue;
		describe_permissions(relay, now_ns, permissions);
		describe_channels(relay, now_ns, channels);
		json_array_append_new(relays, describe_relay(relay));
		if (relay->expires_ns > expires_ns)
			expires_ns = relay->expires_ns;
	}
	flows_add_traffic(deps->flows, a, &sent, &received);
	doc = json_pack("{s:I, s:o, s:s, s:o, s:O?, s:I, s:o, s:o, s:o, s:o}", "id",
		(json_int_t)a->id, "user",
		text_of(a->identity->username, a->identity->username_len), "transport", "udp",
		"client", command_address(&a->tuple.client), "relay", json_array_get(relays, 0),
		"lifetime_s", command_seconds_left(expires_ns, now_ns), "permissions", permissions,
		"channels", channels, "sent", command_traffic(sent.packets, sent.bytes), "received",
		command_traffic(received.packets, received.bytes));
	if (doc && json_array_size(relays) > 1) /* a dual allocation (RFC 8656, 7.2) */
		json_object_set(doc, "relay_additional", json_array_get(relays, 1));
	json_decref(relays);
	return doc;
}

struct listing {
	const struct control_deps *deps;
	struct command_list list;
	struct alloc_walk walk;
	char user[AUTH_USERNAME_MAX + 1]; /* empty: everybody's */
};

static void *begin_list(const void *context, const json_t *params, struct rpc_error *error)
{
	const char *user = json_string_value(json_object_get(params, "user"));
	struct listing *l = calloc(1, sizeof(*l));

	if (!l)
		return NULL;
	l->deps = context;
	l->list = command_list("allocations", params);
	snprintf(l->user, sizeof(l->user), "%s", user ? user : "");
	turn_server_walk(l->deps->turn, &l->walk);
	return l;
}

static bool is_wanted(const struct listing *l, const struct allocation *a)
{
	return !l->user[0] || alloc_counts_for(a, l->user, strlen(l->user));
}

static enum rpc_progress go_on_with_list(void *walk, uint64_t until_ns, const struct rpc_sink *out)
{
	struct listing *l = walk;
	const struct allocation *a;

	do {
		a = l->list.count < l->list.limit ? alloc_walk_next(&l->walk) : NULL;
		if (!a)
			return command_list_end(&l->list, out);
		if (is_wanted(l, a) &&
			!command_list_add(&l->list, describe(l->deps, a, tp_clock_now_ns()), out))
			return RPC_FAILED;
	} while (tp_clock_now_ns() < until_ns);
	return RPC_MORE;
}

static void end_list(void *walk)
{
	struct listing *l = walk;

	alloc_walk_end(&l->walk);
	free(l);
}

static struct allocation *find(
	const struct control_deps *deps, const json_t *params, struct rpc_error *error)
{
	json_int_t id = json_integer_value(json_object_get(params, "id"));
	struct allocation *a = turn_server_find(deps->turn, (uint32_t)id);

	if (!a)
		rpc_refuse(error, RPC_REFUSED, "no allocation %lld", (long long)id);
	return a;
}

static json_t *run_show(const void *context, const json_t *params, struct rpc_error *error)
{
	const struct control_deps *deps = context;
	const struct allocation *a = find(deps, params, error);

	return a ? describe(deps, a, tp_clock_now_ns()) : NULL;
}

static json_t *run_delete(const void *context, const json_t *params, struct rpc_error *error)
{
	const struct control_deps *deps = context;
	struct allocation *a = find(deps, params, error);

	if (!a)
		return NULL;
	tp_info("control: allocation %u deleted", a->id);
	turn_server_delete(deps->turn, a);
	udp_transport_settle(deps->transport);
	return json_pack("{s:O}", "deleted", json_object_get(params, "id"));
}

static const struct rpc_param list_params[] = {
	{"user", JSON_STRING, false, 1, AUTH_USERNAME_MAX},
	{"limit", JSON_INTEGER, false, 1, COMMAND_LIST_MAX},
	{NULL},
};
static const struct rpc_param id_params[] = {
	{"id", JSON_INTEGER, true, 1, UINT32_MAX},
	{NULL},
};

static const struct rpc_walk list_walk = {begin_list, go_on_with_list, end_list};

const struct rpc_method command_allocations_list = {
	"allocations.list", true, list_params, .walk = &list_walk};
const struct rpc_method command_allocations_show = {"allocations.show", true, id_params, run_show};
const struct rpc_method command_allocations_delete = {
	"allocations.delete", false, id_params, run_delete};
