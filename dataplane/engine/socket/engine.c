/*
 * engine socket: nothing is accelerated. The tables are plain memory that no data plane reads, so
 * that the control plane keeps its books alike with every engine. Control plane's thread; does not
 * block.
 */
#include "dataplane/engine/engine.h"

#include "base/cleanup.h"

#include <errno.h>
#include <stdio.h>

struct tp_engine {
	struct tp_memory memory;
};

static int start(const struct tp_engine_options *options, struct tp_engine **out,
	char reason[TP_REASON_SIZE])
{
	TP_AUTO_FREE struct tp_engine *engine = calloc(1, sizeof(*engine));
	struct tp_shape shape;
	int err = engine ? tp_shape_init(options->flows, 1, options->allocations, &shape) : -ENOMEM;

	if (!err)
		err = tp_memory_create_plain(&shape, &engine->memory);
	if (err) {
		snprintf(reason, TP_REASON_SIZE, "no tables for %u flows: %s", options->flows,
			strerror(-err));
		return err;
	}
	snprintf(reason, TP_REASON_SIZE, "packets are relayed by the control plane's sockets");
	*out = TP_TAKE(engine);
	return 0;
}

static struct tp_memory *memory(struct tp_engine *engine)
{
	return &engine->memory;
}

static size_t interfaces(
	const struct tp_engine *engine, struct tp_engine_interface out[TP_INTERFACES_MAX])
{
	return 0;
}

static int check(struct tp_engine *engine, char reason[TP_REASON_SIZE])
{
	return 0;
}

static void stop(struct tp_engine *engine)
{
	tp_memory_destroy_plain(&engine->memory);
	free(engine);
}

const struct tp_engine_ops tp_engine_socket = {
	.name = "socket",
	.start = start,
	.memory = memory,
	.interfaces = interfaces,
	.check = check,
	.stop = stop,
};
