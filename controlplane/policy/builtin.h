/* The built-in rules: what stands under and over the operator's. */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum {
	BUILTIN_ALLOW = 1 << 0,     /* else deny */
	BUILTIN_ALWAYS = 1 << 1,    /* no rule of the operator opens it */
	BUILTIN_NO_CLIENT = 1 << 2, /* nor is it where an answer may go */
};

struct builtin {
	const char *prefix;
	const char *reason;
	uint8_t flags;
};

extern const struct builtin policy_builtins[];
extern const size_t policy_builtins_count;
