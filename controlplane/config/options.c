/* The command line of the daemons: a dozen words, so no library. Any thread, never blocks. */
#include "options.h"

#include "config.h"

#include <errno.h>
#include <string.h>

static const struct {
	const char *shorter, *longer;
	enum options_action action;
} flags[] = {
	{"-C", "--check", OPTIONS_CHECK},
	{"-V", "--version", OPTIONS_VERSION},
	{"-h", "--help", OPTIONS_HELP},
};

static bool is_flag(const char *arg, struct options *out)
{
	for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
		if (strcmp(arg, flags[i].shorter) == 0 || strcmp(arg, flags[i].longer) == 0) {
			out->action = flags[i].action;
			return true;
		}
	}
	return false;
}

int options_parse(int argc, char *const argv[], struct options *out, char error[256])
{
	struct options o = {.config = CONFIG_DEFAULT_PATH};

	for (int i = 1; i < argc; i++) {
		const char *arg = argv[i];

		if (strncmp(arg, "--config=", 9) == 0 && arg[9]) {
			o.config = arg + 9;
		} else if (strcmp(arg, "-c") == 0 || strcmp(arg, "--config") == 0) {
			if (++i == argc || !*argv[i]) {
				snprintf(error, 256, "%s needs the name of a file", arg);
				return -EINVAL;
			}
			o.config = argv[i];
		} else if (!is_flag(arg, &o)) {
			snprintf(error, 256, "unknown argument %.100s, see --help", arg);
			return -EINVAL;
		}
	}
	*out = o;
	return 0;
}

void options_print_help(FILE *to, const char *program)
{
	fprintf(to,
		"Usage: %s [-c FILE] [--check]\n"
		"\n"
		"  -c, --config FILE  configuration (default " CONFIG_DEFAULT_PATH ")\n"
		"  -C, --check        read the configuration, say ok or what is wrong, exit\n"
		"  -V, --version      print the version\n"
		"  -h, --help         print this text\n",
		program);
}
