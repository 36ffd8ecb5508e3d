/*
 * A YAML file: its text, and where each key of it stands, so that every complaint can name line
 * and column. Keys are written as paths: "limits.lifetime_max", "listen[0].port", "[3].name".
 */
#pragma once

#include "schema.h"

#include <stdarg.h>
#include <stdbool.h>
#include <yaml.h>

#define DOCUMENT_ERROR_SIZE 512
#define DOCUMENT_KEY_SIZE   128

/* Bytes of a file, zero-terminated. */
struct document_text {
	char *bytes;
	size_t len;
	bool world_readable;
};

/* -EFBIG: more than 64 MiB. */
int document_read(const char *path, struct document_text *out);
void document_wipe(struct document_text *text);

struct document {
	char *path;
	struct document_text text;
	yaml_document_t yaml;
	bool has_yaml;
};

/*
 * Reads `path`, parses it and holds it against the schema: afterwards every key is known, used
 * once, implemented, and of the right kind. -EINVAL, or the file's -errno; `error` is the line.
 */
int document_open(const char *path, const cyaml_schema_value_t *schema, struct document *out,
	char error[DOCUMENT_ERROR_SIZE]);
void document_close(struct document *doc);

/* "file:line:column: key: text"; a key that is absent is located at the mapping it belongs to. */
__attribute__((format(printf, 4, 0))) void document_describe(const struct document *doc,
	const char *key, char line[DOCUMENT_ERROR_SIZE], const char *format, va_list args);
