/*
 * turnpikectl: one command to the control socket, and its answer as text or JSON. Knows the methods
 * and their documents, nothing else of the server. Blocks as it likes.
 */
#include "client.h"
#include "print.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { EXIT_DONE = 0, EXIT_REFUSED = 1, EXIT_USAGE = 2, EXIT_NO_SERVER = 3 };

#define WORDS_MAX 16

enum argument_kind { ARGUMENT_TEXT, ARGUMENT_NUMBER, ARGUMENT_SECONDS };

struct argument {
	const char *flag;  /* "--limit"; NULL: by its place, and then it is required */
	const char *param; /* its name in the request */
	enum argument_kind kind;
};

struct command {
	const char *name, *usage, *help;
	const char *method; /* NULL: in the manual, but not there yet */
	void (*print)(const json_t *doc);
	struct argument arguments[3]; /* end with param NULL */
	bool can_watch;
};

#define LIMIT                                                                                      \
	{                                                                                          \
		"--limit", "limit", ARGUMENT_NUMBER                                                \
	}
#define ID                                                                                         \
	{                                                                                          \
		NULL, "id", ARGUMENT_NUMBER                                                        \
	}

static const struct command commands[] = {
	{"status", "", "version, engine and why, interfaces, what is used of the limits", "status",
		print_status},
	{"stats", "[--watch]", "packets and bytes by direction and verdict; requests", "stats",
		print_stats, .can_watch = true},
	{"top", "", "the busiest allocations, live"},
	{"allocations list", "[--user U] [--limit N]", "allocations, oldest first",
		"allocations.list", print_allocations, {{"--user", "user", ARGUMENT_TEXT}, LIMIT}},
	{"allocations show", "ID", "one allocation with permissions and channels",
		"allocations.show", print_allocation, {ID}},
	{"allocations delete", "ID", "end an allocation", "allocations.delete", print_deleted,
		{ID}},
	{"flows list", "[--limit N]", "the shared table as the data plane sees it", "flows.list",
		print_flows, {LIMIT}},
	{"flows audit", "", "compare the table with the allocations: 0 differences is right",
		"flows.audit", print_audit},
	{"policy explain", "ADDRESS", "may a peer be reached, and which rule says so",
		"policy.explain", print_explanation, {{NULL, "address", ARGUMENT_TEXT}}},
	{"credentials mint", "NAME [--ttl 1h]", "a time-limited username and password",
		"credentials.mint", print_credentials,
		{{NULL, "name", ARGUMENT_TEXT}, {"--ttl", "ttl_s", ARGUMENT_SECONDS}}},
	{"drain", "on|off", "refuse new allocations, keep serving the others"},
	{"reload", "", "read the configuration again"},
	{"config show", "", "the configuration in force"},
	{"log level", "LEVEL", "change the log level"},
	{"trace", "ID --pcap FILE", "copy the packets of one allocation"},
};

#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

/* The command line, taken apart. */
struct line {
	const char *socket;
	bool json, watch;
	const char *words[WORDS_MAX]; /* command, arguments, flags and their values */
	int words_count;
};

static void print_help(void)
{
	printf("Usage: turnpikectl [--socket PATH] [--json] COMMAND\n\nCommands:\n");
	for (size_t i = 0; i < COMMANDS; i++) {
		const struct command *c = &commands[i];
		int len = printf("  %s %s", c->name, c->usage);

		printf("%*s%s%s\n", len < 42 ? 42 - len : 1, "", c->help,
			c->method ? "" : " (not implemented yet)");
	}
	printf("\nOptions:\n"
	       "  --socket PATH  the server's control socket (default " CLIENT_DEFAULT_SOCKET ")\n"
	       "  --json         one JSON document instead of text\n"
	       "  --version      print the version\n"
	       "  --help         print this text\n"
	       "\n"
	       "Exit status: 0 done, 1 the server refused, 2 wrong usage, 3 no server at the "
	       "socket.\n");
}

__attribute__((format(printf, 1, 2))) static int misuse(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fputs("turnpikectl: ", stderr);
	vfprintf(stderr, format, args);
	fputs(", see turnpikectl --help\n", stderr);
	va_end(args);
	return EXIT_USAGE;
}

static bool is(const char *a, const char *b)
{
	return strcmp(a, b) == 0;
}

/* Options of the program may stand anywhere. -1: go on; else the status to leave with. */
static int read_line(int argc, char *argv[], struct line *line)
{
	for (int i = 1; i < argc; i++) {
		const char *arg = argv[i];

		if (is(arg, "--help") || is(arg, "-h")) {
			print_help();
			return EXIT_DONE;
		}
		if (is(arg, "--version")) {
			printf("turnpikectl %s\n", TURNPIKE_VERSION);
			return EXIT_DONE;
		}
		if (is(arg, "--json")) {
			line->json = true;
		} else if (is(arg, "--watch")) {
			line->watch = true;
		} else if (is(arg, "--socket")) {
			if (++i == argc)
				return misuse("--socket needs a path");
			line->socket = argv[i];
		} else if (strncmp(arg, "--socket=", 9) == 0) {
			line->socket = arg + 9;
		} else if (line->words_count == WORDS_MAX) {
			return misuse("too many arguments");
		} else {
			line->words[line->words_count++] = arg;
		}
	}
	return -1;
}

/* How many words of the line the command's name takes; 0: it is not the one. */
static int match(const struct command *command, const struct line *line)
{
	char two[128];

	if (line->words_count > 0 && is(command->name, line->words[0]))
		return 1;
	if (line->words_count < 2)
		return 0;
	snprintf(two, sizeof(two), "%s %s", line->words[0], line->words[1]);
	return is(command->name, two) ? 2 : 0;
}

static const struct command *find_command(const struct line *line, int *words)
{
	for (size_t i = 0; i < COMMANDS; i++) {
		*words = match(&commands[i], line);
		if (*words)
			return &commands[i];
	}
	return NULL;
}

static int read_number(const char *text, long long *out, const char **rest)
{
	char *end;

	if (*text < '0' || *text > '9')
		return -EINVAL;
	errno = 0;
	*out = strtoll(text, &end, 10);
	*rest = end;
	return errno ? -ERANGE : 0;
}

/* "600 s", "10min", "1h": a unit is part of the value, as in the configuration. */
static int read_seconds(const char *text, long long *out)
{
	static const struct {
		const char *name;
		long long factor;
	} units[] = {{"s", 1}, {"min", 60}, {"h", 3600}};
	const char *rest;
	long long n;

	if (read_number(text, &n, &rest) < 0)
		return -EINVAL;
	rest += *rest == ' ';
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		if (is(rest, units[i].name) && n <= LLONG_MAX / units[i].factor) {
			*out = n * units[i].factor;
			return 0;
		}
	}
	return -EINVAL;
}

static int add_param(const struct argument *argument, const char *word, json_t *params)
{
	const char *name = argument->flag ? argument->flag : argument->param, *rest = "";
	long long n = 0;

	if (json_object_get(params, argument->param))
		return misuse("%s is given twice", name);
	if (argument->kind == ARGUMENT_NUMBER && (read_number(word, &n, &rest) < 0 || *rest))
		return misuse("%s: expected a whole number", name);
	if (argument->kind == ARGUMENT_SECONDS && read_seconds(word, &n) < 0)
		return misuse("%s: expected a time in s, min or h, as in 1h", name);
	if (json_object_set_new(params, argument->param,
		    argument->kind == ARGUMENT_TEXT ? json_string(word) : json_integer(n)) < 0)
		return misuse("%s: expected UTF-8 text", name);
	return EXIT_DONE;
}

/* The argument that a word is for: its flag's, or the first without a flag and a value. */
static const struct argument *find_argument(
	const struct command *command, const char *word, const json_t *params)
{
	for (const struct argument *a = command->arguments; a < command->arguments + 3; a++) {
		if (!a->param)
			break;
		if (a->flag ? is(word, a->flag)
			    : !json_object_get(params, a->param) && *word != '-')
			return a;
	}
	return NULL;
}

static int read_params(
	const struct command *command, const struct line *line, int first, json_t *params)
{
	for (int i = first; i < line->words_count; i++) {
		const struct argument *a = find_argument(command, line->words[i], params);
		int status;

		if (!a)
			return misuse("%s: unexpected %s", command->name, line->words[i]);
		if (a->flag && ++i == line->words_count)
			return misuse("%s needs a value", a->flag);
		status = add_param(a, line->words[i], params);
		if (status != EXIT_DONE)
			return status;
	}
	for (const struct argument *a = command->arguments; a < command->arguments + 3; a++) {
		if (a->param && !a->flag && !json_object_get(params, a->param))
			return misuse("usage: turnpikectl %s %s", command->name, command->usage);
	}
	return EXIT_DONE;
}

static void show(const struct command *command, const struct line *line, const json_t *doc)
{
	if (line->json) {
		json_dumpf(doc, stdout, JSON_COMPACT);
		putchar('\n');
		return;
	}
	if (line->watch)
		fputs(isatty(STDOUT_FILENO) ? "\033[H\033[2J" : "\n", stdout);
	command->print(doc);
}

/* The server's words may hold what a stranger chose: printable ASCII only. */
static void complain(const char *message)
{
	fputs("turnpikectl: ", stderr);
	for (; *message; message++)
		fputc(*message >= 0x20 && *message < 0x7f ? *message : '?', stderr);
	fputc('\n', stderr);
}

static int ask(struct client *client, const struct command *command, const struct line *line,
	json_t *params)
{
	char message[512];
	json_t *doc;
	int err;

	do {
		err = client_call(client, command->method, params, &doc, message);
		if (err == -EREMOTEIO) {
			complain(message);
			return EXIT_REFUSED;
		}
		if (err < 0) {
			fprintf(stderr, "turnpikectl: no answer from %s: %s\n", line->socket,
				strerror(-err));
			return EXIT_NO_SERVER;
		}
		show(command, line, doc);
		json_decref(doc);
		if (fflush(stdout) != 0)
			return EXIT_REFUSED;
	} while (line->watch && sleep(1) == 0);
	return EXIT_DONE;
}

static int run(const struct command *command, const struct line *line, json_t *params)
{
	struct client *client;
	int err = client_open(line->socket, &client);
	int status;

	if (err < 0) {
		fprintf(stderr, "turnpikectl: %s: %s\n", line->socket,
			err == -EACCES ? "you may not use this socket" : strerror(-err));
		return err == -EACCES ? EXIT_REFUSED : EXIT_NO_SERVER;
	}
	status = ask(client, command, line, params);
	client_close(client);
	return status;
}

int main(int argc, char *argv[])
{
	struct line line = {.socket = CLIENT_DEFAULT_SOCKET};
	int status = read_line(argc, argv, &line), first;
	const struct command *command;
	json_t *params;

	if (status >= 0)
		return status;
	if (line.words_count == 0)
		return misuse("which command");
	command = find_command(&line, &first);
	if (!command)
		return misuse("no command %s", line.words[0]);
	if (!command->method)
		return misuse("%s is not implemented yet", command->name);
	if (line.watch && !command->can_watch)
		return misuse("%s cannot be watched", command->name);
	params = json_object();
	status = read_params(command, &line, first, params);
	if (status == EXIT_DONE)
		status = run(command, &line, params);
	json_decref(params);
	return status;
}
