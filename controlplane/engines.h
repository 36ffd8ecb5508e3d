/* Which engine runs: what the configuration names, or the fastest that works here. Main thread. */
#pragma once

#include "controlplane/config/config.h"
#include "dataplane/engine/engine.h"

struct engines_choice {
	const struct tp_engine_ops *ops;
	struct tp_engine *engine;
	char reason[2 * TP_REASON_SIZE];
};

/*
 * Starts the engine. With `engine: auto`, which leaves out those that need turnpike-dataplane, a
 * refusal leads to the next slower one, and the reason tells what was refused; a named engine that
 * cannot run is an error, described in `reason`.
 */
int engines_start(const struct config *config, const struct tp_engine_options *options,
	struct engines_choice *out);
