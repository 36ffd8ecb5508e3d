#include "page.h"

#include "chart.h"
#include "tests/perf/percentiles.h"

#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

static const char style[] =
	":root{color-scheme:light dark;--ink:#1c1f23;--soft:#5d646d;--line:#d9dde2;--paper:#fff;"
	"--panel:#f6f7f9;--s0:#0a7d8c;--s1:#c2570c;--s2:#7a4fc0;--s3:#2e7d32;--s4:#b3264f;"
	"--s5:#2f6fc4;--s6:#8a6d1d;--s7:#636b74}"
	"@media(prefers-color-scheme:dark){:root{--ink:#e6e8eb;--soft:#a0a8b1;--line:#3a4048;"
	"--paper:#16191d;--panel:#1e2227;--s0:#3fc3d4;--s1:#f2994a;--s2:#b59af0;--s3:#6fcf74;"
	"--s4:#f27a9b;--s5:#79aef5;--s6:#d8b95a;--s7:#a3abb5}}"
	"body{margin:2rem auto;max-width:70rem;padding:0 1rem;background:var(--paper);"
	"color:var(--ink);font:15px/1.5 system-ui,sans-serif}"
	"h1{font-size:1.5rem;margin-bottom:.2rem}h2{font-size:1.1rem;margin:2.2rem 0 .4rem}"
	"p{max-width:46rem}.soft{color:var(--soft)}.table{overflow-x:auto}"
	"table{border-collapse:collapse;width:100%;font-size:14px;"
	"font-variant-numeric:tabular-nums}"
	"td,th{padding:.25rem .4rem;border-bottom:1px solid var(--line);text-align:right;"
	"white-space:nowrap}th{color:var(--soft);font-weight:500}"
	"td:first-child,th:first-child{text-align:left;padding-left:0}"
	"figure{margin:1rem 0;background:var(--panel);padding:1rem;border-radius:6px}"
	"figcaption{color:var(--soft);margin-top:.5rem;font-size:.9rem;max-width:46rem}"
	"svg{display:block;width:100%;height:auto}svg text{font:12px system-ui,sans-serif;"
	"fill:var(--ink)}svg .tick,svg .label{fill:var(--soft)}svg .grid{stroke:var(--line)}"
	"svg .axis{stroke:var(--soft)}svg .line{fill:none;stroke-width:2}"
	".line.s0{stroke:var(--s0)}.line.s1{stroke:var(--s1)}.line.s2{stroke:var(--s2)}"
	".line.s3{stroke:var(--s3)}.line.s4{stroke:var(--s4)}.line.s5{stroke:var(--s5)}"
	".line.s6{stroke:var(--s6)}.line.s7{stroke:var(--s7)}"
	".dot.s0{fill:var(--s0)}.dot.s1{fill:var(--s1)}.dot.s2{fill:var(--s2)}"
	".dot.s3{fill:var(--s3)}.dot.s4{fill:var(--s4)}.dot.s5{fill:var(--s5)}"
	".dot.s6{fill:var(--s6)}.dot.s7{fill:var(--s7)}";

static const char *const names[] = {[DIRECTION_UP] = "up", [DIRECTION_DOWN] = "down"};

struct page {
	FILE *out;
	const struct report *report;
	struct chart_series *series; /* CHART_SERIES */
	unsigned count;
};

static bool has_several_actives(const struct report *r)
{
	for (unsigned i = 1; i < r->count; i++) {
		if (r->outcomes[i].step.active != r->outcomes[0].step.active)
			return true;
	}
	return false;
}

static const char *rate_name(const struct step *step, char out[48])
{
	char rate[24];

	if (step->rate)
		snprintf(out, 48, "%s/s", chart_number((double)step->rate, rate));
	else
		snprintf(out, 48, "flat out");
	return out;
}

/* As much of it as tells it from the other steps. */
static const char *step_name(const struct report *r, const struct step *step, char out[48])
{
	char rate[48];

	if (r->options->mix == MIX_RTP)
		snprintf(out, 48, "%u calls", step->active);
	else if (has_several_actives(r))
		snprintf(out, 48, "%.16s, %u", rate_name(step, rate), step->active);
	else
		rate_name(step, out);
	return out;
}

static double per_second(uint64_t count, const struct way *w)
{
	return w->sent_ns ? (double)count * 1e9 / (double)w->sent_ns : 0;
}

/* ---- the table ---------------------------------------------------------------------------------
 */

static void table_row(const struct page *p, const struct outcome *outcome, const struct way *w,
	const char *direction)
{
	static const unsigned parts[] = {5000, 9000, 9900, 9990, 10000};
	char text[48], offered[24], relayed[24];

	fprintf(p->out,
		"<tr><td>%s%s</td><td>%u</td><td>%s</td><td>%s</td><td>%s</td><td>%.3f %%</td>",
		step_name(p->report, &outcome->step, text),
		outcome->is_interrupted ? " (interrupted)" : "", outcome->step.active, direction,
		chart_number(per_second(w->offered, w), offered),
		chart_number(per_second(w->relayed, w), relayed), way_loss(w));
	for (int i = 0; i < 5; i++)
		fprintf(p->out, "<td>%.1f</td>",
			(double)percentile_of(w->latencies, parts[i]) / 1e3);
	if (outcome->cpu_ns >= 0)
		fprintf(p->out, "<td>%.0f</td>", outcome_cost(outcome));
	fputs("</tr>\n", p->out);
}

static void write_table(const struct page *p)
{
	const struct report *r = p->report;

	fputs("<div class=\"table\"><table><tr><th>step</th><th>allocations</th><th>direction</th>"
	      "<th>offered/s</th><th>relayed/s</th><th>lost</th><th>p50 µs</th><th>p90</th>"
	      "<th>p99</th><th>p99.9</th><th>max</th>",
		p->out);
	if (r->options->pid)
		fputs("<th>CPU ns</th>", p->out);
	fputs("</tr>\n", p->out);
	for (unsigned i = 0; i < r->count; i++) {
		for (int d = 0; d < DIRECTIONS; d++) {
			if (r->outcomes[i].ways[d].is_used)
				table_row(p, &r->outcomes[i], &r->outcomes[i].ways[d], names[d]);
		}
	}
	fputs("</table></div>\n", p->out);
}

/* ---- the charts --------------------------------------------------------------------------------
 */

static struct chart_series *new_series(struct page *p, const char *name, unsigned colour)
{
	struct chart_series *s = &p->series[p->count++];

	*s = (struct chart_series){.colour = colour};
	snprintf(s->name, sizeof(s->name), "%s", name);
	return s;
}

/* In order of x. */
static void add_point(struct chart_series *s, double x, double y)
{
	unsigned i = s->count;

	if (s->count == CHART_POINTS)
		return;
	for (; i > 0 && s->x[i - 1] > x; i--) {
		s->x[i] = s->x[i - 1];
		s->y[i] = s->y[i - 1];
	}
	s->x[i] = x;
	s->y[i] = y;
	s->count++;
}

/* A chart of single points would say nothing. */
static void draw(struct page *p, const char *title, const struct chart_axis *x,
	const struct chart_axis *y, const char *caption)
{
	bool has_line = false;

	for (unsigned i = 0; i < p->count; i++)
		has_line |= p->series[i].count > 1;
	if (has_line) {
		fprintf(p->out, "<h2>%s</h2>\n<figure>", title);
		chart_draw(p->out, title, x, y, p->series, p->count);
		fprintf(p->out, "<figcaption>%s</figcaption></figure>\n", caption);
	}
	p->count = 0;
}

/* Of rates with different numbers of allocations, those with the last number are one line. */
static bool is_on_line(const struct report *r, unsigned i)
{
	return r->options->mix != MIX_NONE ||
	       r->outcomes[i].step.active == r->outcomes[r->count - 1].step.active;
}

static void loss_chart(struct page *p)
{
	const struct chart_axis x = {.label = "packets offered a second, each direction"};
	const struct chart_axis y = {.label = "lost, percent"};
	const struct report *r = p->report;

	for (unsigned d = 0; d < DIRECTIONS && r->count > 1; d++) {
		struct chart_series *s = new_series(p, names[d], d);

		for (unsigned i = 0; i < r->count; i++) {
			const struct way *w = &r->outcomes[i].ways[d];

			if (w->offered && is_on_line(r, i))
				add_point(s, per_second(w->offered, w), way_loss(w));
		}
	}
	draw(p, "Throughput against loss", &x, &y,
		"What did not come back within 0.3 seconds after the last packet was sent is lost.");
}

static void latency_chart(struct page *p)
{
	static const struct {
		const char *name;
		unsigned part;
	} lines[] = {{"p50", 5000}, {"p99", 9900}, {"p99.9", 9990}};
	const struct chart_axis x = {.label = "packets offered a second, each direction"};
	const struct chart_axis y = {.label = "latency, µs", .log = true};
	const struct report *r = p->report;

	for (unsigned k = 0; k < 2 * 3 && r->count > 1; k++) {
		unsigned d = k / 3;
		struct chart_series *s;
		char name[48];

		if (!r->options->directions[d])
			continue;
		snprintf(name, sizeof(name), "%s, %s", names[d], lines[k % 3].name);
		s = new_series(p, name, k % 3);
		s->dashed = d == DIRECTION_DOWN;
		for (unsigned i = 0; i < r->count; i++) {
			const struct way *w = &r->outcomes[i].ways[d];

			if (w->relayed && is_on_line(r, i))
				add_point(s, per_second(w->offered, w),
					(double)percentile_of(w->latencies, lines[k % 3].part) /
						1e3);
		}
	}
	draw(p, "Latency against throughput", &x, &y, "One point for each step.");
}

static void add_percentiles(struct page *p, unsigned i, unsigned colour)
{
	static const unsigned parts[] = {5000, 7500, 9000, 9500, 9900, 9950, 9990, 9995, 9999};
	const struct outcome *outcome = &p->report->outcomes[i];

	for (unsigned d = 0; d < DIRECTIONS && p->count < CHART_SERIES; d++) {
		const struct way *w = &outcome->ways[d];
		char step[48], name[64];
		struct chart_series *s;

		if (!w->relayed)
			continue;
		snprintf(name, sizeof(name), "%s, %s", step_name(p->report, &outcome->step, step),
			names[d]);
		s = new_series(p, name, colour);
		s->dashed = d == DIRECTION_DOWN;
		for (unsigned k = 0; k < sizeof(parts) / sizeof(parts[0]); k++)
			add_point(s, 10000.0 / (10000 - parts[k]),
				(double)percentile_of(w->latencies, parts[k]) / 1e3);
	}
}

/* As many steps as there is room for, spread over all of them. */
static void percentiles_chart(struct page *p)
{
	static const struct chart_tick ticks[] = {
		{2, "50 %"}, {10, "90 %"}, {100, "99 %"}, {1000, "99.9 %"}, {10000, "99.99 %"}};
	const struct chart_axis x = {
		.label = "of the packets", .log = true, .ticks = ticks, .ticks_count = 5};
	const struct chart_axis y = {.label = "took at most, µs", .log = true};
	const struct report *r = p->report;
	unsigned ways = (unsigned)r->options->directions[0] + (unsigned)r->options->directions[1];
	unsigned room = CHART_SERIES / ways, shown = r->count < room ? r->count : room;

	for (unsigned i = 0; i < shown; i++)
		add_percentiles(p, shown > 1 ? i * (r->count - 1) / (shown - 1) : 0, i);
	draw(p, "Latency by percentile", &x, &y,
		r->options->backend == BACKEND_XDP
			? "From the moment a packet left to the moment after it was received."
			: "From the moment before a packet was given away to be sent to the moment after "
			  "it was received.");
}

static bool is_first_of(const struct report *r, unsigned i)
{
	for (unsigned k = 0; k < i; k++) {
		if (r->outcomes[k].step.rate == r->outcomes[i].step.rate)
			return false;
	}
	return true;
}

static void cost_chart(struct page *p)
{
	const struct chart_axis x = {.label = "allocations that carry packets", .log = true};
	const struct chart_axis y = {.label = "ns of CPU a packet"};
	const struct report *r = p->report;
	char text[48];

	if (!r->options->pid || !has_several_actives(r))
		return;
	for (unsigned i = 0; i < r->count && p->count < CHART_SERIES; i++) {
		const char *name =
			r->options->mix ? "calls" : rate_name(&r->outcomes[i].step, text);
		struct chart_series *s;

		if (!is_first_of(r, i))
			continue;
		s = new_series(p, name, p->count);
		for (unsigned k = i; k < r->count; k++) {
			if (r->outcomes[k].step.rate == r->outcomes[i].step.rate)
				add_point(s, r->outcomes[k].step.active,
					outcome_cost(&r->outcomes[k]));
		}
	}
	draw(p, "Cost against the number of allocations", &x, &y,
		"CPU time of the process that was watched, as the scheduler counts it.");
}

/* ---- the page ----------------------------------------------------------------------------------
 */

static void write_machine(FILE *out)
{
	struct utsname is;
	char line[256], date[64], *model = NULL;
	time_t now = time(NULL);
	struct tm utc;
	FILE *f = fopen("/proc/cpuinfo", "re");

	while (f && !model && fgets(line, sizeof(line), f)) {
		if (strncmp(line, "model name", 10) == 0 && (model = strchr(line, ':')))
			model[strcspn(model, "\n<&")] = '\0';
	}
	if (f)
		fclose(f);
	if (uname(&is) < 0)
		return;
	strftime(date, sizeof(date), "%Y-%m-%d %H:%M UTC", gmtime_r(&now, &utc));
	fprintf(out,
		"<p class=\"soft\">%s, %ld cores%s%s, Linux %s; turnpike-bench " TURNPIKE_VERSION
		"</p>\n",
		date, sysconf(_SC_NPROCESSORS_ONLN), model ? " of" : "", model ? model + 1 : "",
		is.release);
}

static void write_settings(const struct page *p)
{
	const struct options *o = p->report->options;
	const struct making *m = p->report->making;
	char server[TP_ADDR_TEXT];

	fprintf(p->out, "<p>%u allocations at %s, made in %.3g s. ", o->clients.allocations,
		tp_addr_text(&o->clients.server, server), m->seconds);
	if (o->mix == MIX_RTP)
		fputs("Each carries a call: audio, 50 packets a second of 160 to 172 bytes, and video, "
		      "30 frames of 3 to 6 packets of 1000 to 1200 bytes. ",
			p->out);
	else
		fprintf(p->out, "Packets of %u bytes of data, allocations in %s. ", o->size,
			o->random ? "random order" : "turns");
	fprintf(p->out,
		"Steps of %g s, each warmed up for %g s; ends: %s, %u clients' and %u peers' "
		"addresses.</p>\n",
		o->duration_s, o->warm_up_s, backend_name(o->backend), o->locals.addresses,
		o->peers.addresses);
	if (o->search_high && p->report->highest)
		fprintf(p->out,
			"<p>Up to <b>%llu packets a second</b> in each direction no more than "
			"%g %% is lost.</p>\n",
			(unsigned long long)p->report->highest, o->max_loss);
	if (p->report->lost)
		fprintf(p->out, "<p>Allocations that could not be renewed: %u.</p>\n",
			p->report->lost);
}

void page_write(FILE *out, const struct report *report)
{
	struct page page = {
		.out = out, .report = report, .series = calloc(CHART_SERIES, sizeof(*page.series))};

	if (!page.series)
		return;
	fprintf(out,
		"<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">"
		"<meta name=\"viewport\" content=\"width=device-width\"><title>turnpike-bench"
		"</title><style>%s</style></head><body>\n<h1>turnpike-bench</h1>\n",
		style);
	write_machine(out);
	write_settings(&page);
	write_table(&page);
	loss_chart(&page);
	latency_chart(&page);
	percentiles_chart(&page);
	cost_chart(&page);
	fputs("</body></html>\n", out);
	free(page.series);
}
