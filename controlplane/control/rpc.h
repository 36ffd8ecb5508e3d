/*
 * JSON-RPC 2.0, one message: text in, text out. No I/O. Parameters are named and typed by a table,
 * so that a command only sees what it asked for. A command that walks over what may be much answers
 * in pieces, between which the process does other things; what it is about changes meanwhile.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

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

/* Where a piece of text goes. put() is json_dump_callback()'s: 0, or -1 when memory is out. */
struct rpc_sink {
	json_dump_callback_t put;
	void *arg;
};

enum rpc_progress { RPC_FAILED = -1, RPC_MORE, RPC_DONE };

struct rpc_walk {
	/* What it remembers from piece to piece; or NULL and `error` says why not. */
	void *(*begin)(const void *context, const json_t *params, struct rpc_error *error);
	/* Puts more of the result's text, until `until_ns` (CLOCK_MONOTONIC) or a little longer. */
	enum rpc_progress (*go_on)(void *walk, uint64_t until_ns, const struct rpc_sink *out);
	void (*end)(void *walk); /* whether it was done or is given up */
};

struct rpc_method {
	const char *name;
	bool looks_only;                /* changes nothing: also on the read-only socket */
	const struct rpc_param *params; /* ends with a NULL name; NULL: takes none */

	/* The result, a new reference; or NULL and `error` says why not. `params` is an object. */
	json_t *(*run)(const void *context, const json_t *params, struct rpc_error *error);
	const struct rpc_walk *walk; /* or this, with run NULL */
};

struct rpc_service {
	const struct rpc_method *methods;
	size_t methods_count;
	const void *context;
};

struct rpc_call; /* that answers in pieces */

/*
 * The answer to one line, with its newline, to be freed; NULL when none is due (notifications), or
 * when it comes in pieces: then *call is set, and rpc_call_end() owed. Calls end before the
 * service.
 */
char *rpc_answer(const struct rpc_service *service, bool readonly, const char *line, size_t len,
	struct rpc_call **call);

/* The next piece. RPC_FAILED: there will be no whole answer. */
enum rpc_progress rpc_call_go_on(
	struct rpc_call *call, uint64_t until_ns, const struct rpc_sink *out);
void rpc_call_end(struct rpc_call *call); /* NULL is legal */

/* An answer that no message asked for. NULL when memory is out. */
char *rpc_complaint(enum rpc_code code, const char *message);

/* NULL, with code and text: for returning out of run(). */
__attribute__((format(printf, 3, 4))) json_t *rpc_refuse(
	struct rpc_error *error, enum rpc_code code, const char *format, ...);
