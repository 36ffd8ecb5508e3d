/*
 * engine xdp: the data plane is a verified program in the NIC's driver. This file is the order of
 * things; how each is done is in program.c, pins.c, attach.c and query.c. Control plane's thread;
 * start() blocks while the kernel verifies and attaches, the rest does not block.
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

int xdp_refuse(char reason[TP_REASON_SIZE], int err, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(reason, TP_REASON_SIZE, format, args);
	va_end(args);
	return err;
}

/* What libbpf has to say matters to developers; operators get our sentence. */
static int log_libbpf(enum libbpf_print_level level, const char *format, va_list args)
{
	char line[512];

	if (level == LIBBPF_DEBUG || tp_log_get_level() < TP_LOG_DEBUG)
		return 0;
	vsnprintf(line, sizeof(line), format, args);
	line[strcspn(line, "\n")] = '\0';
	tp_debug("libbpf: %s", line);
	return 0;
}

/* Threat D01. */
static void warn_of_unprivileged_bpf(void)
{
	TP_AUTO_CLOSE int fd =
		open("/proc/sys/kernel/unprivileged_bpf_disabled", O_RDONLY | O_CLOEXEC);
	char value = 0;

	if (fd >= 0 && read(fd, &value, 1) == 1 && value == '0')
		tp_warning("kernel.unprivileged_bpf_disabled is 0: every local user may load BPF "
			   "programs; set it to 2");
}

static int take_interfaces(struct tp_engine *engine, const struct tp_engine_options *options,
	char reason[TP_REASON_SIZE])
{
	if (options->interfaces_count == 0 || options->interfaces_count > TP_INTERFACES_MAX)
		return xdp_refuse(
			reason, -EINVAL, "engine xdp needs 1 to %d interfaces", TP_INTERFACES_MAX);
	for (size_t i = 0; i < options->interfaces_count; i++) {
		const char *name = options->interfaces[i];
		struct tp_engine_interface *is = &engine->interfaces[i].is;

		is->ifindex = if_nametoindex(name);
		if (is->ifindex == 0)
			return xdp_refuse(reason, -ENODEV, "there is no interface %s", name);
		snprintf(is->name, sizeof(is->name), "%s", name);
		for (size_t k = 0; k < i; k++) {
			if (engine->interfaces[k].is.ifindex == is->ifindex)
				return xdp_refuse(
					reason, -EINVAL, "interface %s is named twice", name);
		}
		engine->interfaces_count++;
	}
	return 0;
}

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
	xdp_query_close(engine);
	xdp_program_close(engine);
	xdp_program_unmap(engine);
	xdp_pins_close(&engine->pins);
	free(engine);
}

/* Everything that can refuse without having changed a thing. */
static int prepare(struct tp_engine *engine, const struct tp_engine_options *options,
	char reason[TP_REASON_SIZE])
{
	struct tp_shape shape;
	int cpus = libbpf_num_possible_cpus(), err;

	if (cpus < 1 || tp_shape_init(options->flows, (uint32_t)cpus, &shape) != 0)
		return xdp_refuse(reason, -EINVAL, "no tables for %u flows", options->flows);
	err = take_interfaces(engine, options, reason);
	if (err)
		return err;
	err = xdp_query_open(engine);
	if (err)
		return xdp_refuse(reason, err, "no netlink socket: %s", strerror(-err));
	err = xdp_program_load(engine, &shape, reason);
	if (err)
		return err;
	err = xdp_pins_lock(&engine->pins, options->pin_dir, options->owner_uid, reason);
	if (err)
		return err;
	err = xdp_pins_inspect(engine, reason);
	for (size_t i = 0; !err && i < engine->interfaces_count; i++)
		err = xdp_inspect_interface(engine, &engine->interfaces[i], reason);
	if (err)
		return err;
	return xdp_program_set_interfaces(engine, reason);
}

static void stop(struct tp_engine *engine)
{
	xdp_pins_remove(&engine->pins);
	rmdir(engine->pins.path);
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
	libbpf_set_print(log_libbpf);
	warn_of_unprivileged_bpf();
	err = prepare(engine, options, reason);
	if (err) {
		/* Not ours to remove while another instance holds it. */
		if (engine->pins.dir_fd >= 0)
			rmdir(engine->pins.path);
		free_engine(engine);
		return err;
	}
	err = attach_all(engine, options->xdp_mode, reason);
	if (!err)
		err = xdp_pins_write(engine, options->owner_uid, reason);
	if (err) {
		stop(engine);
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
	for (size_t i = 0; i < engine->interfaces_count; i++) {
		struct tp_engine_interface *is = &engine->interfaces[i].is;
		struct xdp_attached attached;
		int err;

		if (!is->attached)
			continue;
		err = xdp_query(engine, is->ifindex, &attached);
		if (!err && attached.id == engine->program_id)
			continue;
		is->attached = false;
		if (err)
			return xdp_refuse(reason, -ENOLINK, "%s: the interface is gone (%s)",
				is->name, strerror(-err));
		if (attached.id == 0)
			return xdp_refuse(
				reason, -ENOLINK, "%s: the XDP program was removed", is->name);
		return xdp_refuse(reason, -ENOLINK, "%s: the XDP program was replaced by id %u",
			is->name, attached.id);
	}
	return 0;
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
	.clear = clear,
};
