/* Columns, escapes, and the few colours. Writes to stdout. */
#include "text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool has_colour(void)
{
	return isatty(STDOUT_FILENO) && !getenv("NO_COLOR");
}

/* A new string; NULL when memory is out. */
static char *escape(const char *in)
{
	char *out = malloc(strlen(in) * 4 + 1), *to = out;

	if (!out)
		return NULL;
	for (; *in; in++) {
		unsigned char c = (unsigned char)*in;

		if (c >= 0x20 && c < 0x7f)
			*to++ = (char)c;
		else
			to += sprintf(to, "\\x%02x", c);
	}
	*to = '\0';
	return out;
}

static void add(struct text_table *table, const char *text)
{
	if (table->count == table->size) {
		size_t size = table->size ? table->size * 2 : 64;
		char **bigger = realloc(table->cells, size * sizeof(*bigger));

		if (!bigger) {
			table->failed = true;
			return;
		}
		table->cells = bigger;
		table->size = size;
	}
	table->cells[table->count] = escape(text);
	if (table->cells[table->count])
		table->count++;
	else
		table->failed = true;
}

void text_begin(struct text_table *table, const char *const *titles)
{
	*table = (struct text_table){.columns = 2, .has_header = titles != NULL};
	if (!titles)
		return;
	for (table->columns = 0; titles[table->columns] && table->columns < TEXT_COLUMNS_MAX;
		table->columns++)
		add(table, titles[table->columns]);
}

void text_cell(struct text_table *table, const char *format, ...)
{
	char text[1024];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	add(table, text);
}

static bool is_number(const char *cell)
{
	return *cell && cell[strspn(cell, "0123456789.")] == '\0';
}

struct column {
	int width;
	bool numbers; /* nothing but numbers below the title */
};

static struct column measure(const struct text_table *table, size_t column)
{
	size_t first = column + (table->has_header ? table->columns : 0), width = 0;
	struct column out = {.numbers = first < table->count && column > 0};

	for (size_t i = column; i < table->count; i += table->columns) {
		size_t len = strlen(table->cells[i]);

		width = len > width ? len : width;
		if (i >= first && !is_number(table->cells[i]))
			out.numbers = false;
	}
	out.width = (int)width;
	return out;
}

static void print_cell(const struct text_table *table, size_t i, struct column column)
{
	size_t place = i % table->columns;
	bool bold = has_colour() && (table->has_header ? i < table->columns : place == 0);
	bool last = place + 1 == table->columns;
	int pad = column.numbers ? column.width : last ? 0 : -column.width;

	printf("%s%*s%s%s", bold ? "\033[1m" : "", pad, table->cells[i], bold ? "\033[0m" : "",
		last ? "\n" : "  ");
}

bool text_end(struct text_table *table)
{
	struct column columns[TEXT_COLUMNS_MAX];
	bool whole = !table->failed && table->columns > 0;

	for (size_t i = 0; i < table->columns; i++)
		columns[i] = measure(table, i);
	for (size_t i = 0; whole && i < table->count; i++)
		print_cell(table, i, columns[i % table->columns]);
	for (size_t i = 0; i < table->count; i++)
		free(table->cells[i]);
	free(table->cells);
	*table = (struct text_table){0};
	return whole;
}

void text_json(struct text_table *table, const json_t *value)
{
	if (json_is_string(value))
		add(table, json_string_value(value));
	else if (json_is_integer(value))
		text_cell(table, "%lld", (long long)json_integer_value(value));
	else if (json_is_boolean(value))
		add(table, json_is_true(value) ? "yes" : "no");
	else
		add(table, "-");
}

void text_seconds(struct text_table *table, const json_t *value)
{
	long long s = json_integer_value(value);

	if (!json_is_integer(value)) /* no end of its own */
		text_cell(table, "-");
	else if (s >= 86400)
		text_cell(table, "%lld d %02lld:%02lld:%02lld", s / 86400, s / 3600 % 24,
			s / 60 % 60, s % 60);
	else if (s >= 3600)
		text_cell(table, "%lld:%02lld:%02lld", s / 3600, s / 60 % 60, s % 60);
	else
		text_cell(table, "%lld s", s);
}

void text_traffic(struct text_table *table, const json_t *traffic)
{
	text_json(table, json_object_get(traffic, "packets"));
	text_json(table, json_object_get(traffic, "bytes"));
}

void text_line(const char *line)
{
	char *safe = escape(line);

	puts(safe ? safe : "?");
	free(safe);
}
