#include "chart.h"

#include <math.h>

#define WIDTH     760
#define HEIGHT    380
#define LEFT      76
#define RIGHT     184
#define TOP       36
#define BOTTOM    56
#define TICKS_MAX 16
#define WANTED    5  /* ticks of a linear axis */
#define LINE      16 /* between names */

struct scale {
	bool log;
	double min, max;  /* of values, or of their logarithms */
	double low, high; /* pixels */
	double ticks[TICKS_MAX];
	unsigned ticks_count;
};

const char *chart_number(double value, char out[24])
{
	if (value >= 1e6)
		snprintf(out, 24, "%.4gM", value / 1e6);
	else if (value >= 1e4)
		snprintf(out, 24, "%.4gk", value / 1e3);
	else
		snprintf(out, 24, "%.4g", value);
	return out;
}

static double place(const struct scale *s, double value)
{
	double at = s->log ? log10(value) : value;

	return s->low + (at - s->min) / (s->max - s->min) * (s->high - s->low);
}

/* Steps of 1, 2 or 5 times a power of ten. */
static void ticks_from_zero(struct scale *s, double most)
{
	double raw = (most > 0 ? most : 1) / WANTED, unit = pow(10, floor(log10(raw))), step = unit;

	if (raw > 5 * unit)
		step = 10 * unit;
	else if (raw > 2 * unit)
		step = 5 * unit;
	else if (raw > unit)
		step = 2 * unit;
	for (double at = 0; s->ticks_count < TICKS_MAX; at += step) {
		s->ticks[s->ticks_count++] = at;
		if (at >= most * 0.9999 && at > 0)
			break;
	}
	s->max = s->ticks[s->ticks_count - 1];
}

/* 1, 2, 5, 10; over more than three decades the powers of ten alone. */
static void ticks_of_decades(struct scale *s, double least, double most)
{
	static const double parts[] = {1, 2, 5};
	double decade = pow(10, floor(log10(least) + 1e-9));
	unsigned every = most / decade > 1000 ? 3 : 1, i = 0;

	while (every == 1 && i < 2 && decade * parts[i + 1] <= least * 1.0001)
		i++;
	for (; s->ticks_count < TICKS_MAX; i += every) {
		unsigned tens = i / 3;
		double at = decade * pow(10, tens) * parts[i % 3];

		s->ticks[s->ticks_count++] = at;
		if (at >= most * 0.9999 && s->ticks_count > 1)
			break;
	}
	s->min = log10(s->ticks[0]);
	s->max = log10(s->ticks[s->ticks_count - 1]);
}

static struct scale make_scale(const struct chart_axis *axis, double least, double most)
{
	struct scale s = {.log = axis->log};

	for (unsigned i = 0; i < axis->ticks_count && i < TICKS_MAX; i++)
		s.ticks[s.ticks_count++] = axis->ticks[i].value;
	if (axis->ticks_count) {
		s.min = axis->log ? log10(s.ticks[0]) : s.ticks[0];
		s.max = axis->log ? log10(s.ticks[s.ticks_count - 1]) : s.ticks[s.ticks_count - 1];
	} else if (axis->log) {
		ticks_of_decades(&s, least, most);
	} else {
		ticks_from_zero(&s, most);
	}
	return s;
}

static const char *tick_text(
	const struct chart_axis *axis, const struct scale *s, unsigned i, char out[24])
{
	return axis->ticks_count ? axis->ticks[i].text : chart_number(s->ticks[i], out);
}

static void draw_axes(FILE *out, const struct chart_axis *x, const struct chart_axis *y,
	const struct scale *sx, const struct scale *sy)
{
	char text[24];

	for (unsigned i = 0; i < sy->ticks_count; i++) {
		double at = place(sy, sy->ticks[i]);

		fprintf(out, "<line class=\"grid\" x1=\"%d\" y1=\"%.1f\" x2=\"%d\" y2=\"%.1f\"/>",
			LEFT, at, WIDTH - RIGHT, at);
		fprintf(out,
			"<text class=\"tick\" x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%s</text>",
			LEFT - 8, at + 4, tick_text(y, sy, i, text));
	}
	for (unsigned i = 0; i < sx->ticks_count; i++) {
		double at = place(sx, sx->ticks[i]);

		fprintf(out, "<line class=\"grid\" x1=\"%.1f\" y1=\"%d\" x2=\"%.1f\" y2=\"%d\"/>",
			at, HEIGHT - BOTTOM, at, HEIGHT - BOTTOM + 5);
		fprintf(out,
			"<text class=\"tick\" x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%s</text>",
			at, HEIGHT - BOTTOM + 20, tick_text(x, sx, i, text));
	}
	fprintf(out, "<line class=\"axis\" x1=\"%d\" y1=\"%d\" x2=\"%d\" y2=\"%d\"/>", LEFT,
		HEIGHT - BOTTOM, WIDTH - RIGHT, HEIGHT - BOTTOM);
	fprintf(out, "<text class=\"label\" x=\"%d\" y=\"%d\" text-anchor=\"middle\">%s</text>",
		(LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, x->label);
	fprintf(out, "<text class=\"label\" x=\"%d\" y=\"18\">%s</text>", LEFT - 60, y->label);
}

static void draw_line(
	FILE *out, const struct chart_series *s, const struct scale *sx, const struct scale *sy)
{
	char x[24], y[24];

	fprintf(out, "<polyline class=\"line s%u\"%s points=\"", s->colour % CHART_COLOURS,
		s->dashed ? " stroke-dasharray=\"5 4\"" : "");
	for (unsigned i = 0; i < s->count; i++)
		fprintf(out, "%.1f,%.1f ", place(sx, s->x[i]), place(sy, s->y[i]));
	fputs("\"/>", out);
	for (unsigned i = 0; i < s->count; i++)
		fprintf(out,
			"<circle class=\"dot s%u\" cx=\"%.1f\" cy=\"%.1f\" r=\"3\"><title>%s: %s at "
			"%s</title></circle>",
			s->colour % CHART_COLOURS, place(sx, s->x[i]), place(sy, s->y[i]), s->name,
			chart_number(s->y[i], y), chart_number(s->x[i], x));
}

/* At the ends of the lines, from top to bottom, moved apart where they would lie on each other. */
static void draw_names(
	FILE *out, const struct chart_series *const all[], unsigned count, const struct scale *sy)
{
	double at[CHART_SERIES], over;
	unsigned order[CHART_SERIES];

	for (unsigned i = 0; i < count; i++) {
		unsigned k = i;

		at[i] = place(sy, all[i]->y[all[i]->count - 1]);
		for (; k > 0 && at[order[k - 1]] > at[i]; k--)
			order[k] = order[k - 1];
		order[k] = i;
	}
	for (unsigned i = 1; i < count; i++)
		at[order[i]] = fmax(at[order[i]], at[order[i - 1]] + LINE);
	over = fmax(at[order[count - 1]] - (HEIGHT - BOTTOM), 0);
	for (unsigned i = count; i-- > 0 && over > 0;) {
		at[order[i]] -= over;
		if (i)
			over = fmax(at[order[i - 1]] + LINE - at[order[i]], 0);
	}
	for (unsigned i = 0; i < count; i++) {
		fprintf(out,
			"<rect class=\"dot s%u\" x=\"%d\" y=\"%.1f\" width=\"10\" height=\"10\"/>",
			all[i]->colour % CHART_COLOURS, WIDTH - RIGHT + 12, at[i] - 5);
		fprintf(out, "<text x=\"%d\" y=\"%.1f\">%s</text>", WIDTH - RIGHT + 28, at[i] + 4,
			all[i]->name);
	}
}

static void widen(double value, double *least, double *most)
{
	*least = fmin(*least, value);
	*most = fmax(*most, value);
}

void chart_draw(FILE *out, const char *title, const struct chart_axis *x,
	const struct chart_axis *y, const struct chart_series *series, unsigned count)
{
	double x_least = INFINITY, x_most = -INFINITY, y_least = INFINITY, y_most = -INFINITY;
	const struct chart_series *used[CHART_SERIES];
	struct scale sx, sy;
	unsigned n = 0;

	for (unsigned i = 0; i < count && n < CHART_SERIES; i++) {
		for (unsigned k = 0; k < series[i].count; k++) {
			widen(series[i].x[k], &x_least, &x_most);
			widen(series[i].y[k], &y_least, &y_most);
		}
		if (series[i].count)
			used[n++] = &series[i];
	}
	if (!n)
		return;
	sx = make_scale(x, x_least, x_most);
	sy = make_scale(y, y_least, y_most);
	sx.low = LEFT;
	sx.high = WIDTH - RIGHT;
	sy.low = HEIGHT - BOTTOM;
	sy.high = TOP;
	fprintf(out, "<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"%s\">", WIDTH, HEIGHT,
		title);
	draw_axes(out, x, y, &sx, &sy);
	for (unsigned i = 0; i < n; i++)
		draw_line(out, used[i], &sx, &sy);
	draw_names(out, used, n, &sy);
	fputs("</svg>\n", out);
}
