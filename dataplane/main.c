/*
 * turnpike-dataplane: polling workers for the engines afxdp and dpdk. The order of start() is the
 * design: the back end opens what needs rights, turnpiked hands over the tables, the back end
 * starts on them, the rights are given up, and only then the workers read the first frame.
 *
 * The main thread keeps the link to turnpiked and looks after the back end; it never touches a
 * frame. When turnpiked goes away the workers go on with the tables they have mapped.
 */
#include "base/clock.h"
#include "base/log.h"
#include "base/privileges.h"
#include "controlplane/config/config.h"
#include "controlplane/config/options.h"
#include "dataplane/link/link.h"
#include "dataplane/worker/worker.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/signalfd.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

enum { EXIT_CLEAN = 0, EXIT_RUNTIME = 1, EXIT_USAGE = 2 };

#define RETRY_NS     (200 * TP_NS_PER_MS)
#define CHECK_NS     TP_NS_PER_S
#define REFUSALS_MAX 50 /* in a row: 10 seconds */

struct dataplane {
	const struct tp_engine_options *options;
	const struct tp_backend_ops *ops;
	struct tp_backend *backend;
	struct tp_privileges_target target, control; /* who we become, and turnpiked */
	struct tp_hello hello;
	struct tp_tables tables;
	bool has_tables;
	struct tp_workers *workers;

	int signals;
	int link;           /* -1: turnpiked is not there */
	bool is_linked;     /* it has answered */
	bool has_said_wait; /* for turnpiked, since it was last there */
	uint32_t refusals;
	uint64_t retry_ns, check_ns; /* when it is time again */
};

static const struct tp_backend_ops *backend_for(enum config_engine engine)
{
#ifdef HAVE_AFXDP
	if (engine == CONFIG_ENGINE_AFXDP)
		return &tp_backend_afxdp;
#endif
#ifdef HAVE_DPDK
	if (engine == CONFIG_ENGINE_DPDK)
		return &tp_backend_dpdk;
#endif
	return NULL;
}

/* ---- the link ----------------------------------------------------------------------------------
 */

static void describe(struct dataplane *d)
{
	snprintf(d->hello.engine, sizeof(d->hello.engine), "%s", d->ops->name);
	d->hello.workers = d->options->workers;
	d->hello.interfaces_count = (uint32_t)d->ops->interfaces(d->backend, d->hello.interfaces);
}

static void unlink_from_control(struct dataplane *d)
{
	if (d->link >= 0)
		close(d->link);
	d->link = -1;
	d->is_linked = false;
	d->retry_ns = tp_clock_now_ns() + RETRY_NS;
}

/* The socket is for our user: a root that was left few rights may not open it. */
static int connect_as_user(struct dataplane *d, char reason[TP_REASON_SIZE])
{
	int err;

	setfsgid(d->target.gid);
	setfsuid(d->target.uid);
	err = tp_link_connect(d->options->link_path, d->control.uid, &d->link, reason);
	setfsuid(geteuid());
	setfsgid(getegid());
	/* For a moment after it was made it is the one's who has started turnpiked. */
	if (err == -EACCES)
		err = tp_link_connect(d->options->link_path, d->control.uid, &d->link, reason);
	return err;
}

/* -EAGAIN: not there, to be tried again. */
static int connect_and_greet(struct dataplane *d)
{
	char reason[TP_REASON_SIZE];
	int err = connect_as_user(d, reason);

	d->retry_ns = tp_clock_now_ns() + RETRY_NS;
	if (err == -EAGAIN) {
		if (!d->has_said_wait)
			tp_info("waiting for turnpiked at %s", d->options->link_path);
		d->has_said_wait = true;
		return err;
	}
	if (err) {
		tp_error("%s", reason);
		return err;
	}
	err = tp_link_hello(d->link, &d->hello, d->has_tables ? &d->tables : NULL);
	if (err) {
		unlink_from_control(d);
		return -EAGAIN;
	}
	return 0;
}

static int on_refusal(struct dataplane *d, const char *reason)
{
	unlink_from_control(d);
	if (d->refusals++ == 0)
		tp_warning("turnpiked refused: %s", reason);
	if (d->refusals < REFUSALS_MAX)
		return -EAGAIN;
	tp_error("turnpiked goes on refusing: %s", reason);
	return -ECONNREFUSED;
}

static int on_tables(struct dataplane *d, struct tp_tables *tables)
{
	if (d->has_tables) {
		tp_tables_close(tables);
		tp_error("turnpiked has new tables, which cannot be taken without privileges: "
			 "turnpike-dataplane has to be started anew");
		return -ESTALE;
	}
	d->tables = *tables;
	d->has_tables = true;
	return 0;
}

/* 0: linked; -EAGAIN: not, or not yet; else it is over, and the log says why. */
static int read_answer(struct dataplane *d)
{
	struct tp_tables tables = tp_tables_none();
	char reason[TP_REASON_SIZE] = "";
	int err = tp_link_answer(d->link, &tables, reason);

	if (err == -EAGAIN)
		return err;
	if (err == -ECONNREFUSED)
		return on_refusal(d, reason);
	if (err && err != -EALREADY) {
		if (d->is_linked)
			tp_warning("%s; what it granted is relayed on", reason);
		else if (err != -ECONNRESET)
			tp_warning("turnpiked: %s", reason);
		unlink_from_control(d);
		return -EAGAIN;
	}
	if (!err)
		err = on_tables(d, &tables);
	if (err && err != -EALREADY)
		return err;
	if (err == -EALREADY)
		tp_info("turnpiked is back, with the same tables");
	d->is_linked = true;
	d->has_said_wait = false;
	d->refusals = 0;
	return 0;
}

/* ---- waiting -----------------------------------------------------------------------------------
 */

static int until(uint64_t now_ns, uint64_t at_ns)
{
	return at_ns > now_ns ? (int)((at_ns - now_ns) / TP_NS_PER_MS) + 1 : 0;
}

/* Until the link or a signal has something to say, or it is time. True: a signal to stop. */
static bool wait_for_something(const struct dataplane *d, bool *link_is_readable)
{
	struct pollfd polls[] = {
		{.fd = d->signals, .events = POLLIN}, {.fd = d->link, .events = POLLIN}};
	uint64_t now = tp_clock_now_ns();
	int timeout = until(now, d->check_ns);

	if (d->link < 0 && until(now, d->retry_ns) < timeout)
		timeout = until(now, d->retry_ns);
	if (poll(polls, 2, timeout) < 0)
		return false;
	*link_is_readable = polls[1].revents;
	return polls[0].revents;
}

/* 0, or an error that ends it all. */
static int tend_link(struct dataplane *d, bool is_readable)
{
	int err = 0;

	if (d->link >= 0 && is_readable)
		err = read_answer(d);
	else if (d->link < 0 && tp_clock_now_ns() >= d->retry_ns)
		err = connect_and_greet(d);
	return err == -EAGAIN ? 0 : err;
}

/* 1: linked, and the tables are there; 0: a signal came first. */
static int wait_for_tables(struct dataplane *d)
{
	while (!d->is_linked) {
		bool is_readable = false;
		int err;

		d->check_ns = tp_clock_now_ns() + CHECK_NS;
		if (wait_for_something(d, &is_readable))
			return 0;
		err = tend_link(d, is_readable);
		if (err)
			return err;
	}
	return 1;
}

/* ---- from start to stop ------------------------------------------------------------------------
 */

static int fail(const char *what, int err)
{
	tp_error("%s: %s", what, strerror(-err));
	return err;
}

static int open_signals(struct dataplane *d)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	signal(SIGUSR1, SIG_IGN);
	d->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return d->signals < 0 ? fail("signals", -errno) : 0;
}

/* A look at the back end would be time that a worker's packets wait. Not before the workers are
 * there: those without a core of their own start where this thread may run. */
static void leave_cores_to_workers(const struct dataplane *d)
{
	cpu_set_t cores = tp_cores_off_workers(d->options);

	sched_setaffinity(0, sizeof(cores), &cores);
}

static int start_on_tables(struct dataplane *d)
{
	char reason[TP_REASON_SIZE] = "";
	int err = d->ops->start(d->backend, &d->tables.memory, d->tables.fds, reason);

	if (err < 0) {
		tp_error("%s: %s", d->ops->name, reason);
		return err;
	}
	err = tp_privileges_drop(&d->target);
	if (err < 0)
		return fail("privileges could not be given up", err);
	tp_info("running as %s", d->target.name);
	err = tp_workers_start(
		d->ops, d->backend, &d->tables.memory, d->options, &d->workers, reason);
	if (err < 0)
		tp_error("%s", reason);
	else
		leave_cores_to_workers(d);
	return err;
}

/* 1: it runs; 0: told to stop before. */
static int start(struct dataplane *d)
{
	char reason[TP_REASON_SIZE] = "";
	int err = tp_privileges_target(TP_PRIVILEGES_DATAPLANE, &d->target);

	if (!err)
		err = tp_privileges_target(TP_PRIVILEGES_USER, &d->control);
	if (err < 0)
		return fail("no unprivileged user to become", err);
	tp_privileges_raise_limits();
	err = open_signals(d);
	if (err < 0)
		return err;
	err = d->ops->open(d->options, &d->backend, reason);
	if (err < 0) {
		tp_error("%s cannot run: %s", d->ops->name, reason);
		return err;
	}
	describe(d);
	err = wait_for_tables(d);
	if (err <= 0)
		return err;
	err = start_on_tables(d);
	return err < 0 ? err : 1;
}

static void say_ready(struct dataplane *d)
{
	char list[512] = "";
	size_t len = 0;

	describe(d);
	for (size_t i = 0; i < d->hello.interfaces_count && len < sizeof(list); i++)
		len += (size_t)snprintf(list + len, sizeof(list) - len, "%s%s:%s", i ? "," : "",
			d->hello.interfaces[i].name, d->hello.interfaces[i].mode);
	/* Always there, whatever the log level: scripts wait for this line. */
	fprintf(stderr, "ready engine=%s workers=%u interfaces=%s\n", d->ops->name,
		d->options->workers, list);
	sd_notifyf(0, "READY=1\nSTATUS=engine %s, %u workers, %s", d->ops->name,
		d->options->workers, list);
}

/* What turnpiked shows in its status. */
static void tell_state(struct dataplane *d)
{
	describe(d);
	if (d->is_linked)
		tp_link_state(d->link, &d->hello);
}

static int check(struct dataplane *d)
{
	char reason[TP_REASON_SIZE];
	int err = d->ops->check ? d->ops->check(d->backend, reason) : 0;

	sd_notify(0, "WATCHDOG=1");
	if (err == -ENOLINK) {
		tp_error("%s; packets there go to the kernel now", reason);
		tell_state(d);
		return 0;
	}
	if (err)
		tp_error("%s", reason);
	return err;
}

static int serve(struct dataplane *d)
{
	d->check_ns = tp_clock_now_ns() + CHECK_NS;
	for (;;) {
		bool is_readable = false;
		int err;

		if (wait_for_something(d, &is_readable))
			return 0;
		err = tend_link(d, is_readable);
		if (!err && tp_clock_now_ns() >= d->check_ns) {
			d->check_ns = tp_clock_now_ns() + CHECK_NS;
			err = check(d);
		}
		if (err)
			return err;
	}
}

/* The reverse order of start(); what was never started is NULL. -EIO: buffers are missing. */
static int stop(struct dataplane *d)
{
	char reason[TP_REASON_SIZE];
	int err = 0;

	tp_workers_stop(d->workers);
	if (d->workers && d->ops->audit)
		err = d->ops->audit(d->backend, reason);
	if (err)
		tp_error("buffers do not add up: %s", reason);
	if (d->backend)
		d->ops->close(d->backend);
	tp_tables_close(&d->tables);
	if (d->link >= 0)
		close(d->link);
	if (d->signals >= 0)
		close(d->signals);
	return err;
}

static int run(const struct config *config)
{
	struct dataplane d = {
		.options = &config->engine_options,
		.ops = backend_for(config->engine),
		.tables = tp_tables_none(),
		.signals = -1,
		.link = -1,
	};
	int err, stopped;

	err = start(&d);
	if (err == 1) {
		say_ready(&d);
		err = serve(&d);
		sd_notify(0, "STOPPING=1");
	}
	stopped = stop(&d);
	return err || stopped ? EXIT_RUNTIME : EXIT_CLEAN;
}

static int check_engine(const struct config *config, const char *path)
{
	if (backend_for(config->engine))
		return 0;
	if (config->engine == CONFIG_ENGINE_AFXDP || config->engine == CONFIG_ENGINE_DPDK)
		fprintf(stderr, "%s: dataplane.engine: this build lacks it\n", path);
	else
		fprintf(stderr,
			"%s: dataplane.engine: turnpike-dataplane is for afxdp and dpdk only\n",
			path);
	return -EINVAL;
}

/* -1: go on and serve; else the exit code. */
static int answer(const struct options *options)
{
	if (options->action == OPTIONS_HELP)
		options_print_help(stdout, "turnpike-dataplane");
	else if (options->action == OPTIONS_VERSION)
		printf("turnpike-dataplane %s\n", TURNPIKE_VERSION);
	else
		return -1;
	return EXIT_CLEAN;
}

int main(int argc, char *argv[])
{
	char error[CONFIG_ERROR_SIZE];
	struct options options;
	struct config *config;
	int code;

	if (options_parse(argc, argv, &options, error) < 0) {
		fprintf(stderr, "turnpike-dataplane: %s\n", error);
		return EXIT_USAGE;
	}
	code = answer(&options);
	if (code >= 0)
		return code;
	if (config_load(options.config, &config, error) < 0) {
		fprintf(stderr, "%s\n", error);
		return EXIT_USAGE;
	}
	/* Its warnings are turnpiked's to log, and passwords are none of our business. */
	config_forget_credentials(config);
	tp_log_set_level(config->log_level);
	tp_log_set_json(config->log_json);
	if (check_engine(config, options.config) < 0)
		code = EXIT_USAGE;
	else if (options.action == OPTIONS_CHECK)
		code = printf("ok\n") < 0 ? EXIT_RUNTIME : EXIT_CLEAN;
	else
		code = run(config);
	config_free(config);
	return code;
}
