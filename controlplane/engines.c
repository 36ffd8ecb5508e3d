/* Choosing an engine: try in order of speed, keep the reasons. */
#include "engines.h"

#include <errno.h>
#include <stdio.h>

static int start(const struct tp_engine_ops *ops, const struct tp_engine_options *options,
	struct engines_choice *out)
{
	char reason[TP_REASON_SIZE] = "";
	int err = ops->start(options, &out->engine, reason);

	out->ops = ops;
	snprintf(out->reason, sizeof(out->reason), "%s", reason);
	return err;
}

#ifdef HAVE_XDP
static int start_xdp(const struct tp_engine_options *options, struct engines_choice *out)
{
	if (options->interfaces_count > 0)
		return start(&tp_engine_xdp, options, out);
	snprintf(out->reason, sizeof(out->reason), "no dataplane.interfaces are named");
	return -EINVAL;
}

/* A program that a killed predecessor left would drop what it does not know. */
static int start_socket(const struct tp_engine_options *options, struct engines_choice *out)
{
	char reason[TP_REASON_SIZE] = "";
	int err = tp_engine_xdp.clear(options, reason);

	if (!err)
		return start(&tp_engine_socket, options, out);
	snprintf(out->reason, sizeof(out->reason), "%s", reason);
	return err;
}
#else
static int start_xdp(const struct tp_engine_options *options, struct engines_choice *out)
{
	snprintf(out->reason, sizeof(out->reason), "this build has no engine xdp");
	return -ENOSYS;
}

static int start_socket(const struct tp_engine_options *options, struct engines_choice *out)
{
	return start(&tp_engine_socket, options, out);
}
#endif

int engines_start(const struct config *config, const struct tp_engine_options *options,
	struct engines_choice *out)
{
	char refused[TP_REASON_SIZE];
	int err;

	if (config->engine == CONFIG_ENGINE_XDP)
		return start_xdp(options, out);
	if (config->engine == CONFIG_ENGINE_SOCKET)
		return start_socket(options, out);
	if (start_xdp(options, out) == 0)
		return 0;
	snprintf(refused, sizeof(refused), "%.*s", TP_REASON_SIZE - 1, out->reason);
	err = start_socket(options, out);
	if (!err)
		snprintf(out->reason, sizeof(out->reason), "xdp cannot run: %s", refused);
	return err;
}
