/*
 * JSON-RPC 2.0, one message: text in, text out. No I/O, no state. Parameters are named and typed by
 * a table, so that a command only sees what it asked for.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

enum rpc_code {
	RPC_PARSE_ERROR = -32700,
	RPC_INVALID_REQUEST = -32600,
	RPC_METHOD_NOT_FOUND = -32601,
	RPC_INVALID_PARAMS = -32602,
	RPC_INTERNAL_ERROR = -32603,
	RPC_REFUSED = -32000,   /* the command's own reasons */
	RPC_FORBIDDEN = -32001, /* a command that changes something, on the read-only socket */
	RPC_BUSY = -32002,
};

struct rpc_param {
	const char *name;
	json_type type; /* JSON_STRING or JSON_INTEGER */
	bool required;
	json_int_t min, max; /* of integers; strings: of their length */
};

struct rpc_error {
	enum rpc_code code;
	char message[256];
};

struct rpc_method {
	const char *name;
	bool looks_only;                /* changes nothing: also on the read-only socket */
	const struct rpc_param *params; /* ends with a NULL name; NULL: takes none */

	/* The result, a new reference; or NULL and `error` says why not. `params` is an object. */
	json_t *(*run)(const void *context, const json_t *params, struct rpc_error *error);
};

struct rpc_service {
	const struct rpc_method *methods;
	size_t methods_count;
	const void *context;
};

/* The answer to one line, with its newline, to be freed; NULL when none is due (notifications). */
char *rpc_answer(const struct rpc_service *service, bool readonly, const char *line, size_t len);

/* An answer that no message asked for. NULL when memory is out. */
char *rpc_complaint(enum rpc_code code, const char *message);

/* NULL, with code and text: for returning out of run(). */
__attribute__((format(printf, 3, 4))) json_t *rpc_refuse(
	struct rpc_error *error, enum rpc_code code, const char *format, ...);
