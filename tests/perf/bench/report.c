#include "report.h"

#include "tests/perf/percentiles.h"

static const char *const names[] = {[DIRECTION_UP] = "up", [DIRECTION_DOWN] = "down"};

static double per(double amount, double count)
{
	return count > 0 ? amount / count : 0;
}

double outcome_cost(const struct outcome *outcome)
{
	double relayed = 0;

	for (int d = 0; d < DIRECTIONS; d++)
		relayed += (double)outcome->ways[d].relayed;
	return per(outcome->cpu_ns, relayed);
}

static void print_latencies(const uint64_t counts[HISTOGRAM_SLOTS])
{
	static const unsigned parts[] = {5000, 9000, 9900, 9990, 10000};
	double us[5];

	for (int i = 0; i < 5; i++)
		us[i] = (double)percentile_of(counts, parts[i]) / 1e3;
	printf("latency p50 %.1f us, p90 %.1f, p99 %.1f, p99.9 %.1f, max %.1f\n", us[0], us[1],
		us[2], us[3], us[4]);
}

static void print_way(const char *name, const struct way *w)
{
	double seconds = (double)w->sent_ns / 1e9;

	printf("%-5soffered %llu (%.0f/s), relayed %llu (%.0f/s), lost %llu (%.3f %%), "
	       "duplicated %llu, reordered %llu, too late %llu\n      ",
		name, (unsigned long long)w->offered, per((double)w->offered, seconds),
		(unsigned long long)w->relayed, per((double)w->relayed, seconds),
		(unsigned long long)(w->offered - w->relayed), way_loss(w),
		(unsigned long long)w->duplicated, (unsigned long long)w->reordered,
		(unsigned long long)w->too_late);
	print_latencies(w->latencies);
	if (w->unread)
		printf("      %llu of the lost came back, and were not read in time\n",
			(unsigned long long)w->unread);
}

static void print_heading(const struct options *o, const struct step *step)
{
	if (o->mix == MIX_RTP)
		printf("%u calls\n", step->active);
	else if (step->rate)
		printf("%llu/s in each direction, %u allocations\n", (unsigned long long)step->rate,
			step->active);
	else
		printf("flat out, %u allocations\n", step->active);
}

void report_begin(const struct options *o)
{
	printf("ends: %s\n", backend_name(o->backend));
	fflush(stdout);
}

void report_step(const struct options *o, const struct outcome *outcome)
{
	if (o->steps_count > 1 || o->search_high)
		print_heading(o, &outcome->step);
	if (outcome->is_interrupted)
		puts("interrupted:");
	for (int d = 0; d < DIRECTIONS; d++) {
		if (outcome->ways[d].is_used)
			print_way(names[d], &outcome->ways[d]);
	}
	if (outcome->cpu_ns >= 0)
		printf("process %d: %.0f ns of CPU a relayed packet, as the scheduler counts\n",
			(int)o->pid, outcome_cost(outcome));
	fflush(stdout);
}

void report_end(const struct report *r)
{
	const struct options *o = r->options;

	if (o->search_high && r->highest)
		printf("up to %llu/s in each direction no more than %g %% is lost\n",
			(unsigned long long)r->highest, o->max_loss);
	else if (o->search_high)
		printf("at %llu/s already more than %g %% is lost\n",
			(unsigned long long)o->search_low, o->max_loss);
	if (r->lost)
		printf("allocations that could not be renewed: %u\n", r->lost);
}

static void print_way_json(const char *name, const struct way *w)
{
	printf("\"%s\": {\"offered\": %llu, \"relayed\": %llu, \"lost\": %llu, \"duplicated\": %llu, "
	       "\"reordered\": %llu, \"too_late\": %llu, \"foreign\": %llu, \"unread\": %llu, \"seconds\": %.6f, \"latency_ns\": ",
		name, (unsigned long long)w->offered, (unsigned long long)w->relayed,
		(unsigned long long)(w->offered - w->relayed), (unsigned long long)w->duplicated,
		(unsigned long long)w->reordered, (unsigned long long)w->too_late,
		(unsigned long long)w->foreign, (unsigned long long)w->unread,
		(double)w->sent_ns / 1e9);
	percentiles_print(stdout, w->latencies);
	putchar('}');
}

static void print_step_json(const struct options *o, const struct outcome *outcome)
{
	const char *comma = "";

	putchar('{');
	if (o->mix == MIX_NONE && outcome->step.rate)
		printf("\"rate\": %llu, ", (unsigned long long)outcome->step.rate);
	else if (o->mix == MIX_NONE)
		printf("\"rate\": \"max\", ");
	printf("\"active\": %u, \"interrupted\": %s, \"directions\": {", outcome->step.active,
		outcome->is_interrupted ? "true" : "false");
	for (int d = 0; d < DIRECTIONS; d++) {
		if (!outcome->ways[d].is_used)
			continue;
		fputs(comma, stdout);
		print_way_json(names[d], &outcome->ways[d]);
		comma = ", ";
	}
	putchar('}');
	if (outcome->cpu_ns >= 0)
		printf(", \"cpu_ns_per_packet\": %.1f", outcome_cost(outcome));
	putchar('}');
}

static void print_making_json(const struct options *o, const struct making *m)
{
	printf("\"seconds\": %.6f, \"per_second\": %.1f, \"request_ns\": ", m->seconds,
		per(m->count, m->seconds));
	percentiles_print(stdout, m->answers);
	if (o->pid)
		printf(", \"cpu_ns_per_allocation\": %.0f, \"bytes_per_allocation\": %.0f",
			per(m->cpu_ns, m->count), per(m->rss, m->count));
}

void report_json(const struct report *r)
{
	const struct options *o = r->options;

	printf("{\"backend\": \"%s\", \"allocations\": %u, \"making\": {", backend_name(o->backend),
		o->clients.allocations);
	print_making_json(o, r->making);
	printf("}, ");
	if (o->mix == MIX_RTP)
		printf("\"mix\": \"rtp\", \"steps\": [");
	else
		printf("\"size\": %u, \"steps\": [", o->size);
	for (unsigned i = 0; i < r->count; i++) {
		if (i)
			printf(", ");
		print_step_json(o, &r->outcomes[i]);
	}
	printf("], \"lost_allocations\": %u", r->lost);
	if (o->search_high)
		printf(", \"highest_rate\": %llu", (unsigned long long)r->highest);
	puts("}");
}

void report_making(const struct options *o, const struct making *m)
{
	if (!o->json) {
		printf("%u allocations with a channel each in %.3f s: %.0f/s; requests: ", m->count,
			m->seconds, per(m->count, m->seconds));
		print_latencies(m->answers);
		if (o->pid)
			printf("process %d: %.1f us of CPU and %.0f bytes an allocation\n",
				(int)o->pid, per(m->cpu_ns, m->count) / 1e3, per(m->rss, m->count));
		return;
	}
	printf("{\"backend\": \"%s\", \"allocations\": %u, ", backend_name(o->backend), m->count);
	print_making_json(o, m);
	puts("}");
}
