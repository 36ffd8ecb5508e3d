/* Line charts as SVG. Colours are classes s0 to s7 of the page's style sheet, which knows both of
 * its modes. No state. */
#pragma once

#include <stdbool.h>
#include <stdio.h>

#define CHART_POINTS  256
#define CHART_SERIES  8
#define CHART_COLOURS 8

struct chart_tick {
	double value;
	const char *text;
};

struct chart_axis {
	const char *label;
	bool log;                       /* else from 0 */
	const struct chart_tick *ticks; /* NULL: what fits the values */
	unsigned ticks_count;
};

struct chart_series {
	char name[64];
	unsigned colour;
	bool dashed;
	double x[CHART_POINTS], y[CHART_POINTS]; /* above 0 where the axis is logarithmic */
	unsigned count;
};

/* Series without points are left out; nothing is drawn of none. */
void chart_draw(FILE *out, const char *title, const struct chart_axis *x,
	const struct chart_axis *y, const struct chart_series *series, unsigned count);

/* "1.5M", "20k", "0.05". */
const char *chart_number(double value, char out[24]);
