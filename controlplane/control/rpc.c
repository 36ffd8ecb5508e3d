/* JSON-RPC 2.0 without batches and without positional parameters. Event loop's thread. */
#include "rpc.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct rpc_call {
	const struct rpc_walk *walk;
	void *state;
	json_t *id;
	bool has_begun;
};

json_t *rpc_refuse(struct rpc_error *error, enum rpc_code code, const char *format, ...)
{
	va_list args;

	error->code = code;
	va_start(args, format);
	vsnprintf(error->message, sizeof(error->message), format, args);
	va_end(args);
	return NULL;
}

/* Takes over the references of `member` and `id`. */
static char *render(const char *key, json_t *member, json_t *id)
{
	json_t *answer = json_pack("{s:s, s:o, s:o}", "jsonrpc", "2.0", key, member, "id", id);
	char *text = answer ? json_dumps(answer, JSON_COMPACT) : NULL;
	size_t len;
	char *line;

	json_decref(answer);
	if (!text)
		return NULL;
	len = strlen(text);
	line = realloc(text, len + 2);
	if (!line) {
		free(text);
		return NULL;
	}
	memcpy(line + len, "\n", 2);
	return line;
}

/* What a client sent may come back in the message: anything that is no UTF-8 becomes '?'. */
static json_t *message_of(const char *text)
{
	json_t *message = json_string(text);
	char ascii[256];
	size_t i;

	if (message)
		return message;
	for (i = 0; i < sizeof(ascii) - 1 && text[i]; i++)
		ascii[i] = (unsigned char)text[i] < 0x80 ? text[i] : '?';
	ascii[i] = '\0';
	return json_string(ascii);
}

static char *render_error(const struct rpc_error *error, json_t *id)
{
	json_t *member =
		json_pack("{s:i, s:o}", "code", error->code, "message", message_of(error->message));

	return render("error", member, id);
}

char *rpc_complaint(enum rpc_code code, const char *message)
{
	struct rpc_error error;

	rpc_refuse(&error, code, "%s", message);
	return render_error(&error, json_null());
}

static const struct rpc_method *find_method(const struct rpc_service *service, const char *name)
{
	for (size_t i = 0; i < service->methods_count; i++) {
		if (strcmp(service->methods[i].name, name) == 0)
			return &service->methods[i];
	}
	return NULL;
}

static const struct rpc_param *find_param(const struct rpc_method *method, const char *name)
{
	for (const struct rpc_param *p = method->params; p && p->name; p++) {
		if (strcmp(p->name, name) == 0)
			return p;
	}
	return NULL;
}

static bool param_fits(const struct rpc_param *param, const json_t *value)
{
	json_int_t measure;

	if (json_typeof(value) != param->type)
		return false;
	measure = param->type == JSON_STRING ? (json_int_t)json_string_length(value)
					     : json_integer_value(value);
	return measure >= param->min && measure <= param->max;
}

static bool check_params(
	const struct rpc_method *method, const json_t *params, struct rpc_error *error)
{
	const struct rpc_param *p;
	const char *name;
	json_t *value;

	json_object_foreach((json_t *)params, name, value) {
		p = find_param(method, name);
		if (!p) {
			rpc_refuse(error, RPC_INVALID_PARAMS, "%s has no parameter %.60s",
				method->name, name);
			return false;
		}
		if (!param_fits(p, value)) {
			rpc_refuse(error, RPC_INVALID_PARAMS, "%s: expected %s from %lld to %lld",
				name,
				p->type == JSON_STRING ? "text with a length" : "a whole number",
				(long long)p->min, (long long)p->max);
			return false;
		}
	}
	for (p = method->params; p && p->name; p++) {
		if (p->required && !json_object_get(params, p->name)) {
			rpc_refuse(error, RPC_INVALID_PARAMS, "%s needs the parameter %s",
				method->name, p->name);
			return false;
		}
	}
	return true;
}

/* The method, if it may be called; NULL and `error` says why not. */
static const struct rpc_method *choose_method(const struct rpc_service *service, bool readonly,
	const char *name, const json_t *params, struct rpc_error *error)
{
	const struct rpc_method *method = find_method(service, name);

	if (!method)
		rpc_refuse(error, RPC_METHOD_NOT_FOUND, "no method %.60s", name);
	else if (readonly && !method->looks_only)
		rpc_refuse(
			error, RPC_FORBIDDEN, "%s changes something, this socket only looks", name);
	else if (params && !json_is_object(params))
		rpc_refuse(error, RPC_INVALID_PARAMS, "params: expected an object of named values");
	else
		return method;
	return NULL;
}

/* One that answers in pieces. */
static void begin_call(const struct rpc_service *service, const struct rpc_walk *walk,
	const json_t *params, json_t *id, struct rpc_error *error, struct rpc_call **out)
{
	void *state = walk->begin(service->context, params, error);
	struct rpc_call *call = state ? calloc(1, sizeof(*call)) : NULL;

	if (call) {
		*call = (struct rpc_call){walk, state, json_incref(id), false};
		*out = call;
	} else if (state) {
		walk->end(state);
	}
}

/* The result, or NULL: then *out is set, or `error` says why not. */
static json_t *call_method(const struct rpc_service *service, bool readonly, const char *name,
	const json_t *params, json_t *id, struct rpc_error *error, struct rpc_call **out)
{
	const struct rpc_method *method = choose_method(service, readonly, name, params, error);
	json_t *none = json_object(), *result = NULL;

	if (!params)
		params = none;
	if (method)
		*error = (struct rpc_error){RPC_INTERNAL_ERROR, "out of memory"};
	if (method && check_params(method, params, error)) {
		if (method->run)
			result = method->run(service->context, params, error);
		else if (id)
			begin_call(service, method->walk, params, id, error, out);
	}
	json_decref(none);
	return result;
}

static bool put(const struct rpc_sink *out, const char *text)
{
	return out->put(text, strlen(text), out->arg) == 0;
}

static bool put_head(struct rpc_call *call, const struct rpc_sink *out)
{
	call->has_begun = true;
	return put(out, "{\"jsonrpc\":\"2.0\",\"result\":");
}

static bool put_tail(const struct rpc_call *call, const struct rpc_sink *out)
{
	return put(out, ",\"id\":") &&
	       json_dump_callback(call->id, out->put, out->arg, JSON_COMPACT | JSON_ENCODE_ANY) ==
		       0 &&
	       put(out, "}\n");
}

enum rpc_progress rpc_call_go_on(
	struct rpc_call *call, uint64_t until_ns, const struct rpc_sink *out)
{
	enum rpc_progress progress;

	if (!call->has_begun && !put_head(call, out))
		return RPC_FAILED;
	progress = call->walk->go_on(call->state, until_ns, out);
	if (progress == RPC_DONE && !put_tail(call, out))
		return RPC_FAILED;
	return progress;
}

void rpc_call_end(struct rpc_call *call)
{
	if (!call)
		return;
	call->walk->end(call->state);
	json_decref(call->id);
	free(call);
}

/* The id to answer with; NULL: it has none, so no answer is wanted. */
static bool read_id(const json_t *request, json_t **id)
{
	json_t *given = json_object_get(request, "id");

	*id = given;
	return !given || json_is_string(given) || json_is_number(given) || json_is_null(given);
}

static const char *what_is_wrong(const json_t *request, json_t **id)
{
	const char *version = json_string_value(json_object_get(request, "jsonrpc"));

	*id = NULL;
	if (json_is_array(request))
		return "batches are not supported, send one message a line";
	if (!json_is_object(request))
		return "expected an object";
	if (!read_id(request, id)) {
		*id = NULL;
		return "id: expected text, a number or null";
	}
	if (!version || strcmp(version, "2.0") != 0)
		return "jsonrpc: expected \"2.0\"";
	if (!json_is_string(json_object_get(request, "method")))
		return "method: expected text";
	return NULL;
}

static char *answer_request(
	const struct rpc_service *service, bool readonly, json_t *request, struct rpc_call **call)
{
	struct rpc_error error;
	const char *wrong;
	json_t *id, *result;

	wrong = what_is_wrong(request, &id);
	if (wrong) {
		rpc_refuse(&error, RPC_INVALID_REQUEST, "%s", wrong);
		return render_error(&error, id ? json_incref(id) : json_null());
	}
	result = call_method(service, readonly,
		json_string_value(json_object_get(request, "method")),
		json_object_get(request, "params"), id, &error, call);
	if (!id || *call) {
		json_decref(result);
		return NULL;
	}
	json_incref(id);
	return result ? render("result", result, id) : render_error(&error, id);
}

char *rpc_answer(const struct rpc_service *service, bool readonly, const char *line, size_t len,
	struct rpc_call **call)
{
	struct rpc_error error;
	json_error_t reason;
	json_t *request = json_loadb(line, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &reason);
	char *answer;

	*call = NULL;
	if (!request) {
		rpc_refuse(&error, RPC_PARSE_ERROR, "not JSON: %.120s at byte %d", reason.text,
			reason.position);
		return render_error(&error, json_null());
	}
	answer = answer_request(service, readonly, request, call);
	json_decref(request);
	return answer;
}
