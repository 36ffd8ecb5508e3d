/*
 * turnpiked: the control plane. The order of start() is the design: everything that needs rights is
 * opened, then the rights are given up, and only then the first byte from the network is read.
 */
#include "adopt.h"
#include "engines.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/privileges.h"
#include "controlplane/auth/auth.h"
#include "controlplane/config/config.h"
#include "controlplane/config/options.h"
#include "controlplane/control/control.h"
#include "controlplane/flows/flows.h"
#include "controlplane/policy/policy.h"
#include "controlplane/route/route.h"
#include "controlplane/transport/udp.h"
#include "controlplane/turn/server.h"
#include "dataplane/engine/socket/udp.h"

#include <errno.h>
#include <event2/event.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>

enum { EXIT_CLEAN = 0, EXIT_RUNTIME = 1, EXIT_USAGE = 2 };

#define SIGNALS 4

struct turnpike {
	struct config *config;
	struct engines_choice engine;
	struct tp_table *table;
	struct policy *policy;
	struct auth *auth;
	struct route *route;
	struct flows *flows;
	struct event_base *base;
	struct udp_transport *transport;
	struct turn_effects effects;
	struct turn_server *server;
	struct control *control;
	struct event *engine_event, *route_event, *second_event;
	struct event *signal_events[SIGNALS];
	bool adopted;        /* the tables are a killed predecessor's */
	uint32_t torn_flows; /* of those: what it left half done */
	uint64_t started_ns;
	char pin_dir[64];
};

static int fail(const char *what, int err)
{
	tp_error("%s: %s", what, strerror(-err));
	return err;
}

/* Each instance has its own pins; the control socket is what tells instances apart. */
static void name_pins(struct turnpike *t)
{
	const char *socket = t->config->control.socket;
	struct tp_hash_key key = {{0}};

	if (strcmp(socket, CONFIG_DEFAULT_CONTROL_SOCKET) == 0)
		snprintf(t->pin_dir, sizeof(t->pin_dir), "/sys/fs/bpf/turnpike");
	else
		snprintf(t->pin_dir, sizeof(t->pin_dir), "/sys/fs/bpf/turnpike-%016llx",
			(unsigned long long)tp_siphash(&key, socket, strlen(socket)));
}

/* New, or those of a predecessor that was killed. */
static int open_table(struct turnpike *t)
{
	const struct tp_memory *memory = t->engine.ops->memory(t->engine.engine);
	uint16_t channel_max = t->config->turn.rfc5766_channels ? 0x7ffe : 0x4fff;

	t->adopted = tp_memory_is_kept(memory);
	if (t->adopted)
		return tp_table_adopt(memory, channel_max, &t->torn_flows, &t->table);
	return tp_table_create(memory, channel_max, &t->table);
}

/* The engine's programs and the tables in its memory. */
static int start_dataplane(struct turnpike *t, const struct tp_privileges_target *target)
{
	struct tp_engine_options options = t->config->engine_options;
	struct tp_privileges_target dataplane;
	int err = tp_privileges_target(TP_PRIVILEGES_DATAPLANE, &dataplane);

	if (err < 0)
		return fail("no unprivileged user for the data plane", err);
	name_pins(t);
	options.pin_dir = t->pin_dir;
	options.owner_uid = target->uid;
	options.dataplane_uid = dataplane.uid;
	options.dataplane_gid = dataplane.gid;
	err = engines_start(t->config, &options, &t->engine);
	if (err == -EINTR) {
		tp_info("%s", t->engine.reason);
		return err;
	}
	if (err < 0) {
		tp_error("the data plane cannot start: %s", t->engine.reason);
		return err;
	}
	err = open_table(t);
	return err < 0 ? fail("flow tables", err) : 0;
}

static int start_routes(struct turnpike *t)
{
	struct tp_engine_interface interfaces[TP_INTERFACES_MAX];
	size_t count = t->engine.ops->interfaces(t->engine.engine, interfaces);
	uint32_t ifindexes[TP_INTERFACES_MAX];
	int err;

	for (size_t i = 0; i < count; i++)
		ifindexes[i] = interfaces[i].ifindex;
	err = route_new(count ? t->table : NULL, ifindexes, count, &t->route);
	if (err < 0)
		return fail("routes", err);
	err = flows_new(t->table, t->route, &t->flows);
	if (err < 0)
		return fail("flows", err);
	flows_set_bandwidth(t->flows, t->config->bandwidth_per_allocation);
	return 0;
}

/* It may come later (keepalived, DHCP): until then allocations there get 508. */
static void warn_of_absent_relays(const struct config *config)
{
	char text[TP_ADDR_TEXT];

	for (size_t i = 0; i < config->turn.relays_count; i++) {
		const struct tp_addr *address = &config->turn.relays[i].address;
		int err = tp_udp_probe(address);

		if (err < 0)
			tp_warning("no allocation can be made on %s: %s",
				tp_addr_ip_text(address, text), strerror(-err));
	}
}

static void own_relays(struct turnpike *t)
{
	char text[TP_ADDR_TEXT];

	for (size_t i = 0; i < t->config->turn.relays_count; i++) {
		const struct tp_addr *address = &t->config->turn.relays[i].address;
		int err = flows_own_address(t->flows, address);

		if (err < 0)
			tp_warning("no allocation can be made on %s: %s",
				tp_addr_ip_text(address, text), strerror(-err));
	}
}

static int start_relays(struct turnpike *t)
{
	int err =
		udp_transport_open_relays(t->transport, &t->config->turn, t->config->relay_sockets);
	const char *reason = udp_transport_relays_reason(t->transport);

	if (err < 0) {
		tp_error("the relayed addresses' sockets cannot be had: %s",
			*reason ? reason : strerror(-err));
		return err;
	}
	tp_info("relay sockets %s: %s", udp_transport_relays_kind(t->transport), reason);
	return 0;
}

static int start_listeners(struct turnpike *t)
{
	char text[TP_ADDR_TEXT];
	int err = udp_transport_new(t->base, t->flows, &t->transport);

	if (!err)
		err = start_relays(t);
	for (size_t i = 0; !err && i < t->config->listeners_count; i++) {
		const struct tp_addr *address = &t->config->listeners[i].address;

		err = udp_transport_listen(t->transport, address);
		if (err < 0)
			tp_error("cannot listen on udp %s: %s", tp_addr_text(address, text),
				strerror(-err));
	}
	if (err)
		return err;
	own_relays(t);
	warn_of_absent_relays(t->config);
	return 0;
}

/* The machine's own addresses are never peers; they follow netlink. */
static void on_locals(void *arg, const struct route_local *list, size_t count)
{
	struct turnpike *t = arg;
	struct policy_prefix *prefixes = calloc(count ? count : 1, sizeof(*prefixes));
	struct policy_locals locals = {0};
	size_t at = 0;

	if (!prefixes) {
		tp_error("own addresses: %s", strerror(ENOMEM));
		return;
	}
	for (size_t i = 0; i < count; i++) {
		if (!list[i].connected)
			prefixes[at++] = (struct policy_prefix){list[i].ip, list[i].length};
	}
	locals.never = prefixes;
	locals.never_count = at;
	for (size_t i = 0; i < count; i++) {
		if (list[i].connected)
			prefixes[at++] = (struct policy_prefix){list[i].ip, list[i].length};
	}
	locals.connected = prefixes + locals.never_count;
	locals.connected_count = at - locals.never_count;
	if (policy_set_locals(t->policy, &locals) < 0)
		tp_error("own addresses could not be added to the peer policy");
	free(prefixes);
	/* What is no peer any more loses what it was granted (threats P13, P22). */
	if (t->server)
		turn_server_recheck_policy(t->server);
}

static int start_server(struct turnpike *t)
{
	int err = config_make_policy(t->config, &t->policy);

	if (err < 0)
		return fail("peer policy", err);
	route_watch_locals(t->route, on_locals, t);
	err = auth_new(&t->config->auth, &t->auth);
	if (err < 0)
		return fail("authentication", err);
	config_forget_credentials(t->config);
	t->effects = udp_transport_effects(t->transport);
	t->config->turn.owner_key = tp_table_owner_key(t->table);
	err = turn_server_new(
		&t->config->turn, t->auth, t->policy, &t->effects, tp_clock_now_ns(), &t->server);
	return err < 0 ? fail("TURN server", err) : 0;
}

/* What the predecessor granted is granted on; nothing has been read from the network yet. */
static int start_adoption(struct turnpike *t)
{
	struct adopt_report report;
	int err = t->adopted ? adopt(t->table, t->flows, t->server, tp_clock_now_ns(), &report) : 0;

	if (err < 0)
		return fail("adoption", err);
	if (!t->adopted)
		return 0;
	report.dropped_flows += t->torn_flows;
	tp_info("adopted %u allocations and %u flows; dropped %u and %u", report.allocations,
		report.flows, report.dropped_allocations, report.dropped_flows);
	return 0;
}

static int start_control(struct turnpike *t)
{
	char error[256] = "";
	int err = control_open(&t->config->control, &t->control, error);

	if (err < 0)
		tp_error("%s", error);
	return err;
}

static int serve(struct turnpike *t)
{
	struct control_deps deps = {
		.turn = t->server,
		.flows = t->flows,
		.table = t->table,
		.engine_ops = t->engine.ops,
		.engine = t->engine.engine,
		.engine_reason = t->engine.reason,
		.policy = t->policy,
		.auth = t->auth,
		.config = t->config,
		.transport = t->transport,
		.started_ns = t->started_ns,
		.version = TURNPIKE_VERSION,
	};
	int err = control_serve(t->control, t->base, &deps);

	if (err < 0)
		return fail("control socket", err);
	tp_table_enable(t->table, true);
	err = udp_transport_serve(t->transport, t->server);
	return err < 0 ? fail("listeners", err) : 0;
}

static void on_route(evutil_socket_t fd, short what, void *arg)
{
	route_process(((struct turnpike *)arg)->route);
}

/* Whose workers are gone holds no record; whoever is back may hold some again. */
static void mind_readers(struct turnpike *t)
{
	if (t->engine.ops->alive)
		tp_table_set_readers(t->table, t->engine.ops->alive(t->engine.engine));
}

static void on_engine(evutil_socket_t fd, short what, void *arg)
{
	struct turnpike *t = arg;

	t->engine.ops->process(t->engine.engine);
	mind_readers(t);
}

static void check_engine(struct turnpike *t)
{
	char reason[TP_REASON_SIZE];
	int err = t->engine.ops->check(t->engine.engine, reason);

	mind_readers(t);
	if (err < 0 && t->engine.ops->alive)
		tp_error("%s", reason);
	else if (err < 0)
		tp_error("%s; packets there are relayed by sockets now", reason);
}

/* Housekeeping: rested slots, the programs in the NICs, the service manager's watchdog. */
static void on_second(evutil_socket_t fd, short what, void *arg)
{
	struct turnpike *t = arg;

	check_engine(t);
	control_sample(t->control);
	flows_sweep(t->flows, tp_clock_now_ns());
	sd_notify(0, "WATCHDOG=1");
}

static void on_signal(evutil_socket_t signal, short what, void *arg)
{
	struct turnpike *t = arg;

	if (signal == SIGTERM || signal == SIGINT) {
		event_base_loopbreak(t->base);
		return;
	}
	if (signal == SIGUSR1) {
		turn_server_drain(t->server, true);
		tp_info("draining: no new allocations; those that live are served to their end");
		return;
	}
	tp_warning("SIGHUP: reloading is not implemented yet, nothing was changed");
}

static const int signals[SIGNALS] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1};

/* Held back while starting: nothing must end us between pinning programs and minding signals. */
static void hold_signals(int how)
{
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < SIGNALS; i++)
		sigaddset(&set, signals[i]);
	sigprocmask(how, &set, NULL);
}

/* What the engine itself has to wait for, if anything. */
static int start_engine_event(struct turnpike *t)
{
	int fd = t->engine.ops->fd ? t->engine.ops->fd(t->engine.engine) : -1;

	if (fd < 0)
		return 0;
	t->engine_event = event_new(t->base, fd, EV_READ | EV_PERSIST, on_engine, t);
	return t->engine_event && event_add(t->engine_event, NULL) == 0 ? 0
									: fail("events", -ENOMEM);
}

static int start_events(struct turnpike *t)
{
	struct timeval second = {.tv_sec = 1};
	int err = start_engine_event(t);

	if (err < 0)
		return err;
	t->route_event = event_new(t->base, route_fd(t->route), EV_READ | EV_PERSIST, on_route, t);
	t->second_event = event_new(t->base, -1, EV_PERSIST, on_second, t);
	if (!t->route_event || !t->second_event || event_add(t->route_event, NULL) < 0 ||
		event_add(t->second_event, &second) < 0)
		return fail("events", -ENOMEM);
	for (size_t i = 0; i < SIGNALS; i++) {
		t->signal_events[i] = evsignal_new(t->base, signals[i], on_signal, t);
		if (!t->signal_events[i] || event_add(t->signal_events[i], NULL) < 0)
			return fail("signals", -ENOMEM);
	}
	hold_signals(SIG_UNBLOCK);
	return 0;
}

/* Its words would go to stderr by themselves: unescaped, unlimited, and waiting for its reader. */
static void log_libevent(int severity, const char *text)
{
	static struct tp_log_limit limit;

	if (severity >= EVENT_LOG_WARN && tp_log_allowed(&limit))
		tp_warning("libevent: %s", text);
}

/* -EINTR: asked to stop before it was through. */
static int start(struct turnpike *t)
{
	struct tp_privileges_target target;
	int err = tp_privileges_target(TP_PRIVILEGES_USER, &target);

	if (err < 0)
		return fail("no unprivileged user to become", err);
	tp_privileges_raise_limits();
	t->base = event_base_new();
	if (!t->base)
		return fail("event loop", -ENOMEM);
	err = start_dataplane(t, &target);
	if (!err)
		err = start_routes(t);
	if (!err)
		err = start_listeners(t);
	if (!err)
		err = start_control(t);
	if (!err) {
		err = tp_privileges_drop(&target);
		if (err < 0)
			return fail("privileges could not be given up", err);
		tp_info("running as %s", target.name);
	}
	if (!err)
		err = start_server(t);
	if (!err)
		err = start_adoption(t);
	if (!err)
		err = start_events(t);
	return err ? err : serve(t);
}

/* What was killed before us left flows, and nobody has begun to serve them anew. */
static bool leaves_flows(const struct turnpike *t)
{
	return t->adopted && !t->server;
}

static void stop_engine(struct turnpike *t, bool leaves)
{
	if (leaves && t->engine.ops->leave)
		t->engine.ops->leave(t->engine.engine);
	else
		t->engine.ops->stop(t->engine.engine);
}

/* The reverse order of start(); what was never started is NULL. */
static void stop(struct turnpike *t)
{
	bool leaves = leaves_flows(t);

	for (size_t i = 0; i < SIGNALS; i++) {
		if (t->signal_events[i])
			event_free(t->signal_events[i]);
	}
	if (t->engine_event)
		event_free(t->engine_event);
	if (t->second_event)
		event_free(t->second_event);
	if (t->route_event)
		event_free(t->route_event);
	control_free(t->control);
	if (t->table && !leaves)
		tp_table_enable(t->table, false);
	turn_server_free(t->server);
	auth_free(t->auth);
	policy_free(t->policy);
	udp_transport_free(t->transport);
	flows_free(t->flows);
	route_free(t->route);
	tp_table_destroy(t->table);
	if (t->engine.engine)
		stop_engine(t, leaves);
	if (t->base)
		event_base_free(t->base);
	config_free(t->config);
}

static void say_ready(const struct turnpike *t)
{
	char text[TP_ADDR_TEXT];
	char listeners[256] = "";
	size_t len = 0;

	for (size_t i = 0; i < t->config->listeners_count && len < sizeof(listeners); i++)
		len += (size_t)snprintf(listeners + len, sizeof(listeners) - len, "%sudp:%s",
			i ? "," : "", tp_addr_text(&t->config->listeners[i].address, text));
	/* Always there, whatever the log level: scripts wait for this line. */
	fprintf(stderr, "ready engine=%s listen=%s reason=\"%s\"\n", t->engine.ops->name, listeners,
		t->engine.reason);
	sd_notifyf(0, "READY=1\nSTATUS=engine %s: %s", t->engine.ops->name, t->engine.reason);
}

static int run(struct config *config)
{
	struct turnpike t = {.config = config, .started_ns = tp_clock_now_ns()};
	int err;

	signal(SIGPIPE, SIG_IGN);
	hold_signals(SIG_BLOCK);
	event_set_log_callback(log_libevent);
	err = start(&t);
	if (!err) {
		say_ready(&t);
		err = event_base_dispatch(t.base) < 0 ? -EIO : 0;
		sd_notify(0, "STOPPING=1");
	}
	stop(&t);
	return err && err != -EINTR ? EXIT_RUNTIME : EXIT_CLEAN;
}

int main(int argc, char *argv[])
{
	char error[CONFIG_ERROR_SIZE];
	struct options options;
	struct config *config;

	if (options_parse(argc, argv, &options, error) < 0) {
		fprintf(stderr, "turnpiked: %s\n", error);
		return EXIT_USAGE;
	}
	if (options.action == OPTIONS_HELP) {
		options_print_help(stdout, "turnpiked");
		return EXIT_CLEAN;
	}
	if (options.action == OPTIONS_VERSION) {
		printf("turnpiked %s\n", TURNPIKE_VERSION);
		return EXIT_CLEAN;
	}
	if (config_load(options.config, &config, error) < 0) {
		fprintf(stderr, "%s\n", error);
		return EXIT_USAGE;
	}
	tp_log_set_level(config->log_level);
	tp_log_set_json(config->log_json);
	for (const struct config_warning *w = config->warnings; w; w = w->next)
		tp_warning("%s", w->text);
	if (options.action == OPTIONS_CHECK) {
		printf("ok\n");
		config_free(config);
		return EXIT_CLEAN;
	}
	return run(config);
}
