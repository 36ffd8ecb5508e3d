/* The command line of turnpiked and turnpike-dataplane. No state, no output. */
#pragma once

#include <stdbool.h>
#include <stdio.h>

enum options_action { OPTIONS_SERVE, OPTIONS_CHECK, OPTIONS_VERSION, OPTIONS_HELP };

struct options {
	enum options_action action;
	const char *config; /* path; the default when none was given */
};

/* -EINVAL, and `error` is the one line to print before leaving with status 2. */
int options_parse(int argc, char *const argv[], struct options *out, char error[256]);

void options_print_help(FILE *to, const char *program);
