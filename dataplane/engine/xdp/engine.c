/*
 * engine xdp: the data plane is a verified program in the NIC's driver. This file is the order of
 * things; how each is done is in program.c, pins.c, attach.c, takeover.c and query.c. Control
 * plane's thread; start() blocks while the kernel verifies and attaches, the rest does not block.
 */
#include "xdp.h"

#include "base/cleanup.h"
#include "base/log.h"

#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static int attach_all(struct tp_engine *engine, enum tp_xdp_mode mode, char reason[TP_REASON_SIZE])
{
	int err = 0;

	for (size_t i = 0; !err && i < engine->interfaces_count; i++)
		err = xdp_attach(engine, &engine->interfaces[i], mode, reason);
	return err;
}

static void append(char reason[TP_REASON_SIZE], const char *separator, const char *text)
{
	size_t len = strlen(reason);

	snprintf(reason + len, TP_REASON_SIZE - len, "%s%s", len ? separator : "", text);
}

static void explain_mode(
	const struct tp_engine *engine, const char *mode, char reason[TP_REASON_SIZE])
{
	char text[64];
	bool first = true;

	for (size_t i = 0; i < engine->interfaces_count; i++) {
		const struct xdp_interface *interface = &engine->interfaces[i];

		if (interface->refused[0] || strcmp(interface->is.mode, mode) != 0)
			continue;
		snprintf(text, sizeof(text), "%s%s%s%s", first ? mode : "", first ? " XDP on " : "",
			interface->is.name, interface->taken_over ? " (taken over)" : "");
		append(reason, first ? "; " : ", ", text);
		first = false;
	}
}

/* "native XDP on eth1, eth2; eth3: native refused (...), generic attached" */
static void explain(const struct tp_engine *engine, char reason[TP_REASON_SIZE])
{
	char text[XDP_WORDS_SIZE + 64];

	reason[0] = '\0';
	explain_mode(engine, "native", reason);
	explain_mode(engine, "generic", reason);
	for (size_t i = 0; i < engine->interfaces_count; i++) {
		const struct xdp_interface *interface = &engine->interfaces[i];

		if (!interface->refused[0])
			continue;
		snprintf(text, sizeof(text), "%s: native refused (%s), generic attached",
			interface->is.name, interface->refused);
		append(reason, "; ", text);
	}
}

static struct tp_engine *new_engine(void)
{
	struct tp_engine *engine = calloc(1, sizeof(*engine));

	if (!engine)
		return NULL;
	engine->pins.dir_fd = -1;
	for (size_t i = 0; i < TP_INTERFACES_MAX; i++)
		engine->interfaces[i].link_fd = -1;
	return engine;
}

static void end_links(struct tp_engine *engine)
{
	for (size_t i = 0; i < engine->interfaces_count; i++) {
		if (engine->interfaces[i].link_fd >= 0)
			xdp_link_end(&engine->interfaces[i].link_fd);
	}
}

static void free_engine(struct tp_engine *engine)
{
	end_links(engine);
	xdp_query_close(&engine->query);
	xdp_program_close(engine);
	xdp_program_unmap(engine);
	xdp_pins_close(&engine->pins);
	free(engine->hops);
	free(engine);
}

/* Everything that can refuse without having changed a thing. */
static int prepare(struct tp_engine *engine, const struct tp_engine_options *options,
	char reason[TP_REASON_SIZE])
{
	struct tp_shape shape;
	int cpus = libbpf_num_possible_cpus(), err;

	if (cpus < 1 ||
		tp_shape_init(options->flows, (uint32_t)cpus, options->allocations, &shape) != 0)
		return xdp_refuse(reason, -EINVAL, "no tables for %u flows", options->flows);
	err = xdp_take_interfaces(
		options, "xdp", engine->interfaces, &engine->interfaces_count, reason);
	if (err)
		return err;
	err = xdp_query_open(&engine->query);
	if (err)
		return xdp_refuse(reason, err, "no netlink socket: %s", strerror(-err));
	err = xdp_program_open(engine, &shape, reason);
	if (!err)
		err = xdp_pins_lock(&engine->pins, options->pin_dir, options->owner_uid, reason);
	if (err)
		return err;
	engine->reuses_tables = xdp_pins_reuse_tables(engine);
	err = xdp_program_load(engine, reason);
	if (!err)
		err = xdp_pins_inspect(engine, reason);
	for (size_t i = 0; !err && i < engine->interfaces_count; i++)
		err = xdp_inspect_interface(engine, &engine->interfaces[i], reason);
	if (err)
		return err;
	return xdp_program_set_interfaces(engine, reason);
}

/* Next hops name interfaces by their places: in other places they would lead elsewhere. */
static int mind_places(struct tp_engine *engine, char reason[TP_REASON_SIZE])
{
	if (!engine->reuses_tables || xdp_pins_same_interfaces(engine))
		return 0;
	engine->hops = calloc(TP_NEXT_HOPS_MAX, sizeof(*engine->hops));
	if (!engine->hops)
		return xdp_refuse(reason, -ENOMEM, "out of memory");
	tp_memory_forget_next_hops(&engine->memory, engine->hops);
	return 0;
}

static void stop(struct tp_engine *engine)
{
	xdp_pins_remove(&engine->pins);
	free_engine(engine);
}

/* Links and maps stay by their pins. */
static void leave(struct tp_engine *engine)
{
	for (size_t i = 0; i < engine->interfaces_count; i++) {
		if (engine->interfaces[i].link_fd >= 0)
			close(TP_TAKE_FD(engine->interfaces[i].link_fd));
	}
	free_engine(engine);
}

/* 0: it is ours, and there is no way back. */
static int take_place(struct tp_engine *engine, const struct tp_engine_options *options,
	char reason[TP_REASON_SIZE])
{
	int err = xdp_pins_prepare(engine, options->owner_uid, reason);

	if (!err)
		err = mind_places(engine, reason);
	if (!err)
		err = attach_all(engine, options->xdp_mode, reason);
	if (!err)
		err = xdp_pins_add_links(engine, reason);
	if (!err)
		xdp_pins_settle(engine, options->owner_uid);
	return err;
}

/* Leaves a dead predecessor's flows as they were found: somebody may yet adopt them. */
static void withdraw(struct tp_engine *engine)
{
	xdp_give_back(engine);
	if (engine->hops)
		tp_memory_recall_next_hops(&engine->memory, engine->hops);
	/* Not ours to touch while another instance holds it. */
	if (engine->pins.dir_fd >= 0)
		xdp_pins_withdraw(engine);
	free_engine(engine);
}

static int start(const struct tp_engine_options *options, struct tp_engine **out,
	char reason[TP_REASON_SIZE])
{
	struct tp_engine *engine = new_engine();
	int err;

	reason[0] = '\0';
	if (!engine)
		return xdp_refuse(reason, -ENOMEM, "out of memory");
	xdp_set_up_libbpf();
	err = prepare(engine, options, reason);
	if (!err)
		err = take_place(engine, options, reason);
	if (err) {
		withdraw(engine);
		return err;
	}
	explain(engine, reason);
	xdp_program_close(engine);
	*out = engine;
	return 0;
}

static struct tp_memory *memory(struct tp_engine *engine)
{
	return &engine->memory;
}

static size_t interfaces(
	const struct tp_engine *engine, struct tp_engine_interface out[TP_INTERFACES_MAX])
{
	for (size_t i = 0; i < engine->interfaces_count; i++)
		out[i] = engine->interfaces[i].is;
	return engine->interfaces_count;
}

static int check(struct tp_engine *engine, char reason[TP_REASON_SIZE])
{
	int err = 0;

	for (size_t i = 0; !err && i < engine->interfaces_count; i++)
		err = xdp_check(&engine->query, &engine->interfaces[i], engine->program_id, reason);
	return err;
}

static int clear(const struct tp_engine_options *options, char reason[TP_REASON_SIZE])
{
	struct xdp_pins pins = {.dir_fd = -1};
	struct stat st;
	int err;

	/* A directory of anybody else's is no predecessor's. */
	if (lstat(options->pin_dir, &st) != 0 || !S_ISDIR(st.st_mode) ||
		(st.st_uid != geteuid() && st.st_uid != options->owner_uid))
		return 0;
	err = xdp_pins_lock(&pins, options->pin_dir, options->owner_uid, reason);
	if (!err)
		err = xdp_pins_clear(&pins, reason);
	if (!err)
		rmdir(pins.path);
	xdp_pins_close(&pins);
	return err;
}

const struct tp_engine_ops tp_engine_xdp = {
	.name = "xdp",
	.start = start,
	.memory = memory,
	.interfaces = interfaces,
	.check = check,
	.stop = stop,
	.leave = leave,
	.clear = clear,
};
