/* What the parts of config/ share while a configuration is read. */
#pragma once

#include "config.h"
#include "document.h"

/* Text that struct config points into. */
struct config_source {
	struct document doc;
	struct raw_config *raw;

	struct document users_doc; /* users_file */
	struct raw_user *raw_users;
	unsigned raw_users_count;

	struct document_text secrets; /* secrets_file, cut into lines */
	char *secrets_path;
};

struct loader {
	struct config *config;
	struct config_source *source;
	const struct raw_config *raw;
	char *error; /* CONFIG_ERROR_SIZE */
};

/* Describes what is wrong at `key`; returns -EINVAL. */
__attribute__((format(printf, 3, 4))) int loader_fail(
	struct loader *l, const char *key, const char *format, ...);
__attribute__((format(printf, 4, 5))) int loader_fail_in(
	struct loader *l, const struct document *doc, const char *key, const char *format, ...);
/* The same as a warning; -ENOMEM. */
__attribute__((format(printf, 3, 4))) int loader_warn(
	struct loader *l, const char *key, const char *format, ...);
int loader_out_of_memory(struct loader *l);

/* One word out of a few, which end with NULL. Those behind the first `ready` are known but not
 * implemented yet. */
int loader_choose(struct loader *l, const char *key, const char *text, const char *const *words,
	size_t ready, int *out);

/* An address that packets can be sent from or told about: one host's. */
int loader_address(struct loader *l, const char *key, const char *text, struct tp_addr *out);

/* Everything under `dataplane` but plain numbers. */
int dataplane_load(struct loader *l);
void dataplane_free(struct config *config);

/* Users and secrets, from the file itself and from the files it names: config->auth. */
int credentials_load(struct loader *l);
void credentials_free(struct config *config);

/* libcyaml with our settings. Says what went wrong. */
int loader_parse(struct loader *l, const struct document *doc, const cyaml_schema_value_t *schema,
	void *out, unsigned *out_count);
void loader_forget(const cyaml_schema_value_t *schema, void *data, unsigned count);
