#include "traffic.h"

#include "base/clock.h"

#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <unistd.h>

#define NAP_US    50
#define WAIT_MS   20
#define WATCH_US  50000
#define QUIET_NS  (300 * TP_NS_PER_MS)
#define NAME_SIZE 16
#define SPREAD_NS (2 * TP_NS_PER_MS) /* for the threads to be there when it begins */

/* A direction of a step. */
struct sender {
	const struct traffic *traffic;
	struct end *end;
	enum direction direction;
	uint64_t run, start_ns;
	struct schedule schedule;
	struct books books;
	uint64_t *numbers; /* by flow: of the next packet */
	pthread_t thread;
	_Atomic uint64_t offered;
	uint64_t sent_ns, unread_before;
	atomic_bool is_done;
};

struct burst {
	struct packet_due due[END_BURST];
	struct datagram datagrams[END_BURST];
	uint8_t bytes[END_BURST][PACKET_ROOM];
};

/* ---- sending -----------------------------------------------------------------------------------
 */

static void write_packet(struct sender *s, struct burst *b, unsigned i, uint64_t now_ns)
{
	const struct clients *clients = s->traffic->settings.clients;
	bool up = s->direction == DIRECTION_UP;
	uint32_t flow = b->due[i].flow;
	struct stamp stamp = {
		s->run, s->numbers[flow]++, now_ns, flow, b->due[i].size, (uint16_t)s->direction};

	b->datagrams[i] = (struct datagram){
		.at = up ? flow : flow % s->end->count,
		.remote = up ? clients->settings.server : clients->all[flow].relay,
		.bytes = b->bytes[i],
		.len = stamp_write(b->bytes[i], &stamp, up),
		/* What warms up must not become what is counted. */
		.time_at = now_ns < s->books.from_ns ? 0 : stamp_time_at(up),
	};
}

static bool goes_on(const struct sender *s, uint64_t now_ns)
{
	const struct traffic_settings *settings = &s->traffic->settings;

	return now_ns < s->start_ns + settings->warm_up_ns + settings->length_ns &&
	       !atomic_load_explicit(settings->stop, memory_order_relaxed);
}

static void wait_for_start(const struct sender *s)
{
	while (tp_clock_now_ns() < s->start_ns)
		usleep(NAP_US);
}

static void *send_all(void *arg)
{
	struct sender *s = arg;
	struct burst *b = calloc(1, sizeof(*b));
	uint64_t now_ns, offered = 0;

	if (!b)
		err(1, "sender");
	prctl(PR_SET_TIMERSLACK, 1); /* naps as short as they are meant */
	wait_for_start(s);
	for (now_ns = tp_clock_now_ns(); goes_on(s, now_ns); now_ns = tp_clock_now_ns()) {
		unsigned count =
			schedule_next(&s->schedule, now_ns - s->start_ns, b->due, END_BURST);

		for (unsigned i = 0; i < count; i++)
			write_packet(s, b, i, now_ns);
		if (count)
			end_send(s->end, b->datagrams, count);
		else
			usleep(NAP_US);
		if (now_ns < s->books.from_ns)
			continue;
		offered += count;
		atomic_store_explicit(&s->offered, offered, memory_order_relaxed);
	}
	s->sent_ns = now_ns > s->books.from_ns ? now_ns - s->books.from_ns : 0;
	free(b);
	s->is_done = true;
	return NULL;
}

/* ---- receiving ---------------------------------------------------------------------------------
 */

static void take(struct receiver *r, const struct datagram *d, uint64_t now_ns)
{
	if (r->clients && clients_take(r->clients, d))
		return;
	if (r->books)
		books_take(r->books, d->bytes, d->len, now_ns);
}

static void *receive_all(void *arg)
{
	struct receiver *r = arg;
	struct datagram all[END_BURST];

	while (!*r->is_over) {
		unsigned count = end_receive(r->end, all, WAIT_MS);
		uint64_t now_ns = tp_clock_now_ns();

		pthread_mutex_lock(&r->mutex);
		for (unsigned i = 0; i < count; i++)
			take(r, &all[i], now_ns);
		pthread_mutex_unlock(&r->mutex);
		if (r->clients)
			clients_tick(r->clients);
	}
	return NULL;
}

static void set_books(struct receiver *r, struct books *books)
{
	pthread_mutex_lock(&r->mutex);
	r->books = books;
	pthread_mutex_unlock(&r->mutex);
}

/* For those who look at, or pin, single threads. */
static void name_thread(pthread_t thread, const char *does, int direction)
{
	char name[NAME_SIZE];

	snprintf(name, sizeof(name), "%s %s", does, direction == DIRECTION_UP ? "up" : "down");
	pthread_setname_np(thread, name);
}

/* ---- a step ------------------------------------------------------------------------------------
 */

static void begin_sender(struct sender *s, const struct traffic *t, enum direction direction,
	const struct step *step, uint64_t start_ns)
{
	const struct traffic_settings *settings = &t->settings;
	const struct schedule_settings schedule = {
		.mix = settings->mix,
		.rate = step->rate,
		.flows = step->active,
		.size = settings->size,
		.row = (uint16_t)(step->rate ? 1 : settings->row),
		.random = settings->random,
		.seed = t->run + (uint64_t)direction,
	};

	s->traffic = t;
	s->direction = direction;
	s->end = direction == DIRECTION_UP ? settings->client_end : settings->peer_end;
	s->run = t->run;
	s->start_ns = start_ns;
	s->unread_before = end_unread(t->receivers[direction].end);
	s->numbers = calloc(step->active, sizeof(*s->numbers));
	s->books = (struct books){
		.run = t->run,
		.from_ns = start_ns + settings->warm_up_ns,
		.direction = direction,
		.flows = step->active,
		.trackers = calloc(step->active, sizeof(*s->books.trackers)),
	};
	if (!s->numbers || !s->books.trackers || schedule_begin(&s->schedule, &schedule) < 0)
		err(1, "%u flows", step->active);
}

static bool is_complete(const struct sender *s)
{
	return s->is_done && s->books.relayed == s->offered;
}

/* Calls back while they send and until nothing has arrived for a while. */
static void watch(const struct traffic *t, const struct step *step, struct sender *const used[],
	unsigned count, uint64_t start_ns)
{
	const struct traffic_settings *settings = &t->settings;
	uint64_t length_ns = settings->warm_up_ns + settings->length_ns, last = 0, quiet_ns = 0;

	for (bool done = false, complete = false; !complete && !(done && quiet_ns >= QUIET_NS);) {
		uint64_t offered = 0, relayed = 0, arrived = 0;

		usleep(WATCH_US);
		done = complete = true;
		for (unsigned i = 0; i < count; i++) {
			offered += used[i]->offered;
			relayed += used[i]->books.relayed;
			arrived += used[i]->books.arrived;
			done &= used[i]->is_done;
			complete &= is_complete(used[i]);
		}
		quiet_ns = done && arrived == last ? quiet_ns + WATCH_US * 1000 : 0;
		last = arrived;
		if (settings->progress)
			settings->progress(settings->arg, step, offered, relayed,
				(double)(tp_clock_now_ns() - start_ns) / (double)length_ns);
	}
}

static void write_down(const struct sender *s, struct way *way)
{
	const struct books *b = &s->books;

	*way = (struct way){true, s->offered, s->sent_ns, b->relayed, b->reordered, b->duplicated,
		b->too_late, b->foreign, 0, {0}};
	memcpy(way->latencies, b->latencies, sizeof(way->latencies));
}

static void end_sender(struct traffic *t, struct sender *s, struct outcome *out)
{
	pthread_join(s->thread, NULL);
	set_books(&t->receivers[s->direction], NULL);
	write_down(s, &out->ways[s->direction]);
	out->ways[s->direction].unread =
		end_unread(t->receivers[s->direction].end) - s->unread_before;
	schedule_end(&s->schedule);
	free(s->numbers);
	free(s->books.trackers);
	free(s);
}

void traffic_run(struct traffic *t, const struct step *step, struct outcome *out)
{
	struct sender *used[DIRECTIONS];
	uint64_t start_ns = tp_clock_now_ns() + SPREAD_NS;
	unsigned count = 0;

	*out = (struct outcome){.step = *step, .cpu_ns = -1};
	t->run++;
	for (int d = 0; d < DIRECTIONS; d++) {
		struct sender *s = calloc(1, sizeof(*s));

		if (!s)
			err(1, "sender");
		if (!t->settings.directions[d]) {
			free(s);
			continue;
		}
		begin_sender(s, t, (enum direction)d, step, start_ns);
		set_books(&t->receivers[d], &s->books);
		used[count++] = s;
		if (pthread_create(&s->thread, NULL, send_all, s) != 0)
			errx(1, "no threads");
		name_thread(s->thread, "send", d);
	}
	watch(t, step, used, count, start_ns);
	out->is_interrupted = *t->settings.stop;
	for (unsigned i = 0; i < count; i++)
		end_sender(t, used[i], out);
}

void traffic_begin(struct traffic *t, const struct traffic_settings *settings)
{
	t->settings = *settings;
	if (getrandom(&t->run, sizeof(t->run), 0) < 0)
		err(1, "random numbers");
	t->run &= ~UINT64_C(0xffff);
	t->receivers[DIRECTION_UP].end = settings->peer_end;
	t->receivers[DIRECTION_DOWN].end = settings->client_end;
	t->receivers[DIRECTION_DOWN].clients = settings->clients;
	for (int d = 0; d < DIRECTIONS; d++) {
		struct receiver *r = &t->receivers[d];

		r->is_over = &t->is_over;
		pthread_mutex_init(&r->mutex, NULL);
		if (pthread_create(&r->thread, NULL, receive_all, r) != 0)
			errx(1, "no threads");
		name_thread(r->thread, "receive", d);
	}
}

void traffic_end(struct traffic *t)
{
	t->is_over = true;
	for (int d = 0; d < DIRECTIONS; d++)
		pthread_join(t->receivers[d].thread, NULL);
}

double way_loss(const struct way *way)
{
	if (way->offered == 0)
		return 0;
	return 100 * (double)(way->offered - way->relayed) / (double)way->offered;
}
