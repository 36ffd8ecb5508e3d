/* Who may use the relay: users and secrets of the configuration and of files of their own. */
#include "loader.h"

#include "base/cleanup.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Threat N15: an integrity value that was captured lets anyone try secrets at home. */
#define SECRET_SAFE_LEN 16

/* Files are looked for beside the configuration. */
static char *path_beside(const char *config, const char *name)
{
	const char *slash = strrchr(config, '/');
	char *path = NULL;

	if (*name == '/' || !slash)
		return strdup(name);
	if (asprintf(&path, "%.*s/%s", (int)(slash - config), config, name) < 0)
		return NULL;
	return path;
}

static int warn_readable(struct loader *l, const char *key, const struct document_text *text)
{
	if (!text->world_readable)
		return 0;
	return loader_warn(l, key, "everybody may read the file, chmod o-r would protect it");
}

static int load_users_file(struct loader *l)
{
	struct config_source *source = l->source;
	const char *name = l->raw->auth.users_file;
	TP_AUTO_FREE char *path = NULL;
	int err;

	if (!name)
		return 0;
	path = path_beside(source->doc.path, name);
	if (!path)
		return loader_out_of_memory(l);
	err = document_open(path, &schema_users, &source->users_doc, l->error);
	if (err == -EINVAL)
		return err;
	if (err < 0)
		return loader_fail(l, "auth.users_file",
			"cannot read %.200s: %s, expected a file of names and passwords", path,
			strerror(-err));
	err = loader_parse(
		l, &source->users_doc, &schema_users, &source->raw_users, &source->raw_users_count);
	if (err < 0)
		return err;
	return warn_readable(l, "auth.users_file", &source->users_doc.text);
}

static int add_user(struct loader *l, const struct document *doc, const struct raw_user *raw,
	const char *key_format, size_t index)
{
	struct auth_settings *auth = &l->config->auth;
	struct auth_user *users = (struct auth_user *)auth->users;
	char key[DOCUMENT_KEY_SIZE];

	snprintf(key, sizeof(key), "%s[%zu]", key_format, index);
	if (!raw->name)
		return loader_fail_in(l, doc, key, "has no name, expected name and password");
	if (!raw->password)
		return loader_fail_in(l, doc, key, "has no password, expected name and password");
	if (strlen(raw->name) > AUTH_USERNAME_MAX)
		return loader_fail_in(l, doc, key, "name of %zu bytes, expected at most %d",
			strlen(raw->name), AUTH_USERNAME_MAX);
	users[auth->users_count++] = (struct auth_user){raw->name, raw->password};
	return 0;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct auth_user *)a)->name, ((const struct auth_user *)b)->name);
}

/* Sorted for it: a file may have a million users. */
static int refuse_twins(struct loader *l)
{
	struct auth_settings *auth = &l->config->auth;
	struct auth_user *users = (struct auth_user *)auth->users;
	const char *key = l->raw->auth.users_count ? "auth.users" : "auth.users_file";

	if (!auth->users_count)
		return 0;
	qsort(users, auth->users_count, sizeof(*users), by_name);
	for (size_t i = 1; i < auth->users_count; i++) {
		if (by_name(&users[i - 1], &users[i]) == 0)
			return loader_fail(
				l, key, "user \"%.60s\" is there twice, remove one", users[i].name);
	}
	return 0;
}

static int load_users(struct loader *l)
{
	struct config_source *source = l->source;
	size_t inside = l->raw->auth.users_count;
	int err = load_users_file(l);

	if (err < 0)
		return err;
	l->config->auth.users =
		calloc(inside + source->raw_users_count + 1, sizeof(struct auth_user));
	if (!l->config->auth.users)
		return loader_out_of_memory(l);
	for (size_t i = 0; err == 0 && i < inside; i++)
		err = add_user(l, &source->doc, &l->raw->auth.users[i], "auth.users", i);
	for (size_t i = 0; err == 0 && i < source->raw_users_count; i++)
		err = add_user(l, &source->users_doc, &source->raw_users[i], "", i);
	return err < 0 ? err : refuse_twins(l);
}

static int load_secrets_file(struct loader *l)
{
	struct config_source *source = l->source;
	const char *name = l->raw->auth.secrets_file;
	int err;

	if (!name)
		return 0;
	source->secrets_path = path_beside(source->doc.path, name);
	if (!source->secrets_path)
		return loader_out_of_memory(l);
	err = document_read(source->secrets_path, &source->secrets);
	if (err < 0)
		return loader_fail(l, "auth.secrets_file",
			"cannot read %.200s: %s, expected a file with a secret on each line",
			source->secrets_path, strerror(-err));
	if (strlen(source->secrets.bytes) != source->secrets.len)
		return loader_fail(l, "auth.secrets_file",
			"%.200s holds a NUL character, expected a secret on each line",
			source->secrets_path);
	return warn_readable(l, "auth.secrets_file", &source->secrets);
}

static int add_secret(struct loader *l, const char *secret, const char *key)
{
	struct auth_settings *auth = &l->config->auth;

	((const char **)auth->secrets)[auth->secrets_count++] = secret;
	if (strlen(secret) >= SECRET_SAFE_LEN)
		return 0;
	return loader_warn(l, key, "a secret of %zu bytes can be guessed, take %d or more",
		strlen(secret), SECRET_SAFE_LEN);
}

static size_t count_lines(const char *text)
{
	size_t lines = 1;

	for (; text && *text; text++)
		lines += *text == '\n';
	return lines;
}

static int add_secret_lines(struct loader *l)
{
	struct config_source *source = l->source;
	size_t before = l->config->auth.secrets_count;
	char *rest = source->secrets.bytes, *line;
	int err = 0;

	while (err == 0 && (line = strsep(&rest, "\n"))) {
		line[strcspn(line, "\r")] = '\0';
		if (*line)
			err = add_secret(l, line, "auth.secrets_file");
	}
	if (err == 0 && rest == NULL && source->secrets_path &&
		l->config->auth.secrets_count == before)
		return loader_fail(l, "auth.secrets_file",
			"%.200s is empty, expected a secret on each line", source->secrets_path);
	return err;
}

static int load_secrets(struct loader *l)
{
	size_t inside = l->raw->auth.secrets_count;
	int err = load_secrets_file(l);

	if (err < 0)
		return err;
	l->config->auth.secrets =
		calloc(inside + count_lines(l->source->secrets.bytes), sizeof(char *));
	if (!l->config->auth.secrets)
		return loader_out_of_memory(l);
	for (size_t i = 0; err == 0 && i < inside; i++) {
		char key[DOCUMENT_KEY_SIZE];

		snprintf(key, sizeof(key), "auth.secrets[%zu]", i);
		err = add_secret(l, l->raw->auth.secrets[i], key);
	}
	return err < 0 ? err : add_secret_lines(l);
}

int credentials_load(struct loader *l)
{
	int err = load_users(l);

	if (err == 0)
		err = load_secrets(l);
	if (err == 0 && (l->raw->auth.users_count || l->raw->auth.secrets_count))
		err = warn_readable(l, "auth", &l->source->doc.text);
	if (err == 0 && !l->config->auth.users_count && !l->config->auth.secrets_count)
		return loader_fail(l, "auth",
			"has neither users nor secrets, expected at least one: an open relay is "
			"refused");
	return err;
}

static void wipe(char *text)
{
	if (text)
		explicit_bzero(text, strlen(text));
}

static void wipe_users(struct raw_user *users, size_t count)
{
	for (size_t i = 0; i < count; i++)
		wipe(users[i].password);
}

void credentials_free(struct config *config)
{
	struct config_source *source = config->source;

	free((void *)config->auth.users);
	free((void *)config->auth.secrets);
	config->auth.users = NULL;
	config->auth.secrets = NULL;
	config->auth.users_count = config->auth.secrets_count = 0;
	if (source->raw) {
		wipe_users(source->raw->auth.users, source->raw->auth.users_count);
		for (size_t i = 0; i < source->raw->auth.secrets_count; i++)
			wipe(source->raw->auth.secrets[i]);
	}
	wipe_users(source->raw_users, source->raw_users_count);
	loader_forget(&schema_users, source->raw_users, source->raw_users_count);
	source->raw_users = NULL;
	source->raw_users_count = 0;
	document_close(&source->users_doc);
	document_wipe(&source->secrets);
	free(source->secrets_path);
	source->secrets_path = NULL;
}
