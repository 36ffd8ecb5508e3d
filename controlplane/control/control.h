/*
 * The control socket: JSON-RPC 2.0, one message a line, over Unix sockets. Lives on the control
 * plane's event loop and thread; a client that reads slowly is dropped, never waited for.
 */
#pragma once

#include "controlplane/config/config.h"
#include "controlplane/flows/flows.h"
#include "controlplane/transport/udp.h"
#include "controlplane/turn/server.h"
#include "dataplane/engine/engine.h"
#include "dataplane/table/table.h"

struct event_base;

/* Of polling workers: where their counters of time were, a second or two ago and at the last
 * second.
 */
struct control_load {
	struct control_time {
		uint64_t busy_ns, up_ns;
	} before[TP_WORKERS_MAX], last[TP_WORKERS_MAX];
};

/* What commands look at. All of it stays the caller's and outlives the control socket. */
struct control_deps {
	struct turn_server *turn;
	struct flows *flows;
	struct tp_table *table;
	const struct tp_engine_ops *engine_ops;
	struct tp_engine *engine;
	const char *engine_reason;
	struct policy *policy;
	struct auth *auth;
	const struct config *config;
	struct udp_transport *transport; /* the slow path */
	uint64_t started_ns;             /* CLOCK_MONOTONIC */
	const char *version;
	const struct control_load *load; /* set by control_serve() */
};

struct control;

/*
 * Makes the sockets with their ownership and mode (0660, root:group); needs the privileges that are
 * dropped afterwards. A group that does not exist is logged and left out: only root gets in. The
 * socket of a dead process is replaced. -EADDRINUSE: a live process answers there; any failure is
 * described in `error`.
 */
int control_open(const struct config_control *settings, struct control **out, char error[256]);

/* Begins to answer. `deps` is copied, what it points to is not. */
int control_serve(
	struct control *control, struct event_base *base, const struct control_deps *deps);

/* Once a second, from control_serve() on: workers are as busy as they were since the one before. */
void control_sample(struct control *control);

/* Ends all sessions and removes the sockets' files as far as the process still may. NULL is legal.
 */
void control_free(struct control *control);
