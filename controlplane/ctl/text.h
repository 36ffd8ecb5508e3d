/* Text for people: escaped, aligned, coloured on terminals only. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#define TEXT_COLUMNS_MAX 24

/*
 * Lines of cells, printed in columns as wide as their widest cell. Cells are copied and escaped:
 * what is no printable ASCII comes out as \xNN, so that no name can move a cursor.
 */
struct text_table {
	char **cells;
	size_t count, size;
	size_t columns;
	bool has_header;
	bool failed; /* memory ran out: nothing is printed */
};

/* Titles of the columns; NULL ends them. Without titles: two columns, key and value. */
void text_begin(struct text_table *table, const char *const *titles);
__attribute__((format(printf, 2, 3))) void text_cell(
	struct text_table *table, const char *format, ...);
/* Prints and frees; columns of numbers are aligned to the right. False when memory ran out. */
bool text_end(struct text_table *table);

/* Cells of one kind. */
void text_json(struct text_table *table, const json_t *value);
void text_seconds(struct text_table *table, const json_t *value);
void text_traffic(struct text_table *table, const json_t *traffic);

/* A line of its own, escaped. */
void text_line(const char *line);
