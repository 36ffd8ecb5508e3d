/*
 * YAML files with positions. libyaml keeps where each node stands; the schema that libcyaml loads
 * with is walked beside it, so that mistakes of shape are told with line and column.
 */
#include "document.h"

#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define FILE_MAX ((size_t)64 << 20)

/* By hand, since realloc() would leave copies of the secrets behind. */
static int grow(struct document_text *text, size_t size)
{
	char *bigger = malloc(size + 1);

	if (!bigger)
		return -ENOMEM;
	if (text->bytes) {
		memcpy(bigger, text->bytes, text->len);
		explicit_bzero(text->bytes, text->len);
		free(text->bytes);
	}
	text->bytes = bigger;
	return 0;
}

static int read_all(int fd, struct document_text *text)
{
	size_t size = 0;
	ssize_t n;

	do {
		if (text->len == size) {
			size = size ? size * 2 : 16384;
			if (size > FILE_MAX)
				return -EFBIG;
			if (grow(text, size) < 0)
				return -ENOMEM;
		}
		n = read(fd, text->bytes + text->len, size - text->len);
		if (n < 0)
			return -errno;
		text->len += (size_t)n;
	} while (n > 0);
	text->bytes[text->len] = '\0';
	return 0;
}

int document_read(const char *path, struct document_text *out)
{
	struct document_text text = {0};
	TP_AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	struct stat st;
	int err;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	text.world_readable = st.st_mode & S_IROTH;
	err = read_all(fd, &text);
	if (err < 0) {
		document_wipe(&text);
		return err;
	}
	*out = text;
	return 0;
}

void document_wipe(struct document_text *text)
{
	if (text->bytes)
		explicit_bzero(text->bytes, text->len);
	free(text->bytes);
	*text = (struct document_text){0};
}

/* One line, whatever file names, keys and values hold. */
static void keep_one_line(char *line)
{
	for (; *line; line++) {
		if ((unsigned char)*line < 0x20 || *line == 0x7f)
			*line = '?';
	}
}

__attribute__((format(printf, 5, 0))) static void describe_at(const struct document *doc,
	yaml_mark_t mark, const char *key, char line[DOCUMENT_ERROR_SIZE], const char *format,
	va_list args)
{
	int len = snprintf(line, DOCUMENT_ERROR_SIZE, "%.200s:%zu:%zu: %.128s: ", doc->path,
		mark.line + 1, mark.column + 1, key);

	vsnprintf(line + len, DOCUMENT_ERROR_SIZE - (size_t)len, format, args);
	keep_one_line(line);
}

static const yaml_node_t *node_at(const struct document *doc, int index)
{
	/* libyaml only reads, but does not say so */
	return yaml_document_get_node((yaml_document_t *)&doc->yaml, index);
}

static const yaml_node_t *root_of(const struct document *doc)
{
	return doc->has_yaml ? node_at(doc, 1) : NULL;
}

static const char *scalar_text(const yaml_node_t *node)
{
	return (const char *)node->data.scalar.value;
}

/* The pair of a mapping whose key is the first `len` bytes of `key`. */
static const yaml_node_pair_t *find_pair(
	const struct document *doc, const yaml_node_t *mapping, const char *key, size_t len)
{
	for (const yaml_node_pair_t *p = mapping->data.mapping.pairs.start;
		p < mapping->data.mapping.pairs.top; p++) {
		const yaml_node_t *k = node_at(doc, p->key);

		if (k->type == YAML_SCALAR_NODE && k->data.scalar.length == len &&
			memcmp(scalar_text(k), key, len) == 0)
			return p;
	}
	return NULL;
}

/* One step of a path, "key" or "[3]", from `node`; moves *path behind it. */
static const yaml_node_t *step(
	const struct document *doc, const yaml_node_t *node, const char **path)
{
	const yaml_node_pair_t *pair;
	size_t len, index;
	char *end;

	if (**path == '[') {
		index = strtoul(*path + 1, &end, 10);
		*path = end + strspn(end, "].");
		if (node->type != YAML_SEQUENCE_NODE ||
			index >= (size_t)(node->data.sequence.items.top -
					  node->data.sequence.items.start))
			return NULL;
		return node_at(doc, node->data.sequence.items.start[index]);
	}
	len = strcspn(*path, ".[");
	pair = node->type == YAML_MAPPING_NODE ? find_pair(doc, node, *path, len) : NULL;
	*path += len + ((*path)[len] == '.');
	return pair ? node_at(doc, pair->value) : NULL;
}

static yaml_mark_t locate(const struct document *doc, const char *key)
{
	const yaml_node_t *node = root_of(doc), *next = node;

	if (!node)
		return (yaml_mark_t){0};
	while (*key && next) {
		next = step(doc, node, &key);
		node = next ? next : node;
	}
	return node->start_mark;
}

void document_describe(const struct document *doc, const char *key, char line[DOCUMENT_ERROR_SIZE],
	const char *format, va_list args)
{
	describe_at(doc, locate(doc, key), key, line, format, args);
}

/* The walk along the schema. */
struct walk {
	const struct document *doc;
	char key[DOCUMENT_KEY_SIZE]; /* path of the node that is looked at */
	char *error;
};

__attribute__((format(printf, 3, 4))) static int refuse(
	const struct walk *w, yaml_mark_t mark, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	describe_at(w->doc, mark, *w->key ? w->key : "yaml", w->error, format, args);
	va_end(args);
	return -EINVAL;
}

/* Appends to the path; returns the length to cut it back to. */
__attribute__((format(printf, 2, 3))) static size_t enter(struct walk *w, const char *format, ...)
{
	size_t len = strlen(w->key);
	va_list args;

	va_start(args, format);
	vsnprintf(w->key + len, sizeof(w->key) - len, format, args);
	va_end(args);
	return len;
}

static size_t distance_row(const char *a, const char *b, size_t b_len, size_t row[64])
{
	for (size_t j = 0; j <= b_len; j++)
		row[j] = j;
	for (size_t i = 0; a[i]; i++) {
		size_t diagonal = row[0];

		row[0] = i + 1;
		for (size_t j = 0; j < b_len; j++) {
			size_t replace = diagonal + (a[i] != b[j]);
			size_t other = (row[j] < row[j + 1] ? row[j] : row[j + 1]) + 1;

			diagonal = row[j + 1];
			row[j + 1] = replace < other ? replace : other;
		}
	}
	return row[b_len];
}

/* Levenshtein; far apart when one is too long to be a key of ours. */
static size_t distance(const char *a, const char *b)
{
	size_t row[64];

	if (strlen(a) >= 64 || strlen(b) >= 64)
		return 64;
	return distance_row(a, b, strlen(b), row);
}

/* "password:hunter2" and "{hunter2}" are keys to YAML: what is no key of ours may be a secret. */
static bool may_hold_secret(const struct walk *w)
{
	return *w->key == '[' || strncmp(w->key, "auth", 4) == 0;
}

static const char *nearest(const char *name, const cyaml_schema_field_t *known)
{
	const char *near = NULL;
	size_t best = 3;

	for (; known->key; known++) {
		size_t d = distance(name, known->key);

		if (d < best) {
			best = d;
			near = known->key;
		}
	}
	return near;
}

static void list_keys(const cyaml_schema_field_t *known, char *out, size_t size)
{
	size_t len = 0;

	for (*out = '\0'; known->key && len < size; known++)
		len += (size_t)snprintf(out + len, size - len, "%s%s", len ? ", " : "", known->key);
}

static int refuse_unknown(struct walk *w, const yaml_node_t *key, const cyaml_schema_field_t *known)
{
	const char *name = scalar_text(key), *near = nearest(name, known);
	size_t word =
		strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-");
	char list[300];

	list_keys(known, list, sizeof(list));
	if (near || !may_hold_secret(w))
		enter(w, "%s%.*s", *w->key ? "." : "", (int)(word < 40 ? word : 40), name);
	if (name[word] == ':')
		return refuse(w, key->start_mark, "no space behind the colon, expected key: value");
	if (near)
		return refuse(w, key->start_mark, "unknown key, did you mean %s?", near);
	return refuse(w, key->start_mark, "unknown key, expected one of %s", list);
}

static int check_kind(struct walk *w, const yaml_node_t *node, yaml_node_type_t type)
{
	static const char *const kinds[] = {
		[YAML_NO_NODE] = "nothing",
		[YAML_SCALAR_NODE] = "a single value",
		[YAML_SEQUENCE_NODE] = "a list",
		[YAML_MAPPING_NODE] = "a mapping of keys to values",
	};
	bool empty = node->type == YAML_SCALAR_NODE && node->data.scalar.length == 0;

	if (node->type == type)
		return 0;
	return refuse(w, node->start_mark, "%s, expected %s",
		empty ? "is empty" : kinds[node->type], kinds[type]);
}

static int check_value(struct walk *w, const yaml_node_t *node, const cyaml_schema_value_t *schema);

static int check_pair(struct walk *w, const yaml_node_t *mapping, const yaml_node_pair_t *pair,
	const cyaml_schema_field_t *fields)
{
	const yaml_node_t *key = node_at(w->doc, pair->key);
	const cyaml_schema_field_t *field = fields;
	size_t back;
	int err;

	if (key->type != YAML_SCALAR_NODE)
		return refuse(w, key->start_mark, "a key that is no word, expected key: value");
	while (field->key && strcmp(field->key, scalar_text(key)) != 0)
		field++;
	if (!field->key)
		return refuse_unknown(w, key, fields);
	back = enter(w, "%s%s", *w->key ? "." : "", field->key);
	if (find_pair(w->doc, mapping, field->key, strlen(field->key)) != pair)
		return refuse(w, key->start_mark, "given twice, remove one of them");
	if (field->value.type == CYAML_IGNORE)
		return refuse(w, key->start_mark, "is not implemented yet, remove it");
	err = check_value(w, node_at(w->doc, pair->value), &field->value);
	w->key[back] = '\0';
	return err;
}

static int check_mapping(
	struct walk *w, const yaml_node_t *node, const cyaml_schema_field_t *fields)
{
	int err = check_kind(w, node, YAML_MAPPING_NODE);
	const yaml_node_pair_t *p;

	if (err < 0)
		return err;
	for (p = node->data.mapping.pairs.start; p < node->data.mapping.pairs.top; p++) {
		err = check_pair(w, node, p, fields);
		if (err < 0)
			return err;
	}
	return 0;
}

static int check_sequence(
	struct walk *w, const yaml_node_t *node, const cyaml_schema_value_t *entry)
{
	const yaml_node_item_t *item;
	int err = check_kind(w, node, YAML_SEQUENCE_NODE);

	if (err < 0)
		return err;
	for (item = node->data.sequence.items.start; item < node->data.sequence.items.top; item++) {
		size_t back = enter(w, "[%td]", item - node->data.sequence.items.start);

		err = check_value(w, node_at(w->doc, *item), entry);
		if (err < 0)
			return err;
		w->key[back] = '\0';
	}
	return 0;
}

static int check_scalar(struct walk *w, const yaml_node_t *node)
{
	int err = check_kind(w, node, YAML_SCALAR_NODE);

	if (err == 0 && strlen(scalar_text(node)) != node->data.scalar.length)
		return refuse(w, node->start_mark, "holds a NUL character, expected plain text");
	if (err == 0 && node->data.scalar.length == 0)
		return refuse(w, node->start_mark, "is empty, expected a value");
	return err;
}

/* Calls itself through mappings and sequences as deep as the schema is. */
static int check_value(struct walk *w, const yaml_node_t *node, const cyaml_schema_value_t *schema)
{
	if (schema->type == CYAML_MAPPING)
		return check_mapping(w, node, schema->mapping.fields);
	if (schema->type == CYAML_SEQUENCE)
		return check_sequence(w, node, schema->sequence.entry);
	return check_scalar(w, node);
}

/* libyaml has no line for bytes that are no UTF-8, only their offset. */
static yaml_mark_t mark_of_offset(const struct document_text *text, size_t offset)
{
	yaml_mark_t mark = {0};

	for (size_t i = 0; i < offset && i < text->len; i++) {
		mark.column = text->bytes[i] == '\n' ? 0 : mark.column + 1;
		mark.line += text->bytes[i] == '\n';
	}
	return mark;
}

static int refuse_syntax(struct walk *w, const yaml_parser_t *parser)
{
	yaml_mark_t mark = parser->problem_mark;

	if (parser->error == YAML_MEMORY_ERROR)
		return -ENOMEM;
	if (parser->error == YAML_READER_ERROR)
		mark = mark_of_offset(&w->doc->text, parser->problem_offset);
	return refuse(w, mark, "%s%s%s, expected valid YAML",
		parser->problem ? parser->problem : "syntax error", parser->context ? " " : "",
		parser->context ? parser->context : "");
}

static int parse(struct document *doc, struct walk *w, yaml_parser_t *parser)
{
	yaml_document_t second;
	const yaml_node_t *root;
	int err = 0;

	if (!yaml_parser_load(parser, &doc->yaml))
		return refuse_syntax(w, parser);
	doc->has_yaml = true;
	if (!root_of(doc))
		return refuse(w, (yaml_mark_t){0}, "the file is empty, expected a configuration");
	if (!yaml_parser_load(parser, &second))
		return refuse_syntax(w, parser);
	root = yaml_document_get_root_node(&second);
	if (root)
		err = refuse(w, root->start_mark, "a second document, expected one in the file");
	yaml_document_delete(&second);
	return err;
}

int document_open(const char *path, const cyaml_schema_value_t *schema, struct document *out,
	char error[DOCUMENT_ERROR_SIZE])
{
	struct document doc = {.path = strdup(path)};
	struct walk w = {.doc = &doc, .error = error};
	yaml_parser_t parser;
	int err = doc.path ? document_read(path, &doc.text) : -ENOMEM;

	snprintf(error, DOCUMENT_ERROR_SIZE, "%.200s:1:1: yaml: %s, expected a readable file", path,
		strerror(-err));
	if (err == 0 && !yaml_parser_initialize(&parser))
		err = -ENOMEM;
	if (err == 0) {
		yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
		yaml_parser_set_input_string(
			&parser, (const unsigned char *)doc.text.bytes, doc.text.len);
		err = parse(&doc, &w, &parser);
		yaml_parser_delete(&parser);
	}
	if (err == 0)
		err = check_value(&w, root_of(&doc), schema);
	if (err < 0) {
		document_close(&doc);
		return err;
	}
	*out = doc;
	return 0;
}

static void wipe_scalars(yaml_document_t *yaml)
{
	for (yaml_node_t *node = yaml->nodes.start; node < yaml->nodes.top; node++) {
		if (node->type == YAML_SCALAR_NODE)
			explicit_bzero(node->data.scalar.value, node->data.scalar.length);
	}
}

void document_close(struct document *doc)
{
	if (doc->has_yaml) {
		wipe_scalars(&doc->yaml);
		yaml_document_delete(&doc->yaml);
	}
	document_wipe(&doc->text);
	free(doc->path);
	*doc = (struct document){0};
}
