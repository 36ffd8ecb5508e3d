#include "relay.h"

#include "page.h"
#include "process.h"
#include "progress.h"

#include "base/clock.h"

#include <err.h>
#include <stdlib.h>

#define RESOLUTION 50   /* a search ends where what it does not know is that part of the rate */
#define REACHED    0.95 /* of the rate: with less, it is the sender that is slow */
#define ROW        16   /* flat out: packets in a row on one client's socket */

struct run {
	const struct options *options;
	struct traffic traffic;
	struct outcome *outcomes;
	unsigned count;
};

static bool is_interrupted(const struct run *r)
{
	return r->count && r->outcomes[r->count - 1].is_interrupted;
}

static const struct outcome *perform(struct run *r, const struct step *step)
{
	const struct options *o = r->options;
	struct outcome *outcome = &r->outcomes[r->count++];
	uint64_t before_ns = process_cost_of(o->pid).cpu_ns;

	traffic_run(&r->traffic, step, outcome);
	if (o->pid)
		outcome->cpu_ns = (double)(process_cost_of(o->pid).cpu_ns - before_ns);
	progress_clear();
	if (!o->json)
		report_step(o, outcome);
	return outcome;
}

static bool is_within(const struct outcome *outcome, double max_loss)
{
	for (int d = 0; d < DIRECTIONS; d++) {
		if (way_loss(&outcome->ways[d]) > max_loss)
			return false;
	}
	return true;
}

static bool is_reached(const struct outcome *outcome)
{
	for (int d = 0; d < DIRECTIONS; d++) {
		const struct way *w = &outcome->ways[d];

		if (w->is_used && (double)w->offered < REACHED * (double)outcome->step.rate *
							       (double)w->sent_ns / 1e9)
			return false;
	}
	return true;
}

static bool is_good(struct run *r, uint64_t rate)
{
	const struct options *o = r->options;
	struct step step = {rate, o->steps[0].active};
	const struct outcome *outcome = perform(r, &step);

	if (is_within(outcome, o->max_loss) && !is_reached(outcome)) {
		warnx("%llu/s: this machine does not send so fast", (unsigned long long)rate);
		return false;
	}
	return is_within(outcome, o->max_loss) && !outcome->is_interrupted;
}

/* The highest rate that is good, 0: none. */
static uint64_t search(struct run *r)
{
	uint64_t low = r->options->search_low, high = r->options->search_high;

	if (!is_good(r, low))
		return 0;
	if (low == high || is_interrupted(r))
		return low;
	if (is_good(r, high))
		return high;
	while (high - low > low / RESOLUTION + 1 && r->count < STEPS_MAX && !is_interrupted(r)) {
		uint64_t middle = low + (high - low) / 2;

		if (is_good(r, middle))
			low = middle;
		else
			high = middle;
	}
	return low;
}

static void begin(struct run *r, struct clients *clients, struct end *client_end,
	struct end *peer_end, const atomic_bool *stop)
{
	const struct options *o = r->options;
	const struct traffic_settings settings = {
		.clients = clients,
		.client_end = client_end,
		.peer_end = peer_end,
		.directions = {o->directions[0], o->directions[1]},
		.mix = o->mix,
		.random = o->random,
		.row = ROW,
		.size = o->size,
		.length_ns = (uint64_t)(o->duration_s * (double)TP_NS_PER_S),
		.warm_up_ns = (uint64_t)(o->warm_up_s * (double)TP_NS_PER_S),
		.stop = stop,
		.progress = progress_traffic,
	};

	traffic_begin(&r->traffic, &settings);
}

/* A search has the bar built in. */
static int exit_code(const struct run *r, uint64_t highest)
{
	if (r->options->search_high)
		return highest == 0;
	for (unsigned i = 0; i < r->count; i++) {
		if (!is_within(&r->outcomes[i], r->options->max_loss))
			return 1;
	}
	return 0;
}

/* Before there is anything to write: what cannot be written is known before the measuring. */
static FILE *open_page(const struct options *o)
{
	FILE *page = o->html ? fopen(o->html, "we") : NULL;

	if (o->html && !page)
		err(1, "%s", o->html);
	return page;
}

static void write_page(FILE *page, const struct report *report)
{
	if (!page)
		return;
	page_write(page, report);
	if (ferror(page) || fclose(page) != 0)
		err(1, "%s", report->options->html);
}

int relay(const struct options *o, const struct making *making, struct clients *clients,
	struct end *client_end, struct end *peer_end, const atomic_bool *stop)
{
	struct run r = {.options = o, .outcomes = calloc(STEPS_MAX, sizeof(*r.outcomes))};
	FILE *page = open_page(o);
	struct report report = {.options = o, .making = making, .outcomes = r.outcomes};
	int code;

	if (!r.outcomes)
		err(1, "start");
	begin(&r, clients, client_end, peer_end, stop);
	if (!o->json)
		report_begin(o);
	if (o->search_high)
		report.highest = search(&r);
	else
		for (unsigned i = 0; i < o->steps_count && !is_interrupted(&r); i++)
			perform(&r, &o->steps[i]);
	traffic_end(&r.traffic);
	report.count = r.count;
	report.lost = clients->lost;
	if (o->json)
		report_json(&report);
	else
		report_end(&report);
	write_page(page, &report);
	code = exit_code(&r, report.highest);
	free(r.outcomes);
	return code;
}
