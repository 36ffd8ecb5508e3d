/*
 * engines afxdp and dpdk, as turnpiked sees them: memory that turnpike-dataplane's workers have
 * mapped too, and the socket by which it came to them. Two names over one implementation. Control
 * plane's thread; start() waits for turnpike-dataplane and for signals, the rest does not block.
 */
#include "dataplane/engine/engine.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "dataplane/link/link.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>

/* Workers are past a burst in microseconds; one that takes longer was stopped. */
#define RECLAIM_NS  TP_NS_PER_S
#define PATIENCE_MS 1000 /* how often a wait looks after what takes too long */

/* One of the two. */
struct kind {
	const char *name;
	bool maps; /* tables are BPF maps, which the steering program reads too */
};

struct tp_engine {
	const struct kind *kind;
	struct tp_shape shape;
	struct tp_link *link;
	struct tp_tables tables;      /* none before the first greeting was accepted */
	struct tp_hello dataplane;    /* as it was first accepted; `attached` as it is now */
	bool there;                   /* turnpike-dataplane is connected */
	bool loss_untold;             /* its end has not been reported by check() */
	bool told[TP_INTERFACES_MAX]; /* interfaces whose loss was */
};

__attribute__((format(printf, 3, 4))) static int refuse(
	char reason[TP_REASON_SIZE], int err, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(reason, TP_REASON_SIZE, format, args);
	va_end(args);
	return err;
}

static void free_engine(struct tp_engine *engine)
{
	tp_link_close(engine->link);
	tp_tables_close(&engine->tables);
	free(engine);
}

static bool fits(const struct tp_engine *engine, const struct tp_tables *offered)
{
	const struct tp_shape *a = &engine->shape, *b = &offered->memory.shape;

	return (offered->kind == TP_TABLES_MAPS) == engine->kind->maps &&
	       a->capacity == b->capacity && a->workers == b->workers &&
	       a->regions[TP_REGION_POLICERS].count == b->regions[TP_REGION_POLICERS].count;
}

/*
 * Memory that the workers have mapped: they go on with it. What a killed predecessor left in it is
 * adopted by whoever asks for memory(), and relayed meanwhile; what is no table of this layout is
 * emptied.
 */
static int take_back(struct tp_engine *engine, struct tp_tables *offered)
{
	int err = fits(engine, offered) ? tp_tables_map(offered) : -EINVAL;

	if (!err)
		err = tp_memory_is_kept(&offered->memory)
			      ? tp_memory_await(&offered->memory, RECLAIM_NS)
			      : tp_memory_reclaim(&offered->memory, RECLAIM_NS);
	if (err)
		return err;
	engine->tables = *offered;
	*offered = tp_tables_none();
	return 0;
}

static int make_tables(struct tp_engine *engine)
{
	return engine->kind->maps ? tp_tables_create_maps(&engine->shape, &engine->tables)
				  : tp_tables_create_pages(&engine->shape, &engine->tables);
}

/* What can be said against the one who greets: 0, or -EPROTO and the sentence. */
static int judge(
	const struct tp_engine *engine, const struct tp_hello *hello, char why[TP_REASON_SIZE])
{
	if (strcmp(hello->engine, engine->kind->name) != 0)
		return refuse(why, -EPROTO, "turnpiked runs the engine %s, not %s",
			engine->kind->name, hello->engine);
	if (hello->workers != engine->shape.workers)
		return refuse(why, -EPROTO, "turnpiked has tables for %u workers, not for %u",
			engine->shape.workers, hello->workers);
	return 0;
}

/* Routes and next hops know the interfaces by what they were at the start. */
static int judge_interfaces(
	const struct tp_engine *engine, const struct tp_hello *hello, char why[TP_REASON_SIZE])
{
	const struct tp_hello *first = &engine->dataplane;

	if (hello->interfaces_count != first->interfaces_count)
		return refuse(why, -EPROTO,
			"turnpiked was started with %u interfaces, not with %u: restart it",
			first->interfaces_count, hello->interfaces_count);
	for (uint32_t i = 0; i < first->interfaces_count; i++) {
		const struct tp_engine_interface *was = &first->interfaces[i];
		const struct tp_engine_interface *is = &hello->interfaces[i];

		if (strcmp(was->name, is->name) != 0 || was->ifindex != is->ifindex)
			return refuse(why, -EPROTO,
				"interface %s is number %u, but turnpiked was started with %s as "
				"number %u: restart it",
				is->name, is->ifindex, was->name, was->ifindex);
	}
	return 0;
}

static void take_interfaces(struct tp_engine *engine, const struct tp_hello *hello)
{
	for (uint32_t i = 0; i < engine->dataplane.interfaces_count; i++) {
		struct tp_engine_interface *is = &engine->dataplane.interfaces[i];

		is->mode = hello->interfaces[i].mode;
		is->attached = hello->interfaces[i].attached;
		if (is->attached)
			engine->told[i] = false;
	}
}

/* The first who is accepted, in start(). -EAGAIN: he is not, somebody else may be. */
static int on_first_hello(struct tp_engine *engine, const struct tp_hello *hello,
	struct tp_tables *offered, char reason[TP_REASON_SIZE])
{
	char why[TP_REASON_SIZE];
	int err = judge(engine, hello, why);

	if (err) {
		tp_link_refuse(engine->link, why);
		return -EAGAIN;
	}
	engine->dataplane = *hello;
	engine->there = true;
	if (offered->fds[0] >= 0 && take_back(engine, offered) == 0) {
		tp_link_same(engine->link);
		return 0;
	}
	err = make_tables(engine);
	if (err)
		return refuse(reason, err, "no tables for %u flows: %s", engine->shape.capacity,
			strerror(-err));
	tp_link_give(engine->link, &engine->tables);
	return 0;
}

/* Later ones: the same as before, started anew, or connected again. */
static void on_hello(
	struct tp_engine *engine, const struct tp_hello *hello, struct tp_tables *offered)
{
	char why[TP_REASON_SIZE];

	if (judge(engine, hello, why) != 0 || judge_interfaces(engine, hello, why) != 0) {
		tp_link_refuse(engine->link, why);
		return;
	}
	if (offered->fds[0] >= 0 && tp_tables_are_same(offered, &engine->tables))
		tp_link_same(engine->link);
	else
		tp_link_give(engine->link, &engine->tables);
	take_interfaces(engine, hello);
	engine->there = true;
	engine->loss_untold = false;
	tp_info("turnpike-dataplane is back");
}

static void on_event(struct tp_engine *engine, enum tp_link_event event,
	const struct tp_hello *hello, struct tp_tables *offered)
{
	char why[TP_REASON_SIZE];

	switch (event) {
	case TP_LINK_HELLO:
		on_hello(engine, hello, offered);
		break;
	case TP_LINK_STATE:
		if (judge_interfaces(engine, hello, why) == 0)
			take_interfaces(engine, hello);
		break;
	case TP_LINK_LOST:
		engine->there = false;
		engine->loss_untold = true;
		break;
	case TP_LINK_NOTHING:
		break;
	}
}

static void process(struct tp_engine *engine)
{
	enum tp_link_event event;

	do {
		struct tp_hello hello;
		TP_CLEANUP(tp_tables_close) struct tp_tables offered = tp_tables_none();

		event = tp_link_next(engine->link, &hello, &offered);
		on_event(engine, event, &hello, &offered);
	} while (event != TP_LINK_NOTHING);
}

/* Has somebody been accepted? -EAGAIN: nobody yet. */
static int look(struct tp_engine *engine, char reason[TP_REASON_SIZE])
{
	enum tp_link_event event;
	int err = -EAGAIN;

	do {
		struct tp_hello hello;
		TP_CLEANUP(tp_tables_close) struct tp_tables offered = tp_tables_none();

		event = tp_link_next(engine->link, &hello, &offered);
		if (event == TP_LINK_HELLO)
			err = on_first_hello(engine, &hello, &offered, reason);
	} while (err == -EAGAIN && event != TP_LINK_NOTHING);
	return err;
}

/* The signals that stop a daemon, which holds them back while it starts: they stay pending. */
static int open_stop_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* One that runs already tries again every now and then: only a longer wait is worth a word. */
static int wait_for_dataplane(struct tp_engine *engine, char reason[TP_REASON_SIZE])
{
	TP_AUTO_CLOSE int signals = open_stop_signals();
	struct pollfd fds[] = {{.fd = tp_link_fd(engine->link), .events = POLLIN},
		{.fd = signals, .events = POLLIN}};
	bool told = false;
	int err;

	while ((err = look(engine, reason)) == -EAGAIN) {
		int ready = poll(fds, 2, PATIENCE_MS);

		if (ready < 0 && errno != EINTR)
			return refuse(reason, -errno, "waiting for turnpike-dataplane: %s",
				strerror(errno));
		if (ready > 0 && fds[1].revents)
			return refuse(
				reason, -EINTR, "stopped while waiting for turnpike-dataplane");
		if (ready == 0 && !told)
			tp_info("waiting for turnpike-dataplane");
		told = told || ready == 0;
	}
	return err;
}

/* "2 workers on eth0 (zero-copy), eth1 (copy); tables in maps" */
static void explain(const struct tp_engine *engine, char reason[TP_REASON_SIZE])
{
	int len = snprintf(reason, TP_REASON_SIZE, "%u worker%s on ", engine->shape.workers,
		engine->shape.workers == 1 ? "" : "s");

	for (uint32_t i = 0; i < engine->dataplane.interfaces_count && len < TP_REASON_SIZE; i++) {
		const struct tp_engine_interface *is = &engine->dataplane.interfaces[i];

		len += snprintf(reason + len, (size_t)(TP_REASON_SIZE - len), "%s%s (%s)",
			i ? ", " : "", is->name, is->mode);
	}
	if (len < TP_REASON_SIZE)
		snprintf(reason + len, (size_t)(TP_REASON_SIZE - len), "; tables in %s",
			engine->tables.memory.kind);
}

static int prepare(struct tp_engine *engine, const struct tp_engine_options *options,
	char reason[TP_REASON_SIZE])
{
	int err = tp_shape_init(
		options->flows, options->workers, options->allocations, &engine->shape);

	if (err)
		return refuse(reason, err, "no tables for %u flows and %u workers", options->flows,
			options->workers);
	err = tp_link_listen(options->link_path,
		&(struct tp_link_users){
			options->owner_uid, options->dataplane_uid, options->dataplane_gid},
		&engine->link, reason);
	return err ? err : wait_for_dataplane(engine, reason);
}

static int start(const struct kind *kind, const struct tp_engine_options *options,
	struct tp_engine **out, char reason[TP_REASON_SIZE])
{
	struct tp_engine *engine = calloc(1, sizeof(*engine));
	int err;

	if (!engine)
		return refuse(reason, -ENOMEM, "out of memory");
	engine->kind = kind;
	engine->tables = tp_tables_none();
	err = prepare(engine, options, reason);
	if (err) {
		free_engine(engine);
		return err;
	}
	explain(engine, reason);
	*out = engine;
	return 0;
}

static struct tp_memory *memory(struct tp_engine *engine)
{
	return &engine->tables.memory;
}

static size_t interfaces(
	const struct tp_engine *engine, struct tp_engine_interface out[TP_INTERFACES_MAX])
{
	for (uint32_t i = 0; i < engine->dataplane.interfaces_count; i++) {
		out[i] = engine->dataplane.interfaces[i];
		out[i].attached = engine->there && out[i].attached;
	}
	return engine->dataplane.interfaces_count;
}

static bool alive(const struct tp_engine *engine)
{
	return engine->there;
}

static int check(struct tp_engine *engine, char reason[TP_REASON_SIZE])
{
	process(engine);
	if (engine->loss_untold) {
		engine->loss_untold = false;
		return refuse(reason, -ENOLINK,
			"turnpike-dataplane is gone: nothing is accelerated until it is back");
	}
	for (uint32_t i = 0; i < engine->dataplane.interfaces_count; i++) {
		const struct tp_engine_interface *is = &engine->dataplane.interfaces[i];

		if (is->attached || engine->told[i])
			continue;
		engine->told[i] = true;
		return refuse(reason, -ENOLINK, "%s: turnpike-dataplane gets no packets from there",
			is->name);
	}
	return 0;
}

static int fd(const struct tp_engine *engine)
{
	return tp_link_fd(engine->link);
}

static void stop(struct tp_engine *engine)
{
	free_engine(engine);
}

#define REMOTE(engine_name, in_maps)                                                               \
	static const struct kind kind_##engine_name = {#engine_name, in_maps};                     \
	static int start_##engine_name(const struct tp_engine_options *options,                    \
		struct tp_engine **out, char reason[TP_REASON_SIZE])                               \
	{                                                                                          \
		return start(&kind_##engine_name, options, out, reason);                           \
	}                                                                                          \
	const struct tp_engine_ops tp_engine_##engine_name = {                                     \
		.name = #engine_name,                                                              \
		.start = start_##engine_name,                                                      \
		.memory = memory,                                                                  \
		.interfaces = interfaces,                                                          \
		.alive = alive,                                                                    \
		.check = check,                                                                    \
		.fd = fd,                                                                          \
		.process = process,                                                                \
		.stop = stop,                                                                      \
	}

REMOTE(afxdp, true);
REMOTE(dpdk, false);
