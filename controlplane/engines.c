/* Choosing an engine: try in order of speed, keep the reasons. */
#include "engines.h"

#include <errno.h>
#include <stdio.h>

static const struct {
	const char *name;
	const struct tp_engine_ops *ops; /* NULL: this build has it not */
} engines[] = {
	[CONFIG_ENGINE_SOCKET] = {"socket", &tp_engine_socket},
	[CONFIG_ENGINE_XDP] = {"xdp",
#ifdef HAVE_XDP
		&tp_engine_xdp
#endif
	},
	[CONFIG_ENGINE_AFXDP] = {"afxdp",
#ifdef HAVE_AFXDP
		&tp_engine_afxdp
#endif
	},
	[CONFIG_ENGINE_DPDK] = {"dpdk",
#ifdef HAVE_DPDK
		&tp_engine_dpdk
#endif
	},
};

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* A program that a killed predecessor left would drop what it does not know. */
static int clear_others(const struct tp_engine_ops *but, const struct tp_engine_options *options,
	struct engines_choice *out)
{
	for (size_t i = 0; i < COUNT(engines); i++) {
		const struct tp_engine_ops *ops = engines[i].ops;
		char reason[TP_REASON_SIZE] = "";
		int err;

		if (!ops || ops == but || !ops->clear)
			continue;
		err = ops->clear(options, reason);
		if (err < 0) {
			snprintf(out->reason, sizeof(out->reason), "%s", reason);
			return err;
		}
	}
	return 0;
}

static int start(enum config_engine engine, const struct tp_engine_options *options,
	struct engines_choice *out)
{
	const struct tp_engine_ops *ops = engines[engine].ops;
	char reason[TP_REASON_SIZE] = "";
	int err;

	if (!ops) {
		snprintf(out->reason, sizeof(out->reason), "this build has no engine %s",
			engines[engine].name);
		return -ENOSYS;
	}
	err = clear_others(ops, options, out);
	if (err < 0)
		return err;
	err = ops->start(options, &out->engine, reason);
	out->ops = ops;
	snprintf(out->reason, sizeof(out->reason), "%s", reason);
	return err;
}

static int start_fastest(const struct tp_engine_options *options, struct engines_choice *out)
{
	char refused[TP_REASON_SIZE] = "no dataplane.interfaces are named";
	int err;

	if (options->interfaces_count > 0) {
		if (start(CONFIG_ENGINE_XDP, options, out) == 0)
			return 0;
		snprintf(refused, sizeof(refused), "%.*s", TP_REASON_SIZE - 1, out->reason);
	}
	err = start(CONFIG_ENGINE_SOCKET, options, out);
	if (!err)
		snprintf(out->reason, sizeof(out->reason), "xdp cannot run: %s", refused);
	return err;
}

int engines_start(const struct config *config, const struct tp_engine_options *options,
	struct engines_choice *out)
{
	if (config->engine == CONFIG_ENGINE_AUTO)
		return start_fastest(options, out);
	return start(config->engine, options, out);
}
