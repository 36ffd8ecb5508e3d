/*
 * The loop of a polling worker: receive a burst, let the core decide, then send, pass and release
 * by what it decided. A worker owns its struct and its counters; per packet it allocates nothing,
 * locks nothing and asks the kernel for nothing.
 */
#include "worker.h"

#include "base/clock.h"
#include "host.h"

#include "dataplane/core/burst.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

/* Without a frame: when a worker that may sleep does so, and how often one that may not looks at
 * the clock. */
#define POLLS_BEFORE_SLEEP 256
#define POLLS_PER_CLOCK    1024

/* With nothing between them: reading the clock is a fiftieth of what a burst costs. */
#define BURSTS_PER_CLOCK 8

struct worker {
	const struct tp_backend_ops *ops;
	struct tp_backend *backend;
	const volatile bool *stop;
	uint32_t index;
	uint32_t idle_sleep_us;
	uint32_t idle_polls; /* since the last frame */
	uint32_t bursts;     /* since the clock was last read, one right behind the other */
	uint64_t seen_ns;    /* when the clock was last read */
	uint64_t epoch;      /* kept here: turnpiked may clear the table's while a burst runs */
	struct tp_host host;

	struct tp_packet pkts[TP_BURST];
	struct tp_frame frames[TP_BURST];
	enum tp_verdict verdicts[TP_BURST];
	struct tp_packet passed[TP_BURST];
	struct tp_frame passed_frames[TP_BURST];
	struct tp_packet output[TP_BURST];
	struct tp_frame output_frames[TP_BURST];
	struct tp_frame dropped[TP_BURST];

	pthread_t thread;
	bool runs;
	sem_t entered;
	int enter_error;
} __attribute__((aligned(128)));

struct tp_workers {
	volatile bool stop;
	uint32_t ifindexes[TP_INTERFACES_MAX];
	uint32_t count;
	struct worker workers[];
};

/* The clock, and how long the worker has been up. */
static uint64_t read_clock(struct worker *w)
{
	uint64_t now = tp_clock_now_ns(), past = now - w->seen_ns;

	w->host.worker->up_ns += past;
	w->seen_ns = now;
	return past;
}

/*
 * Whoever frees records waits until the epoch was even: it must be seen odd before a record is
 * read, and even after the last one was.
 */
static void begin_burst(struct worker *w)
{
	__atomic_store_n(&w->host.worker->epoch, ++w->epoch, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

static void end_burst(struct worker *w)
{
	__atomic_store_n(&w->host.worker->epoch, ++w->epoch, __ATOMIC_RELEASE);
}

struct fates {
	uint32_t sent, passed, output, dropped;
};

/* Rewritten ones are sent by the kernel. */
static void sort_passed(struct worker *w, uint32_t i, struct fates *n)
{
	if (w->host.outputs && w->pkts[i].is_rewritten) {
		w->output[n->output] = w->pkts[i];
		w->output_frames[n->output++] = w->frames[i];
	} else {
		w->passed[n->passed] = w->pkts[i];
		w->passed_frames[n->passed++] = w->frames[i];
	}
}

/* Those to send move together at the front of the burst; usually that is where they are. */
static struct fates sort_by_fate(struct worker *w, uint32_t count)
{
	struct fates n = {0};

	for (uint32_t i = 0; i < count; i++) {
		enum tp_fate fate = tp_verdict_fate(w->verdicts[i]);

		if (TP_LIKELY(fate == TP_FATE_SEND)) {
			if (n.sent != i) {
				w->pkts[n.sent] = w->pkts[i];
				w->frames[n.sent] = w->frames[i];
			}
			n.sent++;
		} else if (fate == TP_FATE_PASS) {
			sort_passed(w, i, &n);
		} else {
			w->dropped[n.dropped++] = w->frames[i];
		}
	}
	return n;
}

/* First what is for turnpiked: no answer to what is sent shall overtake it. */
static void hand_on(struct worker *w, uint32_t count, bool all_relayed)
{
	struct fates n = {.sent = count};
	uint32_t lost = 0;

	if (TP_UNLIKELY(!all_relayed))
		n = sort_by_fate(w, count);
	if (TP_UNLIKELY(n.passed))
		lost += n.passed -
			w->ops->pass(w->backend, w->index, w->passed, w->passed_frames, n.passed);
	if (TP_LIKELY(n.sent))
		lost += n.sent - w->ops->send(w->backend, w->index, w->pkts, w->frames, n.sent);
	if (n.output)
		lost += n.output -
			w->ops->output(w->backend, w->index, w->output, w->output_frames, n.output);
	if (n.dropped)
		w->ops->release(w->backend, w->index, w->dropped, n.dropped);
	if (lost)
		w->host.worker->verdicts[TP_QUEUE_FULL] += lost;
}

/* All the time since the clock was last read went into bursts. */
static void count_busy(struct worker *w)
{
	w->host.worker->busy_ns += read_clock(w);
	w->bursts = 0;
}

static void work_on_burst(struct worker *w, uint32_t count)
{
	bool all_relayed;

	/* Right behind another burst, the time is near enough. */
	if (w->idle_polls) {
		read_clock(w);
		w->idle_polls = 0;
	}
	w->host.now_ns = w->seen_ns;
	w->host.ticks = tp_ticks(w->seen_ns);
	begin_burst(w);
	all_relayed = tp_relay_burst(&w->host, w->pkts, w->verdicts, count);
	end_burst(w);
	hand_on(w, count, all_relayed);
	w->host.worker->bursts++;
	if (++w->bursts >= BURSTS_PER_CLOCK)
		count_busy(w);
}

static void sleep_for(uint32_t us)
{
	struct timespec time = {.tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000};

	nanosleep(&time, NULL);
}

static void idle(struct worker *w)
{
	if (w->bursts)
		count_busy(w);
	w->idle_polls++;
	if (w->idle_sleep_us && w->idle_polls >= POLLS_BEFORE_SLEEP) {
		if (w->ops->wait)
			w->ops->wait(w->backend, w->index, w->idle_sleep_us);
		else
			sleep_for(w->idle_sleep_us);
		read_clock(w);
	} else if (w->idle_polls % POLLS_PER_CLOCK == 0) {
		read_clock(w);
	}
}

static void *work(void *arg)
{
	struct worker *w = arg;

	if (w->ops->enter)
		w->enter_error = w->ops->enter(w->backend, w->index);
	sem_post(&w->entered);
	if (w->enter_error)
		return NULL;
	w->seen_ns = tp_clock_now_ns();
	while (!*w->stop) {
		uint32_t count = w->ops->receive(w->backend, w->index, w->pkts, w->frames);

		w->host.worker->polls++;
		if (count)
			work_on_burst(w, count);
		else
			idle(w);
	}
	if (w->bursts)
		count_busy(w);
	if (w->ops->leave)
		w->ops->leave(w->backend, w->index);
	return NULL;
}

static uint64_t draw_seed(uint32_t index)
{
	uint64_t seed;

	if (getrandom(&seed, sizeof(seed), 0) != sizeof(seed))
		seed = tp_clock_now_ns() ^ (uint64_t)index << 32;
	return seed;
}

__attribute__((format(printf, 3, 4))) static int refuse(
	char reason[TP_REASON_SIZE], int err, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(reason, TP_REASON_SIZE, format, args);
	va_end(args);
	return err;
}

/* Signals are the main thread's. */
static int create_thread(struct worker *w, const pthread_attr_t *attributes)
{
	sigset_t all, before;
	char name[16];
	int err;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	err = pthread_create(&w->thread, attributes, work, w);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (err)
		return -err;
	w->runs = true;
	snprintf(name, sizeof(name), "worker-%u", w->index);
	pthread_setname_np(w->thread, name);
	return 0;
}

/* core < 0: wherever the scheduler likes. */
static int start_thread(struct worker *w, int core)
{
	pthread_attr_t attributes;
	cpu_set_t cpus;
	int err = -pthread_attr_init(&attributes);

	if (err)
		return err;
	CPU_ZERO(&cpus);
	if (core >= CPU_SETSIZE)
		err = -EINVAL;
	else if (core >= 0)
		CPU_SET((size_t)core, &cpus);
	if (!err && core >= 0)
		err = -pthread_attr_setaffinity_np(&attributes, sizeof(cpus), &cpus);
	if (!err)
		err = create_thread(w, &attributes);
	pthread_attr_destroy(&attributes);
	while (!err && sem_wait(&w->entered) != 0)
		;
	return err ? err : w->enter_error;
}

cpu_set_t tp_cores_off_workers(const struct tp_engine_options *options)
{
	cpu_set_t all, left;

	CPU_ZERO(&all);
	pthread_getaffinity_np(pthread_self(), sizeof(all), &all);
	left = all;
	for (size_t i = 0; i < options->cores_count; i++)
		CPU_CLR(options->cores[i], &left);
	return CPU_COUNT(&left) ? left : all;
}

static int start_all(struct tp_workers *workers, const struct tp_engine_options *options,
	char reason[TP_REASON_SIZE])
{
	for (uint32_t i = 0; i < workers->count; i++) {
		int core = i < options->cores_count ? options->cores[i] : -1;
		int err = start_thread(&workers->workers[i], core);

		if (err && core >= 0)
			return refuse(reason, err, "worker %u cannot run on core %d: %s", i, core,
				strerror(-err));
		if (err)
			return refuse(reason, err, "worker %u cannot start: %s", i, strerror(-err));
	}
	return 0;
}

static struct tp_workers *new_workers(const struct tp_backend_ops *ops, struct tp_backend *backend,
	const struct tp_memory *memory, const struct tp_engine_options *options)
{
	size_t size = sizeof(struct tp_workers) + options->workers * sizeof(struct worker);
	struct tp_engine_interface interfaces[TP_INTERFACES_MAX];
	size_t interfaces_count = ops->interfaces(backend, interfaces);
	struct tp_workers *workers = aligned_alloc(_Alignof(struct worker), size);

	if (!workers)
		return NULL;
	memset(workers, 0, size);
	workers->count = options->workers;
	for (size_t i = 0; i < interfaces_count; i++)
		workers->ifindexes[i] = interfaces[i].ifindex;
	for (uint32_t i = 0; i < workers->count; i++) {
		struct worker *w = &workers->workers[i];

		w->ops = ops;
		w->backend = backend;
		w->stop = &workers->stop;
		w->index = i;
		w->idle_sleep_us = options->idle_sleep_us;
		w->idle_polls = 1; /* the clock has not been read yet */
		w->host = tp_host_over(memory, workers->ifindexes, i);
		w->host.outputs = ops->output != NULL;
		w->host.random = draw_seed(i);
		/* A killed predecessor may have left it odd. */
		w->epoch = (w->host.worker->epoch | 1) + 1;
		__atomic_store_n(&w->host.worker->epoch, w->epoch, __ATOMIC_RELEASE);
		sem_init(&w->entered, 0, 0);
	}
	return workers;
}

int tp_workers_start(const struct tp_backend_ops *ops, struct tp_backend *backend,
	const struct tp_memory *memory, const struct tp_engine_options *options,
	struct tp_workers **out, char reason[TP_REASON_SIZE])
{
	struct tp_workers *workers;
	int err;

	if (options->workers == 0 || options->workers > memory->shape.workers)
		return refuse(reason, -EINVAL, "%u workers, but tables for %u", options->workers,
			memory->shape.workers);
	workers = new_workers(ops, backend, memory, options);
	if (!workers)
		return refuse(reason, -ENOMEM, "out of memory");
	err = start_all(workers, options, reason);
	if (err)
		tp_workers_stop(workers);
	else
		*out = workers;
	return err;
}

void tp_workers_stop(struct tp_workers *workers)
{
	if (!workers)
		return;
	workers->stop = true;
	for (uint32_t i = 0; i < workers->count; i++) {
		if (workers->workers[i].runs)
			pthread_join(workers->workers[i].thread, NULL);
		sem_destroy(&workers->workers[i].entered);
	}
	free(workers);
}
