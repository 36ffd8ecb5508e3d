/*
 * config/: a file, the users file and the secrets file beside it, separated by 0xff; a first byte
 * of 0xfe makes it a command line instead, one argument a line.
 */
#include "fuzz.h"

#include "controlplane/config/config.h"
#include "controlplane/config/options.h"

#include <fcntl.h>
#include <unistd.h>

static char directory[] = "config-XXXXXX";
static const char *const files[] = {"turnpike.yaml", "users", "secrets"};

static void clean(void)
{
	for (size_t i = 0; i < COUNT(files); i++)
		unlink(files[i]);
	if (chdir("..") == 0)
		rmdir(directory);
}

/* In a folder of its own: users_file and secrets_file are relative to it. */
static void begin(void)
{
	static bool begun;

	if (begun)
		return;
	begun = true;
	tp_log_set_level(TP_LOG_ERROR);
	MUST(mkdtemp(directory) && chdir(directory) == 0);
	atexit(clean);
}

static void write_file(const char *name, struct feed text)
{
	int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	MUST(fd >= 0 && write(fd, text.bytes, text.len) == (ssize_t)text.len);
	close(fd);
}

static void check_line(const char *error, size_t size)
{
	size_t len = strnlen(error, size);

	MUST(len > 0 && len < size);
	for (size_t i = 0; i < len; i++)
		MUST((unsigned char)error[i] >= 0x20);
}

static void use(struct config *config)
{
	struct policy *policy = NULL;
	struct auth *auth = NULL;

	MUST(config->listeners_count > 0 && config->turn.relays_count > 0);
	MUST(config->turn.port_min <= config->turn.port_max && config->turn.port_min > 0);
	MUST(config->turn.lifetime_default_ns <= config->turn.lifetime_max_ns);
	MUST(config_make_policy(config, &policy) == 0);
	policy_free(policy);
	MUST(auth_new(&config->auth, &auth) == 0);
	auth_free(auth);
	config_forget_credentials(config);
	config_free(config);
}

static void load(struct feed feed)
{
	char error[CONFIG_ERROR_SIZE] = "";
	struct config *config = NULL;

	for (size_t i = 0; i < COUNT(files); i++)
		write_file(files[i], feed_until(&feed, 0xff));
	if (config_load(files[0], &config, error) == 0)
		use(config);
	else
		check_line(error, sizeof(error));
}

static void parse_arguments(struct feed feed)
{
	char *argv[16] = {strdup("turnpiked")};
	struct options options;
	char error[256] = "";
	int argc = 1;

	while (feed.len > 0 && argc < 15) {
		struct feed word = feed_until(&feed, '\n');

		argv[argc++] = strndup((const char *)word.bytes, word.len);
	}
	if (options_parse(argc, argv, &options, error) == 0)
		MUST(options.config && *options.config);
	else
		MUST(*error);
	while (argc > 0)
		free(argv[--argc]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	begin();
	if (size > 0 && data[0] == 0xfe)
		parse_arguments((struct feed){data + 1, size - 1});
	else
		load((struct feed){data, size});
	return 0;
}
